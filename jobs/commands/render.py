"""``shardcam render``: files that start a cluster for one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar

import click

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.jobs.cluster.batch_files import Nodes
from shardcam.jobs.cluster.kuberay_job import PodOptions, kuberay_job
from shardcam.jobs.cluster.slurm_script import SlurmOptions, slurm_script
from shardcam.jobs.cluster.submission import require_submittable
from shardcam.jobs.cluster.work import Work, retry_option, work_of
from shardcam.jobs.options import run_options
from shardcam.jobs.sections import SectionedCommand, SectionedOption
from shardcam.jobs.terminal import as_utf8

F = TypeVar("F", bound=Callable[..., Any])

_cluster_option = partial(click.option, cls=SectionedOption, section="Cluster")
_count = _cluster_option(
    "--nodes", type=click.IntRange(1), default=1, show_default=True, help="Number of nodes."
)
_cpus = _cluster_option(
    "--node-cpus", type=click.IntRange(1), required=True, help="CPU cores of each node."
)
_gpus = _cluster_option("--node-gpus", type=click.IntRange(0), default=0, help="GPUs of each node.")


def _sbatch(name: str) -> Callable[[F], F]:
    """An option of sbatch's."""
    known = name[2:].replace("-", " ").capitalize().replace("Qos", "Quality of service")
    decorate: Callable[[F], F] = _cluster_option(name, help=f"{known}, as for sbatch {name}.")
    return decorate


@click.group()
def render() -> None:
    """Print a job file that starts a cluster for one extraction.

    Takes the options of extract. --retry-failed does as `shardcam retry-failed` instead.

    \b
    Examples:
      shardcam render slurm /data/photos --model efficientnet_lite0 --out /data/runs/photos \\
          --nodes 4 --node-cpus 16 --time 12:00:00 > photos.sbatch
      shardcam render kuberay --help
    """


@render.command(cls=SectionedCommand)
@run_options
@_count
@_cpus
@_gpus
@_cluster_option("--node-memory", help="Memory of each node, as for sbatch --mem.")
@_cluster_option(
    "--time", required=True, help="Time limit, as for sbatch --time, such as 12:00:00."
)
@_sbatch("--partition")
@_sbatch("--account")
@_sbatch("--qos")
@_sbatch("--constraint")
@_cluster_option("--log", help="File for the log, as for sbatch --output.")
@_sbatch("--mail-type")
@_sbatch("--mail-user")
@_cluster_option(
    "--setup",
    multiple=True,
    help="Shell command to run first on each node, repeatable, such as 'source /opt/shardcam/bin/"
    "activate' or 'module load python'.",
)
@_cluster_option(
    "--array",
    type=click.IntRange(1),
    help="So many tasks of one node without Ray, each for a part of the shards, and one that "
    "completes the run.",
)
@_cluster_option(
    "--paths-on-cluster",
    is_flag=True,
    help="All paths are absolute and exist on the cluster; do not look for them here.",
)
@retry_option
def slurm(
    nodes: int,
    node_cpus: int,
    node_gpus: int,
    node_memory: str | None,
    array: int | None,
    paths_on_cluster: bool,
    retry_failed: str | None,
    **options: Any,
) -> None:
    """Print a script for sbatch.

    With --array it is for bash, and submits the tasks by itself.

    \b
    Examples:
      shardcam render slurm /data/photos --model efficientnet_lite0 --out /data/runs/photos \\
          --nodes 4 --node-cpus 16 --time 12:00:00 > photos.sbatch
      shardcam render slurm /data/photos --model efficientnet_lite0 --out /data/runs/photos \\
          --array 50 --node-cpus 4 --time 2:00:00 > photos.sh
    """
    names = [field.name for field in fields(SlurmOptions)]
    asked = SlurmOptions(**{name: options.pop(name) for name in names})
    if array is not None:
        options["executor"] = "ray"  # for the checks: each task has its own
    work = _work(options, retry_failed, paths_on_cluster)
    config = work.config
    if config.workers:
        raise ConfigError("--workers: leave it out: every node is used, as soon as it has joined")
    if array is not None:
        if work.retry:
            raise ConfigError("--array: not with --retry-failed, which is one command")
        if nodes > 1 or config.cpus_per_worker > 1:
            raise ConfigError(
                "--array: leave out --nodes and --cpus-per-worker: a task is one process, with "
                "the --node-cpus of one node"
            )
        work = Work(config.model_copy(update={"executor": "local"}))
        require_possible(work.config)
    _require_room(config, node_cpus, node_gpus)
    machines = Nodes(nodes, node_cpus, node_gpus, node_memory)
    click.echo(as_utf8(slurm_script(work, machines, asked, array)), nl=False)


