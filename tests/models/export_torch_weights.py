"""Save torchvision's weights, with logits and Grad-CAMs as PyTorch computes them.

Run by the Python of export_torchvision.py, with safetensors:

    python tests/models/export_torch_weights.py DIRECTORY
"""

import sys
from pathlib import Path

import numpy as np
import torch
from export_torchvision import TARGETS, build, gradcam
from safetensors.torch import save_file

LAYERS = {  # Gluon's name: torchvision's, and the module that `auto` finds
    "alexnet": ("alexnet", "features.11"),
    "densenet121": ("densenet121", "functional.relu"),
    "resnet18_v1": ("resnet18", "layer4"),
    "resnet34_v1": ("resnet34", "layer4"),
    "squeezenet1.1": ("squeezenet1_1", "features.12"),
    "vgg16": ("vgg16", "features.29"),
    "vgg11_bn": ("vgg11_bn", "features.27"),
}
FINE_TUNED = 5  # classes of the checkpoint of a training script


def export(gluon, directory):
    name, layer = LAYERS[gluon]
    network = build(name)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = network(images).numpy()
    maps, _ = gradcam(network, images, layer, TARGETS)
    targets = np.array(TARGETS, np.int32)
    np.savez(
        directory / f"{gluon}.weights.npz",
        images=images.numpy(), logits=logits, maps=maps, targets=targets,
    )  # fmt: skip
    torch.save(network.state_dict(), directory / f"{gluon}.pth")
    save_file(network.state_dict(), directory / f"{gluon}.safetensors")


def export_fine_tuned(directory):
    """ResNet-18 with another last layer, and the optimiser's state beside it."""
    torch.manual_seed(3)
    network = build("resnet18")
    network.fc = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(512, FINE_TUNED))
    network = torch.nn.DataParallel(network.eval())
    optimizer = torch.optim.Adam(network.parameters())
    sum(p.sum() for p in network.parameters()).backward()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = network.module(images).numpy()
    np.savez(directory / "fine_tuned.npz", images=images.numpy(), logits=logits)
    states = {"state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(states, directory / "fine_tuned.pth")


if __name__ == "__main__":
    for network_name in LAYERS:
        export(network_name, Path(sys.argv[1]))
        print(network_name, flush=True)
    export_fine_tuned(Path(sys.argv[1]))
