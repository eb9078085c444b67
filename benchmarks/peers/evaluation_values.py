"""torchcam's and pytorch-grad-cam's own values of stored maps: see benchmarks/evaluation_values.py.

Given a file of arrays, the weights of EfficientNet-Lite0 and the name of the method, prints one
line of JSON: the largest difference of each value, null where there is nothing to compare.
"""

import json
import sys
from contextlib import nullcontext

import numpy as np
import pytorch_grad_cam as pgc
import torch
from efficientnet_lite_pytorch import EfficientNet
from pytorch_grad_cam.metrics import arcc, cam_mult_image, road
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torchcam.metrics import ClassificationMetric, DeletionInsertionMetric

SIZE = 224
ROAD_IMAGES, ROAD_PERCENTS = 1, (20, 40)  # its solver takes seconds for each, and minutes at 90 %
METHODS = {
    "gradcam": pgc.GradCAM, "gradcam++": pgc.GradCAMPlusPlus, "layercam": pgc.LayerCAM,
    "hirescam": pgc.HiResCAM, "xgradcam": pgc.XGradCAM,
}  # fmt: skip


class Lite0(torch.nn.Module):
    """The package's network, with an activation of its own at the end, where hooks see it once."""

    def __init__(self, weights):
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        self.net.load_state_dict(torch.load(weights, weights_only=True))
        self.last = torch.nn.ReLU6()

    def forward(self, x):
        net = self.net
        x = net._swish(net._bn0(net._conv_stem(x)))
        for block in net._blocks:
            x = block(x)
        return net._fc(self.last(net._bn1(net._conv_head(x))).mean(dim=(2, 3)))


class Extractor:
    """The interface of torchcam's, with maps that are there already, stretched as torchcam's."""

    def __init__(self, model, maps):
        self.model, self.maps = model, torch.relu(maps)
        self.maps -= self.maps.amin(dim=(1, 2), keepdim=True)
        self.maps /= self.maps.amax(dim=(1, 2), keepdim=True) + 1e-8

    def __call__(self, class_idx, scores=None, **kwargs):
        return [self.maps.clone()]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def of_torchcam(model, picture, raw, target):
    extractor, probability = Extractor(model, raw), torch.nn.Softmax(dim=-1)
    both = (
        ClassificationMetric(extractor, probability),
        DeletionInsertionMetric(extractor, probability),
    )
    for metric in both:
        metric.update(picture, target)
    found = both[0].summary() | both[1].summary()
    return {
        "average_drop:torchcam": found["avg_drop"],
        "average_increase": found["conf_increase"],
        "insertion:torchcam": found["insertion_auc"],
        "deletion:torchcam": found["deletion_auc"],
    }


def of_pytorch_grad_cam(model, picture, heat, target, method):
    told = [ClassifierOutputSoftmaxTarget(target)]
    found = {
        "average_drop:pgc": cam_mult_image.DropInConfidence()(picture, heat, told, model)[0],
        "average_increase:pgc": cam_mult_image.IncreaseInConfidence()(picture, heat, told, model)[
            0
        ],
    }
    if method in METHODS:
        with METHODS[method](model=model, target_layers=[model.last]) as cam:
            logit = [lambda output: output[target]]  # as shardcam explains it
            found["coherency:pgc"] = arcc.Coherency()(picture, heat, logit, model, cam)[0]
    return found


def road_of_pytorch_grad_cam(model, picture, heat, target):
    """By the name and the place of the point in our curve."""
    found, told = {}, [ClassifierOutputSoftmaxTarget(target)]
    imputer = road.NoisyLinearImputer(noise=0)
    for name, way in (
        ("morf:pgc", RemoveMostRelevantFirst),
        ("lerf:pgc", RemoveLeastRelevantFirst),
    ):
        seen = heat[0] if name == "morf:pgc" else 1 - heat[0]
        for percent in ROAD_PERCENTS:
            kept = (seen < np.percentile(seen, 100 - percent)).sum()
            if abs(kept - seen.size * (100 - percent) / 100) > 1:
                continue  # equal values: it removes more than it was told to
            metric = PerturbationConfidenceMetric(way(100 - percent, imputer))
            found[name, percent // 10 - 1] = metric(picture, heat, told, model)[0]
    return found


def main():
    arrays, weights, method = sys.argv[1:]
    stored, model = dict(np.load(arrays)), Lite0(weights).eval()
    torch.manual_seed(0)
    differences = {}
    for i, target in enumerate(stored["target"].tolist()):
        picture, raw = torch.from_numpy(stored["pictures"][i : i + 1]), stored["maps"][i]
        heat = scale_cam_image(scale_cam_image(np.maximum(raw, 0)[None], (SIZE, SIZE)))
        found = of_torchcam(model, picture, torch.from_numpy(raw[None]), target)
        found |= of_pytorch_grad_cam(model, picture, heat, target, method)
        if i < ROAD_IMAGES:
            found |= road_of_pytorch_grad_cam(model, picture, heat, target)
        for name, theirs in found.items():
            key, ours = name, None
            if isinstance(name, tuple):
                key, ours = name[0], stored[f"{name[0]} curve"][i, name[1]]
            ours = stored[key][i] if ours is None else ours
            differences.setdefault(key, []).append(abs(float(ours) - float(theirs)))
    names = [name for name in stored if ":" in name or name == "average_increase"]
    names = [name for name in names if not name.endswith("curve")]
    print(json.dumps({n: max(differences[n]) if n in differences else None for n in names}))


if __name__ == "__main__":
    main()
