"""A submission to Ray Jobs: a command, its environment, and the checks before it.

The command is ``shardcam extract`` or ``retry-failed`` with every path absolute, so nothing is
uploaded: the cluster has shardcam installed and sees the same files. With `--send-code` Ray
uploads the three packages of this shardcam, and nothing beside them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardcam.engine.config import RunConfig, typed_name
from shardcam.engine.errors import ConfigError, SourceError
from shardcam.engine.io.store import require_writable_url
from shardcam.engine.io.urls import is_url, require_url
from shardcam.engine.run.method_choice import method_of
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import require_usable
from shardcam.jobs.cluster.work import Work, run_path

RUN_KEY = "shardcam_run"  # of a job's metadata: the run directory
STOP_SECONDS = 30  # until Ray kills a job that was asked to stop; Ray's default is 3
CODE = Path(__file__).parents[3]  # the folder of the package
ONLY_CODE = ["/*", "!.", "!/shardcam", "__pycache__"]  # excludes of Ray
FOLDERS = {"source", "root", "out", "cache", "label_data"}  # or not plain files; path options
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray prefers them to any argument


@dataclass(frozen=True)
class Submission:
    """A job, ready to be submitted."""

    id: str
    run: str  # absolute path of the run directory
    entrypoint: str  # for a shell
    runtime_env: dict[str, Any]

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata by which the jobs of a run are found again."""
        return {RUN_KEY: self.run}


def make_submission(work: Work, program: str, send_code: bool) -> Submission:
    """The job that does some work.

    Parameters
    ----------
    program
        How the cluster calls shardcam.
    send_code
        Upload this shardcam, and run that.
    """
    environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
    if send_code:
        program = "python -m shardcam"
        environment |= {"working_dir": str(CODE), "excludes": ONLY_CODE}
    run = run_path(work.config.out)
    entrypoint = f"{program} {shlex.join(work.words())}"
    return Submission(_new_id(run), run, entrypoint, environment)


def ray_command(submission: Submission, address: str) -> str:
    """The same submission as a command line of Ray's own."""
    given = [name for name in ADDRESS_VARIABLES if os.environ.get(name)]
    unset = ["env", *(word for name in given for word in ("-u", name))] if given else []
    command = [
        *unset,
        *("ray", "job", "submit"),
        f"--address={address}",
        f"--submission-id={submission.id}",
        f"--metadata-json={json.dumps(submission.metadata)}",
        f"--runtime-env-json={json.dumps(submission.runtime_env)}",
        "--",
    ]
    return f"{shlex.join(command)} {submission.entrypoint}"


def require_submittable(config: RunConfig, elsewhere: bool) -> None:
    """Refuse what cannot run, before the cluster is asked.

    Parameters
    ----------
    elsewhere
        The paths are the cluster's, and not to be looked for here.

    Raises
    ------
    ShardcamError
        One line that names the option.
    """
    if config.executor == "local":
        raise ConfigError("--executor local: a submitted run is done by Ray's workers")
    require_possible(config)
    method_of(config)
    for url in filter(is_url, (config.source, config.root or "", config.label_data or "")):
        require_url(url)
    if is_url(config.out):
        require_writable_url(config.out)
    if elsewhere:
        _require_absolute(config)
    else:
        _require_there(config)


def _require_there(config: RunConfig) -> None:
    hint = "; if the cluster has it, add --paths-on-cluster"
    for name, path in config.paths().items():
        if name == "target":  # a picture or labels, a folder of them, or a run
            there = is_url(path) or Path(path.partition("::")[0]).exists()
        else:
            there = name in FOLDERS or Path(path).is_file()
        if not there:
            raise ConfigError(f"{typed_name(name)}: no such file: {path}{hint}")
    if not is_url(config.out):
        require_usable(RunDir.open(config.out))
    if is_url(config.source):
        return
    try:
        make_reader(config)
    except SourceError as error:
        raise SourceError(f"{error}{hint if 'no such' in str(error) else ''}") from None


def _require_absolute(config: RunConfig) -> None:
    for name, path in config.paths().items():
        if not is_url(path) and not Path(path).is_absolute():
            raise ConfigError(
                f"{typed_name(name)}: give its absolute path on the cluster, not {path}"
            )


def _new_id(out: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(out).name).strip("-")[:40]
    return f"shardcam-{name or 'run'}-{uuid.uuid4().hex[:8]}"
