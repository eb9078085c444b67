"""``shardcam.extract``: a run from a notebook or a script, twice in one process, in any thread."""

import io
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import mypy.api
import pytest
import ray

import shardcam
from shardcam import events
from shardcam.engine.errors import ConfigError, WorkerError
from shardcam.engine.rundir import events as defined
from shardcam.engine.workers.ray_internals import reread_environment
from tests.jobs.command import assert_same, contents
from tests.jobs.images import make_folder
from tests.models.small_checkpoint import write_checkpoint

SIZE, IMAGES, SHARDS = 16, 20, 3
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A source, one picture of which is broken, and a network."""
    base = tmp_path_factory.mktemp("given")
    make_folder(base / "images", IMAGES, bad=1)
    return {"source": base / "images", "model": write_checkpoint(base, SIZE)}


def extract(given, out, **options):
    return shardcam.extract(
        **given, out=out, image_size=SIZE, shard_size=8, **{"executor": "local", **options}
    )


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"executor": "local"}, id="local"),
        pytest.param({"executor": "ray", "workers": 1}, id="ray", marks=pytest.mark.ray),
    ],
)
def test_twice_in_one_process(given, tmp_path, capsys, options):
    """And a third time to resume. Nothing is printed, or left behind."""
    first = extract(given, tmp_path / "first", **options)
    before, ours = sorted(thread.name for thread in threading.enumerate()), handlers()
    second = extract(given, tmp_path / "second", **options)
    assert not ray.is_initialized()
    assert handlers() == ours
    assert sorted(thread.name for thread in threading.enumerate()) == before
    for report in (first, second):
        assert (report.listed, report.ok, report.failed) == (IMAGES, IMAGES - 1, 1)
        assert (report.shards, report.shards_done_now) == (SHARDS, SHARDS)
    again = extract(given, tmp_path / "first", **options)
    assert (again.shards_done_now, again.failures) == (0, first.failures)
    assert_same(contents(tmp_path / "first"), contents(tmp_path / "second"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("given_by", ["option", "environment"])
def test_a_cluster_that_cannot_be_joined_is_told_first(given, tmp_path, monkeypatch, given_by):
    """Before the source is listed; not of a run that needs no workers any more."""
    told, where = [], {"address": "127.0.0.1:1"}
    if given_by == "environment":
        monkeypatch.setenv("RAY_ADDRESS", where.pop("address"))
    with pytest.raises(WorkerError, match=r"^address 127\.0\.0\.1:1: no Ray cluster answers"):
        extract(given, tmp_path / "run", executor="ray", on_event=told.append, **where)
    assert (told, list(tmp_path.iterdir())) == ([], [])
    extract(given, tmp_path / "run")
    assert extract(given, tmp_path / "run", executor="ray", **where).shards_done_now == 0


@pytest.mark.ray
def test_with_the_ray_of_the_program(given, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    reread_environment()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        assert extract(given, tmp_path / "run", executor="ray").ok == IMAGES - 1
        assert ray.is_initialized()
        told = "^address local: this process is on the Ray at"
        with pytest.raises(WorkerError, match=told):
            extract(given, tmp_path / "other", executor="ray", address="local")
        assert not (tmp_path / "other").exists()
    finally:
        ray.shutdown()


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_from_a_thread(given, tmp_path, executor):
    """As a server or a progress bar of a notebook would: signals are the main thread's."""
    told, reports = [], []

    def work():
        out = tmp_path / "run"
        reports.append(extract(given, out, executor=executor, on_event=told.append))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [report.ok for report in reports] == [IMAGES - 1]
    assert isinstance(told[0], events.SourceListing)
    (planned,) = [event for event in told if isinstance(event, events.RunPlanned)]
    assert (planned.images, planned.shards, planned.listed_now) == (IMAGES, SHARDS, True)
    done = [event for event in told if isinstance(event, events.ShardDone)]
    assert sorted(event.shard for event in done) == list(range(SHARDS))
    assert isinstance(told[-1], events.RunEnded)
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    logged = [json.loads(line)["kind"] for line in lines]
    assert logged == [event.kind for event in told if event.kind]


