"""Where a run is computed if nothing says so."""

import sys
from types import SimpleNamespace

import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.run import executor_choice
from shardcam.engine.run.executor_choice import chosen_early, chosen_for_metrics, with_executor

GIVEN = {"source": "photos", "model": "efficientnet_lite0", "out": "runs/photos"}


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    monkeypatch.setattr(executor_choice, "usable_cores", lambda: 4)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(executor_choice, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))


def config(**options):
    return RunConfig(**GIVEN, **options)


@pytest.mark.parametrize(
    "options, executor",
    [
        ({}, "auto"),
        ({"executor": "local"}, "local"),
        ({"executor": "ray"}, "ray"),
        ({"workers": 1}, "ray"),
        ({"cpus_per_worker": 2}, "ray"),
        ({"gpus_per_worker": 1}, "ray"),
        ({"address": "10.0.0.1:6379"}, "ray"),
        ({"priority": 2}, "ray"),
        ({"part": "1/3"}, "local"),
    ],
)
def test_options_that_leave_no_choice(options, executor):
    assert chosen_early(config(**options)).executor == executor


def test_a_cluster_that_is_there_is_used(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert chosen_early(config()).executor == "ray"
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(sys.modules["ray"], "is_initialized", lambda: True)
    assert chosen_early(config()).executor == "ray"


def test_without_ray_there_is_no_choice(monkeypatch):
    monkeypatch.setattr(executor_choice, "find_spec", lambda name: None)
    assert chosen_early(config(workers=2)).executor == "local"


def test_large_sets_are_for_ray():
    """Of 4e9 multiply-adds, 10,000 images are some 1,000 s on four cores."""
    small, told = with_executor(config(), 1000, 4e9)
    assert small.executor == "local" and "100 s of work here; --executor ray" in told.text
    large, told = with_executor(config(), 10_000, 4e9)
    assert large.executor == "ray" and told.text.startswith("ray, for 10000 images")
    assert with_executor(config(executor="local"), 10_000, 4e9)[1] is None
    assert with_executor(config(), 0, 4e9)[1] is None  # there is nothing to do


def test_metrics_of_maps_need_few_workers():
    assert chosen_for_metrics(config(), 50_000, passes=False).executor == "local"
    assert chosen_for_metrics(config(), 50_000, passes=True).executor == "ray"
    assert chosen_for_metrics(config(workers=2), 5, passes=False).executor == "ray"
