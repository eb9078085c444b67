"""Export IRN's network, and as PSA orders its end, with what PyTorch says of them.

Run by the Python of export_torchvision.py:

    python tests/models/export_irn.py DIRECTORY

For each: NAME.script.onnx and NAME.dynamo.onnx, of any batch, height and width, and NAME.npz
with images, logits and rectified maps of all classes.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from irn_network import ConvolutionFirst, IrnNet, with_statistics

SIZE = (97, 131)
NAMES = {"input_names": ["images"], "output_names": ["logits"]}
OPEN = ("N", "H", "W")


def export(network, name, directory):
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits, maps = network(images).numpy(), network.cam(images).numpy()
    np.savez(directory / f"{name}.npz", images=images.numpy(), logits=logits, maps=maps)
    axes = dict(zip((0, 2, 3), OPEN))
    torch.onnx.export(
        network, (images,), str(directory / f"{name}.script.onnx"), dynamo=False,
        opset_version=17, dynamic_axes={"images": axes, "logits": {0: "N"}}, **NAMES,
    )  # fmt: skip
    sizes = {axis: torch.export.Dim(letter, min=1, max=4096) for axis, letter in axes.items()}
    torch.onnx.export(
        network, (images,), str(directory / f"{name}.dynamo.onnx"), dynamo=True,
        dynamic_shapes=(sizes,), verbose=False, **NAMES,
    )  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for kind, called in ((IrnNet, "irn"), (ConvolutionFirst, "convolution_first")):
        export(with_statistics(kind()), called, Path(sys.argv[1]))
        print(called, flush=True)
