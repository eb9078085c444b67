"""A RayJob for KubeRay, and the ConfigMap of what it runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

import yaml

from shardcam.engine.config import RunConfig, flag, typed_name
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.urls import is_url
from shardcam.engine.run.worker_memory import worker_memory
from shardcam.jobs.cluster.batch_files import OBJECT_STORE, Nodes, job_name
from shardcam.jobs.cluster.submission import STOP_SECONDS
from shardcam.jobs.cluster.work import Work
from shardcam.jobs.config_file import config_yaml

FOLDER = "/etc/shardcam"  # where pods see the ConfigMap
RETRIES = 3  # clusters that are tried after the first; each goes on where the last one was
KEPT_SECONDS = 600  # until a finished cluster's pods go
UNKNOWN = 2 << 30  # bytes of a worker whose network cannot be read here
_RAY_BYTES = 1 << 30  # of a pod, for Ray's own processes
_DRIVER_BYTES = 3 << 30  # of the head's pod, beside the network
_DATA = (  # paths that no container image has
    *("source", "out", "root", "label_data", "target"),
    "target_mask",
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MOUNT = re.compile(r"/[^:\n]*")
_LABEL = re.compile(r"([A-Za-z0-9][-\w./]*)=([-\w.]*)", re.ASCII)
_TAINT = re.compile(
    r"([A-Za-z0-9][-\w./]*)(?:=([-\w.]*))?(?::(NoSchedule|PreferNoSchedule|NoExecute))?", re.ASCII
)
_QUANTITY = re.compile(r"\d+(\.\d+)?([kMGT]|[KMGT]i)?")


@dataclass(frozen=True)
class PodOptions:
    """Options of the job and of its pods.

    Raises
    ------
    ConfigError
        One is not as Kubernetes takes it.
    """

    image: str
    claim: str | None = None  # PersistentVolumeClaim that holds the images and takes the run
    mount: str = "/data"  # where pods see it
    namespace: str | None = None
    secret: tuple[str, ...] = ()  # whose entries become environment variables
    service_account: str | None = None
    image_pull_secret: tuple[str, ...] = ()
    node_selector: tuple[str, ...] = ()  # KEY=VALUE
    toleration: tuple[str, ...] = ()  # KEY[=VALUE][:EFFECT]
    queue: str | None = None  # of Kueue
    deadline: int | None = None  # seconds

    def __post_init__(self) -> None:
        for name in ("claim", "namespace", "service_account", "queue"):
            value = getattr(self, name)
            _require(name, () if value is None else (value,), _NAME, "takes a name of Kubernetes")
        for name in ("secret", "image_pull_secret"):
            _require(name, getattr(self, name), _NAME, "takes a name of Kubernetes")
        _require("mount", (self.mount,), _MOUNT, "takes an absolute path without ':'")
        _require("node_selector", self.node_selector, _LABEL, "takes KEY=VALUE")
        _require(
            "toleration", self.toleration, _TAINT, "takes KEY[=VALUE][:EFFECT], as gpu:NoSchedule"
        )

    @property
    def placement(self) -> dict[str, Any]:
        """Where every pod of the job runs, and by whose leave its image is pulled."""
        pairs = (_LABEL.fullmatch(text) for text in self.node_selector)
        found: dict[str, Any] = {
            "imagePullSecrets": [{"name": name} for name in self.image_pull_secret],
            "nodeSelector": {pair[1]: pair[2] for pair in pairs if pair},
            "tolerations": [_toleration(text) for text in self.toleration],
        }
        return {name: value for name, value in found.items() if value}


def _require(name: str, values: Iterable[str], form: re.Pattern[str], takes: str) -> None:
    for value in values:
        if not form.fullmatch(value):
            raise ConfigError(f"{flag(name)} {value!r}: {takes}")


def _toleration(text: str) -> dict[str, str]:
    found = _TAINT.fullmatch(text)
    assert found is not None
    key, value, effect = found.groups()
    asked = {"key": key, "operator": "Exists" if value is None else "Equal"}
    asked |= {} if value is None else {"value": value}
    return asked | ({} if effect is None else {"effect": effect})


def kuberay_job(work: Work, nodes: Nodes, options: PodOptions) -> str:
    """A RayJob and the ConfigMap of what it runs, for ``kubectl apply``.

    Raises
    ------
    ConfigError
        The memory is not a quantity, or pods would not see the source or the run.
    """
    config = work.config.model_copy(update={"address": None})
    _require_seen(work, options)
    if nodes.memory is not None and not _QUANTITY.fullmatch(nodes.memory):
        raise ConfigError(f"--node-memory {nodes.memory!r}: takes a quantity such as 64Gi")
    name = job_name(config)
    known = None if work.retry else worker_memory(config)  # of what is retried only the run knows
    worker, workers = known or UNKNOWN, _workers(config, nodes)
    memory = nodes.memory or _gib(workers * worker + _RAY_BYTES)
    each = f"{workers} x {worker / 2**30:.1f} GiB for workers"
    why = each if known else f"{each}, whose network was not read here (see --node-memory)"
    comments = [
        "kubectl apply -f THIS. Written by shardcam render kuberay, for KubeRay 1.5.1 or later.",
        "To run it again, delete the finished RayJob first: kubectl delete -f THIS",
        *([] if nodes.memory else [f"Memory of a worker pod: {why}, 1 GiB for Ray."]),
    ]
    where = {"name": name} | ({"namespace": options.namespace} if options.namespace else {})
    queue = {"kueue.x-k8s.io/queue-name": options.queue} if options.queue else None
    files = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": where,
        "data": _files(work, config),
    }
    store = {"object-store-memory": str(OBJECT_STORE)}
    head = _pod("ray-head", name, _needs(1, 0, _gib(worker + _DRIVER_BYTES)), options)
    group = _pod("ray-worker", name, _needs(nodes.cpus, nodes.gpus, memory), options)
    stop = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
    spec = {
        "entrypoint": f"bash {FOLDER}/run.sh",
        "runtimeEnvYAML": yaml.safe_dump(stop),
        "backoffLimit": RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        **({"activeDeadlineSeconds": options.deadline} if options.deadline else {}),
        "submitterPodTemplate": _submitter(options),
        "rayClusterSpec": {
            "rayVersion": version("ray"),
            "authOptions": {"mode": "token"},
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0", **store}, "template": head},
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": nodes.count,
                    "minReplicas": nodes.count,
                    "maxReplicas": nodes.count,
                    "rayStartParams": store,
                    "template": group,
                }
            ],
        },
    }
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": where | ({"labels": queue} if queue else {}),
        "spec": spec,
    }
    return "".join(f"# {one}\n" for one in comments) + "---\n".join(map(_readable, (files, job)))


def _files(work: Work, config: RunConfig) -> dict[str, str]:
    """What the ConfigMap holds, by name."""
    if work.retry:
        return {"run.sh": _script(shlex.join(["shardcam", *work.words()]))}
    script = _script(f"shardcam extract --config {FOLDER}/run.yaml")
    return {"run.yaml": config_yaml(config), "run.sh": script}


def _script(command: str) -> str:
    return f"#!/bin/bash\n{command} &\n{_WATCHED}"


# KubeRay starts a job that failed again, in a new cluster, but not one that was stopped.
_WATCHED = """\
driver=$!
trap 'kill -TERM "$driver"' TERM
status=0
wait "$driver" || status=$?
if [ "$status" -gt 128 ]; then # a signal ended the wait
    status=0
    wait "$driver" || status=$?
