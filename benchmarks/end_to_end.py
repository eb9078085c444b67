"""JPEG files to HDF5 maps, shardcam beside pytorch-grad-cam and torchcam, in turns.

    python benchmarks/end_to_end.py PYTHON_WITH_TORCH [--images N] [--rounds R] [--json FILE]

The same network (random weights, exported to ONNX), the same files, all cores of this process
(`taskset -c 0,1` for two). The maps are compared before anything is timed. Images per second are
those of the running work: start-up is left out on all sides.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import h5py
import numpy as np

from engine import open_run
from tests.jobs.images import jpeg

EXTRACT = Path(__file__).parent / "peers" / "extract.py"
NETWORKS = ("resnet50", "vgg16")
PEERS = ("pytorch-grad-cam", "torchcam")
OURS = ("fp32", "int8")
SAME = 8  # images that are compared


def peer(python: str, *arguments: object) -> str:
    """Run a peer; what it printed."""
    command = [python, EXTRACT, *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    done = subprocess.run(
        list(map(str, command)), env=own | threads, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def ours(folder: Path, model: Path, precision: str, images: int, work: Path) -> dict[str, float]:
    """Images/s of all workers together, and the share of what the stages alone allow."""
    figures = work / "figures.json"
    command = [sys.executable, "-m", "jobs", "throughput", folder, "--model", model, "--precision"]
    command += [precision, "--images", images, "--json", figures, "--out", work]
    command += ["--workers", len(os.sched_getaffinity(0))]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    measured = json.loads(figures.read_text())
    return {"rate": measured["whole"]["images_per_second"], "reached": measured["reached"]}


def compare(python: str, folder: Path, name: str, model: Path, work: Path) -> None:
    """Raise unless all tools give the same heatmaps."""
    command = [sys.executable, "-m", "jobs", "extract", folder, "--model", model, "--out"]
    command += [work / "same", "--limit", SAME, "--executor", "local"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    with open_run(work / "same") as run:
        maps = run.cam(run.layers[0])
        low, high = maps.normalized()[:, 0], maps.heatmap((224, 224))[:, 0] / 255
    for tool in PEERS:
        peer(python, tool, name, folder, SAME, work / "same.h5")
        with h5py.File(work / "same.h5") as file:
            theirs = file["cam"][:]
        worst = float(abs(theirs - (low if theirs.shape == low.shape else high)).max())
        click.echo(f"{name}: largest difference to {tool}'s heatmaps {worst:.4f}")
        if worst > 0.02:
            raise SystemExit(f"{name}: {tool} and shardcam give other maps")


@click.command()
@click.argument("python")
@click.option("--images", default=64, help="For shardcam; the peers take a quarter.")
@click.option("--rounds", default=3)
@click.option("--json", "file", type=click.Path(path_type=Path))
@click.option("--network", "networks", multiple=True, default=NETWORKS)
def main(
    python: str, images: int, rounds: int, file: Path | None, networks: tuple[str, ...]
) -> None:
    """Compare, then time in turns, and print medians."""
    results: dict[str, dict[str, list[float]]] = {}
    reached: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        folder = work / "photographs"
        folder.mkdir()
        rng = np.random.RandomState(0)
        for i in range(images):
            (folder / f"{i:04d}.jpg").write_bytes(jpeg(rng, 375, 500))
        for name in networks:
            model = work / f"{name}.onnx"
            peer(python, "export", name, model)
            compare(python, folder, name, model, work)
            rates = results.setdefault(name, {})
            for _ in range(rounds):
                for precision in OURS:
                    got = ours(folder, model, precision, images, work)
                    rates.setdefault(precision, []).append(got["rate"])
                    reached.setdefault(f"{name} {precision}", []).append(got["reached"])
                for tool in PEERS:
                    rate = peer(python, tool, name, folder, images // 4, work / "peer.h5")
                    rates.setdefault(tool, []).append(float(rate))
            report(name, rates, reached)
    if file is not None:
        file.write_text(json.dumps({"rates": results, "reached": reached}, indent=2) + "\n")


def report(name: str, rates: dict[str, list[float]], reached: dict[str, list[float]]) -> None:
    """Medians, spreads and ratios."""
    middle = {what: statistics.median(values) for what, values in rates.items()}
    for what, values in rates.items():
        spread = f"{min(values):.3g} to {max(values):.3g}"
        click.echo(f"{name} {what}: {middle[what]:.3g} images/s ({spread})")
    for precision in OURS:
        share = statistics.median(reached[f"{name} {precision}"])
        ratios = ", ".join(f"{middle[precision] / middle[tool]:.3g}x {tool}" for tool in PEERS)
        click.echo(f"{name} {precision}: {ratios}; {share:.0%} of what its stages alone allow")


if __name__ == "__main__":
    main()
