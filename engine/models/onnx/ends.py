"""Which of a file's inputs takes the images, and which of its outputs are the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.fold import FLOATS
from shardcam.engine.models.onnx.onnx_graph import Array

CUT = "cut the file with onnx.utils.extract_model(FILE, NEW, [inputs], [outputs])"
MAX_GIVEN = 2**20  # numbers in an input that is given as a constant


def chosen_output(graph: Any, output: str | None) -> tuple[str, str]:
    """Name of the value that becomes the logits, and a remark if others were left out.

    `output` may name any value of the file, so that a network can be cut where it has scores.
    Without it, the one output of floating-point numbers is taken: others are labels.
    """
    if output is not None:
        computed = {name for node in graph.node for name in node.output if name}
        if output not in computed:
            raise ModelError(
                f"--output {output}: it computes no such value; it has {_listed(graph.output)}"
            )
        return output, ""
    if len(graph.output) == 1:
        return graph.output[0].name, ""
    scores = [o.name for o in graph.output if not _is_label(o)]
    if len(scores) == 1:
        (one,) = scores
        return one, f"of {len(graph.output)} outputs {one!r} was taken: --output {one}"
    raise ModelError(
        f"it has {len(graph.output)} outputs: {_listed(graph.output)}; choose one by --output NAME"
    )


def split_inputs(inputs: Sequence[Any], given: Mapping[str, str]) -> tuple[Any, dict[str, Array]]:
    """The input that takes the images, and the values of the others.

    `inputs` have no weights. A value is one number for all places or one for each, with commas
    between; an axis that the file leaves open has length one.
    """
    unknown = sorted(set(given) - {i.name for i in inputs})
    if unknown:
        raise ModelError(
            f"--input {unknown[0]}: it has no such input, but {_listed(inputs) or 'none'}"
        )
    left = [i for i in inputs if i.name not in given]
    if len(left) != 1:
        advice = (
            "give each but that of the images a constant by --input NAME=VALUE, or "
            f"{CUT} where they come together"
        )
        raise ModelError(
            f"it has {len(left)} inputs without weights: {_listed(left)}; {advice}"
            if left
            else "it has no input left that could take images"
        )
    return left[0], {i.name: _constant(i, given[i.name]) for i in inputs if i.name in given}


def _constant(value: Any, text: str) -> Array:
    tensor = value.type.tensor_type
    shape = [d.dim_value if d.dim_value > 0 else 1 for d in tensor.shape.dim]
    try:
        if prod(shape) > MAX_GIVEN:
            raise ValueError
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        numbers = np.array([float(t) for t in text.split(",")]).astype(dtype)
        return np.full(shape, numbers[0]) if len(numbers) == 1 else numbers.reshape(shape)
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            f"--input {value.name}: takes a number, or {prod(shape)} with commas between, for "
            f"{_described(value)}; not {text[:100]}"
        ) from None


def _is_label(output: Any) -> bool:
    """Whole numbers, texts, or what classical classifiers give: a map from names to scores."""
    kind = output.type.WhichOneof("value")
    elem = output.type.tensor_type.elem_type
    return kind is not None and (kind != "tensor_type" or elem not in (0, *FLOATS))


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(_described(v) for v in values[:8])
    return shown + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def _described(value: Any) -> str:
    dims = value.type.tensor_type.shape.dim
    return f"{value.name!r} {shape_text([d.dim_value or d.dim_param or None for d in dims])}"


def shape_text(shape: Sequence[int | str | None]) -> str:
    """A shape with ``?`` for what a file leaves open."""
    return "(" + ",".join("?" if n is None else str(n) for n in shape) + ")"
