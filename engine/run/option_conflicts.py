"""Options of a run that exclude one another, or that nothing here can do."""

from __future__ import annotations

from importlib.util import find_spec

from shardcam.engine.config import RunConfig, flag
from shardcam.engine.errors import ConfigError, needs
from shardcam.engine.io.urls import is_url
from shardcam.engine.run.own_size import require_own_size_possible


def require_possible(config: RunConfig, passes: bool = True) -> None:
    """Refuse options that exclude one another.

    `passes`: the network is run, and not only read what it has given.

    Raises
    ------
    ConfigError
        The message names them.
    """
    require_own_size_possible(config)
    if config.executor == "local" and (
        config.workers or config.address or config.cpus_per_worker > 1
    ):
        raise ConfigError(
            "--workers, --cpus-per-worker and --address are for --executor ray; local takes all "
            "cores (taskset restricts them)"
        )
    of_workers = [
        flag(name)
        for name in ("priority", "hang_timeout", "recycle")
        if getattr(config, name) != RunConfig.model_fields[name].default
    ]
    if config.executor == "local" and of_workers:
        raise ConfigError(
            f"{', '.join(of_workers)}: for the workers of --executor ray, of which local has none"
        )
    if config.part is not None and config.executor == "ray":
        raise ConfigError(
            "--part is for --executor local: workers of Ray share a run by themselves"
        )
    if config.executor == "ray" and find_spec("ray") is None:
        raise ConfigError(f"--executor ray {needs('ray')}; or use --executor local")
    if config.address and config.address.startswith("http"):
        raise ConfigError(
            f"--address {config.address} is a dashboard, for shardcam submit; extract takes the "
            "HOST:PORT that ray start printed"
        )
    if config.cache is not None and is_url(config.cache):
        raise ConfigError(f"--cache {config.cache}: takes a folder of each machine, not a URL")
    if passes and config.precision in ("fp16", "tf32") and not config.gpus_per_worker:
        raise ConfigError(
            f"--precision {config.precision} needs a GPU (--gpus-per-worker); CPUs take bf16 or "
            "int8"
        )
