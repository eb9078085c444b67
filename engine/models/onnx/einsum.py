"""Einsum of two operands, as a matrix product."""

from __future__ import annotations

from math import prod

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Known, Tensor
from shardcam.engine.models.onnx.products import product
from shardcam.engine.models.onnx.shapes import reshape, transpose


def einsum(call: Call) -> Tensor:
    """Sums over letters of both operands that the result lacks; the batch is its first letter."""
    equation = call.text("equation").replace(" ", "")
    operands, _, result = equation.partition("->")
    terms = operands.split(",")
    if len(terms) != 2 or len(call.inputs) != 2 or not result or "." in equation:
        raise ModelError(f"equation {equation[:100]!r} is not supported")
    values = [call.plain(0), call.plain(1)]
    if isinstance(values[0], Known):
        terms, values = terms[::-1], values[::-1]
    (left, right), (a, b) = terms, values
    batch, kept = result[0], [letter for letter in result if letter in left and letter in right]
    summed = [letter for letter in left if letter in right and letter not in result]
    rows = [letter for letter in result if letter in left and letter not in kept]
    columns = [letter for letter in result if letter in right and letter not in kept]
    whole = len(kept) + len(summed)
    fits = len(left) == whole + len(rows) and len(right) == whole + len(columns)
    first = left[:1] == batch and (right[:1] == batch or isinstance(b, Known))
    if not fits or not first or (isinstance(b, Known) and batch in right):
        raise ModelError(f"equation {equation[:100]!r} is not supported")
    assert isinstance(a, Tensor)  # of two constants folding makes one
    lengths = _lengths(left, a) | _lengths(right, b)
    lengths[batch] = 1
    kept, rows = ([n for n in letters if n != batch] for letters in (kept, rows))
    groups = [kept, rows, summed, columns]
    outer, height, depth, width = (prod(lengths[n] for n in letters) for letters in groups)
    x = _ordered(call, a, left, [batch, *kept, *rows, *summed], "left")
    x = reshape(call, x, a.multiple, (outer, height, depth), "left_matrix")
    if isinstance(b, Known):
        turned = b.constant.transpose([right.index(n) for n in (*kept, *summed, *columns)])
        y = product(call, x, Known.of(turned.reshape(outer, depth, width)))
    else:
        other = _ordered(call, b, right, [batch, *kept, *summed, *columns], "right")
        y = product(
            call, x, reshape(call, other, b.multiple, (outer, depth, width), "right_matrix")
        )
    made = [batch, *kept, *rows, *columns]
    y = reshape(call, y, a.multiple, tuple(lengths[n] for n in made[1:]), "apart")
    return _ordered(call, y, "".join(made), result, "ordered")


def _lengths(term: str, value: Known | Tensor) -> dict[str, int]:
    shape = value.shape(1) if isinstance(value, Tensor) else value.constant.shape
    if len(term) != len(shape) or len(set(term)) != len(term):
        raise ModelError(f"{term[:100]!r} does not fit {shape}")
    return dict(zip(term, shape, strict=True))


def _ordered(call: Call, x: Tensor, term: str, wanted: list[str] | str, part: str) -> Tensor:
    order = tuple(term.index(letter) for letter in wanted)
    return x if order == tuple(sorted(order)) else transpose(call, x, order, part)
