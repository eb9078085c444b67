"""Transformers of timm in ONNX Runtime, in float32 and with dynamic int8, one pass when asked.

Run by a Python that has torch, timm, onnx and onnxruntime (`make bench-peers`):

    python benchmarks/peers/transformers.py NETWORK FOLDER

Writes FOLDER/NETWORK.onnx, with random weights, if it is not there, and says `ready` and the
version of onnxruntime. For each line that it reads, `fp32` or `int8`, it passes FOLDER/images.npy,
leaves the logits in FOLDER/fp32.npy or int8.npy, and says how many seconds of CPU time that took.
"""

import logging
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import torch
from onnxruntime.quantization import quantize_dynamic

logging.disable(logging.WARNING)  # of shapes that quantize_dynamic does not know
network, folder = sys.argv[1], Path(sys.argv[2])
files = {"fp32": folder / f"{network}.onnx", "int8": folder / f"{network}.int8.onnx"}
if not files["fp32"].exists():
    torch.manual_seed(0)
    torch.onnx.export(
        timm.create_model(network, pretrained=False).eval(),
        torch.zeros(1, 3, 224, 224),
        str(files["fp32"]),
        dynamo=False,
        input_names=["image"],
        dynamic_axes={"image": {0: "batch"}},
    )
quantize_dynamic(files["fp32"], files["int8"])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
sessions = {way: onnxruntime.InferenceSession(str(file), options) for way, file in files.items()}
print("ready", onnxruntime.__version__, flush=True)
for line in sys.stdin:
    images = np.load(folder / "images.npy")
    start = time.process_time()
    (logits,) = sessions[line.strip()].run(None, {"image": images})
    seconds = time.process_time() - start
    np.save(folder / f"{line.strip()}.npy", logits)
    print(seconds, flush=True)
