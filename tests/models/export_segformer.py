"""A small SegFormer with random weights, and what PyTorch and pytorch-grad-cam say of it.

Run by a Python that has torch 2.14, transformers 5.24, onnx, onnxscript and grad-cam 1.5.7:

    python tests/models/export_segformer.py tests/fixtures/segformer
"""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pytorch_grad_cam as pgc
import torch
from export_tokens import without_notes
from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget
from torch import nn
from torch.nn.functional import avg_pool2d
from transformers import SegformerConfig, SegformerForSemanticSegmentation

CLASSES, SIDE, STRIDE = 4, 64, 4
MEAN, STD = 127.5, 64.0


class Logits(nn.Module):
    def __init__(self):
        super().__init__()
        self.whole = SegformerForSemanticSegmentation(
            SegformerConfig(
                num_labels=CLASSES, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16],
                num_attention_heads=[1, 1, 2, 2], mlp_ratios=[2, 2, 2, 2], decoder_hidden_size=16,
            )
        )  # fmt: skip

    def forward(self, x):
        return self.whole(pixel_values=x).logits


def rectangle():
    """(H,W) that covers some of the pixels of the maps in part."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[9:50, 22:39] = True
    return mask


def summed(logits, weights):
    """(N,classes) of (N,classes,h,w) and the (N,1,h,w) or (N,classes,h,w) that pixels count."""
    return (logits * weights).sum((2, 3))


def maps_of(scores, value, as_map):
    """(N,classes,h,w) raw Grad-CAM."""
    slopes = [
        as_map(torch.autograd.grad(scores[:, k].sum(), value, retain_graph=True)[0])
        for k in range(CLASSES)
    ]
    return torch.stack([(s.mean((2, 3), keepdim=True) * as_map(value)).sum(1) for s in slopes], 1)


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = Logits().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            large = 0.3 if parameter.ndim == 1 else 1.5 / parameter[0].numel() ** 0.5
            parameter.add_(large * torch.randn(parameter.shape))
    draw = np.random.RandomState(0)
    coarse = draw.randint(0, 256, (2, SIDE // 8, SIDE // 8, 3), np.uint8)
    pictures = coarse.repeat(8, axis=1).repeat(8, axis=2)
    images = torch.from_numpy((pictures.transpose(0, 3, 1, 2) - np.float32(MEAN)) / np.float32(STD))
    with torch.no_grad():  # so that every class wins pixels
        network.whole.decode_head.classifier.bias -= network(images).mean((0, 2, 3))
    head, stages = network.whole.decode_head, network.whole.segformer.stages
    layers = {
        "head": (head.activation, lambda x: x),
        "tokens": (stages[2].layer_norm, lambda x: x.reshape(2, 4, 4, -1).permute(0, 3, 1, 2)),
    }
    kept = {}
    handles = [
        layer.register_forward_hook(lambda m, a, out, name=name: kept.__setitem__(name, out))
        for name, (layer, _) in layers.items()
    ]
    logits = network(images)
    for handle in handles:
        handle.remove()
    won = logits == logits.amax(1, keepdim=True)
    mask = rectangle()
    covered = avg_pool2d(torch.from_numpy(mask)[None, None].float(), STRIDE)
    scores = {"won": summed(logits, won), "mask": summed(logits, covered)}
    results = {"pictures": pictures, "mask": mask, "logits": logits, "best": logits.argmax(1)}
    for name, (layer, as_map) in layers.items():
        for what, sums in scores.items():
            results[f"{what}__{name}"] = maps_of(sums, kept[name], as_map)
        for k in range(CLASSES):
            targets = [SemanticSegmentationTarget(k, np.float32(one[k])) for one in won]
            cam = pgc.GradCAM(network, [layer], reshape_transform=as_map)
            results[f"cam__{name}__{k}"] = cam(images, targets)
    results |= {f"sums__{what}": sums for what, sums in scores.items()}
    arrays = {key: torch.as_tensor(value).detach().numpy() for key, value in results.items()}
    print("pixels won", won.sum((0, 2, 3)).tolist())
    np.savez_compressed(directory / "expected.npz", **arrays)
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(
            network, (images,), str(directory / "script.onnx"), dynamo=False, opset_version=17,
            input_names=["x"], dynamic_axes={"x": {0: "N"}},
        )  # fmt: skip
        torch.onnx.export(
            network, (images,), str(directory / "dynamo.onnx"), dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=512)},), external_data=False,
        )  # fmt: skip
    without_notes(directory / "dynamo.onnx")


if __name__ == "__main__":
    main()
