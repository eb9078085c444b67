"""Files for Slurm and KubeRay: parsed by what reads them, and the script run with a stand-in."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shardcam.engine.config import RunConfig
from shardcam.engine.models.system_libraries import PACKAGES
from shardcam.jobs.cluster.batch_files import (
    Nodes,
    PodOptions,
    SlurmOptions,
    job_name,
    kuberay_job,
    slurm_script,
)
from shardcam.jobs.config_file import read_config_file
from tests.jobs.command import ROOT, contents, shardcam
from tests.jobs.images import make_folder

RUN = RunConfig(
    source="/data/it's here/*.jpg",
    model="efficientnet_lite0",
    out="/data/runs/My Run_1",
    layer=("$HOME", "b c"),
    workers=None,
)
SLURM = SlurmOptions("1:00:00", "long", ("source '/opt/a b/bin/activate'",))
PODS = PodOptions("registry/shardcam:cu117", "photos", "/data")
LITE0 = ("--model", "efficientnet_lite0", "--image-size", "64")


def check_script(path):
    """bash's own parser, and shellcheck where it is installed."""
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--severity=warning", "-e", "SC2046", path], check=True)


@pytest.mark.process
def test_a_slurm_script_says_what_was_asked(tmp_path):
    text = slurm_script(RUN, Nodes(4, 16, 2, "64G"), SLURM)
    (tmp_path / "run.sbatch").write_text(text)
    check_script(tmp_path / "run.sbatch")
    asked = [line.removeprefix("#SBATCH --") for line in text.splitlines() if "#SBATCH" in line]
    assert asked == [
        "job-name=shardcam-my-run-1",
        "nodes=4",
        "ntasks-per-node=1",
        "cpus-per-task=16",
        "gpus-per-node=2",
        "mem=64G",
        "time=1:00:00",
        "partition=long",
        "signal=B:TERM@60",
        "requeue",
    ]
    first = next(i for i, line in enumerate(text.splitlines()) if not line.startswith("#"))
    assert text.splitlines()[first + 1] == "source '/opt/a b/bin/activate'"


@pytest.mark.process
def test_words_reach_the_command_as_they_are(tmp_path):
    text = slurm_script(RUN, Nodes(1, 2, 0, None), SlurmOptions("1:00", None, ()))
    begun = text[: text.index("# Anyone who")]
    (tmp_path / "words.sh").write_text(f'{begun}\nprintf "%s\\n" "${{extract[@]}}" "$source"\n')
    out = subprocess.run(
        ["bash", tmp_path / "words.sh"], capture_output=True, text=True, check=True
    )
    assert out.stdout.splitlines() == [
        *("shardcam", "extract", "--model=efficientnet_lite0", "--out=/data/runs/My Run_1"),
        *("--layer=$HOME", "--layer=b c", "/data/it's here/*.jpg"),
    ]


def test_a_ray_job_says_what_was_asked(tmp_path):
    files, job = yaml.safe_load_all(kuberay_job(RUN, Nodes(4, 16, 2, "8Gi"), PODS))
    (tmp_path / "run.yaml").write_text(files["data"]["run.yaml"])
    assert RunConfig(**read_config_file(tmp_path / "run.yaml")) == RUN

    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["entrypoint"] == "shardcam extract --config /etc/shardcam/run.yaml"
    assert isinstance(yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"], dict)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    (group,) = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 4
    for template in (group["template"], cluster["headGroupSpec"]["template"]):
        pod = template["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "registry/shardcam:cu117"
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts == {"data": "/data", "options": "/etc/shardcam"}
        claim, options = pod["volumes"]
        assert claim == {"name": "data", "persistentVolumeClaim": {"claimName": "photos"}}
        assert options["configMap"]["name"] == files["metadata"]["name"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "16", "memory": "8Gi", "nvidia.com/gpu": "2"}
    head = cluster["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"  # workers stay off the driver's pod
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize("out", ["/r/Ärger!", "/r/..-x" + "y" * 60, "/r/---"])
def test_names_that_kubernetes_takes(out):
    name = job_name(RUN.model_copy(update={"out": out}))
    assert name.replace("-", "").isalnum() and name.isascii() and name == name.lower()
    assert len(name) <= 40 and not name.endswith("-")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kuberay", "/data/x", "--out", "/elsewhere/run"), "--out /elsewhere/run: pods only see"),
        (("kuberay", "x", "--out", "/data/run"), "SOURCE: with --paths-on-cluster, give an"),
        (("kuberay", "/data/x", "--out", "/data/r", "--cpus-per-worker", "8"), "--node-cpus 4"),
        (("kuberay", "/data/x", "--out", "/data/r", "--gpus-per-worker", "1"), "--node-gpus 0"),
        (("slurm", "/none", "--out", "run"), "/none: no such file or folder"),
    ],
)
def test_what_cannot_run_is_not_written(tmp_path, arguments, words):
    system, *rest = arguments
    more = {
        "kuberay": ("--image", "shardcam", "--claim", "photos"),
        "slurm": ("--time", "1:00:00"),
    }[system]
    given = ("--model", "efficientnet_lite0", "--node-cpus", "4", *more)
    code, out, err = shardcam("render", system, *rest, *given, cwd=tmp_path)
    assert code in (1, 2) and out == ""
    assert err.count("\n") == 1 and words in err


def test_the_image_is_of_the_pinned_ray_and_has_the_libraries():
    text = (ROOT / "Dockerfile").read_text()
    pinned = re.search(r"^ARG RAY=(.+)$", text, re.MULTILINE).group(1)
    assert f"ray=={pinned}\n" in (ROOT / "constraints.txt").read_text()
    assert all(debian in text for debian, _ in PACKAGES.values())
    variants = set(re.findall(r"^FROM .* AS (.+)$", text, re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text()
    assert variants == {"cpu", "cu112", "cu117"}
    assert all(f"\n{name} = [" in project for name in variants)


@pytest.mark.slow
def test_a_slurm_script_runs_and_gives_the_exit_code(tmp_path):
    """`srun` and `scontrol` are stand-ins that run everything here; Ray is real."""
    make_folder(tmp_path / "images", 8)
    stand_ins = {
        "srun": 'while [ "$1" != ray ]; do shift; done\nexec "$@"\n',
        "scontrol": "hostname\n",
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}")
        (tmp_path / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("", 0))
        job = 10000 + free.getsockname()[1] % 10000
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "1",
    }
    run = tmp_path / "a run"
    asked = ("--time", "1:00:00", "--node-cpus", "2", "--out", run)
    for more, expected in (((), 0), (("--layer", "nowhere"), 2)):
        code, text, err = shardcam("render", "slurm", tmp_path / "images", *LITE0, *asked, *more)
        assert code == 0, err
        (tmp_path / "run.sbatch").write_text(text)
        done = subprocess.run(
            ["bash", tmp_path / "run.sbatch"], env=environment, capture_output=True, text=True
        )
        assert done.returncode == expected, done.stdout + done.stderr
        assert not list(tmp_path.glob(".shardcam-token*"))
        assert not Path(f"/tmp/ray-{job}").exists()
    assert len(contents(run)["key"]) == 8
