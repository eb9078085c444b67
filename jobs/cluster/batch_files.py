"""The files that start a cluster for one run: a Slurm batch script, a KubeRay job."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from shardcam.engine.config import RunConfig
from shardcam.jobs.cluster.submission import STOP_SECONDS
from shardcam.jobs.cluster.work import Work
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
class SlurmOptions:
    """Options of a Slurm job."""

    time: str
    partition: str | None
    setup: tuple[str, ...]  # shell lines that make `shardcam` and `ray` known


@dataclass(frozen=True)
class PodOptions:
    """Options of the pods."""

    image: str
    claim: str  # PersistentVolumeClaim that holds the images and takes the run
    mount: str  # where pods see it


def slurm_script(config: RunConfig, nodes: Nodes, options: SlurmOptions) -> str:
    """A script for ``sbatch``."""
    asked = {
        "job-name": job_name(config),
        "nodes": nodes.count,
        "ntasks-per-node": 1,
        "cpus-per-task": nodes.cpus,
        "gpus-per-node": nodes.gpus or None,
        "mem": nodes.memory,
        "time": options.time,
        "partition": options.partition,
        "signal": "B:TERM@60",
        "requeue": "",
    }
    lines = [
        f"#SBATCH --{name}" + (f"={value}" if value != "" else "")
        for name, value in asked.items()
        if value is not None
    ]
    words = Work(config).words()
    extract = shlex.join(["shardcam", *words[:-2]])
    source = shlex.quote(words[-1])
    return "\n".join(
        [
            "#!/bin/bash",
            "# sbatch THIS; the same again resumes the run. Written by shardcam render slurm.",
            *lines,
            "set -euo pipefail",
            *options.setup,
            "",
            f"place=(--ntasks-per-node=1 --cpus-per-task={nodes.cpus})",
            f"size=(--num-cpus={nodes.cpus} --num-gpus={nodes.gpus})",
            f"extract=({extract})",
            f"source={source}",
            _SLURM,
        ]
    )


_SLURM = f"""
# Anyone who can reach a Ray without a token can run programs on it: this one has a token,
# in a file that every node sees and only you can read.
token=$(mktemp "$HOME/.shardcam-token-XXXXXX")
scratch="/tmp/ray-$SLURM_JOB_ID"
python -c 'import secrets; print(secrets.token_hex(32))' > "$token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token" RAY_USAGE_STATS_ENABLED=0

finish() {{
    trap - EXIT
    kill $(jobs -p) 2> /dev/null || true
    wait
    rm -rf "$token" "$scratch"
}}
trap finish EXIT

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${{hosts[0]}}
port=$((20000 + SLURM_JOB_ID % 10000))
size+=(--min-worker-port=0 --max-worker-port=0 --object-store-memory={OBJECT_STORE})
srun --nodes=1 --ntasks=1 "${{place[@]}}" --nodelist="$head" \\
    ray start --head --block --port="$port" --ray-client-server-port=$((port + 10000)) \\
    --include-dashboard=false --temp-dir="$scratch" "${{size[@]}}" &
cluster=$!

answers() {{ (: < "/dev/tcp/$head/$port") 2> /dev/null; }}
for _ in $(seq 60); do
    if answers || ! kill -0 "$cluster" 2> /dev/null; then break; fi
    sleep 2
done
if ! answers; then
    echo "shardcam: Ray did not start on $head:$port; its output is above" >&2
    exit 1
fi

if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" "${{place[@]}}" --exclude="$head" \\
        ray start --block --address="$head:$port" "${{size[@]}}" &
fi

# Nodes that join later are used too. Slurm's TERM, 60 s before the time is over, stops the
# driver in good order: exit code 4.
"${{extract[@]}}" --address="$head:$port" -- "$source" &
driver=$!
trap 'kill -TERM "$driver"' TERM
status=0
wait "$driver" || status=$?
if [ "$status" -gt 128 ]; then
    status=0
    wait "$driver" || status=$?
fi
exit "$status"
"""


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
    """A name that Slurm and Kubernetes take: small letters, digits and `-`, 40 at most."""
    run = re.sub(r"[^a-z0-9]+", "-", Path(config.out).name.lower()).strip("-")
    return f"shardcam-{run or 'run'}"[:40].rstrip("-")
