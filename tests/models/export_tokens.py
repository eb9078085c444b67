"""Small networks of tokens and of channels last, and what PyTorch and pytorch-grad-cam say of them.

Run by a Python that has torch 2.14, timm 1.0.31, onnx, onnxscript and grad-cam 1.5.7:

    python tests/models/export_tokens.py tests/fixtures/tokens [NAME ...]
"""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import onnx
import pytorch_grad_cam as pgc
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

CLASSES, TARGETS = 5, (3, 1)
COPIES, DEVIATION = 4, 0.3  # of the noise of smoothgradcam++
THEIRS = {  # our name: pytorch-grad-cam's class
    "gradcam": pgc.GradCAM,
    "gradcam++": pgc.GradCAMPlusPlus,
    "xgradcam": pgc.XGradCAM,
    "hirescam": pgc.HiResCAM,
    "gradcamelementwise": pgc.GradCAMElementWise,
    "layercam": pgc.LayerCAM,
    "eigencam": pgc.EigenCAM,
    "eigengradcam": pgc.EigenGradCAM,
    "kpcacam": pgc.KPCA_CAM,
    "scorecam": pgc.ScoreCAM,
    "fem": pgc.FEM,
}


class ChannelsLast(nn.Module):
    """A convolution, then blocks and a normalisation on (N,h,w,C), as in FocalNet and MambaOut."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.norm = nn.LayerNorm(8)
        self.dense = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.stem(x).permute(0, 2, 3, 1)
        x = x + self.mlp(self.deep(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return self.dense(self.norm(x).mean((1, 2)))


class Mixer(nn.Module):
    """Tokens that dense layers mix."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm1": nn.LayerNorm(8),
                "tokens": nn.Sequential(nn.Linear(24, 10), nn.GELU(), nn.Linear(10, 24)),
                "norm2": nn.LayerNorm(8),
                "channels": nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)),
            })
            for _ in range(2)
        )  # fmt: skip
        self.norm = nn.LayerNorm(8)
        self.dense = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = x + block["tokens"](block["norm1"](x).transpose(1, 2)).transpose(1, 2)
            x = x + block["channels"](block["norm2"](x))
        return self.dense(self.norm(x).mean(1))


class Hybrid(nn.Module):
    """nn.MultiheadAttention and a convolution on what comes out of it, as in SegFormer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.norm1 = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.dense = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        tokens = x.flatten(2).permute(2, 0, 1)
        normal = self.norm1(tokens)
        tokens = tokens + self.attention(normal, normal, normal, need_weights=False)[0]
        x = self.deep(tokens.permute(1, 2, 0).reshape(x.shape[0], 16, 4, 6))
        return self.dense(torch.relu(x).flatten(2).transpose(1, 2).mean(1))


def after(skip, height, width):
    return lambda x: x[:, skip:].reshape(len(x), height, width, -1).permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 3, 1, 2)


def networks():
    """Name, network, size of its input, the layer that `auto` takes, how it is a map."""
    torch.manual_seed(0)
    small = {"num_classes": CLASSES, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    vit = VisionTransformer(img_size=(16, 24), **small)
    yield "vit", vit, (16, 24), vit.blocks[-1].norm1, after(1, 4, 6)
    mean = VisionTransformer(
        img_size=(16, 24), global_pool="avg", class_token=False, reg_tokens=2, **small
    )
    yield "registers", mean, (16, 24), mean.blocks[-1].norm1, after(2, 4, 6)
    swin = SwinTransformer(
        img_size=(32, 48), patch_size=2, window_size=4, embed_dim=8, depths=(1, 2),
        num_heads=(2, 2), num_classes=CLASSES,
    )  # fmt: skip
    yield "swin", swin, (32, 48), swin.layers[-1].blocks[-1].norm1, last
    network = ChannelsLast()
    yield "last", network, (16, 24), network.norm, last
    network = Mixer()
    yield "mixer", network, (16, 24), network.blocks[-1]["norm1"], after(0, 4, 6)
    network = Hybrid()
    yield "hybrid", network, (16, 24), network.norm1, lambda x: after(0, 4, 6)(x.transpose(0, 1))


def randomise(network):
    """Weights large enough that maps differ."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            large = 0.5 if parameter.ndim == 1 else 1.5 / parameter[0].numel() ** 0.5
            parameter.add_(large * torch.randn(parameter.shape, generator=generator))


def gradients(network, images, layer):
    """The layer's value, and the gradients of each target's logit, by autograd."""
    kept = []
    handle = layer.register_forward_hook(lambda module, args, out: kept.append(out))
    logits = network(images)
    handle.remove()
    return logits, kept[0], [
        torch.autograd.grad(logits[:, t].sum(), kept[0], retain_graph=True)[0] for t in TARGETS
    ]  # fmt: skip


class Zeroed(pgc.ablation_layer.AblationLayerVit):
    """Channels of the picture's tokens set to 0.

    pytorch-grad-cam's own sets those of all tokens to -1e7 where a layer has negative values.
    """

    def __init__(self, skip):
        super().__init__()
        self.skip = skip

    def __call__(self, x):
        for row, channel in zip(self.activations, self.indices):
            row[self.skip :, ..., channel] = 0
        return self.activations


