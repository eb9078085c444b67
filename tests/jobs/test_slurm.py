"""Scripts for Slurm: read by bash and shellcheck, and run with stand-ins for its commands."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.jobs.cluster.batch_files import Nodes
from shardcam.jobs.cluster.slurm_script import SlurmOptions, slurm_script
from shardcam.jobs.cluster.work import Work
from tests.jobs.bash import BIN, check_script
from tests.jobs.command import ROOT, SMALL, assert_same, contents, shardcam
from tests.jobs.images import make_folder

RUN = RunConfig(
    source="/data/it's here/*.jpg",
    model="efficientnet_lite0",
    out="/data/runs/My Run_1",
    layer=("$HOME", "b c"),
)
LOCAL = RUN.model_copy(update={"executor": "local"})
ONE = Nodes(1, 2, 0, None)
EVERYTHING = SlurmOptions(
    "1-12:00:00", "long", "lab", "high", "gpu&nvme", "/logs/%j.out", "END,FAIL", "me@lab.org",
    ("source '/opt/a b/bin/activate'",),
)  # fmt: skip
LITE0 = ("--model", "efficientnet_lite0", "--image-size", "64")
STAND_INS = {  # each notes how it was called
    "srun": 'while [[ $1 == -* ]]; do shift; done\nexec "$@"\n',
    "scontrol": 'if [ "$1" = show ]; then hostname; fi\n',
    "sbatch": "echo '77;cluster'\n",
}
EXTRACTS = """\
trap 'exit 4' TERM
if [ -n "${DOES-}" ]; then mkdir -p "$RUN/shards"; touch "$RUN/shards/shard-000000.h5"; fi
echo ready
while :; do sleep 0.05; done
"""


def script_of(path, config, *arguments):
    """Write a script, and hold it against bash's own parser and shellcheck."""
    path.write_text(slurm_script(Work(config), *arguments))
    check_script(path)
    return path


def asked(script):
    lines = script.read_text().splitlines()
    return [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]


