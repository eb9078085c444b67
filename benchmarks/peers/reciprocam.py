"""CAMs of a folder of JPEG files to HDF5 by OpenVINO-XAI: Recipro-CAM in the graph, two streams.

Run by a Python that has openvino_xai 1.1.0 with the OpenVINO that it asks for, nncf and h5py
(`make bench-peers`):

    python benchmarks/peers/reciprocam.py fp32|int8 FILE.onnx FOLDER IMAGES OUT.h5
    python benchmarks/peers/reciprocam.py versions

The first prints images per second after the first eight. int8 is calibrated by NNCF on 32 of the
files. Recipro-CAM takes one image at a time. In networks that end in global average pooling and one
dense layer it is, but for the bias and for ReLU, Grad-CAM.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import h5py
import nncf
import openvino
from jpeg_view import SIDE, network_input, scaled
from openvino_xai import insert_xai
from openvino_xai.common.parameters import Method, Task

STREAMS, FIRST, CALIBRATION = 2, 8, 32
CORES = len(os.sched_getaffinity(0))
OPTIONS = {
    "NUM_STREAMS": STREAMS,
    "INFERENCE_NUM_THREADS": CORES,
    "INFERENCE_PRECISION_HINT": "f32",
}


def explained(precision, file, files):
    """The network with a map for each class beside its logits, compiled."""
    core = openvino.Core()
    model = core.read_model(file)
    model.reshape([1, 3, SIDE, SIDE])
    if precision == "int8":
        chosen = files[:: max(1, len(files) // CALIBRATION)][:CALIBRATION]
        pictures = [network_input(path)[None] for path in chosen]
        model = nncf.quantize(model, nncf.Dataset(pictures), subset_size=len(pictures))
    way = {"explain_method": Method.RECIPROCAM, "embed_scaling": False}
    model = insert_xai(model, Task.CLASSIFICATION, **way)
    return core.compile_model(model, "CPU", OPTIONS)


def extract(precision, file, folder, count, out):
    """Images per second after the first ones."""
    files = sorted(Path(folder).glob("*.jpg"))[:count]
    compiled = explained(precision, file, files)
    moments = []
    with h5py.File(out, "w") as written:
        shape = tuple(compiled.output(1).shape)[2:]
        stored = written.create_dataset("cam", (len(files), *shape), "f4", chunks=(1, *shape))

        def store(request, number):
            logits, maps = (request.get_output_tensor(i).data[0] for i in (0, 1))
            first = logits.argmax()
            bias = (maps[first].sum() - logits[first]) / (maps[first].size - 1)
            stored[number] = scaled(maps[first] - bias)
            moments.append(time.perf_counter())

        queue = openvino.AsyncInferQueue(compiled, STREAMS)
        queue.set_callback(store)
        for number, path in enumerate(files):
            queue.start_async([network_input(path)[None]], number)
        queue.wait_all()
    return (len(files) - FIRST) / (time.perf_counter() - moments[FIRST - 1])


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "versions":
        names = ("openvino", "openvino_xai", "nncf")
        print(json.dumps({name: version(name) for name in names}))
    else:
        file, folder, count, out = rest
        print(f"{extract(what, file, folder, int(count), out):.4f}")