fi
case $status in
2 | 3)
    echo "shardcam: exit code $status would come again: the job stops itself and is not retried"
    job=$(python -c 'import json, os
config = json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])
print(config["metadata"]["job_submission_id"])')
    trap 'exit "$status"' TERM
    ray job stop --no-wait "$job"
    sleep 60 &
    wait
    ;;
esac
exit "$status"
"""


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


def _pod(container: str, name: str, needs: dict[str, str], options: PodOptions) -> dict[str, Any]:
    """The template of a pod: one container, the data, the ConfigMap called `name`."""
    mounts = [{"name": "options", "mountPath": FOLDER, "readOnly": True}]
    volumes: list[dict[str, Any]] = [{"name": "options", "configMap": {"name": name}}]
    if options.claim is not None:
        mounts.append({"name": "data", "mountPath": options.mount})
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": options.claim}})
    secrets = [{"secretRef": {"name": secret}} for secret in options.secret]
    account = options.service_account
    return {
        "spec": {
            **({"serviceAccountName": account} if account is not None else {}),
            **options.placement,
            "containers": [
                {
                    "name": container,
                    "image": options.image,
                    "resources": {"requests": dict(needs), "limits": dict(needs)},
                    **({"envFrom": secrets} if secrets else {}),
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        }
    }


def _submitter(options: PodOptions) -> dict[str, Any]:
    """The pod that submits the job and prints its log."""
    container = {
        "name": "ray-job-submitter",
        "image": options.image,
        "resources": {
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
    }
    return {"spec": {"restartPolicy": "Never", **options.placement, "containers": [container]}}


def _needs(cpus: int, gpus: int, memory: str) -> dict[str, str]:
    needs = {"cpu": str(cpus), "memory": memory}
    return needs | ({"nvidia.com/gpu": str(gpus)} if gpus else {})


def _workers(config: RunConfig, nodes: Nodes) -> int:
    """How many of them a pod has room for, or as many as there are."""
    most = nodes.cpus // config.cpus_per_worker
    if config.gpus_per_worker:
        most = min(most, int(nodes.gpus / config.gpus_per_worker + 1e-9))
    return min(most, config.workers or most)


def _gib(size: int) -> str:
    return f"{-(-size >> 30)}Gi"


def _require_seen(work: Work, options: PodOptions) -> None:
    for name, path in work.config.paths().items():
        if name not in _DATA or is_url(path):
            continue
        typed = "--retry-failed" if work.retry else typed_name(name)
        if options.claim is None:
            raise ConfigError(
                f"{typed} {path}: pods see no disk without --claim; give one, or a URL"
            )
        if not PurePosixPath(path).is_relative_to(options.mount):
            raise ConfigError(
                f"{typed} {path}: pods only see what is below --mount {options.mount}"
            )