@pytest.fixture
def slurm(tmp_path):
    """The environment of a job, with stand-ins; `calls` has what they were asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in STAND_INS.items():
        note = f'echo "{name} $*" >> "{tmp_path}/calls"\n'
        (folder / name).write_text(f"#!/bin/bash\n{note}{body}")
        (folder / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("", 0))
        job = free.getsockname()[1]
    return {
        **os.environ,
        "PATH": f"{folder}:{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "1",
    }


@pytest.mark.process
def test_a_script_says_what_was_asked(tmp_path):
    script = script_of(tmp_path / "run.sbatch", RUN, Nodes(4, 16, 2, "64G"), EVERYTHING)
    assert asked(script) == [
        "job-name=shardcam-my-run-1-feffb23b",
        "nodes=4",
        "ntasks-per-node=1",
        "cpus-per-task=16",
        "gpus-per-node=2",
        "mem=64G",
        "time=1-12:00:00",
        "partition=long",
        "account=lab",
        "qos=high",
        "constraint=gpu&nvme",
        "output=/logs/%j.out",
        "mail-type=END,FAIL",
        "mail-user=me@lab.org",
        "signal=B:USR1@120",
        "requeue",
        "open-mode=append",
    ]
    lines = script.read_text().splitlines()
    assert lines[lines.index("set -euo pipefail") + 1] == "source '/opt/a b/bin/activate'"


@pytest.mark.process
@pytest.mark.parametrize("tasks", [None, 8])
def test_words_reach_the_command_as_they_are(tmp_path, tasks):
    script = script_of(tmp_path / "run", LOCAL, ONE, SlurmOptions("1:00"), tasks)
    text = script.read_text()
    begun = text[text.index("command=(") : text.index("shards=")]
    (tmp_path / "words.sh").write_text(f'{begun}\nprintf "%s\\n" "${{command[@]}}" "$operand"\n')
    out = subprocess.run(
        ["bash", tmp_path / "words.sh"], capture_output=True, text=True, check=True
    )
    assert out.stdout.splitlines() == [
        *("shardcam", "extract", "--model=efficientnet_lite0", "--out=/data/runs/My Run_1"),
        *("--layer=$HOME", "--layer=b c", "--executor=local", "/data/it's here/*.jpg"),
    ]


@pytest.mark.parametrize(
    "time", ["30", "1:30", "12:00:00", "2-0", "2-12:30", "1-0:0:5", "infinite"]
)
def test_times_that_sbatch_takes(time):
    assert SlurmOptions(time).time == time


@pytest.mark.parametrize(
    "options",
    [
        *({"time": time} for time in ("bad", "", "1h", "1:2:3:4", "-5", "1-", "1:00\n#SBATCH -x")),
        {"time": "1:00", "account": "two words"},
        {"time": "1:00", "log": "a\n#SBATCH --uid=0"},
    ],
)
def test_what_sbatch_would_not_take_is_refused(options):
    with pytest.raises(ConfigError, match=r"^--(time|account|log) .*takes "):
        SlurmOptions(**options)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--time", "bad"), "--time 'bad': takes MINUTES"),
        (("--node-memory", "64 GB"), "--node-memory 64 GB: takes megabytes"),
        (("--array", "4", "--nodes", "2"), "--array: leave out --nodes"),
        (("--array", "4", "--part", "1/4"), "--part is for --executor local"),
        (("--array", "4", "--recycle", "5"), "--recycle: for the workers of --executor ray"),
        (("--executor", "local"), "--executor local: a submitted run is done by Ray's workers"),
        (("--out", "runs/x"), "--out: give its absolute path on the cluster, not runs/x"),
    ],
)
def test_what_cannot_run_is_not_written(tmp_path, more, words):
    given = (*LITE0, "--out", "/data/r", "--node-cpus", 4, "--time", "1:00", "--paths-on-cluster")
    code, out, err = shardcam("render", "slurm", "/data/x", *given, *more, cwd=tmp_path)
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and words in err


def test_paths_of_the_cluster_are_not_looked_for_here(tmp_path):
    given = ("/data/x", *LITE0, "--out", "/data/r", "--node-cpus", 4, "--time", "1:00")
    code, _, err = shardcam("render", "slurm", *given, cwd=tmp_path)
    assert code == 2 and "add --paths-on-cluster" in err
    code, out, err = shardcam("render", "slurm", *given, "--paths-on-cluster", cwd=tmp_path)
    assert code == 0 and "operand=/data/x\n" in out, err


def test_an_array_is_of_local_tasks_whatever_was_typed(tmp_path):
    given = ("/data/x", *LITE0, "--out", "/data/r", "--node-cpus", 4, "--time", "1:00")
    given += ("--paths-on-cluster", "--array", 3)
    code, out, err = shardcam("render", "slurm", *given, cwd=tmp_path)
    assert code == 0 and "--executor=local" in out, err
    assert shardcam("render", "slurm", *given, "--executor", "local", cwd=tmp_path)[1] == out


@pytest.mark.process
def test_failed_images_are_tried_again_by_a_job(tmp_path):
    given = ("--retry-failed", "/data/r", "--max-failed", "0.1", "--node-cpus", 4)
    given += ("--time", "1:00", "--paths-on-cluster")
    code, out, err = shardcam("render", "slurm", *given, cwd=tmp_path)
    assert code == 0, err
    (tmp_path / "run").write_text(out)
    check_script(tmp_path / "run")
    assert "command=(shardcam retry-failed --max-failed=0.1)\noperand=/data/r\n" in out
    code, _, err = shardcam("render", "slurm", *given, "--array", 2, cwd=tmp_path)
    assert code == 2 and "--array: not with --retry-failed" in err
    code, _, err = shardcam("render", "slurm", *given, "--layer", "x", cwd=tmp_path)
    assert code == 2 and "--layer: not with --retry-failed" in err


@pytest.mark.process
@pytest.mark.parametrize(
    ("sent", "does", "requeued", "told"),
    [
        (signal.SIGUSR1, "shard", True, "the job is queued again"),
        (signal.SIGUSR1, "", False, "no shard was done in this time"),
        (signal.SIGTERM, "shard", False, ""),
    ],
)
def test_a_job_whose_time_is_over_is_queued_again(tmp_path, slurm, sent, does, requeued, told):
    """But not one that was cancelled, and none that would never end."""
    run = tmp_path / "run"
    (tmp_path / "bin" / "shardcam").write_text(f"#!/bin/bash\n{EXTRACTS}")
    (tmp_path / "bin" / "shardcam").chmod(0o755)
    config = LOCAL.model_copy(update={"out": str(run)})
    script = script_of(tmp_path / "run.sh", config, ONE, SlurmOptions("1:00"), 4)
    job = subprocess.Popen(
        ["bash", script, "close"],
        env={**slurm, "RUN": str(run), "DOES": does},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert job.stdout.readline() == "ready\n"
    job.send_signal(sent)
    out = job.communicate(timeout=60)[0]
    assert job.returncode == 4
    assert told in out
    calls = tmp_path / "calls"
    assert calls.exists() == requeued
    assert not requeued or calls.read_text() == f"scontrol requeue {slurm['SLURM_JOB_ID']}\n"


@pytest.mark.process
def test_an_array_does_what_one_command_does(tmp_path, slurm):
    """bash submits it; two tasks work at once; the job that depends on them completes the run."""
    images, run = tmp_path / "images", tmp_path / "run"
    make_folder(images, 14)
    here = ("render", "slurm", images, *SMALL, "--shard-size", 2, "--node-cpus", 1)
    code, text, err = shardcam(*here, "--out", run, "--time", "1:00", "--array", 2)
    assert code == 0, err
    script = tmp_path / "run.sh"
    script.write_text(text)

    def work(*arguments, **more):
        command = ["bash", script, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=slurm | more, stdout=pipe, stderr=pipe, text=True)

    assert work().communicate()[0] == "77;cluster\n"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"sbatch --parsable --array=1-2 {script} part",
        f"sbatch --dependency=afterany:77 {script} close",
    ]
    tasks = [work("part", SLURM_ARRAY_TASK_ID=str(number)) for number in (1, 2)]
    for task in tasks:
        _, err = task.communicate(timeout=300)
        assert task.returncode == 0, err
    out, err = work("close").communicate(timeout=300)
    assert "14 listed = 14 ok + 0 failed" in out, err
    assert "7, of which 0 done now" in out
    alone = tmp_path / "alone"
    options = (*SMALL, "--executor", "local", "--shard-size", 2)
    assert shardcam("extract", images, *options, "--out", alone)[0] == 0
    assert_same(contents(run), contents(alone))


@pytest.mark.slow
def test_two_jobs_on_one_node_each_start_a_ray_and_leave_nothing(tmp_path, slurm):
    """Ray is real. Somebody else has the port that the first would take."""
    make_folder(tmp_path / "images", 8)
    first = int(slurm["SLURM_JOB_ID"])
    wanted = {first: ((), 0), first + 1: (("--layer", "nowhere"), 2)}
    with socket.socket() as taken:
        taken.bind(("", 20000 + first % 6000))
        taken.listen()
        jobs = {}
        for number, (more, _) in wanted.items():
            asked = ("--time", "1:00:00", "--node-cpus", 1, "--out", tmp_path / f"run {number}")
            code, text, err = shardcam(
                "render", "slurm", tmp_path / "images", *LITE0, *asked, *more
            )
            assert code == 0, err
            (tmp_path / f"{number}.sbatch").write_text(text)
            jobs[number] = subprocess.Popen(
                ["bash", tmp_path / f"{number}.sbatch"],
                env=slurm | {"SLURM_JOB_ID": str(number)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        for number, job in jobs.items():
            out = job.communicate(timeout=400)[0]
            assert job.returncode == wanted[number][1], out
            assert not Path(f"/tmp/ray-{number}").exists()
    assert len(contents(tmp_path / f"run {first}")["key"]) == 8
    assert not list(tmp_path.glob(".shardcam-token*"))
