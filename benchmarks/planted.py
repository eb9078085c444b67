"""A planted mark: does clustering find what a network should not look at?

``python -m benchmarks.planted [--seeds 10] [--out FOLDER]`` stamps a white square on some digits of
one class, and on as many others that it puts into that class; trains the classic network on them,
and on the digits as they are; extracts maps of all, and clusters them.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from shardcam import open_run
from shardcam.engine.types import U1
from shardcam.jobs.looking.digits import shipped_digits

SIDE, MARK = 28, slice(2, 7)
SHARE = 0.2  # of a class that is marked, and again as many others that join it
RAISED = 0.3  # unlikeness from which a cluster is to be looked at


def write_digits(folder: Path, mark: int | None, seed: int) -> Path:
    """Write 5,000 digits in MNIST's format; a class may be marked. Returns the file of images.

    ``marked.npy`` has the positions of those that are.
    """
    digits = shipped_digits(SIDE)
    images, labels = digits.images.copy(), digits.labels.copy()
    if mark is not None:
        rng = np.random.default_rng(seed)
        own = np.flatnonzero(labels == mark)
        count = round(SHARE * len(own))
        marked = np.concatenate(
            [
                rng.choice(own, count, replace=False),
                rng.choice(np.flatnonzero(labels != mark), count, replace=False),
            ]
        )
        images[marked, MARK, MARK], labels[marked] = 255, mark
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "marked.npy", np.sort(marked))
    return _write(folder, images, labels.astype(np.uint8))


def _write(folder: Path, images: U1, labels: U1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">4I", 0x803, *images.shape)
    (folder / "digits-images-idx3-ubyte").write_bytes(head + images.tobytes())
    head = struct.pack(">2I", 0x801, len(labels))
    (folder / "digits-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    return folder / "digits-images-idx3-ubyte"


def commands(folder: Path, source: Path, seed: int) -> list[tuple[str, ...]]:
    """From digits to clusters, in ``run`` of the folder."""
    model = folder / "lenet-symbol.json"
    return [
        ("train-mnist", f"{source}", "--out", f"{folder / 'lenet'}", "--seed", f"{seed}",
         "--activation", "relu", "--epochs", "8"),
        ("extract", f"{source}", "--model", f"{model}", "--method", "hirescam",
         "--executor", "local", "--out", f"{folder / 'run'}"),
        ("cluster", f"{folder / 'run'}", "--executor", "local", "--json"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    good = {"marked": 0, "honest": 0}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(options.seeds):
            for kind, mark in (("marked", seed % 10), ("honest", None)):
                folder = (options.out or Path(temporary)) / f"{kind}-{seed}"
                right, told = _outcome(folder, mark, seed)
                good[kind] += right
                print(f"seed {seed}, {kind}: {told}", flush=True)
    print(
        f"the mark is the first-ranked cluster in {good['marked']} of {options.seeds}; "
        f"nothing is raised without one in {good['honest']} of {options.seeds}"
    )


def _outcome(folder: Path, mark: int | None, seed: int) -> tuple[bool, str]:
    """Whether the first-ranked cluster is the mark, or without one none is raised; in words."""
    source = write_digits(folder, mark, seed)
    for command in commands(folder, source, seed):
        done = subprocess.run(
            [sys.executable, "-m", "shardcam", *command], check=True, capture_output=True, text=True
        )
    ranked = sorted(
        (
            (one["unlikeness"], int(number), one["cluster"])
            for number, c in json.loads(done.stdout)["classes"].items()
            for one in c["clusters"]
        ),
        reverse=True,
    )
    unlike, number, cluster = ranked[0]
    raised = sum(found[0] >= RAISED for found in ranked)
    told = f"first {unlike:.2f}, class {number}; {raised} raised"
    if mark is None:
        return not raised, told
    with open_run(folder / "run") as run:
        members = run.select(predicted=number, cluster=cluster)["sample"][:]
    share = float(np.isin(members, np.load(folder / "marked.npy")).mean())
    told += f"; {len(members)} images, {share:.0%} of them marked"
    return number == mark and unlike >= RAISED and share > 0.5, told


if __name__ == "__main__":
    main()
