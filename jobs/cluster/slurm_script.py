"""A batch script for Slurm: a Ray cluster on its nodes, or an array of tasks without Ray."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from shardcam.engine.config import flag
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.urls import is_url
from shardcam.jobs.cluster.batch_files import OBJECT_STORE, Nodes, job_name
from shardcam.jobs.cluster.work import Work

WARNING = 120  # seconds before the time is over
_TIME = re.compile(r"\d+(:\d\d?){0,2}|\d+-\d\d?(:\d\d?){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
_MEMORY = re.compile(r"\d+[KMGT]?", re.IGNORECASE)
_SBATCH = {"log": "output"}  # options that have another name there
_WORD = re.compile(r"[^\s\"'\\]+")


@dataclass(frozen=True)
class SlurmOptions:
    """Options of sbatch, by its names but for `log`, and what comes before the work.

    Raises
    ------
    ConfigError
        One is not as sbatch takes it.
    """

    time: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    log: str | None = None  # sbatch's output
    mail_type: str | None = None
    mail_user: str | None = None
    setup: tuple[str, ...] = ()  # shell lines that make `shardcam` and `ray` known

    def __post_init__(self) -> None:
        if not _TIME.fullmatch(self.time):
            raise ConfigError(
                f"--time {self.time!r}: takes MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS, such "
                "as 12:00:00, or UNLIMITED"
            )
        for name, value in self.named.items():
            if value is not None and not _WORD.fullmatch(value):
                raise ConfigError(f"{flag(name)} {value!r}: takes one word without quotes")

    @property
    def named(self) -> dict[str, str | None]:
        """All but the shell lines."""
        return {name: value for name, value in vars(self).items() if name != "setup"}


def slurm_script(work: Work, nodes: Nodes, options: SlurmOptions, tasks: int | None = None) -> str:
    """A script for ``sbatch``, or one that submits an array of `tasks` and what completes it.

    Raises
    ------
    ConfigError
        The memory is not as sbatch takes it.
    """
    if nodes.memory is not None and not _MEMORY.fullmatch(nodes.memory):
        raise ConfigError(f"--node-memory {nodes.memory}: takes megabytes, or such as 64G")
    asked: dict[str, object] = {
        "job-name": job_name(work.config),
        "nodes": nodes.count,
        "ntasks-per-node": 1,
        "cpus-per-task": nodes.cpus,
        "gpus-per-node": nodes.gpus or None,
        "mem": nodes.memory,
        **{_SBATCH.get(n, n.replace("_", "-")): value for n, value in options.named.items()},
        "signal": f"B:USR1@{WARNING}",
        "requeue": "",
        "open-mode": "append",
    }
    lines = [
        f"#SBATCH --{name}" + (f"={value}" if value != "" else "")
        for name, value in asked.items()
        if value is not None
    ]
    words = work.words()
    out = work.config.absolute().out
    shards = "" if is_url(out) else shlex.quote(f"{out}/shards")
    how = "sbatch THIS" if tasks is None else f"bash THIS submits {tasks} tasks"
    return "\n".join(
        [
            "#!/bin/bash",
            f"# {how}; the same again resumes the run. Written by shardcam render slurm.",
            *lines,
            "set -euo pipefail",
            *([] if tasks is None else [f"tasks={tasks}", _SUBMIT]),
            *options.setup,
            "",
            *([f"cpus={nodes.cpus} gpus={nodes.gpus}"] if tasks is None else []),
            f"command=({shlex.join(['shardcam', *words[:-2]])})",
            f"operand={shlex.quote(words[-1])}",
            f"shards={shards}",
            (_RAY if tasks is None else _TASK) + _WATCHED,
        ]
    )


_RAY = (
    f"""
store={OBJECT_STORE} # bytes
"""
    + r"""
