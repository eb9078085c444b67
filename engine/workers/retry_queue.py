"""Which shard runs next, and what happens to one whose worker crashed. Rules only, no Ray.

A shard whose worker crashed or hung is run again. If that happens once more, its halves are
tried apart, and their halves, until the images that crash the worker are found; the shard is
then run without them, and each of them becomes a failure row. If every part crashes, the images
are not the reason, and the run stops. An exception crashes no worker: it is a bug, and stops the
run (`engine.errors.bugs_named`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import length_hint

from shardcam.engine.errors import WorkerError
from shardcam.engine.protocols import Observer
from shardcam.engine.rundir.events import SampleGivenUp, SearchStarted
from shardcam.engine.types import Failure, Sample, Shard, ShardReport

ATTEMPTS = 2  # crashes after which a shard is split, and a single image given up
NODE_LOSSES = 5  # of a shard; one more counts as a crash
PARTS = 8  # if each eighth of a shard, or each image alone, crashes, the images are not the reason
_NEXT = "it is not the images: look at memory, and at shardcam doctor"


@dataclass
class _Search:
    """The search for the images of one shard that crash its workers."""

    shard: Shard
    unproven: set[int]  # samples that may yet prove harmless
    part: int  # images of an eighth
    open: int = 0  # trials that wait or run
    found: list[Failure] = field(default_factory=list)


class RetryQueue:
    """Hands out shards, takes them back, and counts the crashes and losses of each.

    Attributes
    ----------
    left : int
        Shards that are not done.
    """

    def __init__(self, shards: Iterable[Shard], on_event: Observer) -> None:
        self._fresh, self.left = iter(shards), length_hint(shards)
        self._retries: deque[Shard] = deque()
        self._crashes: Counter[int] = Counter()  # by shard
        self._crashes_alone: Counter[int] = Counter()  # by sample tried alone
        self._node_losses: Counter[int] = Counter()  # by shard
        self._unclear: set[int] = set()  # shards that were prefetched when a worker crashed
        self._searches: dict[int, _Search] = {}
        self._fruitless: set[int] = set()
        self._on_event = on_event

    def take(self) -> Shard | None:
        """The next shard to run, or part of one to try; None if there is none now."""
        return self._retries.popleft() if self._retries else next(self._fresh, None)

    def take_next(self, shard: Shard) -> Shard | None:
        """A shard that the worker of `shard` may prefetch; it is taken.

        Never beside a shard that is retried: a crash must have one suspect.
        """
        index = shard.index
        fresh = not (shard.trial or self._crashes[index] or index in self._unclear)
        return None if self._retries or not fresh else next(self._fresh, None)

    def put_back(self, shard: Shard) -> None:
        """Return a prefetched shard; its worker may have crashed of it, so it is run alone."""
        self._unclear.add(shard.index)
        self._retries.append(shard)

    def on_result(self, shard: Shard, report: ShardReport) -> ShardReport | None:
        """A worker finished `shard`: its report, unless this was a trial."""
        if not shard.trial:
            self.left -= 1
            return report
        search = self._searches[shard.index]
        search.open -= 1
        self._conclude(search)
        return None

    def on_node_lost(self, shard: Shard, reason: str) -> None:
        """The worker's node is gone, which is not the shard's fault unless it goes on."""
        self._node_losses[shard.index] += 1
        if self._node_losses[shard.index] > NODE_LOSSES:
            self.on_crash(shard, reason)
        else:
            self._retries.appendleft(shard)

    def on_crash(self, shard: Shard, reason: str) -> None:
        """The worker of `shard` crashed or hung.

        Raises
        ------
        WorkerError
            The crashes cannot be put down to single images.
        """
        if shard.trial:
            self._on_trial_crash(shard, reason)
            return
        self._crashes[shard.index] += 1
        if self._crashes[shard.index] < ATTEMPTS:
            self._retries.appendleft(shard)
            return
        given_up = {failure.sample for failure in shard.given_up}
        suspects = tuple(s for s in shard.samples if s.index not in given_up)
        if shard.index in self._fruitless or not suspects:
            raise WorkerError(f"{_describe(shard)} crashes every worker: {reason}; {_NEXT}")
        search = _Search(shard, {s.index for s in suspects}, -(-len(suspects) // PARTS))
        self._searches[shard.index] = search
        self._on_event(SearchStarted(shard.index, len(suspects), reason))
        if len(suspects) == 1:
            self._give_up(search, suspects[0], reason)
        else:
            self._halve(search, suspects)
        self._conclude(search)

    def _on_trial_crash(self, trial: Shard, reason: str) -> None:
        search = self._searches[trial.index]
        search.open -= 1
        if len(trial.samples) > 1:
            if len(trial.samples) <= search.part:
                search.unproven.difference_update(sample.index for sample in trial.samples)
            self._halve(search, trial.samples)
        else:
            (sample,) = trial.samples
            self._crashes_alone[sample.index] += 1
            if self._crashes_alone[sample.index] < ATTEMPTS:
                self._try(search, trial.samples)
            else:
                search.unproven.discard(sample.index)
                self._give_up(search, sample, reason)
        if not search.unproven:
            raise WorkerError(
                f"{_describe(search.shard)} crashes every worker, whichever of its images are "
                f"tried: {reason}; {_NEXT}"
            )
        self._conclude(search)

    def _halve(self, search: _Search, samples: Sequence[Sample]) -> None:
        middle = len(samples) // 2
        self._try(search, samples[:middle])
        self._try(search, samples[middle:])

    def _try(self, search: _Search, samples: Sequence[Sample]) -> None:
        # Large parts first: if all of them crash, that shows before images are tried alone.
        self._retries.append(Shard(search.shard.index, samples, trial=True))
        search.open += 1

    def _give_up(self, search: _Search, sample: Sample, reason: str) -> None:
        search.found.append(Failure(sample.key, sample.index, "worker", "worker crashed", reason))
        self._on_event(SampleGivenUp(sample.index, sample.key, reason))

    def _conclude(self, search: _Search) -> None:
        """After the last trial, queue the shard again without the images that were found."""
        if search.open:
            return
        index = search.shard.index
        if not search.found:  # its images crash a worker only together, or it was bad luck
            self._fruitless.add(index)
        del self._searches[index]
        self._crashes[index] = 0
        given_up = (*search.shard.given_up, *search.found)
        self._retries.appendleft(replace(search.shard, given_up=given_up))


def _describe(shard: Shard) -> str:
    first, last = shard.samples[0].key, shard.samples[-1].key
    return f"{shard.name} (samples {first!r} to {last!r})"