def test_errors_are_exceptions(given, tmp_path):
    with pytest.raises(ConfigError, match=r"^metod: unknown option; nearest: method$"):
        extract(given, tmp_path / "run", metod="gradcam")
    with pytest.raises(ConfigError, match=r"^save: takes maps, .*; not map$"):
        extract(given, tmp_path / "run", save=["map"])
    with pytest.raises(ConfigError, match=r"^on_event: expected a function of an event, got 3$"):
        extract(given, tmp_path / "run", on_event=3)
    for name, typed in [("source", "SOURCE"), ("model", "model"), ("out", "out")]:
        with pytest.raises(ConfigError, match=f"^{typed}: is empty$"):
            shardcam.extract(**{**given, "out": tmp_path / "run", name: ""})
    assert not (tmp_path / "run").exists()
    with pytest.raises(shardcam.TooManyFailures, match="more than max_failed 0") as caught:
        extract(given, tmp_path / "run", max_failed=0)
    assert caught.value.report.failed == 1
    with shardcam.open_run(tmp_path / "run") as run:
        assert len(run) == IMAGES - 1


def raising(kind):
    """An observer that fails, with a cause of its own, at the first event of a kind."""

    def on_event(event):
        if isinstance(event, kind):
            raise ZeroDivisionError("the caller's") from LookupError("its cause")

    return on_event


@pytest.mark.parametrize("kind", ["RunStarted", "ShardStarted", "Progress", "RunEnded"])
def test_what_an_observer_raises_arrives_as_it_is(given, tmp_path, kind):
    """And the log of the run is whole."""
    with pytest.raises(ZeroDivisionError, match="the caller's") as caught:
        extract(given, tmp_path / "run", on_event=raising(getattr(events, kind)))
    assert isinstance(caught.value.__cause__, LookupError)
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    done = kind == "RunEnded"
    outcome = "done" if done else "ZeroDivisionError: the caller's"
    assert json.loads(lines[-1]) | {"kind": "run_ended", "outcome": outcome} == json.loads(
        lines[-1]
    )
    assert extract(given, tmp_path / "run").shards_done_now == (0 if done else SHARDS)


@pytest.mark.parametrize("stderr", [None, object(), io.StringIO()], ids=["none", "bare", "text"])
def test_where_stderr_has_no_descriptor(given, tmp_path, monkeypatch, stderr):
    """As in a service, a notebook or a program without a console."""
    monkeypatch.setattr(sys, "stderr", stderr)
    assert extract(given, tmp_path / "run").ok == IMAGES - 1


@pytest.mark.process
def test_all_public_names_are_there_and_reading_needs_no_network_library():
    code = (
        "import sys, shardcam\n"
        "shardcam.open_run, shardcam.RunReport\n"
        "assert not {'mxnet', 'ray', 'rich', 'click', 'shardcam.jobs'} & sys.modules.keys()\n"
        "for name in shardcam.__all__: getattr(shardcam, name)\n"
        "for part in (shardcam.events, shardcam.export):\n"
        "    for name in part.__all__: getattr(part, name)\n"
        "assert not {'rich', 'click', 'shardcam.jobs'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_every_event_is_public():
    own = [value for value in vars(defined).values() if isinstance(value, type)]
    kinds = {value.__name__ for value in own if issubclass(value, events.Event)}
    assert kinds | {"RunPlanned"} == set(events.__all__)


@pytest.mark.slow
def test_type_checkers_see_the_lazy_names(tmp_path):
    lines = {
        "shardcam.extract('a', model='b', out='c')": "RunReport",
        "shardcam.open_run('c')": "Run",
        "shardcam.events.ShardDone.of": "ShardDone",
        "shardcam.export.npy": "def",
    }
    script = tmp_path / "script.py"
    script.write_text("import shardcam\n" + "".join(f"reveal_type({code})\n" for code in lines))
    out, err, _ = mypy.api.run(["--config-file", str(ROOT / "pyproject.toml"), str(script)])
    found = re.findall(r'Revealed type is "(.*)"', out)
    for kind, revealed in zip(lines.values(), found, strict=True):
        assert re.search(rf"\b{kind}\b", revealed) and "Any" not in revealed, out + err


def test_a_single_name_will_do():
    config = shardcam.RunConfig.of(
        source="s", model="m", out="o", layer="relu", save="maps,overlays", smooth="aug"
    )
    assert (config.layer, config.save) == (("relu",), ("maps", "overlays"))
    assert config.smooth == ("aug",)
