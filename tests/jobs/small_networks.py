"""Small ONNX networks by hand, the pictures they are given, and runs of them."""

import cv2
import numpy as np

from tests.jobs.command import shardcam
from tests.models.onnx_models import make, node, reference, weight

CONV = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "p")]
SIZE = 16


def make_pictures(folder):
    """Six pictures in two folders, 0 and 1, and what a network without preprocessing is given."""
    images = np.random.RandomState(0).randint(0, 256, (6, SIZE, SIZE, 3)).astype(np.uint8)
    images[3:] //= 2
    for i, image in enumerate(images):
        path = folder / str(i // 3) / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    return folder, (images.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)


def network(path, images, outputs, tail):
    """A network whose logits z are on both sides of 0; they and its outputs, by onnxruntime."""
    nodes = [*CONV, node("Flatten", "p", "f"), node("Gemm", "f d b", "z", transB=1)]
    rng = np.random.RandomState(5)
    weights = {"w": rng.standard_normal((8, 3, 3, 3)).astype(np.float32)}
    weights |= {"d": 9 * weight(outputs, 8), "b": np.zeros(outputs, np.float32)}

    def model(nodes):
        return make(nodes, weights, ("N", 3, SIZE, SIZE), flatten=False, output=nodes[-1].output[0])

    weights["b"] = -np.median(reference(model(nodes), images), axis=0)
    path.write_bytes(model([*nodes, *tail]).SerializeToString())
    return reference(model(nodes), images), reference(model([*nodes, *tail]), images), weights


def extract(pictures, tmp_path, *options):
    code, out, err = shardcam(
        *("extract", pictures[0], "--model", tmp_path / "net.onnx", "--out", tmp_path / "run"),
        *("--executor", "local", "--shard-size", 4, "--mean", "0,0,0", "--std", "255,255,255"),
        *("--label-from-folder", *options),
    )
    return code, " ".join(out.split()), err


def raw_maps(rows, layer="r"):
    return rows[f"cam/{layer}/map"] * rows[f"cam/{layer}/scale"][..., None, None]


def conv_of(weights):
    shape = ("N", 3, SIZE, SIZE)
    return make([node("Conv", "x w", "y")], {"w": weights["w"]}, shape, flatten=False, rank=4)
