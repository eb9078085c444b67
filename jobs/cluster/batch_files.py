"""The files that start a cluster for one run: a Slurm batch script, a KubeRay job."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from shardcam.engine.config import RunConfig
from shardcam.jobs.cluster.submission import STOP_SECONDS
from shardcam.jobs.config_file import config_yaml

OBJECT_STORE = 100_000_000  # bytes: only small reports pass through it
CONFIG_FOLDER = "/etc/shardcam"
RETRIES = 3  # clusters that are tried after the first; each goes on where the last one was
KEPT_SECONDS = 600  # until a finished cluster's pods go


@dataclass(frozen=True)
class Nodes:
    """The machines of a cluster."""

    count: int
    cpus: int
    gpus: int  # of each
    memory: str | None  # of each, in the words of the system that gives them


@dataclass(frozen=True)
class PodOptions:
    """Options of the pods."""

    image: str
    claim: str  # PersistentVolumeClaim that holds the images and takes the run
    mount: str  # where pods see it


def kuberay_job(config: RunConfig, nodes: Nodes, options: PodOptions) -> str:
    """A RayJob and the ConfigMap of its options, for ``kubectl apply``."""
    name = job_name(config)
    config = config.model_copy(update={"address": None})
    stop = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
    head = Nodes(1, 1, 0, "4Gi")
    spec = {
        "entrypoint": f"shardcam extract --config {CONFIG_FOLDER}/run.yaml",
        "runtimeEnvYAML": yaml.safe_dump(stop),
        "backoffLimit": RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "rayClusterSpec": {
            "rayVersion": version("ray"),
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0", "object-store-memory": str(OBJECT_STORE)},
                "template": _pod("ray-head", name, head, options),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": nodes.count,
                    "minReplicas": nodes.count,
                    "maxReplicas": nodes.count,
                    "rayStartParams": {"object-store-memory": str(OBJECT_STORE)},
                    "template": _pod("ray-worker", name, nodes, options),
                }
            ],
        },
    }
    job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name}, "spec": spec}
    files = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"run.yaml": config_yaml(config)},
    }
    head_line = (
        "# kubectl apply -f THIS. Written by shardcam render kuberay, for KubeRay 1.5.1 or later.\n"
    )
    return head_line + "---\n".join(map(_readable, (files, job)))


class _Readable(yaml.SafeDumper):  # type: ignore[misc]
    """Writes texts of several lines as such, and nothing by reference."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _readable(value: dict[str, Any]) -> str:
    text: str = yaml.dump(value, Dumper=_Readable, sort_keys=False, width=1000)
    return text


def _pod(container: str, name: str, size: Nodes, options: PodOptions) -> dict[str, Any]:
    """The template of a pod: one container, the data, the options."""
    needs = {"cpu": str(size.cpus), "memory": size.memory}
    if size.gpus:
        needs["nvidia.com/gpu"] = str(size.gpus)
    return {
        "spec": {
            "containers": [
                {
                    "name": container,
                    "image": options.image,
                    "resources": {"requests": dict(needs), "limits": dict(needs)},
                    "volumeMounts": [
                        {"name": "data", "mountPath": options.mount},
                        {"name": "options", "mountPath": CONFIG_FOLDER, "readOnly": True},
                    ],
                }
            ],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": options.claim}},
                {"name": "options", "configMap": {"name": name}},
            ],
        }
    }


def job_name(config: RunConfig) -> str:
    """A name of this run alone, of at most 47 letters, digits and `-`: KubeRay takes no more."""
    out = config.absolute().out
    run = re.sub(r"[^a-z0-9]+", "-", Path(out).name.lower())[:28].strip("-")
    return f"shardcam-{run or 'run'}-{hashlib.sha256(out.encode()).hexdigest()[:8]}"