# Anyone who can reach a Ray without a token can run programs on it: this one has a token,
# in a file that every node sees and only you can read.
token=$(mktemp "$HOME/.shardcam-token-XXXXXX")
scratch="/tmp/ray-$SLURM_JOB_ID"
python -c 'import secrets; print(secrets.token_hex(32))' > "$token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token" RAY_USAGE_STATS_ENABLED=0

finish() {
    trap - EXIT
    kill $(jobs -p) 2> /dev/null || true
    wait
    rm -rf "$token" "$scratch"
}
trap finish EXIT

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts[0]}
answers() { (: < "/dev/tcp/$head/$1") 2> /dev/null; }
free() {
    local port=$1
    while answers "$port"; do port=$((port + 61)); done
    echo "$port"
}
# Below the ports that the system gives to any program; jobs of a node have others, far apart.
port=$(free $((20000 + SLURM_JOB_ID % 6000)))
client=$(free $((26000 + SLURM_JOB_ID % 6000)))
place=(--ntasks-per-node=1 --cpus-per-task="$cpus")
size=(--num-cpus="$cpus" --num-gpus="$gpus" --object-store-memory="$store")
size+=(--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)
# Each node removes its temporary files itself. TERM ends the first `wait`, not the second.
node='scratch=$1; shift; "$@" & ray=$!; trap "kill $ray" TERM; status=0; wait $ray || true
wait $ray || status=$?; rm -rf "$scratch"; exit $status'
srun --nodes=1 --ntasks=1 "${place[@]}" --nodelist="$head" bash -c "$node" node "$scratch" \
    ray start --head --block --port="$port" --ray-client-server-port="$client" \
    --include-dashboard=false --temp-dir="$scratch" "${size[@]}" &
cluster=$!

for _ in $(seq 60); do
    if answers "$port" || ! kill -0 "$cluster" 2> /dev/null; then break; fi
    sleep 2
done
if ! answers "$port"; then
    echo "shardcam: Ray did not start on $head:$port; its output is above" >&2
    exit 1
fi

if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" "${place[@]}" --exclude="$head" \
        bash -c "$node" node "$scratch" ray start --block --address="$head:$port" "${size[@]}" &
fi

# Nodes that join later are used too.
command+=(--address="$head:$port")
"""
)

_SUBMIT = r"""if [ $# -eq 0 ]; then
    array=$(sbatch --parsable --array="1-$tasks" "$0" part)
    exec sbatch --dependency="afterany:${array%%;*}" "$0" close
fi"""

_TASK = r"""
# A task does a part of the shards. When all have ended, one job does what they left undone, and
# writes the index and the account.
finish() { :; }
if [ "$1" = part ]; then command+=(--part="$SLURM_ARRAY_TASK_ID/$tasks"); fi
"""

_WATCHED = r"""
# USR1, which Slurm sends before the time is over, and TERM, that of scancel, stop the run in good
# order: exit code 4. After USR1 the job is queued again if it has done a shard at least.
count() { { find "$shards" -name 'shard-*.h5' 2> /dev/null || true; } | wc -l; }
before=$(count)
"${command[@]}" -- "$operand" &
driver=$!
over=no
trap 'kill -TERM "$driver"' TERM
trap 'over=yes; kill -TERM "$driver"' USR1
for _ in 1 2 3; do # each signal ends a wait
    status=0
    wait "$driver" || status=$?
    if [ "$status" -le 128 ]; then break; fi
done
trap : TERM USR1
if [ "$over" = yes ] && [ "$status" -eq 4 ]; then
    finish
    if [ -z "$shards" ] || [ "$(count)" -gt "$before" ]; then
        echo "shardcam: the time is over; the job is queued again, and goes on where it was"
        scontrol requeue "$SLURM_JOB_ID" || echo "shardcam: submit it again to go on" >&2
    else
        echo "shardcam: no shard was done in this time: give a longer --time, or begin the run" \
            "with a smaller --shard-size" >&2
    fi
fi
exit "$status"
"""
