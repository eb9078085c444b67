"""Export torchvision's networks by both of PyTorch's exporters, with what PyTorch says of them.

Run by a Python that has torch 2.14, torchvision 0.29, onnx and onnxscript:

    python tests/models/export_torchvision.py DIRECTORY [NETWORK ...]
    python tests/models/export_torchvision.py tests/fixtures/onnx tiny

For each network: NAME.script.onnx, NAME.dynamo.onnx and NAME.npz with images, logits and,
for three layers, Grad-CAM's raw maps by autograd in float64, how far PyTorch's own float32
maps are from them, and the activation's spatial mean.
"""

import copy
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torchvision

BATCH, TARGETS = 2, (3, 700)

# Modules to explain; `auto` must find the first. DenseNet's last ReLU is a function, no module.
FUNCTION = "functional.relu"
LAYERS = {
    "resnet50": ("layer4", "layer3.2.bn2", "layer2"),
    "mobilenet_v2": ("features.18", "features.10", "features.14.conv.1.1"),
    "mobilenet_v3_large": ("features.16", "features.6", "features.12.block.0.1"),
    "densenet121": (FUNCTION, "features.denseblock3", "features.transition2.conv"),
    "efficientnet_b0": ("features.8", "features.4", "features.6.0.block.0.1"),
    "convnext_tiny": ("features.7", "features.5", "features.3.1.block.0"),
    "shufflenet_v2_x1_0": ("conv5", "stage3", "stage4.1.branch2.4"),
    "regnet_y_400mf": (
        "trunk_output.block4", "trunk_output.block2", "trunk_output.block3.block3-2.f.a.1",
    ),
    "googlenet": ("inception5b", "inception4e", "inception5a.branch2.1.bn"),
    "inception_v3": ("Mixed_7c", "Mixed_6e", "Mixed_7b.branch3x3_1.bn"),
    "squeezenet1_1": ("features.12", "features.7", "features.9.squeeze"),
    "vgg16_bn": ("features.42", "features.23", "features.35"),
}  # fmt: skip


def build(name):
    """The network with random weights.

    Most units are on: where half of them are off, as after PyTorch's initialisation, the
    gradient hinges on the few within rounding of zero, and PyTorch's own float32 and float64
    maps differ by percents.
    """
    torch.manual_seed(0)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network = getattr(torchvision.models, name)(weights=None, **options)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            draw = torch.rand((2, module.num_features), generator=generator)
            module.weight.data, module.bias.data = 0.2 + 0.2 * draw[0], 0.6 + 0.4 * draw[1]
        elif type(module).__name__ == "CNBlock":
            module.layer_scale.data = 0.5 * torch.rand_like(module.layer_scale)
    network.train()  # a forward pass in training mode makes the statistics those of the data
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        network(torch.randn(4, 3, size_of(name), size_of(name), generator=generator))
    return network.eval()


def size_of(name):
    return 299 if name == "inception_v3" else 224


def gradcam(network, images, layer, targets):
    """(N,K,h,w) raw maps by autograd, (N,C,h,w) activation."""
    kept = []

    def keep(output):
        kept.append(output.clone())
        return kept[-1].clone()  # what follows may work in place

    if layer == FUNCTION:
        relu = torch.nn.functional.relu
        with mock.patch("torch.nn.functional.relu", lambda x, inplace: keep(relu(x))):
            logits = network(images)
    else:
        handle = network.get_submodule(layer).register_forward_hook(lambda *seen: keep(seen[-1]))
        logits = network(images)
        handle.remove()
    activation, maps = kept[-1], []
    for target in targets:
        (gradient,) = torch.autograd.grad(logits[:, target].sum(), activation, retain_graph=True)
        maps.append((gradient.mean((2, 3), keepdim=True) * activation).sum(1))
    return torch.stack(maps, 1).detach().numpy(), activation.detach().numpy()


def explain(network, images, layers, targets):
    """What the tests compare with, for each layer."""
    exact, results = copy.deepcopy(network).double(), {}
    for layer in layers:
        maps, activation = gradcam(exact, images.double(), layer, targets)
        rounded, _ = gradcam(network, images, layer, targets)
        results[f"map:{layer}"] = maps.astype(np.float32)
        results[f"float32:{layer}"] = np.abs(rounded - maps).max() / np.abs(maps).max()
        results[f"activation:{layer}"] = activation.mean(axis=(2, 3)).astype(np.float32)
    return results


def export(name, directory):
    network, size = build(name), size_of(name)
    images = torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(2))
    results = {"images": images.numpy(), "targets": np.array(TARGETS, np.int32)}
    with torch.no_grad():
        results["logits"] = network(images).numpy()
    results |= explain(network, images, LAYERS[name], TARGETS)
    np.savez(directory / f"{name}.npz", **results)
    write(network, images, directory / f"{name}.script.onnx", directory / f"{name}.dynamo.onnx")


def write(network, images, script, dynamo, external=True):
    """Batch left open: by the old exporter with axis names, by the new one with shapes."""
    names = {"input_names": ["images"], "output_names": ["logits"]}
    torch.onnx.export(
        network, (images,), str(script), dynamo=False, opset_version=17,
        dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}}, **names,
    )  # fmt: skip
    batch = torch.export.Dim("N", min=1, max=512)
    torch.onnx.export(
        network, (images,), str(dynamo), dynamo=True, dynamic_shapes=({0: batch},),
        external_data=external, verbose=False, **names,
    )  # fmt: skip


class Tiny(torch.nn.Module):
    """A few layers of many kinds, small enough to be kept with the tests."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU6())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.SiLU(), nn.Conv2d(4, 16, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.norm, self.gelu = nn.GroupNorm(4, 16), nn.GELU()
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.mix = nn.Conv2d(16, 24, 3, groups=2, padding=1)
        self.last = nn.Sequential(nn.Conv2d(24, 24, 1), nn.Hardswish())
        self.drop, self.dense = nn.Dropout(0.2), nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x)
        x = x * self.gate(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = self.pool(self.gelu(self.norm(x)))
        x = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
        x = torch.nn.functional.pad(x, (1, 0, 1, 2), mode="reflect")
        a, b = self.mix(x).chunk(2, 1)
        x = self.last(torch.cat((torch.tanh(a) + b, torch.nn.functional.elu(b)), 1))
        return self.dense(self.drop(x.mean((2, 3))))


def export_tiny(directory):
    torch.manual_seed(0)
    network = Tiny().eval()
    images = torch.randn(1, 3, 32, 30, generator=torch.Generator().manual_seed(2))
    more = torch.randn(3, 3, 32, 30, generator=torch.Generator().manual_seed(3))
    results = {"images": more.numpy(), "logits": network(more).detach().numpy()}
    results |= explain(network, more, ("last", "mix", "stem.1"), (3, 7))
    np.savez_compressed(directory / "tiny.npz", targets=np.array((3, 7), np.int32), **results)
    write(network, images.expand(2, -1, -1, -1), directory / "tiny.script.onnx",
          directory / "tiny.dynamo.onnx", external=False)  # fmt: skip
    for kind in ("script", "dynamo"):  # written for one image
        torch.onnx.export(network, (images,), str(directory / f"tiny1.{kind}.onnx"),
                          dynamo=kind == "dynamo", external_data=False, verbose=False)  # fmt: skip


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    if sys.argv[2:] == ["tiny"]:
        export_tiny(directory)
        return
    for name in sys.argv[2:] or LAYERS:
        export(name, directory)
        print(name, flush=True)


if __name__ == "__main__":
    main()