def own_slope(network, images, layer, create_graph=False):
    """The layer's value, and the gradient of the logit of image i for target i."""
    kept = []
    handle = layer.register_forward_hook(lambda module, args, out: kept.append(out))
    logits = network(images)
    handle.remove()
    score = sum(logits[i, t] for i, t in enumerate(TARGETS))
    return kept[0], torch.autograd.grad(score, kept[0], create_graph=create_graph)[0]


def smoothgradcam_plusplus(network, images, layer, as_map):
    """Omeiza et al., section 3: the powers of the gradient are averaged over noisy images."""
    random = np.random.RandomState(0)
    noise = torch.from_numpy(random.normal(0, DEVIATION, (COPIES, *images.shape[1:]))).float()
    slopes = torch.stack([as_map(own_slope(network, images + n, layer)[1]) for n in noise])
    first, second, third = ((slopes**p).mean(0) for p in (1, 2, 3))
    activation = as_map(own_slope(network, images, layer)[0])
    alpha = second / (2 * second + activation.sum((2, 3), keepdim=True) * third + 1e-6)
    return ((alpha * first.relu()).sum((2, 3), keepdim=True) * activation).sum(1)


def shapleycam(network, images, layer, as_map, skip):
    """Cai, equation 17, along the tokens of the picture; pytorch-grad-cam's takes no tokens."""
    with sdpa_kernel(SDPBackend.MATH):  # which has a second derivative
        value, slope = own_slope(network, images, layer, create_graph=True)
    along = value.detach().clone()
    if skip:
        along[:, :skip] = 0
    (curvature,) = torch.autograd.grad(slope, value, along)
    weights = as_map(slope - curvature / 2).mean((2, 3), keepdim=True)
    return (weights * as_map(value)).sum(1)


def every_method(network, images, layer, earlier, as_map, skip):
    """Heatmaps by pytorch-grad-cam, raw maps by the formulas; image i explained for target i."""
    targets = [ClassifierOutputTarget(t) for t in TARGETS]
    for name, theirs in THEIRS.items():
        cam = theirs(network, [layer], reshape_transform=as_map)
        yield f"cam__{name}", cam(images, targets)
    ablation = pgc.AblationCAM(network, [layer], as_map, ablation_layer=Zeroed(skip))
    yield "cam__ablationcam", ablation(images, targets)
    finer = pgc.FinerCAM(network, [layer], as_map)
    found = [finer(images[i : i + 1], target_idx=t) for i, t in enumerate(TARGETS)]
    yield "cam__finercam", np.concatenate(found)
    refined = pgc.refine_cam.RefineCAM(network, [earlier, layer], as_map)
    yield "cam__refinecam", refined(images, targets)
    yield "cam__fullgrad", pgc.FullGrad(network, [])(images, targets)
    yield "raw__smoothgradcam++", smoothgradcam_plusplus(network, images, layer, as_map)
    yield "raw__shapleycam", shapleycam(network, images, layer, as_map, skip)


def without_notes(path):
    """Of where each node comes from, which are most of the file."""
    model = onnx.load(path)
    for node in (*model.graph.node, *model.graph.value_info, *model.graph.input):
        del node.metadata_props[:]
    onnx.save(model, path)


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(exist_ok=True)
    wanted = sys.argv[2:]
    for name, network, size, layer, as_map in networks():
        if wanted and name not in wanted:
            continue
        network.eval()
        randomise(network)
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
        logits, value, slopes = gradients(network, images, layer)
        activation = as_map(value)
        weights = [as_map(slope).mean((2, 3), keepdim=True) for slope in slopes]
        maps = torch.stack([(activation * weight).sum(1) for weight in weights], 1)
        results = {"images": images, "logits": logits, "activation": activation, "maps": maps}
        if name in ("vit", "swin"):
            blocks = network.blocks if name == "vit" else network.layers[-1].blocks
            skip = int(name == "vit")
            for key, found in every_method(network, images, layer, blocks[0].norm1, as_map, skip):
                results[key] = torch.as_tensor(found)
        if name == "swin":  # global average pooling and a dense layer follow its last normalisation
            _, value, _ = gradients(network, images, network.norm)
            weights = network.head.fc.weight[list(TARGETS)][..., None, None]
            results["raw__cam"] = (weights * last(value)).sum(1)
        for key, array in results.items():
            assert np.isfinite(array.detach().numpy()).all(), (name, key)
        arrays = {key: array.detach().numpy().astype(np.float32) for key, array in results.items()}
        np.savez_compressed(
            directory / f"{name}.npz", targets=np.array(TARGETS, np.int32), **arrays
        )
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                network, (images,), str(directory / f"{name}.script.onnx"), dynamo=False,
                opset_version=17, input_names=["x"], dynamic_axes={"x": {0: "N"}},
            )  # fmt: skip
            torch.onnx.export(
                network, (images,), str(directory / f"{name}.dynamo.onnx"), dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N", min=1, max=512)},), external_data=False,
            )  # fmt: skip
        without_notes(directory / f"{name}.dynamo.onnx")


if __name__ == "__main__":
    main()
