"""Seconds an image that torchcam's and quantus' metrics of changed pictures take, ResNet-50, 224.

Run by a Python that has torch, torchvision and torchcam 0.5.0, and quantus 0.6.0 if it is to be
measured: `benchmarks/evaluation_speed.py` calls it once a round, with how many images and
threads. One line of JSON.
"""

import contextlib
import io
import json
import sys
import time

import numpy as np
import torch
import torchvision
from torchcam.methods import GradCAM
from torchcam.metrics import ClassificationMetric, DeletionInsertionMetric

STEP = 8 * 224  # pixels, as RISE


def drop_insertion_deletion(network, images):
    """Both of torchcam's metrics, by its defaults; each makes the map anew."""
    extractor = GradCAM(network, "layer4")
    probability = torch.nn.Softmax(dim=-1)
    for metric in (ClassificationMetric, DeletionInsertionMetric):
        metric(extractor, probability).update(images)
    extractor.remove_hooks()


def pixel_flipping(network, images):
    """Quantus' deletion curve, of as many passes as RISE's; it has no insertion."""
    import quantus

    maps = np.random.RandomState(0).rand(len(images), 1, 224, 224).astype(np.float32)
    metric = quantus.PixelFlipping(features_in_step=STEP, disable_warnings=True)
    classes = network(images).argmax(dim=1).numpy()
    with contextlib.redirect_stderr(io.StringIO()):  # progress
        metric(network, images.numpy(), classes, maps.repeat(3, axis=1), softmax=True,
               device="cpu", batch_size=len(images))  # fmt: skip


def main():
    count, threads = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    now = time.process_time if threads == 1 else time.perf_counter
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    images = torch.randn(count, 3, 224, 224)
    found = {}
    works = {"forward": network, "torchcam": drop_insertion_deletion, "quantus": pixel_flipping}
    for name, work in works.items():
        arguments = (images,) if name == "forward" else (network, images)
        try:
            with torch.set_grad_enabled(name == "torchcam"):
                if name == "forward":
                    work(*arguments)
                start = now()
                work(*arguments)
        except ModuleNotFoundError:
            continue
        found[name] = (now() - start) / count
    print(json.dumps(found))


if __name__ == "__main__":
    main()
