"""Every operator that a graph may hold, by its name in MXNet 1.9.1, as a function on tensors.

A function takes the operator's inputs, and as keywords those attributes that a file gives;
what a file leaves out has MXNet's default. Where a function has a kink the gradient is
MXNet's: at a limit of ``clip``, where two numbers are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from shardcam.engine.errors import ConfigError
from shardcam.engine.models.graph import VARIABLE, Graph, Node
from shardcam.engine.models.symbol_operators import OPERATORS as KNOWN
from shardcam.engine.models.symbol_operators import value
from shardcam.engine.models.torch.fused_steps import FUSED
from shardcam.engine.models.torch.torch_shapes import SHAPES
from shardcam.engine.models.torch.torch_windows import WINDOWS, root3

Axes = tuple[int, ...]


def activation(x: Tensor, *, act_type: str) -> Tensor:
    """A function of each number."""
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "softrelu": F.softplus,
        "softsign": F.softsign,
        "tanh": torch.tanh,
    }
    return functions[act_type](x)


def leaky(
    x: Tensor, slope_of_channels: Tensor | None = None, *, act_type: str = "leaky",
    slope: float = 0.25,
) -> Tensor:  # fmt: skip
    """The relatives of ReLU."""
    if slope_of_channels is not None:
        return F.prelu(x, slope_of_channels.to(x.dtype))
    if act_type == "leaky":
        return F.leaky_relu(x, slope)
    if act_type == "elu":
        return F.elu(x, slope)
    return F.selu(x) if act_type == "selu" else F.gelu(x)


def reduction(reduced: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Over some axes, over all but some, or over all."""

    def function(
        x: Tensor, *, axis: Axes | None = None, keepdims: bool = False, exclude: bool = False
    ) -> Tensor:
        named = {a % x.ndim for a in axis or ()}
        axes = [a for a in range(x.ndim) if not named or (a in named) != exclude]
        return reduced(x, dim=axes, keepdim=keepdims)

    return function


