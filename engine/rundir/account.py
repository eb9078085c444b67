"""Which shards of a run are good, and their sums: listed = ok + failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_file import ShardSummary, read_shard_summary, summary_problem
from shardcam.engine.types import Flag, Note, Part, counted

FLAGGED = "flagged"  # the kind of the notes
_NOT_FINITE = (
    "; the network's outputs or gradients are not finite: look at --mean, --std and the network"
)


@dataclass(frozen=True)
class Account:
    """The sums over some shards."""

    shards: int
    listed: int  # samples
    ok: int
    failed: int
    bytes: int  # of the files
    flagged: tuple[int, ...]  # rows with each bit of `engine.types.Flag`, the lowest first

    @classmethod
    def of(cls, summaries: Iterable[ShardSummary]) -> Account:
        """Add up what shards say of themselves."""
        every = [*summaries]
        return cls(
            shards=len(every),
            listed=sum(one.listed for one in every),
            ok=sum(one.ok for one in every),
            failed=sum(one.failed for one in every),
            bytes=sum(one.bytes for one in every),
            flagged=tuple(map(sum, zip((0,) * 8, *(one.flagged for one in every), strict=True))),
        )

    @property
    def flags(self) -> dict[Flag, int]:
        """Rows with each flag, of the flags that there are."""
        counts = {flag: self.flagged[flag.bit_length() - 1] for flag in Flag}
        return {flag: count for flag, count in counts.items() if count}

    @property
    def notes(self) -> tuple[Note, ...]:
        """How many rows have each flag: a run of empty maps is no success."""
        return tuple(
            Note(
                FLAGGED,
                f"{count} of {counted(self.ok, 'image')}: {flag.words}"
                + _NOT_FINITE * (flag is Flag.NON_FINITE and count == self.ok),
            )
            for flag, count in self.flags.items()
        )

    def problem(self, planned: int) -> str | None:
        """What is wrong with the sums of a run of `planned` samples; None if they add up."""
        if planned == self.listed == self.ok + self.failed:
            return None
        return (
            f"{planned} samples planned, {self.listed} listed, {self.ok} ok + {self.failed} failed"
        )


def refuse(error: RunDirectoryError) -> None:
    """For `good_shards`: raise `error`, where every shard is needed."""
    raise error


def good_shards(
    run_dir: RunDir,
    shards: int,
    fingerprint: str,
    on_bad: Callable[[RunDirectoryError], None] = refuse,
    part: Part | None = None,
) -> Iterator[ShardSummary]:
    """Summaries of the published shards that are whole and of this run, in order.

    Parameters
    ----------
    shards
        Of the run; files with higher numbers do not count.
    fingerprint
        Of the run.
    on_bad
        Is called with what is wrong with any other shard; if it returns, that is passed over.
    part
        Only shards of this part.

    Raises
    ------
    StoreError
        A shard cannot be read now, which says nothing of whether it is good.
    """
    own = range(shards) if part is None else part.shards(shards)
    held = [number for number in run_dir.shard_numbers() if number in own]
    for number, shard in run_dir.open_shards(held):
        try:
            summary = read_shard_summary(shard)
            problem = summary_problem(summary, number, fingerprint)
            if problem:
                raise RunDirectoryError(f"{shard}: {problem}")
        except RunDirectoryError as error:
            on_bad(error)
        else:
            yield summary
