"""What a submission is made of, and what is refused before any cluster is asked."""

import json
import shlex
import zipfile

import pytest
from ray._private.runtime_env.packaging import create_package

from shardcam.engine.config import PATH_OPTIONS, RunConfig, typed_name
from shardcam.engine.errors import ShardcamError
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, begin_run
from shardcam.jobs.cluster.ray_jobs import RayJobs
from shardcam.jobs.cluster.submission import make_submission, ray_command, require_submittable
from shardcam.jobs.cluster.work import Work, work_of
from shardcam.jobs.commands.extract import extract
from shardcam.jobs.options import as_options, make_config
from tests.jobs.images import make_folder

RUN = RunConfig(source="photos", model="efficientnet_lite0", out="runs/my photos")
MANY = RunConfig(
    source="-odd; 'source'/*.jpg",
    model="nets/vgg-symbol.json",
    out="run",
    params="random",
    smooth=("eigen", "aug"),
    layer=("a b", "c"),
    mean=(-1.5, 2, 3),
    std=(1, 2, 3),
    label_from_folder=True,
    save=("maps", "logits"),
    alpha=0.25,
    limit=7,
    gpus_per_worker=0.5,
    max_failed=0.0,
)


def parsed(arguments):
    """The configuration that the command line makes of them."""
    given = extract.make_context("extract", list(arguments)).params
    del given["print_config"]
    return make_config(given)


@pytest.mark.parametrize("config", [RUN, MANY], ids=["few", "many"])
def test_arguments_say_what_the_configuration_says(config):
    assert parsed([*as_options(config), "--", config.source]) == config


def test_every_option_that_is_a_path_is_known_as_one(tmp_path, monkeypatch):
    """A new option that takes text is one or the other."""
    monkeypatch.chdir(tmp_path)
    no_paths = {"method", "target", "address", "depth_range", "part", "output", "resize"}
    no_paths |= {"randomise"}
    texts = {n for n, f in RunConfig.model_fields.items() if f.annotation in (str, str | None)}
    assert set(PATH_OPTIONS) == texts - no_paths
    config = RunConfig(**dict.fromkeys(PATH_OPTIONS, "x.onnx"))
    assert set(config.absolute().paths().values()) == {str(tmp_path / "x.onnx")}
    named = config.model_copy(update={"model": "vgg16", "params": "random"})
    assert set(named.paths()) == set(PATH_OPTIONS) - {"model", "params"}
    assert named.absolute().params == "random"
    compared = named.model_copy(update={"target": "similar:cat.jpg"})
    assert compared.paths()["target"] == "cat.jpg"
    assert compared.absolute().target == f"similar:{tmp_path}/cat.jpg"


def test_the_command_of_a_job_means_the_same_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = MANY.model_copy(update={"address": "http://head:8265"})
    submission = make_submission(Work(config), "/opt/bin/shardcam", send_code=False)
    program, command, *arguments = shlex.split(submission.entrypoint)
    assert (program, command) == ("/opt/bin/shardcam", "extract")
    assert parsed(arguments) == config.absolute().model_copy(update={"address": None})
    assert parsed(arguments).model == str(tmp_path / "nets/vgg-symbol.json")
    assert "working_dir" not in submission.runtime_env