def product(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    """Over several axes."""
    for axis in sorted(dim, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def norm(x: Tensor, *, ord: int = 2, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The sum of magnitudes, or the length, along axes."""
    return torch.linalg.vector_norm(x, ord, axis or None, keepdims)


def softmax(function: Callable[..., Tensor], sign: int = 1) -> Callable[..., Tensor]:
    """One of the softmaxes along an axis."""

    def scaled(x: Tensor, *, axis: int = -1, temperature: float | None = None) -> Tensor:
        factor = sign / (temperature or 1)
        return function(x if factor == 1 else x * factor, axis)

    return scaled


def softmax_activation(x: Tensor, *, mode: str = "instance") -> Tensor:
    """Of the channels at each position, or along the last axis, as MXNet on CPUs has it."""
    return F.softmax(x, 1 if mode == "channel" else -1)


def dot(a: Tensor, b: Tensor, *, transpose_b: bool = False) -> Tensor:
    """The last axis of one with the first of the other, or with its last."""
    return torch.tensordot(a, b.movedim(-1, 0) if transpose_b else b, 1)


def batch_dot(
    a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False
) -> Tensor:
    """Matrix products, image by image."""
    return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)


def clip(x: Tensor, *, a_min: float = -math.inf, a_max: float = math.inf) -> Tensor:
    """Between two limits; at a limit the slope is 1, which versions of PyTorch differ in."""
    if not x.requires_grad:
        return x.clamp(a_min, a_max)
    return torch.where(x < a_min, a_min, torch.where(x > a_max, a_max, x))


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """A straight line between 0 and 1; where it meets them the slope is 0."""
    line = alpha * x + beta
    return torch.where(line <= 0, 0, torch.where(line >= 1, 1, line))


def smooth_l1(x: Tensor, *, scalar: float = 1.0) -> Tensor:
    """A parabola within ``1 / scalar^2``, a straight line beyond."""
    square = scalar**2
    return torch.where(x.abs() < 1 / square, x * x * square / 2, x.abs() - 0.5 / square)


def largest(a: Tensor, b: Tensor) -> Tensor:
    """The first where both are equal."""
    return torch.where((a >= b) | a.isnan(), a, b)


def smallest(a: Tensor, b: Tensor) -> Tensor:
    """The first where both are equal."""
    return torch.where((a <= b) | a.isnan(), a, b)


def whole_to_floor(x: Tensor) -> Tensor:
    """To the nearest whole number, down from the middle."""
    return torch.ceil(x - 0.5)


def whole_from_zero(x: Tensor) -> Tensor:
    """To the nearest whole number, away from zero from the middle."""
    towards_zero = x.trunc()
    return towards_zero + x.sign() * ((x - towards_zero).abs() >= 0.5)


def with_scalar(function: Callable[[Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """A function of a tensor and the attribute `scalar`."""
    return lambda x, scalar=1.0: function(x, scalar)


def compared(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """1 where it holds, else 0."""
    return lambda a, b: function(a, b).to(a.dtype)


_COMPARISONS = {
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "lesser": torch.lt,
    "lesser_equal": torch.le,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "power": torch.pow,
    "maximum": largest,
    "minimum": smallest,
    "hypot": torch.hypot,
    **{name: compared(function) for name, function in _COMPARISONS.items()},
}
_SCALAR: dict[str, Callable[[Tensor, float], Tensor]] = {
    "plus": lambda x, s: x + s,
    "minus": lambda x, s: x - s,
    "rminus": lambda x, s: s - x,
    "mul": lambda x, s: x * s,
    "div": lambda x, s: x / s,
    "rdiv": lambda x, s: s / x,
    "power": lambda x, s: x**s,
    "rpower": lambda x, s: s**x,
    "maximum": lambda x, s: clip(x, a_min=s),
    "minimum": lambda x, s: clip(x, a_max=s),
    "hypot": lambda x, s: (x * x + s * s).sqrt(),
    **{name: compared(function) for name, function in _COMPARISONS.items()},
}
_UNARY: dict[str, Callable[..., Tensor]] = {
    **{
        name: getattr(torch, name)
        for name in (
            *("abs", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "ceil", "cos"),
            *("cosh", "erf", "exp", "expm1", "floor", "log", "log10", "log1p", "log2", "negative"),
            *("ones_like", "reciprocal", "relu", "rsqrt", "sigmoid", "sign", "sin", "sinh"),
            *("sqrt", "square", "tan", "tanh", "trunc", "zeros_like"),
        )
    },
    "BlockGrad": lambda x: x.detach(),
    "Cast": lambda x, **_: x,  # to float32: the precision decides
    "Dropout": lambda x, **_: x,
    "_contrib_div_sqrt_dim": lambda x: x / math.sqrt(x.shape[-1]),
    "_copy": lambda x: x,
    "make_loss": lambda x: x,
    "cbrt": root3,
    "fix": torch.trunc,
    "rcbrt": lambda x: 1 / root3(x),
    "rint": whole_to_floor,
    "round": whole_from_zero,
    "softsign": F.softsign,
}

OPERATORS: dict[str, Callable[..., Any]] = {
    **WINDOWS,
    **SHAPES,
    **_UNARY,
    **{f"_{name}_scalar": with_scalar(function) for name, function in _SCALAR.items()},
    **{f"broadcast_{name}": function for name, function in _ARITHMETIC.items()},
    **{f"elemwise_{name}": _ARITHMETIC[name] for name in ("add", "sub", "mul", "div")},
    **{
        f"_{name}": _ARITHMETIC[name]
        for name in ("maximum", "minimum", "power", "hypot", *_COMPARISONS)
    },
    "Activation": activation,
    "LeakyReLU": leaky,
    "SoftmaxActivation": softmax_activation,
    "add_n": lambda *xs: reduce(torch.add, xs),
    "batch_dot": batch_dot,
    "clip": clip,
    "dot": dot,
    "hard_sigmoid": hard_sigmoid,
    "log_softmax": softmax(F.log_softmax),
    "max": reduction(torch.amax),
    "mean": reduction(torch.mean),
    "min": reduction(torch.amin),
    "nansum": reduction(torch.nansum),
    "norm": norm,
    "prod": reduction(product),
    "smooth_l1": smooth_l1,
    "softmax": softmax(F.softmax),
    "softmin": softmax(F.softmax, -1),
    "sum": reduction(torch.sum),
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
}
"""By the names of `engine.models.symbol_operators`; SliceChannel gives several tensors."""

_UNUSED = frozenset(  # what changes no number here, or follows from the inputs
    {
        *("cudnn_off", "cudnn_tune", "workspace", "layout", "momentum", "use_global_stats"),
        *("num_args", "num_filter", "num_hidden", "no_bias", "output_mean_var", "is_int"),
        *("dtype", "out_dtype", "use_length", "forward_stype", "sample_type", "multi_input_mode"),
        *("lower_bound", "upper_bound"),
    }
)


def attributes_of(node: Node) -> dict[str, Any]:
    """The attributes of a node that its function takes, as Python holds them."""
    op = "Convolution" if node.op in FUSED else node.op
    names = (node.attrs.keys() & KNOWN[op].keys()) - _UNUSED
    return {name: value(op, node.attrs, name, None) for name in names}


def require_operators(graph: Graph, name: str) -> None:
    """Refuse a network with an operator that is not in the table.

    Raises
    ------
    ConfigError
        It names the operators.
    """
    operators = [n for n in graph.nodes[::-1] if n.op != VARIABLE]
    missing = {n.op: n.name for n in operators if n.op not in OPERATORS}  # the first of each
    if missing:
        found = ", ".join(f"{op} {node!r}" for op, node in missing.items())
        raise ConfigError(
            f"--runtime torch: {name} has operators that it lacks: {found}; use --runtime mxnet"
        )
