"""Other settings of a run, measured in turn with the first: a machine's speed varies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from shardcam.engine.config import RunConfig, flag
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.workers.cores import usable_cores
from shardcam.jobs.measuring.timed_runs import Whole, measure_whole
from shardcam.jobs.wording import speed

BATCHES = (8, 32, 128)  # that are tried

Way = dict[str, Any]  # the options that differ from the first setting


def sweep(config: RunConfig, first: Whole, rounds: int, console: Console) -> list[Whole]:
    """Try how the cores are shared, the batch size and the precision, then the best together.

    Parameters
    ----------
    config
        The options of the run, whose setting is the first.
    first
        Its first run.
    rounds
        How often each setting runs. In each round all of them do, one after the other.

    Returns
    -------
    list of Whole
        The first setting, and the others.
    """
    settings = _Settings(config, first, console)
    ways = [*_ways(config, first)]
    settings.measure(ways, 1)
    settings.measure([{}, *ways], rounds - 1)
    best: dict[tuple[str, ...], Way] = {}  # of the ways to change the same options
    for way in filter(settings.helps, ways):
        other = best.get(tuple(way))
        if other is None or settings.rate(way) > settings.rate(other):
            best[tuple(way)] = way
    if len(best) > 1:
        together = {name: value for way in best.values() for name, value in way.items()}
        settings.measure([{}, together], rounds)
    return settings.found


def _ways(config: RunConfig, first: Whole) -> Iterator[Way]:
    cores = usable_cores()
    if config.executor == "ray" and not config.gpus_per_worker:
        for threads in (n for n in range(1, cores + 1) if cores % n == 0):
            if (cores // threads, threads) != (first.workers, first.cpus_per_worker):
                yield {"workers": cores // threads, "cpus_per_worker": threads}
    for size in BATCHES:
        if size != first.batch_size and size * first.workers <= first.images:
            yield {"batch_size": size}
    on_cpus = "bf16" if config.runtime == "torch" else "int8"
    other = "fp16" if config.gpus_per_worker else on_cpus
    yield {"precision": other if config.precision == "fp32" else "fp32"}


class _Settings:
    """What was measured so far, by what differs from the first setting."""

    def __init__(self, config: RunConfig, first: Whole, console: Console) -> None:
        own = {"batch_size": first.batch_size, "precision": first.precision}
        if config.executor == "ray":
            own |= {"workers": first.workers, "cpus_per_worker": first.cpus_per_worker}
        self._first, self._config = config, config.model_copy(update=own)
        self._images, self._console = first.images, console
        self._found = {_key({}): first}

    @property
    def found(self) -> list[Whole]:
        return [*self._found.values()]

    def helps(self, way: Way) -> bool:
        """Whether it was faster than the first setting in every round."""
        return _key(way) in self._found and self._found[_key(way)].faster(self._found[_key({})])

    def rate(self, way: Way) -> float:
        return self._found[_key(way)].images_per_second

    def measure(self, ways: list[Way], rounds: int) -> None:
        """Run each of them so often, in turn."""
        for number in range(1, rounds + 1):
            for way in [*ways]:
                with self._console.status(f"round {number} of {rounds}: {_words(way)}"):
                    if not self._run(way):
                        ways.remove(way)

    def _run(self, way: Way) -> bool:
        try:
            run = measure_whole(self._config.model_copy(update=way), self._images)
        except (ConfigError, ModelError) as error:  # a network that has no int8, say
            self._console.print(f"{_words(way)}: {error}")
            return False
        known = self._found.get(_key(way))
        self._found[_key(way)] = run if known is None else known.and_again(run)
        self._console.print(f"{run.name}: {speed(run.images_per_second)}")
        return True


def _key(way: Way) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(way.items()))


def _words(way: Way) -> str:
    return ", ".join(f"{flag(name)} {value}" for name, value in way.items()) or "as at first"
