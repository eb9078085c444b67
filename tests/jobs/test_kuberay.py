"""Files for KubeRay: held against a schema of what it takes, and the script run by a real Ray."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from ray.job_submission import JobSubmissionClient

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, ShardcamError
from shardcam.engine.models.system_libraries import PACKAGES
from shardcam.engine.run import worker_memory as reckoned
from shardcam.engine.run.worker_memory import worker_memory
from shardcam.jobs.cluster import kuberay_job as kuberay
from shardcam.jobs.cluster.batch_files import Nodes, job_name
from shardcam.jobs.cluster.kuberay_job import PodOptions, kuberay_job
from shardcam.jobs.cluster.work import Work
from shardcam.jobs.config_file import read_config_file
from tests.jobs.bash import BIN, check_script
from tests.jobs.command import CHECKPOINT, ROOT, shardcam
from tests.jobs.images import make_folder
from tests.ray_head import ray_head

RUN = RunConfig(
    source="/data/it's here/*.jpg",
    model="efficientnet_lite0",
    out="/data/runs/My Run_1",
    layer=("$HOME", "b c"),
)
AT_S3 = RunConfig(source="s3://b/photos", model="efficientnet_lite0", out="s3://b/runs/photos")
PODS = PodOptions("registry/shardcam:cu117", "photos")
ONE = Nodes(1, 4, 0, None)


@pytest.fixture(autouse=True)
def small_network(request, monkeypatch):
    if "real_memory" not in request.fixturenames:
        monkeypatch.setattr(kuberay, "worker_memory", lambda config: 350 << 20)


@pytest.fixture
def real_memory():
    """The network is read."""


def made(config, nodes=ONE, options=PODS, retry=False):
    """The ConfigMap and the RayJob, of which nothing is unknown to Kubernetes."""
    files, job = yaml.safe_load_all(kuberay_job(Work(config, retry), nodes, options))
    schema = json.loads((ROOT / "tests/fixtures/kuberay/files.schema.json").read_text())
    for document in (files, job):
        wrong = [*Draft7Validator(schema).iter_errors(document)]
        assert not wrong, [error.message for one in wrong for error in one.context]
    return files, job


def pods_of(job):
    """What the pods of the head, of the workers and of the submission are made of."""
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    templates = (cluster["headGroupSpec"]["template"], group["template"])
    return [one["spec"] for one in (*templates, job["spec"]["submitterPodTemplate"])]


def memory_of(pod):
    (container,) = pod["containers"]
    return container["resources"]["limits"]["memory"]


def test_a_job_says_what_was_asked(tmp_path):
    files, job = made(RUN, Nodes(4, 16, 2, "8Gi"))
    (tmp_path / "run.yaml").write_text(files["data"]["run.yaml"])
    assert RunConfig(**read_config_file(tmp_path / "run.yaml")) == RUN
    assert job["spec"]["entrypoint"] == "bash /etc/shardcam/run.sh"
    assert isinstance(yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"], dict)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    (group,) = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 4
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # it has no workers
    head, worker, _ = pods_of(job)
    for pod in (head, worker):
        (container,) = pod["containers"]
        assert container["image"] == "registry/shardcam:cu117"
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts == {"data": "/data", "options": "/etc/shardcam"}
        options, claim = pod["volumes"]
        assert claim == {"name": "data", "persistentVolumeClaim": {"claimName": "photos"}}
        assert options["configMap"]["name"] == files["metadata"]["name"]
    limits = worker["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "16", "memory": "8Gi", "nvidia.com/gpu": "2"}
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]


def test_failed_images_are_tried_again_by_a_job():
    """Its options are of the command line: the run has its own."""
    run = RunConfig(source="/data/r", model="efficientnet_lite0", out="/data/r", max_failed=0.1)
    files, job = made(run, Nodes(1, 2, 0, None), retry=True)
    lines = files["data"]["run.sh"].splitlines()
    assert files["data"].keys() == {"run.sh"}
    assert lines[1] == "shardcam retry-failed --max-failed=0.1 -- /data/r &"
    assert memory_of(pods_of(job)[1]) == "5Gi"  # of a network that only the run knows


def test_a_run_at_urls_needs_credentials_and_no_claim():
    options = PodOptions("x", secret=("s3", "more"), service_account="reader")
    _, job = made(AT_S3, options=options)
    head, worker, submitter = pods_of(job)
    for pod in (head, worker):
        assert pod["serviceAccountName"] == "reader"
        assert [one["name"] for one in pod["volumes"]] == ["options"]
        names = [one["secretRef"]["name"] for one in pod["containers"][0]["envFrom"]]
        assert names == ["s3", "more"]
    assert "envFrom" not in submitter["containers"][0]  # it only asks Ray


def test_every_pod_is_placed_as_asked():
    options = PodOptions(
        "x", "photos", namespace="lab", image_pull_secret=("registry",), queue="team",
        node_selector=("pool=cpu", "topology.kubernetes.io/zone=a"), deadline=3600,
        toleration=("gpu=yes:NoSchedule", "spot", "slow:PreferNoSchedule"),
    )  # fmt: skip
    files, job = made(RUN, options=options)
    assert files["metadata"]["namespace"] == job["metadata"]["namespace"] == "lab"
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    for pod in pods_of(job):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["nodeSelector"] == {"pool": "cpu", "topology.kubernetes.io/zone": "a"}
        assert pod["tolerations"] == [
            {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
            {"key": "spot", "operator": "Exists"},
            {"key": "slow", "operator": "Exists", "effect": "PreferNoSchedule"},
        ]


@pytest.mark.parametrize(
    ("cpus", "gpus", "more", "expected"),
    [
        (64, 0, {}, 64 * 350 / 1024 + 1),
        (64, 0, {"cpus_per_worker": 16}, 4 * 350 / 1024 + 1),
        (64, 0, {"workers": 3}, 3 * 350 / 1024 + 1),
        (64, 2, {"gpus_per_worker": 0.5}, 4 * 350 / 1024 + 1),
    ],
)
def test_memory_follows_the_workers(cpus, gpus, more, expected):
    _, job = made(RUN.model_copy(update=more), Nodes(1, cpus, gpus, None))
    assert expected <= int(memory_of(pods_of(job)[1]).removesuffix("Gi")) < expected + 1


def test_memory_is_generous_where_the_network_is_not_known(monkeypatch):
    monkeypatch.setattr(kuberay, "worker_memory", lambda config: None)
    _, job = made(RUN, ONE)
    assert memory_of(pods_of(job)[1]) == "9Gi"
    assert "network was not read here (see --node-memory)" in kuberay_job(Work(RUN), ONE, PODS)


@pytest.mark.process
def test_a_worker_takes_no_more_memory_than_was_reckoned(tmp_path, real_memory):
    """By what the kernel says of a process that does the work."""
    make_folder(tmp_path / "images", 32)
    config = RunConfig(source=str(tmp_path / "images"), model="efficientnet_lite0", out="x")
    command = ("extract", config.source, "--model", config.model, "--executor", "local")
    process = subprocess.Popen(
        ["taskset", "-c", "0", sys.executable, "-m", "shardcam", *command, "--out", tmp_path / "r"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        most = max([most, *map(int, re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE))])
        time.sleep(0.02)
    assert process.returncode == 0
    assert 0.4 < most * 1024 / worker_memory(config) < 1


def test_memory_follows_the_network(real_memory):
    small = worker_memory(RUN.model_copy(update={"model": str(CHECKPOINT), "image_size": 32}))
    assert small < worker_memory(RUN)
    assert worker_memory(RUN) < worker_memory(RUN.model_copy(update={"batch_size": 512}))
    assert worker_memory(RUN) < worker_memory(RUN.model_copy(update={"image_size": 1024}))
    assert worker_memory(RUN.model_copy(update={"model": "/data/other.onnx"})) is None


def test_a_file_is_written_where_no_network_can_be_read(real_memory, monkeypatch):
    """As on a laptop that lacks a library of MXNet's."""

    def missing():
        raise ShardcamError("MXNet needs libquadmath.so.0")

    monkeypatch.setattr(reckoned, "ready_libraries", missing)
    assert reckoned.worker_memory(RUN) is None


