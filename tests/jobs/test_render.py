"""Files for KubeRay: parsed by what reads them."""

import re

import pytest
import yaml

from shardcam.engine.config import RunConfig
from shardcam.engine.models.system_libraries import PACKAGES
from shardcam.jobs.cluster.batch_files import Nodes, PodOptions, job_name, kuberay_job
from shardcam.jobs.config_file import read_config_file
from tests.jobs.command import ROOT, shardcam

RUN = RunConfig(
    source="/data/it's here/*.jpg",
    model="efficientnet_lite0",
    out="/data/runs/My Run_1",
    layer=("$HOME", "b c"),
    workers=None,
)
PODS = PodOptions("registry/shardcam:cu117", "photos", "/data")


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
    assert len(name) <= 47 and name[0].isalpha() and not name.endswith("-")


def test_runs_of_one_name_have_jobs_of_different_names():
    names = [job_name(RUN.model_copy(update={"out": out})) for out in ("/a/run", "/b/run")]
    assert len(set(names)) == 2
    assert names[0] == job_name(RUN.model_copy(update={"out": "/a/run"}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kuberay", "/data/x", "--out", "/elsewhere/run"), "--out /elsewhere/run: pods only see"),
        (("kuberay", "x", "--out", "/data/run"), "SOURCE: give its absolute path on the"),
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
