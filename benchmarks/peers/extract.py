"""CAMs of a folder of JPEG files to HDF5: by pytorch-grad-cam or torchcam, as their docs show, or
by ten lines around ONNX Runtime, for networks that end in global average pooling and one dense
layer.

Run by a Python that has torch, torchvision, grad-cam, torchcam, onnx, onnxruntime, opencv and h5py
(`make bench-peers`):

    python benchmarks/peers/extract.py export NETWORK FILE.onnx
    python benchmarks/peers/extract.py pytorch-grad-cam|torchcam|onnxruntime NETWORK FOLDER IMAGES
        BATCH OUT.h5 [DEVICE PROCESSES]
    python benchmarks/peers/extract.py versions

The second prints images per second after a first batch. A DataLoader reads and decodes; with no
process of its own it was the fastest on two cores. FOLDER memory: the same batch again and again,
on the device already.
"""

import copy
import functools
import io
import json
import os
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parent))
from jpeg_view import network_input, scaled

LAYERS = {"resnet18": "layer4", "resnet50": "layer4", "vgg16": "features.29"}


@functools.cache
def build(name):
    """Random weights, the same each time, under which classes differ between pictures.

    Logits are as large as those of a trained network: of larger ones the exponentials are
    denormal numbers, which cost a processor many times as much as others.
    """
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None)
    network.train()  # a pass in training mode makes the statistics those of the data
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        logits = network(torch.randn(4, 3, 224, 224))
        *_, last = (m for m in network.modules() if isinstance(m, torch.nn.Linear))
        last.weight *= 3 / logits.std()
    return network.eval()


class Photographs(Dataset):
    """The network's input of each JPEG file."""

    def __init__(self, folder, count):
        self.files = sorted(Path(folder).glob("*.jpg"))[:count]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return torch.from_numpy(network_input(self.files[i]))


def by_pytorch_grad_cam(network, layer):
    from pytorch_grad_cam import GradCAM

    cam = GradCAM(model=network, target_layers=[network.get_submodule(layer)])
    return lambda images: cam(input_tensor=images, targets=None)  # the first class, (N,224,224)


def by_torchcam(network, layer):
    from torchcam.methods import GradCAM

    cam = GradCAM(network, target_layer=layer)

    def maps(images):
        scores = network(images)
        return cam(scores.argmax(1).tolist(), scores)[0].cpu().numpy()  # (N,h,w)

    return maps


def by_onnxruntime(network, layer):
    """The features and the rows of the dense layer, which is what Grad-CAM comes to here."""
    import onnx
    import onnxruntime

    written = io.BytesIO()
    export_network(network, written)
    model = onnx.load_from_string(written.getvalue())
    pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    dense = next(node for node in model.graph.node if node.op_type == "Gemm").input[1]
    weights = next(
        onnx.numpy_helper.to_array(w) for w in model.graph.initializer if w.name == dense
    )
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(pool.input[0]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def maps(images):
        scores, features = session.run(None, {"data": images.numpy()})
        sums = np.einsum("nchw,nc->nhw", features, weights[scores.argmax(1)], optimize=True)
        return scaled(sums)  # (N,h,w)

    return maps


TOOLS = {
    "pytorch-grad-cam": by_pytorch_grad_cam,
    "torchcam": by_torchcam,
    "onnxruntime": by_onnxruntime,
}


def extract(tool, name, folder, count, batch, out, device="cpu", processes=0):
    """Images per second after a first batch."""
    network = copy.deepcopy(build(name)).to(device)
    maps = TOOLS[tool](network, LAYERS[name])
    if folder == "memory":
        loader = [torch.randn(batch, 3, 224, 224, device=device)] * -(-count // batch)
    else:
        options = {"num_workers": processes, "pin_memory": device != "cpu"}
        loader = DataLoader(Photographs(folder, count), batch_size=batch, **options)
    start, done, stored = 0.0, 0, None
    with h5py.File(out, "w") as file:
        for images in loader:
            values = maps(images.to(device, non_blocking=True))
            if stored is None:
                shape = (len(loader) * batch, *values.shape[1:])
                stored = file.create_dataset("cam", shape, "f4", chunks=(1, *shape[1:]))
            stored[done : done + len(values)] = values
            done += len(values)
            if not start:  # after a first batch: processes, threads, memory
                start = time.perf_counter()
    return (done - batch) / (time.perf_counter() - start)


def export_network(network, file):
    images = torch.zeros(2, 3, 224, 224)
    options = {"input_names": ["data"], "output_names": ["logits"], "dynamo": False}
    torch.onnx.export(network, (images,), file, dynamic_axes={"data": {0: "n"}}, **options)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    what, *rest = sys.argv[1:]
    if what == "versions":
        names = ("torch", "grad-cam", "torchcam", "onnxruntime")
        print(json.dumps({name: version(name) for name in names}))
        sys.exit()
    name, *rest = rest
    if what == "export":
        export_network(build(name), rest[0])
    else:
        folder, count, batch, out, *where = rest
        device, processes = where or ("cpu", 0)
        where = device, int(processes)
        print(f"{extract(what, name, folder, int(count), int(batch), out, *where):.4f}")