@pytest.mark.parametrize("out", ["/r/Ärger!", "/r/..-x" + "y" * 60, "/r/---"])
def test_names_that_kubernetes_takes(out):
    name = job_name(RUN.model_copy(update={"out": out}))
    assert name.replace("-", "").isalnum() and name.isascii() and name == name.lower()
    assert len(name) <= 47 and name[0].isalpha() and not name.endswith("-")


def test_runs_of_one_name_have_jobs_of_different_names():
    names = [job_name(RUN.model_copy(update={"out": out})) for out in ("/a/run", "/b/run")]
    assert len(set(names)) == 2
    assert names[0] == job_name(RUN.model_copy(update={"out": "/a/run"}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("/data/x", "--out", "/elsewhere/run"), "--out /elsewhere/run: pods only see"),
        (("x", "--out", "/data/run"), "SOURCE: give its absolute path on the cluster"),
        (("/data/x", "--out", "/data/r", "--cpus-per-worker", "8"), "--node-cpus 4"),
        (("/data/x", "--out", "/data/r", "--gpus-per-worker", "1"), "--node-gpus 0"),
        (("/data/x", "--out", "/data/r", "--node-memory", "8 GB"), "--node-memory '8 GB': takes"),
        (("/data/x", "--out", "/data/r", "--root", "/x"), "--root /x: pods only see"),
    ],
)
def test_what_cannot_run_is_not_written(tmp_path, arguments, words):
    more = ("--image", "shardcam", "--claim", "photos")
    given = ("--model", "efficientnet_lite0", "--node-cpus", "4", *more)
    code, out, err = shardcam("render", "kuberay", *arguments, *given, cwd=tmp_path)
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and words in err


