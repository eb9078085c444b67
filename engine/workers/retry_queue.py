"""Which shard is to be run next, when workers die of them. No Ray here: rules alone.

A shard whose worker died or hung is run again. If that happens once more, its halves are
tried apart, and their halves, until the images that do it are found; the shard is then
run without them, and each of them becomes a failure row. Where they all seem to do it, it is
not the images, and the run stops. An exception ends no worker: it is a bug, and stops the run
(:func:`engine.errors.bugs_named`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from shardcam.engine.errors import WorkerError
from shardcam.engine.protocols import Observer
from shardcam.engine.rundir.events import SampleGivenUp, SearchStarted
from shardcam.engine.types import Failure, Sample, Shard, ShardReport

ATTEMPTS = 2  # workers that may die of a shard before it is taken apart; of an image alone, too
LOSSES = 5  # workers lost with their nodes before their shard is held to be the reason
PARTS = (
    8  # where each eighth of a shard, or each image alone, ends its worker, it is not the images
)


@dataclass
class _Search:
    """For the images of one shard that end their workers."""

    shard: Shard
    hope: set[int]  # samples that may yet prove harmless
    part: int  # images of an eighth
    open: int = 0  # trials that wait or run
    found: list[Failure] = field(default_factory=list)


class Ledger:
    """Hands out shards, takes them back, and knows what each has cost so far."""

    def __init__(self, shards: Iterable[Shard], on_event: Observer) -> None:
        self._fresh = iter(shards)
        self._again: deque[Shard] = deque()
        self._deaths: Counter[int] = Counter()  # by shard
        self._alone: Counter[int] = Counter()  # by sample tried alone
        self._losses: Counter[int] = Counter()  # by shard
        self._unclear: set[int] = set()  # shards that were read ahead when a worker was lost
        self._searches: dict[int, _Search] = {}
        self._fruitless: set[int] = set()
        self._on_event = on_event

    def take(self) -> Shard | None:
        """The next shard to run, or part of one to try; None if there is none now."""
        return self._again.popleft() if self._again else next(self._fresh, None)

    def take_ahead(self, task: Shard) -> Shard | None:
        """A shard that the worker of `task` may read ahead; it is taken.

        Never together with one that was run before: whose death it was should be known.
        """
        index = task.index
        fresh = not (task.trial or self._deaths[index] or index in self._unclear)
        return None if self._again or not fresh else next(self._fresh, None)

    def put_back(self, task: Shard) -> None:
        """Taken ahead, and not run; its reader may have died of it, so it is run alone."""
        self._unclear.add(task.index)
        self._again.append(task)

    def done(self, task: Shard, report: ShardReport) -> ShardReport | None:
        """A worker survived it: the report, if this was no trial."""
        if not task.trial:
            return report
        search = self._searches[task.index]
        search.open -= 1
        self._conclude(search)
        return None

    def lost(self, task: Shard, reason: str) -> None:
        """Its worker's node is gone: that is not the shard's fault, unless it goes on."""
        self._losses[task.index] += 1
        if self._losses[task.index] > LOSSES:
            self.died(task, reason)
        else:
            self._again.appendleft(task)

    def died(self, task: Shard, reason: str) -> None:
        """A worker died of it, or hung.

        Raises
        ------
        WorkerError
            It is not for single images that workers die.
        """
        if task.trial:
            self._died_in_trial(task, reason)
            return
        self._deaths[task.index] += 1
        if self._deaths[task.index] < ATTEMPTS:
            self._again.appendleft(task)
            return
        given_up = {failure.sample for failure in task.lost}
        suspects = tuple(s for s in task.samples if s.index not in given_up)
        if task.index in self._fruitless or not suspects:
            raise WorkerError(f"{_describe(task)} ends every worker: {reason}")
        search = _Search(task, {s.index for s in suspects}, -(-len(suspects) // PARTS))
        self._searches[task.index] = search
        self._on_event(SearchStarted(task.index, len(suspects), reason))
        if len(suspects) == 1:
            self._give_up(search, suspects[0], reason)
        else:
            self._halve(search, suspects)
        self._conclude(search)

    def _died_in_trial(self, task: Shard, reason: str) -> None:
        search = self._searches[task.index]
        search.open -= 1
        if len(task.samples) > 1:
            if len(task.samples) <= search.part:
                search.hope.difference_update(sample.index for sample in task.samples)
            self._halve(search, task.samples)
        else:
            (sample,) = task.samples
            self._alone[sample.index] += 1
            if self._alone[sample.index] < ATTEMPTS:
                self._try(search, task.samples)
            else:
                search.hope.discard(sample.index)
                self._give_up(search, sample, reason)
        if not search.hope:
            raise WorkerError(
                f"{_describe(search.shard)} ends every worker, whichever of its images are "
                f"tried: {reason}"
            )
        self._conclude(search)

    def _halve(self, search: _Search, samples: Sequence[Sample]) -> None:
        middle = len(samples) // 2
        self._try(search, samples[:middle])
        self._try(search, samples[middle:])

    def _try(self, search: _Search, samples: Sequence[Sample]) -> None:
        # Large parts first: where all is lost, that shows before images are tried alone.
        self._again.append(Shard(search.shard.index, samples, trial=True))
        search.open += 1

    def _give_up(self, search: _Search, sample: Sample, reason: str) -> None:
        search.found.append(Failure(sample.key, sample.index, "worker", "ends its worker", reason))
        self._on_event(SampleGivenUp(sample.index, sample.key, reason))

    def _conclude(self, search: _Search) -> None:
        """After the last trial: the shard again, without what was found."""
        if search.open:
            return
        index = search.shard.index
        if not search.found:  # only together do its images end a worker, or it was bad luck
            self._fruitless.add(index)
        del self._searches[index]
        self._deaths[index] = 0
        lost = (*search.shard.lost, *search.found)
        self._again.appendleft(replace(search.shard, lost=lost))


def _describe(shard: Shard) -> str:
    first, last = shard.samples[0].key, shard.samples[-1].key
    return f"{shard.name} (samples {first!r} to {last!r})"