@render.command(cls=SectionedCommand)
@run_options
@_count
@_cpus
@_gpus
@_cluster_option(
    "--node-memory",
    help="Memory of each worker pod  [default: what its workers need with this network; 2 GiB each "
    "where it cannot be read here]",
)
@_cluster_option("--image", required=True, help="Container image, built from the Dockerfile.")
@_cluster_option(
    "--claim",
    help="PersistentVolumeClaim that holds the images and takes the run; not needed where both are "
    "URLs.",
)
@_cluster_option(
    "--mount", default="/data", show_default=True, help="Where the pods mount the claim."
)
@_cluster_option("--namespace", help="Namespace of the job.")
@_cluster_option(
    "--secret",
    multiple=True,
    help="Secret whose entries become environment variables, repeatable, such as the credentials "
    "of s3://.",
)
@_cluster_option("--service-account", help="Service account of the pods, such as one for s3://.")
@_cluster_option("--image-pull-secret", multiple=True, help="Secret of the registry, repeatable.")
@_cluster_option(
    "--node-selector", multiple=True, metavar="KEY=VALUE", help="Label of the nodes, repeatable."
)
@_cluster_option(
    "--toleration",
    multiple=True,
    metavar="KEY[=VALUE][:EFFECT]",
    help="Taint of the nodes that is tolerated, repeatable.",
)
@_cluster_option("--queue", help="Local queue of Kueue.")
@_cluster_option(
    "--deadline", type=click.IntRange(1), help="Seconds after which Kubernetes ends the job."
)
@retry_option
def kuberay(
    nodes: int,
    node_cpus: int,
    node_gpus: int,
    node_memory: str | None,
    retry_failed: str | None,
    **options: Any,
) -> None:
    """Print a RayJob for kubectl.

    All paths are as the pods see them.

    \b
    Examples:
      shardcam render kuberay /data/photos --model efficientnet_lite0 --out /data/runs/photos \\
          --nodes 4 --node-cpus 16 --image registry/shardcam:cpu --claim photos > photos.yaml
      shardcam render kuberay s3://bucket/photos --model efficientnet_lite0 \\
          --out s3://bucket/runs/photos --node-cpus 16 --image registry/shardcam:cpu \\
          --secret s3-credentials > photos.yaml
    """
    names = [field.name for field in fields(PodOptions)]
    pods = PodOptions(**{name: options.pop(name) for name in names})
    work = _work(options, retry_failed, elsewhere=True)
    _require_room(work.config, node_cpus, node_gpus)
    machines = Nodes(nodes, node_cpus, node_gpus, node_memory)
    click.echo(as_utf8(kuberay_job(work, machines, pods)), nl=False)


def _work(options: dict[str, Any], retry_failed: str | None, elsewhere: bool) -> Work:
    work = work_of(options, retry_failed, elsewhere)
    if work.config.address:
        raise ConfigError("--address: leave it out: the file starts a cluster of its own")
    require_submittable(work.config, elsewhere)
    return work


def _require_room(config: RunConfig, cpus: int, gpus: int) -> None:
    if config.cpus_per_worker > cpus:
        raise ConfigError(
            f"--cpus-per-worker {config.cpus_per_worker} is more than --node-cpus {cpus}"
        )
    if config.gpus_per_worker > gpus:
        raise ConfigError(
            f"--gpus-per-worker {config.gpus_per_worker:g} is more than --node-gpus {gpus}"
        )
