"""Drop, insertion and deletion of ResNet-50: seconds an image, beside torchcam and quantus.

``python -m benchmarks.evaluation_speed --peers PYTHON [--images 8] [--rounds 3]``, where PYTHON
has torch, torchvision, torchcam 0.5.0 and, if it is to be measured, quantus 0.6.0. Rounds of ours
in fp32 and int8 and of theirs alternate on the same cores, and medians of the rounds' ratios are
told, and what share of our time the forward passes alone would take. With OMP_NUM_THREADS=1 it is
the processor's time that is measured, which others that work on the machine change little.
Weights are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np

from benchmarks.all_cores import THREADS
from benchmarks.test_precision import prepared
from shardcam.engine.evaluation.metric import ImageRows, PassMetric
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS, measure_passes
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.scores import softmax
from shardcam.engine.models.mxnet_network import BATCH, MxnetNetwork
from shardcam.engine.types import F4

SETS = {
    "torchcam": ("average_drop:torchcam", "insertion:torchcam", "deletion:torchcam"),
    "RISE": ("average_drop", "insertion", "deletion"),
    "ROAD": ("road",),
}
PASSES = {"torchcam": 39, "RISE": 56, "ROAD": 8}  # of an image
PEERS = Path(__file__).parent / "peers" / "evaluation.py"


class Ours:
    """A network at a precision, and pictures with their maps and rows."""

    def __init__(self, precision: str, count: int) -> None:
        definition, layer, calibration = prepared("resnet50_v1", precision)
        network = MxnetNetwork(
            definition, (layer,), BATCH, precision, calibration.quantization, threads=THREADS
        )
        self.now = time.process_time if THREADS == 1 else time.perf_counter
        method = METHODS["gradcam"]
        self.passes = NetworkPasses(network, method, layer, definition.preprocessing, BATCH)
        shape = (count, *definition.preprocessing.input_shape)
        self.pictures: F4 = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
        forward = network.forward(self.pictures[:BATCH])
        scores = softmax(forward.logits)
        target = scores.argmax(axis=1).astype(np.int32)[:, None]
        self.maps = np.random.RandomState(1).standard_normal((count, 1, 7, 7)).astype(np.float32)
        self.rows = ImageRows(
            np.arange(count), tuple(map(str, range(count))), np.zeros(count, np.int32), target,
            np.take_along_axis(scores, target, axis=1), target, np.zeros((count, 4)),
            np.zeros((count, 2), np.int32), (shape[2], shape[3]), (None,) * count,
        )  # fmt: skip
        self.passes.blank(target[:1, 0])

    def seconds(self, names: tuple[str, ...]) -> float:
        metrics: list[PassMetric] = [PASS_METRICS[name] for name in names]
        start = self.now()
        measure_passes(metrics, self.pictures, self.maps, self.rows, self.passes)
        return (self.now() - start) / len(self.pictures)

    def forward(self) -> float:
        batch: F4 = np.resize(self.pictures, (BATCH, *self.pictures.shape[1:]))
        start = self.now()
        _ = self.passes.network.forward(batch).logits
        return (self.now() - start) / BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", required=True)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ours = {precision: Ours(precision, options.images) for precision in ("fp32", "int8")}
    ours["fp32"].seconds(SETS["ROAD"])  # its kernels are compiled
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds):
        found = {}
        for precision, one in ours.items():
            found[f"{precision} forward"] = one.forward()
            for name, metrics in SETS.items():
                found[f"{precision} {name}"] = one.seconds(metrics)
        command = [options.peers, str(PEERS), str(options.images), str(THREADS)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peers = {f"peer {name}": value for name, value in json.loads(told).items()}
        rounds.append(found | peers)
        print(number, json.dumps({name: round(v, 3) for name, v in rounds[-1].items()}), flush=True)
    for name in rounds[0]:
        print(f"{name}: {np.median([one[name] for one in rounds]):.3g} s an image")
    for precision in ours:
        for name, passes in PASSES.items():
            shares = [passes * r[f"{precision} forward"] / r[f"{precision} {name}"] for r in rounds]
            print(f"{precision} {name}: {np.median(shares):.1%} of it are forward passes")
    pairs = [(peer, ours) for peer in ("peer torchcam", "peer quantus") for ours in rounds[0]
             if peer in rounds[0] and not ours.startswith("peer")]  # fmt: skip
    for peer, one in pairs:
        ratio = np.median([r[peer] / r[one] for r in rounds])
        print(f"{peer} takes {ratio:.2f} times as long as {one}")


if __name__ == "__main__":
    main()
