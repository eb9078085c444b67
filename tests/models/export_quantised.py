"""Quantise a small network in every format of onnxruntime, which needs ml_dtypes for it:

python tests/models/export_quantised.py tests/fixtures/onnx/quantised
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType

from tests.models.onnx_models import images_for, make, node, weight

WEIGHTS = {
    "w": weight(16, 3, 3, 3) / 4, "wb": weight(16), "dw": weight(16, 1, 3, 3) / 2,
    "p": weight(16, 16, 1, 1) / 4, "t": weight(10, 16), "b": weight(10, seed=1),
    "six": np.float32(6), "zero": np.float32(0),
}  # fmt: skip
NODES = [
    node("Conv", "x w wb", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r"),
    node("Conv", "r dw", "d", group=16, pads=[1, 1, 1, 1]), node("Clip", "d zero six", "k"),
    node("Conv", "k p", "e"), node("Add", "e r", "a"), node("Sigmoid", "a", "s"),
    node("Mul", "a s", "u"), node("MaxPool", "u", "m", kernel_shape=[2, 2], strides=[2, 2]),
    node("Concat", "m m", "q", axis=1), node("Split", "q", "h i", axis=1),
    node("GlobalAveragePool", "h", "g"), node("Flatten", "g", "f"),
    node("Gemm", "f t b", "y", transB=1),
]  # fmt: skip


class Images(CalibrationDataReader):
    def __init__(self, images):
        self.left = [{"x": image[None]} for image in images]

    def get_next(self):
        return self.left.pop() if self.left else None


STATIC = {
    "qdq": {"quant_format": QuantFormat.QDQ},
    "qdq-channels": {"quant_format": QuantFormat.QDQ, "per_channel": True},
    "qdq-int8": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QInt8,
                 "weight_type": QuantType.QInt8},
    "qdq-16-bits": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt16},
    "operators": {"quant_format": QuantFormat.QOperator},
    "operators-channels": {"quant_format": QuantFormat.QOperator, "per_channel": True},
    "operators-int8": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QInt8,
                       "weight_type": QuantType.QInt8},
}  # fmt: skip


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    model = make(NODES, WEIGHTS, flatten=False, opset=17)
    source = directory / "float.onnx"
    onnx.save(model, source)
    for kind, options in STATIC.items():
        images = Images(images_for(model, batch=16))
        quantization.quantize_static(source, directory / f"{kind}.onnx", images, **options)
    quantization.quantize_dynamic(source, directory / "dynamic.onnx", weight_type=QuantType.QUInt8)


if __name__ == "__main__":
    main()
