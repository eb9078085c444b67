"""The operators that a symbol file may use, and what each attribute of theirs may say.

MXNet believes a symbol file: some operators take the number in an attribute for a pointer or read
files, others crash where a number is zero or huge. So only what is listed here reaches it:
the operators of convolutional classifiers, with attributes that are read and bounded.
`engine.models.symbol_shapes` then looks at how they fit together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shardcam.engine.errors import ModelError

MAX_SIDE = 2**15  # of a window, a stride, a padding; repetitions of an axis
MAX_UNITS = 2**20  # filters, groups, units of a dense layer, numbers along an axis
MAX_INPUTS = 1000  # of one operator
_LONGEST = 2**10  # letters of an attribute

Attributes = Mapping[str, str]


@dataclass(frozen=True)
class _Kind:
    """What an attribute holds, and how it is read; ValueError where it holds something else."""

    says: str
    read: Callable[[str], Any]


_INTEGER = re.compile(r"-?(0|[1-9]\d{0,9})")
_REAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?|-?inf")
_LONG = re.compile(r"\b(\d+)L\b")
_FLAGS = {"True": True, "1": True, "False": False, "0": False}


def _whole(low: int, high: int) -> _Kind:
    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return _Kind(f"a whole number from {low} to {high}", read)


def _several(low: int, high: int, none: bool = False, least: int = 0) -> _Kind:
    """A tuple or list of at least so many whole numbers, or one; with `none`, None among them."""
    one = _whole(low, high).read

    def read(text: str) -> tuple[int | None, ...]:
        inner = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
        parts = [part.strip() for part in inner.removesuffix(",").split(",")] if inner else []
        if not least <= len(parts) <= 16:
            raise ValueError
        return tuple(None if none and part == "None" else one(part) for part in parts)

    return _Kind(f"whole numbers from {low} to {high}", read)


def _choice(*names: str) -> _Kind:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return _Kind(f"one of {', '.join(names)}", read)


def _flag(text: str) -> bool:
    if text not in _FLAGS:
        raise ValueError
    return _FLAGS[text]


def _number(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise ValueError
    return float(text)


def _or_none(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.says}, or None", lambda text: None if text == "None" else kind.read(text))


def _shape(text: str) -> str:
    """Of a variable. What it means is for its reader."""
    if not re.fullmatch(r"[\w\s,()\[\]-]*", text) or re.search(r"\d{11}", text):
        raise ValueError
    return text


_FLAG, _NUMBER = _Kind("True or False", _flag), _Kind("a number", _number)
_NEVER = _Kind("False, the only supported value", _choice("False", "0", "None").read)
_AXIS, _AXES, _UNITS = _whole(-8, 7), _several(-8, 7), _whole(1, MAX_UNITS)
_SIDES, _PLACE = _several(1, MAX_SIDE), _whole(-MAX_UNITS, MAX_UNITS)
_PLACES = _several(-MAX_UNITS, MAX_UNITS, none=True)
_SPEED = {
    "workspace": _whole(0, MAX_UNITS),
    "cudnn_tune": _choice("None", "off", "limited_workspace", "fastest"),
    "cudnn_off": _or_none(_FLAG),
}
_LAYOUT = {"layout": _choice("None", "NCW", "NCHW", "NCDHW")}
_CONVOLUTION = {
    "kernel": _several(1, MAX_SIDE, least=1),
    "stride": _SIDES,
    "dilate": _SIDES,
    "pad": _several(0, MAX_SIDE),
    "num_filter": _UNITS,
    "num_group": _UNITS,
    "no_bias": _FLAG,
    **_SPEED,
    **_LAYOUT,
}
_SOFTMAX = {
    "axis": _AXIS,
    "temperature": _or_none(_NUMBER),
    "dtype": _choice("None", "float32"),
    "use_length": _NEVER,
}
_REDUCTION = {"axis": _or_none(_AXES), "keepdims": _FLAG, "exclude": _FLAG}
_PRODUCT = {"transpose_a": _FLAG, "transpose_b": _FLAG, "forward_stype": _choice("None", "default")}
_COUNT = {"num_args": _whole(1, MAX_INPUTS)}
_SCALAR = {"scalar": _NUMBER, "is_int": _FLAG}
_REGRESSIONS = ("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput")

_UNARY = (
    *("BlockGrad", "Flatten", "_contrib_div_sqrt_dim", "_copy", "abs", "arccos", "arccosh"),
    *("arcsin", "arcsinh", "arctan", "arctanh", "cbrt", "ceil", "cos", "cosh", "erf", "exp"),
    *("expm1", "fix", "floor", "log", "log10", "log1p", "log2", "make_loss", "negative"),
    *("ones_like", "rcbrt", "reciprocal", "relu", "rint", "round", "rsqrt", "sigmoid", "sign"),
    *("sin", "sinh", "softsign", "sqrt", "square", "tan", "tanh", "trunc", "zeros_like"),
)
_COMPARISONS = ("equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal")
_ARITHMETIC = ("plus", "minus", "rminus", "mul", "div", "rdiv", "power", "rpower")
_BINARY = (
    *(f"elemwise_{kind}" for kind in ("add", "sub", "mul", "div")),
    *(f"_{kind}" for kind in ("maximum", "minimum", "power", "hypot", *_COMPARISONS)),
    *(
        f"broadcast_{kind}"
        for kind in ("add", "sub", "mul", "div", "power", "maximum", "minimum", "hypot")
    ),
    *(f"broadcast_{kind}" for kind in _COMPARISONS),
)

OPERATORS: dict[str, dict[str, _Kind]] = {
    **{op: {} for op in (*_UNARY, *_BINARY, "where")},
    **{
        f"_{kind}_scalar": _SCALAR
        for kind in (*_ARITHMETIC, "maximum", "minimum", "hypot", *_COMPARISONS)
    },
    **dict.fromkeys(("sum", "mean", "max", "min", "prod", "nansum"), _REDUCTION),
    "Activation": {"act_type": _choice("relu", "sigmoid", "softrelu", "softsign", "tanh")},
    "BatchNorm": {
        "eps": _NUMBER,
        "momentum": _NUMBER,
        "fix_gamma": _FLAG,
        "use_global_stats": _FLAG,
        "output_mean_var": _NEVER,
        "axis": _AXIS,
        "cudnn_off": _or_none(_FLAG),
    },
    "Cast": {"dtype": _choice("float32")},
    "Concat": {"dim": _AXIS, **_COUNT},
    "Convolution": _CONVOLUTION,
    "Deconvolution": {**_CONVOLUTION, "adj": _several(0, MAX_SIDE), "target_shape": _several(0, 0)},
    "Dropout": {
        "p": _NUMBER,
        "mode": _choice("training", "always"),
        "axes": _AXES,
        "cudnn_off": _or_none(_FLAG),
    },
    "FullyConnected": {"num_hidden": _UNITS, "no_bias": _FLAG, "flatten": _FLAG},
    "GroupNorm": {"num_groups": _UNITS, "eps": _NUMBER, "output_mean_var": _NEVER},
    "InstanceNorm": {"eps": _NUMBER},
    "L2Normalization": {"eps": _NUMBER, "mode": _choice("instance", "channel", "spatial")},
    "LRN": {"nsize": _whole(1, MAX_SIDE), "alpha": _NUMBER, "beta": _NUMBER, "knorm": _NUMBER},
    "LayerNorm": {"axis": _AXIS, "eps": _NUMBER, "output_mean_var": _NEVER},
    "LeakyReLU": {
        "act_type": _choice("leaky", "prelu", "elu", "selu", "gelu"),
        "slope": _NUMBER,
        "lower_bound": _NUMBER,
        "upper_bound": _NUMBER,
    },
    "Pad": {
        "mode": _choice("constant", "edge", "reflect"),
        "pad_width": _several(0, MAX_SIDE),
        "constant_value": _NUMBER,
    },
    "Pooling": {
        "kernel": _SIDES,
        "stride": _SIDES,
        "pad": _several(0, MAX_SIDE),
        "pool_type": _choice("max", "avg", "sum", "lp"),
        "pooling_convention": _choice("valid", "full"),
        "global_pool": _FLAG,
        "p_value": _or_none(_whole(1, 3)),
        "count_include_pad": _or_none(_FLAG),
        "cudnn_off": _or_none(_FLAG),
        **_LAYOUT,
    },
    "Reshape": {
        "shape": _several(-4, 2**28),
        "reverse": _FLAG,
        "target_shape": _several(0, 2**28),
        "keep_highest": _FLAG,
    },
    "SliceChannel": {"num_outputs": _COUNT["num_args"], "axis": _AXIS, "squeeze_axis": _FLAG},
    "SoftmaxActivation": {"mode": _choice("instance", "channel")},
    "SoftmaxOutput": {
        **dict.fromkeys(("grad_scale", "ignore_label", "smooth_alpha"), _NUMBER),
        **dict.fromkeys(("multi_output", "use_ignore", "preserve_shape", "out_grad"), _FLAG),
        "normalization": _choice("null", "batch", "valid"),
    },
    **{op: {"grad_scale": _NUMBER} for op in _REGRESSIONS},
    "SVMOutput": {
        **dict.fromkeys(("margin", "regularization_coefficient"), _NUMBER),
        "use_linear": _FLAG,
    },
    "SwapAxis": {"dim1": _AXIS, "dim2": _AXIS},
    "UpSampling": {
        "scale": _whole(1, MAX_SIDE),
        "sample_type": _choice("nearest"),
        "num_filter": _whole(0, MAX_UNITS),
        "multi_input_mode": _choice("concat", "sum"),
        "num_args": _whole(1, 1),
        "workspace": _SPEED["workspace"],
    },
    "_contrib_AdaptiveAvgPooling2D": {"output_size": _SIDES},
    "_contrib_BilinearResize2D": {
        "height": _whole(1, MAX_SIDE),
        "width": _whole(1, MAX_SIDE),
        "mode": _choice("size"),
        "align_corners": _FLAG,
    },
    "_npi_concatenate": {"axis": _AXIS, **_COUNT},
    "add_n": _COUNT,
    "batch_dot": _PRODUCT,
    "broadcast_axis": {"axis": _AXES, "size": _SIDES},
    "broadcast_like": {},
    "broadcast_to": {"shape": _several(0, MAX_UNITS)},
    "clip": {"a_min": _NUMBER, "a_max": _NUMBER},
    "depth_to_space": {"block_size": _whole(1, MAX_SIDE)},
    "dot": _PRODUCT,
    "expand_dims": {"axis": _AXIS},
    "hard_sigmoid": {"alpha": _NUMBER, "beta": _NUMBER},
    "log_softmax": _SOFTMAX,
    "norm": {
        "ord": _whole(1, 2),
        "axis": _or_none(_AXES),
        "keepdims": _FLAG,
        "out_dtype": _choice("None", "float32"),
    },
    "repeat": {"repeats": _whole(1, MAX_SIDE), "axis": _AXIS},
    "reverse": {"axis": _several(0, 7)},
    "slice": {"begin": _PLACES, "end": _PLACES, "step": _PLACES},
    "slice_axis": {"axis": _AXIS, "begin": _PLACE, "end": _or_none(_PLACE)},
    "slice_like": {"axes": _AXES},
    "smooth_l1": {"scalar": _NUMBER},
    "softmax": _SOFTMAX,
    "softmin": _SOFTMAX,
    "space_to_depth": {"block_size": _whole(1, MAX_SIDE)},
    "squeeze": {"axis": _AXES},
    "stack": {"axis": _AXIS, **_COUNT},
    "take": {"axis": _AXIS, "mode": _choice("clip", "wrap")},
    "tile": {"reps": _SIDES},
    "transpose": {"axes": _AXES},
}
"""Operators and their attributes, by the names that MXNet 1.9.1 writes."""

_OLD_NAMES = {
    **{"ElementWiseSum": "add_n", "Softmax": "SoftmaxOutput", "identity": "_copy"},
    **{"flatten": "Flatten", "concat": "Concat", "reshape": "Reshape", "split": "SliceChannel"},
    **{"swapaxes": "SwapAxis", "pad": "Pad", "cast": "Cast", "flip": "reverse", "crop": "slice"},
    **{"stop_gradient": "BlockGrad", "sum_axis": "sum", "max_axis": "max", "min_axis": "min"},
    **{"broadcast_plus": "broadcast_add", "broadcast_minus": "broadcast_sub"},
    **{"broadcast_axes": "broadcast_axis", "_add": "elemwise_add", "_sub": "elemwise_sub"},
    **{"_plus": "elemwise_add", "_minus": "elemwise_sub", "_mul": "elemwise_mul"},
    **{"_div": "elemwise_div", "_Plus": "elemwise_add", "_Minus": "elemwise_sub"},
    **{"_Mul": "elemwise_mul", "_Div": "elemwise_div", "_Maximum": "_maximum"},
    **{"_Minimum": "_minimum", "_Power": "_power", "_PlusScalar": "_plus_scalar"},
    **{"_MinusScalar": "_minus_scalar", "_RMinusScalar": "_rminus_scalar"},
    **{"_MulScalar": "_mul_scalar", "_DivScalar": "_div_scalar", "_RDivScalar": "_rdiv_scalar"},
    **{"_PowerScalar": "_power_scalar", "_RPowerScalar": "_rpower_scalar"},
    **{"_MaximumScalar": "_maximum_scalar", "_MinimumScalar": "_minimum_scalar"},
}

_NOTE = re.compile(r"__\w+__|(\w+_)?(lr_mult|wd_mult)|ctx_group|force_mirroring|mirror_stage")
_INTERNAL = re.compile(r"__(ext_\w+|subgraph_\w+|layout_transform|op|undef)__")
_NOTES = {
    "__shape__": _Kind("a shape", _shape),
    "__dtype__": _whole(-1, 12),
    "__storage_type__": _whole(-1, 2),
    **dict.fromkeys(("__force_mirroring__", "force_mirroring"), _FLAG),
}
_WINDOW = ("kernel", "stride", "dilate", "pad", "adj")
_LISTED = ("Concat", "UpSampling", "_npi_concatenate", "add_n", "stack")  # any number of inputs
_LOSSES = (*_REGRESSIONS, "SVMOutput", "SoftmaxOutput")
_PAIRS = (*_BINARY, *_LOSSES, "batch_dot", "broadcast_like", "dot", "slice_like", "take")
_INPUTS = {
    "null": 0,
    **dict.fromkeys(_PAIRS, 2),
    **dict.fromkeys(("GroupNorm", "InstanceNorm", "LayerNorm", "where"), 3),
    "BatchNorm": 5,
}


def known_name(op: str) -> str:
    """The name that MXNet 1.9.1 has for an operator.

    Raises
    ------
    ModelError
        It is not one of those that a symbol file may use.
    """
    name = _OLD_NAMES.get(op, op)
    if name not in OPERATORS:
        raise ModelError("this operator is not supported: docs/models.md lists those that are")
    return name


def spelled(attrs: Attributes) -> dict[str, str]:
    """Attributes as Python spells them: other languages write ``true``, Python 2 wrote ``3L``."""
    return {
        name: {"true": "True", "false": "False"}.get(text) or _LONG.sub(r"\1", text)
        for name, text in attrs.items()
    }


def check_operator(op: str, attrs: Attributes, inputs: int, upgraded: bool = True) -> None:
    """Refuse attributes and numbers of inputs that an operator does not have.

    Parameters
    ----------
    op
        Name by `known_name`, or ``null`` for a variable.
    attrs
        As `spelled` wrote them.
    inputs
        How many the node has.
    upgraded
        MXNet has been through the file; before 0.9 BatchNorm's states were not in it.

    Raises
    ------
    ModelError
        It names the attribute.
    """
    kinds = OPERATORS.get(op, {})
    for name, text in attrs.items():
        if name in kinds:
            _require(kinds[name], name, text)
        elif _INTERNAL.fullmatch(name) or (op in OPERATORS and not _NOTE.fullmatch(name)):
            raise ModelError(f"its attribute {name[:100]!r} is not supported; leave it out")
        elif name in _NOTES:
            _require(_NOTES[name], name, text)
    if "kernel" in kinds:
        lengths = {
            len(v) for name in _WINDOW if name in kinds and (v := value(op, attrs, name, ()))
        }
        if len(lengths) != 1 and not value(op, attrs, "global_pool", False):
            raise ModelError(f"{', '.join(_WINDOW)} must have one length, as the kernel")
    needed = _input_count(op, attrs)
    without_states = op == "BatchNorm" and inputs == 3 and not upgraded
    if inputs != needed and not without_states:
        raise ModelError(f"it has {inputs} inputs, and needs {needed}")


def value(op: str, attrs: Attributes, name: str, default: Any) -> Any:
    """An attribute as Python holds it."""
    return OPERATORS[op][name].read(attrs[name]) if name in attrs else default


def output_count(op: str, attrs: Attributes) -> int:
    """How many outputs others may read."""
    return int(attrs.get("num_outputs", "1")) if op == "SliceChannel" else 1


def _require(kind: _Kind, name: str, text: str) -> None:
    try:
        if len(text) > _LONGEST:
            raise ValueError
        kind.read(text)
    except ValueError:
        raise ModelError(f"{name}={text[:100]!r} is not {kind.says}") from None


def _input_count(op: str, attrs: Attributes) -> int:
    if op in _LISTED:
        return int(attrs.get("num_args", "1"))
    if op in ("Convolution", "FullyConnected", "Deconvolution"):
        return 2 if value(op, attrs, "no_bias", op == "Deconvolution") else 3
    if op == "LeakyReLU":
        return 1 + (attrs.get("act_type") == "prelu")
    return _INPUTS.get(op, 1)
