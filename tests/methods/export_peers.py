"""Maps of a small network by pytorch-grad-cam and torchcam, for test_peers.py.

Run by a Python that has torch 2.14, onnx, grad-cam 1.5.7 and torchcam 0.5.0:

    python tests/methods/export_peers.py tests/fixtures/peers
"""

import sys
from pathlib import Path

import numpy as np
import pytorch_grad_cam as pgc
import torch
import torchcam.methods
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

TARGETS = (3, 7, 1)
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
    "ablationcam": pgc.AblationCAM,
    "shapleycam": pgc.ShapleyCAM,
    "fem": pgc.FEM,
    "fullgrad": pgc.FullGrad,
}
TERMS = ("gradcam", "gradcam++", "xgradcam", "hirescam", "gradcamelementwise", "layercam")
TORCHCAM = {"gradcam": "GradCAM", "xgradcam": "XGradCAM", "layercam": "LayerCAM"}


class Network(nn.Module):
    """Two convolutions; the head of the second is smooth, so that it has second derivatives."""

    def __init__(self):
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.late = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.SiLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(12 * 6 * 8, 20), nn.Tanh())
        self.dense = nn.Linear(20, 10)

    def forward(self, x):
        return self.dense(self.head(self.late(self.early(x))))


def main():
    directory = Path(sys.argv[1])
    torch.manual_seed(0)
    network = Network().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    images = torch.randn(3, 3, 12, 16, generator=torch.Generator().manual_seed(2))
    torch.onnx.export(network, (images,), str(directory / "network.onnx"), dynamo=False,
                      opset_version=17)  # fmt: skip
    results = {"images": images.numpy(), "logits": network(images).detach().numpy()}
    targets = [ClassifierOutputTarget(t) for t in TARGETS]
    layers = {"early": [network.early], "late": [network.late]}
    layers["both"] = layers["early"] + layers["late"]
    for where, modules in layers.items():
        for name, method in THEIRS.items():
            if name == "fullgrad" and where != "late":
                continue
            if name in ("ablationcam", "shapleycam") and where == "both":
                continue  # theirs fails
            cam = method(network, modules if name != "fullgrad" else [])
            results[f"{name}/{where}"] = cam(images, targets)
            if name in TERMS and where != "both":
                results[f"{name}/{where}/eigen"] = cam(images, targets, eigen_smooth=True)
                results[f"{name}/{where}/aug"] = cam(images, targets, aug_smooth=True)
    finer = pgc.FinerCAM(network, layers["late"])
    results["finercam/late"] = np.concatenate(
        [finer(images[i : i + 1], target_idx=t) for i, t in enumerate(TARGETS)]
    )
    refine = pgc.refine_cam.RefineCAM(network, layers["both"])
    results["refinecam/both"] = refine(images, targets)
    for name, theirs in TORCHCAM.items():
        for where in ("early", "late"):
            with getattr(torchcam.methods, theirs)(network, getattr(network, where)) as extract:
                (maps,) = extract(list(TARGETS), network(images))
            results[f"torchcam/{name}/{where}"] = maps.detach().numpy()
    for key, value in results.items():
        assert np.isfinite(value).all(), key
    np.savez_compressed(directory / "expected.npz", targets=np.array(TARGETS, np.int32), **{
        key.replace("/", "__"): value.astype(np.float32) for key, value in results.items()
    })  # fmt: skip
    print(len(results), "arrays")


if __name__ == "__main__":
    main()