def test_code_that_is_sent_is_code_alone(tmp_path):
    submission = make_submission(Work(RUN), "shardcam", send_code=True)
    folder, excludes = (submission.runtime_env[k] for k in ("working_dir", "excludes"))
    package = tmp_path / "package.zip"
    create_package(folder, package, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    assert package.stat().st_size < 3 * 2**20  # not compressed
    assert {name.partition("/")[0] for name in names} == {"shardcam"}
    parts = ("jobs/cli.py", "engine/workers/ray_executor.py", "kernels/__init__.py")
    assert {f"shardcam/{part}" for part in parts} <= set(names)
    assert submission.entrypoint.startswith("python -m shardcam extract ")


def test_the_line_for_ray_is_the_submission(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    submission = make_submission(Work(MANY), "shardcam", send_code=False)
    words = shlex.split(ray_command(submission, "http://head:8265"))
    assert words[:6] == ["env", "-u", "RAY_ADDRESS", "ray", "job", "submit"]
    split = words.index("--")
    options = dict(word[2:].split("=", 1) for word in words[6:split])
    assert options["address"] == "http://head:8265"
    assert options["submission-id"] == submission.id
    assert json.loads(options["metadata-json"]) == submission.metadata
    assert json.loads(options["runtime-env-json"]) == submission.runtime_env
    assert shlex.join(words[split + 1 :]) == submission.entrypoint


def test_an_id_is_made_of_the_run_and_used_once():
    first, second = (make_submission(Work(RUN), "shardcam", False).id for _ in range(2))
    assert first.startswith("shardcam-my-photos-") and first != second


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "no.onnx"}, "--model: no such file: no.onnx; if the cluster has it, add"),
        ({"model": "vgg16", "params": "no.params"}, r"--params: no such file: no.params"),
        ({"labels": "no.txt"}, r"--labels: no such file: no.txt"),
        ({"target": "similar:no.png"}, r"--target: no such file: no.png"),
        ({"target": "labels:no.npy"}, r"--target: no such file: no.npy"),
        ({"source": "none"}, r"none: no such file or folder; if the cluster has it, add"),
        ({"method": "gradkam"}, "--method: unknown method 'gradkam'; nearest: gradcam"),
        ({"executor": "local"}, "--executor local: a submitted run"),
        ({"precision": "fp16"}, "--precision fp16 needs a GPU"),
        ({"out": "photos"}, "photos: not empty and not a run directory"),
        ({"source": "https://user:pass@host/x.tar"}, "URL with credentials"),
        ({"out": "s3://user:pass@bucket/run"}, "credentials"),
        ({"root": "s3://bucket/x?token=1"}, "URL with credentials"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", 1)
    for target in ("top1", "labels", "labels:photos", "from:photos", "from:s3://bucket/run"):
        require_submittable(RUN.model_copy(update={"target": target}), elsewhere=False)
    with pytest.raises(ShardcamError, match=words) as caught:
        require_submittable(RUN.model_copy(update=change), elsewhere=False)
    assert "pass@" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_a_dashboard_is_no_cluster_to_join():
    with pytest.raises(ShardcamError, match="is a dashboard, for shardcam submit; extract takes"):
        require_possible(RUN.model_copy(update={"address": "http://head:8265"}))


def test_paths_of_the_cluster_are_absolute_and_not_looked_for():
    there = {"source": "/data/photos", "out": "/data/run", "params": "/data/vgg.params"}
    require_submittable(RUN.model_copy(update=there), elsewhere=True)
    for name in PATH_OPTIONS:
        with pytest.raises(ShardcamError, match=f"{typed_name(name)}: give its absolute path"):
            require_submittable(RUN.model_copy(update={**there, name: "x.onnx"}), elsewhere=True)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:8265", "submit takes the dashboard's address"),
        ("ray://head:10001", "submit takes the dashboard's address"),
        ("http://:8265", "submit takes the dashboard's address"),
        ("http://head:port", "submit takes the dashboard's address"),
        ("http://user:pass@head:8265", "takes no password: set RAY_AUTH_MODE=token"),
        ("http://127.0.0.1:9", "no dashboard answers: .*refused"),
    ],
)
def test_addresses_that_are_no_dashboard(monkeypatch, address, words):
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ShardcamError, match=words) as caught:
        RayJobs(address)
    assert "pass@" not in str(caught.value)


def test_a_token_mode_without_token(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ShardcamError, match=f"no token in RAY_AUTH_TOKEN or in {tmp_path}/none"):
        RayJobs("http://127.0.0.1:9")


PLAN = {"samples": 1, "shards": 1, "shard_size": 1}


def typed(**options):
    """What click gives for these options of extract."""
    return dict.fromkeys((*RunConfig.model_fields, "config")) | options


def test_another_try_is_a_job_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "my run"
    ours = {"address": "head:6379", "workers": 7, "hang_timeout": 5.0, "cache": "/scratch"}
    begun = MANY.model_copy(update=ours).absolute()
    begin_run(RunDir(run), Manifest(begun.model_dump(mode="json"), {}, PLAN, {}))
    work = work_of(typed(workers=2, cache="new", address="http://head:8265"), "my run", False)
    expected = {"out": "my run", "workers": 2, "cache": "new", "address": "http://head:8265"}
    assert work.config == MANY.absolute().model_copy(
        update=expected | {"gpus_per_worker": 0.0}
    )  # of the run's place nothing is left
    submission = make_submission(work, "shardcam", send_code=False)
    words = ["shardcam", "retry-failed", "--workers=2", f"--cache={tmp_path / 'new'}"]
    words += ["--max-failed=0.0", "--", str(run)]
    assert shlex.split(submission.entrypoint) == words
    assert submission.run == str(run)
    elsewhere = work_of(typed(gpus_per_worker=1.0), "/data/run", True)
    assert elsewhere.words() == ["retry-failed", "--gpus-per-worker=1.0", "--", "/data/run"]
    for options, run, words in (
        ({"method": "cam"}, "/data/run", "--method: not with --retry-failed"),
        ({"source": "photos"}, "/data/run", "SOURCE: not with --retry-failed"),
        ({}, "run", "--retry-failed run: give its absolute path on the cluster"),
        ({"workers": 0}, "/data/run", "--workers: "),
    ):
        with pytest.raises(ShardcamError, match=words):
            work_of(typed(**options), run, True)
    with pytest.raises(ShardcamError, match="none: not a run directory"):
        work_of(typed(), "none", False)