def test_paths_need_a_claim():
    with pytest.raises(ConfigError, match=r"^SOURCE /data/.*: pods see no disk without --claim"):
        kuberay_job(Work(RUN), ONE, PodOptions("x"))
    similar = RUN.model_copy(update={"target": "similar:/photos/one.jpg"})
    with pytest.raises(ConfigError, match=r"^--target /photos/one\.jpg: pods only see what is bel"):
        kuberay_job(Work(similar), ONE, PODS)
    masked = RUN.model_copy(update={"target_mask": "/photos/mask.png"})
    with pytest.raises(ConfigError, match=r"^--target-mask /photos/mask\.png: pods only see what"):
        kuberay_job(Work(masked), ONE, PODS)
    run = RUN.model_copy(update={"source": "/data/r", "out": "/data/r"})
    with pytest.raises(ConfigError, match=r"^--retry-failed /data/r: pods see no disk"):
        kuberay_job(Work(run, retry=True), ONE, PodOptions("x"))


@pytest.mark.parametrize(
    "options",
    [
        {"claim": "Photos"},
        {"secret": ("a b",)},
        {"queue": "q\n"},
        {"node_selector": ("pool",)},
        {"toleration": ("gpu:Never",)},
        {"mount": "data"},
    ],
)
def test_what_kubernetes_would_not_take_is_refused(options):
    with pytest.raises(ConfigError, match=r"^--[a-z-]+ .*: takes "):
        PodOptions("x", **options)


@pytest.mark.ray
def test_exit_codes_that_would_come_again_are_not_retried(tmp_path, monkeypatch):
    """KubeRay starts a job anew that Ray calls FAILED, not one that it calls STOPPED."""
    files, _ = made(RUN)
    (tmp_path / "run.sh").write_text(files["data"]["run.sh"])
    check_script(tmp_path / "run.sh")
    (tmp_path / "shardcam").write_text('#!/bin/bash\nexit "$CODE"\n')
    (tmp_path / "shardcam").chmod(0o755)
    path = f"{tmp_path}:{BIN}:{os.environ['PATH']}"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ray_head(cpus=1, dashboard=True, PATH=path) as head:
        client = JobSubmissionClient(head.dashboard)
        jobs = {
            code: client.submit_job(
                entrypoint=f"bash {tmp_path}/run.sh", runtime_env={"env_vars": {"CODE": str(code)}}
            )
            for code in (0, 1, 2, 3, 4)
        }
        while not all(client.get_job_status(job).is_terminal() for job in jobs.values()):
            time.sleep(0.5)
        ended = {code: str(client.get_job_status(job)) for code, job in jobs.items()}
    assert ended == {0: "SUCCEEDED", 1: "FAILED", 2: "STOPPED", 3: "STOPPED", 4: "FAILED"}


def test_the_image_is_of_the_pinned_ray_and_has_the_libraries():
    text = (ROOT / "Dockerfile").read_text()
    pinned = re.search(r"^ARG RAY=(.+)$", text, re.MULTILINE).group(1)
    assert f"ray=={pinned}\n" in (ROOT / "constraints.txt").read_text()
    assert all(debian in text for debian, _ in PACKAGES.values())
    variants = dict(re.findall(r"^FROM .* AS (.+)\nENV EXTRA=(\S+)", text, re.MULTILINE))
    assert variants.keys() == {"cpu", "cu112", "cu117", "torch"}
    assert "nvjpeg" in variants["torch"]  # --decoder gpu
    project = (ROOT / "pyproject.toml").read_text()
    extras = {extra for some in variants.values() for extra in some.split(",")}
    assert all(f"\n{extra} = [" in project for extra in extras)
