"""Maps of networks that end in other ways, by pytorch-grad-cam, for test_ends.py.

Run by a Python that has torch 2.14, onnx and grad-cam 1.5.7:

    python tests/methods/export_ends.py tests/fixtures/ends
"""

import sys
from pathlib import Path

import numpy as np
import pytorch_grad_cam as pgc
import torch
from pytorch_grad_cam.utils.model_targets import (
    BinaryClassifierOutputTarget,
    SemanticSegmentationTarget,
)
from torch import nn

GRADIENTS = {
    "gradcam": pgc.GradCAM,
    "gradcam++": pgc.GradCAMPlusPlus,
    "xgradcam": pgc.XGradCAM,
    "hirescam": pgc.HiResCAM,
    "gradcamelementwise": pgc.GradCAMElementWise,
    "layercam": pgc.LayerCAM,
}
PASSES = {"scorecam": pgc.ScoreCAM, "ablationcam": pgc.AblationCAM, "shapleycam": pgc.ShapleyCAM}


class Network(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.ReLU())
        self.head = head

    def forward(self, x):
        return self.head(self.features(x))


class Likeness:
    """pytorch-grad-cam's documentation has it so (Pixel Attribution for embeddings)."""

    def __init__(self, vector):
        self.vector = vector

    def __call__(self, output):
        return nn.CosineSimilarity(dim=0)(output, self.vector)


def main():
    directory = Path(sys.argv[1])
    torch.manual_seed(1)
    images = torch.randn(3, 3, 12, 16, generator=torch.Generator().manual_seed(2))
    dense = [nn.Flatten(), nn.Linear(8 * 6 * 8, 10), nn.Tanh()]
    heads = {
        "binary": nn.Sequential(*dense, nn.Linear(10, 1)),
        "embedding": nn.Sequential(*dense, nn.Linear(10, 6)),
        "pixels": nn.Sequential(
            nn.Conv2d(8, 6, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(6, 4, 1),
        ),
    }  # fmt: skip
    results = {"images": images.numpy()}
    for kind, head in heads.items():
        network = Network(head).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3)
        last = {"binary": nn.Sigmoid(), "pixels": nn.Softmax(dim=1)}.get(kind, nn.Identity())
        torch.onnx.export(nn.Sequential(network, last), (images,), str(directory / f"{kind}.onnx"),
                          dynamo=False, opset_version=17)  # fmt: skip
        output = network(images).detach()
        results[f"{kind}/output"] = last(output).detach().numpy()
        if kind == "binary":
            targets = {k: [BinaryClassifierOutputTarget(k)] * 3 for k in (0, 1)}
        elif kind == "embedding":
            targets = {0: [Likeness(output[2] + torch.arange(6.0))] * 3}
            results["embedding/vector"] = (output[2] + torch.arange(6.0)).numpy()
        else:
            best = output.argmax(dim=1).numpy()
            results["pixels/best"] = best
            targets = {
                k: [SemanticSegmentationTarget(k, np.float32(one == k)) for one in best]
                for k in (0, 2)
            }
        methods = GRADIENTS | (PASSES if kind != "pixels" else {})
        for name, method in methods.items():
            for k, wanted in targets.items():
                results[f"{kind}/{name}/{k}"] = method(network, [network.features])(images, wanted)
    for key, value in results.items():
        assert np.isfinite(value).all(), key
    np.savez_compressed(directory / "expected.npz", **{
        key.replace("/", "__"): value.astype(np.float32) for key, value in results.items()
    })  # fmt: skip
    print(len(results), "arrays")


if __name__ == "__main__":
    main()
