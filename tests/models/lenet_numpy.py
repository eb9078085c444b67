"""The classic network in NumPy, from its two files: nothing of ours, nothing of MXNet but load."""

import json

import mxnet as mx
import numpy as np


def expected_input(symbol):
    """Mean and deviation, as the symbol file's input declares them."""
    (data,) = (n for n in json.loads(symbol.read_text())["nodes"] if n["name"] == "data")
    return float(data["attrs"]["__mean__"]), float(data["attrs"]["__std__"])


def convolution(x, weight, bias):
    """(C,H,W) -> (O,H-k+1,W-k+1), float64, position by position."""
    k = weight.shape[2]
    out = np.empty((len(weight), x.shape[1] - k + 1, x.shape[2] - k + 1))
    for y in range(out.shape[1]):
        for z in range(out.shape[2]):
            out[:, y, z] = (weight * x[:, y : y + k, z : z + k]).sum(axis=(1, 2, 3)) + bias
    return out


def max_pool(x):
    corners = [x[:, y::2, z::2] for y in (0, 1) for z in (0, 1)]
    return np.max(corners, axis=0)


def activations(digit, symbol, params, kind):
    """Of every layer, for one (28,28) uint8 digit."""
    stored = mx.nd.load(str(params))
    w = {name.removeprefix("arg:"): v.asnumpy().astype(float) for name, v in stored.items()}
    bend = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[kind]
    mean, std = expected_input(symbol)
    found, x = {}, ((digit - mean) / std)[None]
    for i in (1, 2):
        found[f"conv{i}"] = convolution(x, w[f"conv{i}_weight"], w[f"conv{i}_bias"])
        found[f"{kind}{i}"] = bend(found[f"conv{i}"])
        x = found[f"pool{i}"] = max_pool(found[f"{kind}{i}"])
    found["dense1"] = w["dense1_weight"] @ x.ravel() + w["dense1_bias"]
    found[f"{kind}3"] = bend(found["dense1"])
    found["dense2"] = w["dense2_weight"] @ found[f"{kind}3"] + w["dense2_bias"]
    return found
