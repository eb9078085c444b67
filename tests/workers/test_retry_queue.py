"""The rules by which shards are run again, taken apart and given up, with workers that are told."""

import numpy as np
import pytest

from shardcam.engine.errors import WorkerError
from shardcam.engine.types import Sample, Shard, ShardReport
from shardcam.engine.workers.retry_queue import ATTEMPTS, NODE_LOSSES, PARTS, RetryQueue


def make_shards(count, size):
    samples = [Sample(f"image {i}", i, -1, "", 1) for i in range(count * size)]
    return [Shard(i, tuple(samples[i * size : (i + 1) * size])) for i in range(count)]


def run(shards, dies, workers=3, seed=0):
    """Run with `workers` at once, which end in any order; `dies(task)` says which of them die."""
    rng, told, done, deaths = np.random.RandomState(seed), [], {}, 0
    queue = RetryQueue(shards, told.append)
    running = []
    while True:
        while len(running) < workers and (task := queue.take()) is not None:
            running.append((task, queue.take_next(task)))
        if not running:
            return done, told, deaths
        task, ahead = running.pop(rng.randint(len(running)))
        looked_at = {s.index for s in task.samples} - {f.sample for f in task.given_up}
        read = {s.index for s in ahead.samples[:16]} if ahead else set()
        if dies(task, looked_at | (read if rng.rand() < 0.5 else set())):
            deaths += 1
            if ahead:
                queue.put_back(ahead)
            queue.on_crash(task, "killed")
            continue
        if ahead:
            running.append((ahead, queue.take_next(ahead)))
        failed = len(task.given_up)
        listed = len(task.samples)
        report = ShardReport(task.index, listed, listed - failed, failed, not task.trial, {})
        if queue.on_result(task, report) is not None:
            assert task.index not in done
            done[task.index] = {failure.sample for failure in task.given_up}


@pytest.mark.parametrize("seed", range(20))
def test_each_killer_is_found_and_nothing_else(seed):
    rng = np.random.RandomState(seed)
    killers = set(rng.choice(200, rng.randint(1, 9), replace=False).tolist())
    done, told, _ = run(make_shards(10, 20), lambda _, seen: seen & killers, seed=seed)
    assert sorted(done) == list(range(10))
    assert set().union(*done.values()) == killers
    assert {event.sample for event in told if event.kind == "given_up"} == killers


@pytest.mark.parametrize("seed", range(20))
def test_workers_that_die_by_chance_cost_no_image(seed):
    """Each shard and each trial may meet one death that is none of its fault."""
    rng, killers, unlucky = np.random.RandomState(seed), {3, 47}, set()

    def dies(task, seen):
        if seen & killers:
            return True
        chance = (task.index, len(seen), task.trial)
        if chance in unlucky or rng.rand() > 0.1:
            return False
        unlucky.add(chance)
        return True

    done, _, _ = run(make_shards(5, 16), dies, seed=seed)
    assert sorted(done) == list(range(5))
    assert set().union(*done.values()) == killers


def test_one_killer_among_512_costs_few_workers():
    _, _, deaths = run(make_shards(1, 512), lambda _, seen: 100 in seen)
    assert deaths <= ATTEMPTS + 9 + ATTEMPTS  # the shard; halves down to one; that one alone


@pytest.mark.parametrize(
    ("size", "most"),
    [
        (2, 2 * ATTEMPTS),
        (3, 1 + 3 * ATTEMPTS),
        (4, 2 + 4 * ATTEMPTS),
        (512, 2 + 4 + PARTS),  # halves, quarters, eighths
    ],
)
def test_a_shard_whose_images_all_crash_their_workers_ends_the_run_early(size, most):
    deaths = []

    def dies(task, seen):
        deaths.append(seen)
        return True

    with pytest.raises(WorkerError, match="whichever of its images are tried: killed"):
        run(make_shards(1, size), dies, workers=1)
    assert len(deaths) <= ATTEMPTS + most


@pytest.mark.parametrize("killers", [{0, 1, 2, 4}, set(range(255))])
def test_one_image_that_proves_harmless_is_enough_to_go_on(killers):
    done, _, _ = run(make_shards(1, 512 if len(killers) > 4 else 5), lambda _, seen: seen & killers)
    assert done == {0: killers}


def test_images_that_kill_only_together_end_the_run():
    with pytest.raises(WorkerError, match=r"shard-000000 .*'image 0' to 'image 7'"):
        run(make_shards(1, 8), lambda _, seen: len(seen) > 4)


def test_shards_of_one_killer_each_are_closed():
    done, _, _ = run(make_shards(3, 1), lambda _, seen: seen & {1, 2})
    assert done == {0: set(), 1: {1}, 2: {2}}


def test_a_lost_node_is_not_the_shards_fault_until_it_goes_on():
    told = []
    queue = RetryQueue(make_shards(1, 4), lambda event: told.append(event.kind))
    for _ in range(NODE_LOSSES + ATTEMPTS - 1):
        queue.on_node_lost(queue.take(), "its node is gone")
    assert not told
    queue.on_node_lost(queue.take(), "its node is gone")
    assert told == ["search"]
