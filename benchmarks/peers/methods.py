"""What the CAM methods of pytorch-grad-cam and torchcam cost, in their own forward passes.

Run by a Python that has torch 2.14, torchvision 0.29, grad-cam 1.5.7 and torchcam 0.5.0
(`make bench-peers`). All cores; the same networks, layers and batches as test_methods.py. Their
Score-CAM and Ablation-CAM make a whole pass for each of 2048 or 512 channels, minutes for one
image: they run only if they are named on the command line.
"""

import contextlib
import io
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_grad_cam as pgc
import torch
import torchcam.methods
import torchvision

FIGURES = Path("build/bench.json")
BATCH, ROUNDS = 8, 5
LAYERS = {"resnet50": "layer4", "vgg16": "features.29"}
PGC = {
    "gradcam": pgc.GradCAM, "gradcam++": pgc.GradCAMPlusPlus, "xgradcam": pgc.XGradCAM,
    "hirescam": pgc.HiResCAM, "gradcamelementwise": pgc.GradCAMElementWise,
    "layercam": pgc.LayerCAM, "eigencam": pgc.EigenCAM, "eigengradcam": pgc.EigenGradCAM,
    "kpcacam": pgc.KPCA_CAM, "fem": pgc.FEM, "shapleycam": pgc.ShapleyCAM,
    "finercam": pgc.FinerCAM, "fullgrad": pgc.FullGrad, "ablationcam": pgc.AblationCAM,
    "scorecam": pgc.ScoreCAM,
}  # fmt: skip
TORCHCAM = {
    "cam": "CAM", "gradcam": "GradCAM", "gradcam++": "GradCAMpp", "xgradcam": "XGradCAM",
    "layercam": "LayerCAM", "smoothgradcam++": "SmoothGradCAMpp", "scorecam": "ScoreCAM",
}  # fmt: skip
ONE_IMAGE = ("scorecam", "ablationcam", "fullgrad")
SLOW = ("scorecam", "ablationcam")


def seconds(work, rounds):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # their progress bars
            work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def report(model, library, name, work, network, images):
    """Beside a forward pass of the same moment."""
    rounds, count = (1, 1) if name in ONE_IMAGE else (ROUNDS, BATCH)
    with torch.no_grad():
        forward = seconds(partial(network, images), ROUNDS) / BATCH
    if rounds > 1:
        work()
    cost = seconds(work, rounds) / count
    save(model, library, name, cost / forward)
    print(f"{model} {library} {name}: {cost / forward:.3g} forward passes, "
          f"{1e3 * cost:.3g} ms an image", flush=True)  # fmt: skip


def save(model, library, name, multiple):
    """Beside what test_methods.py has found for shardcam, if it has."""
    results = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    if "costs" in results:
        results["costs"]["costs"].setdefault(name, {})[f"{model} {library}"] = multiple
        FIGURES.write_text(json.dumps(results, indent=2) + "\n")


def main():
    torch.set_num_threads(os.cpu_count())
    wanted = sys.argv[1:] or sorted({*PGC, *TORCHCAM} - set(SLOW))
    images = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for model, layer in LAYERS.items():
        torch.manual_seed(0)
        network = getattr(torchvision.models, model)(weights=None).eval()
        module = network.get_submodule(layer)
        for name, method in PGC.items():
            if name not in wanted:
                continue
            shown = images[: 1 if name in ONE_IMAGE else BATCH]
            with method(network, [] if name == "fullgrad" else [module]) as cam:
                work = partial(cam, shown, None)
                report(model, "pytorch-grad-cam", name, work, network, images)
        for name, method in TORCHCAM.items():
            if name not in wanted or (name == "cam" and model == "vgg16"):
                continue
            shown = images[: 1 if name in ONE_IMAGE else BATCH]
            head = {"fc_layer": "fc"} if name == "cam" else {}
            with getattr(torchcam.methods, method)(network, module, **head) as extract:
                work = partial(explain, network, extract, shown)
                report(model, "torchcam", name, work, network, images)


def explain(network, extract, images):
    scores = network(images)
    return extract(scores.argmax(1).tolist(), scores)


if __name__ == "__main__":
    main()
