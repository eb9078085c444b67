"""What MXNet does not check, or checks too late, of an operator and what it reads.

MXNet divides by what is zero, reads beyond what is too short, and mixes the images of a batch where
it is told to. Each rule here looks at one kind of operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from shardcam.engine.errors import ModelError
from shardcam.engine.models.graph import Node
from shardcam.engine.models.graph_forms import LOSSES
from shardcam.engine.models.symbol_operators import value

Shape = tuple[int, ...]
MIXES = "it would mix the images of a batch; leave the first axis as it is (0 in a Reshape)"


@dataclass(frozen=True)
class Use:
    """An operator with what it reads."""

    node: Node
    shapes: Sequence[Shape]  # () of a weight that is not known yet
    images: Sequence[bool]  # which inputs depend on the images

    @property
    def x(self) -> Shape:
        """Shape of the first input."""
        return self.shapes[0]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or MXNet's default."""
        return value(self.node.op, self.node.attrs, name, default)

    def axes(self, name: str, default: Any = None, more: int = 0) -> tuple[int, ...]:
        """Axes that an attribute lists, counted from the front: they exist, and none is the batch.

        `more` axes are there afterwards.
        """
        given, rank = self.get(name, default), len(self.x) + more
        listed = (given,) if isinstance(given, int) else tuple(given or ())
        require(all(-rank <= a < rank for a in listed), f"{name}={listed}, but it has {rank} axes")
        axes = tuple(a % rank for a in listed)
        require(len(set(axes)) == len(axes), f"{name}={listed} names one axis twice")
        require(not any(self.images) or 0 not in axes, MIXES)
        return axes


def require(fits: object, otherwise: str) -> None:
    """Refuse what does not fit."""
    if not fits:
        raise ModelError(otherwise)


def check_use(use: Use) -> None:
    """Refuse a use of an operator that MXNet would not survive, or that mixes images.

    Raises
    ------
    ModelError
        It says why.
    """
    if not use.x:
        raise ModelError("the shape of its first input does not follow; give --params FILE")
    if use.node.op in RULES:
        RULES[use.node.op](use)


def _windows(use: Use, names: Iterable[str]) -> list[tuple[int, ...]]:
    """For each spatial axis its size, the kernel, and the named attributes."""
    kernel, sizes = use.get("kernel", ()), use.x[2:]
    lists = [sizes, kernel, *(use.get(name) or (_DEFAULTS[name],) * len(sizes) for name in names)]
    require(
        1 <= len(sizes) <= 3 and all(len(one) == len(sizes) for one in lists),
        f"kernel={kernel}, or what belongs to it, does not fit {use.x}",
    )
    return list(zip(*lists, strict=True))


_DEFAULTS = {"stride": 1, "dilate": 1, "pad": 0, "adj": 0}


def _convolution(use: Use) -> None:
    for size, kernel, _, dilate, pad in _windows(use, ("stride", "dilate", "pad")):
        require((kernel - 1) * dilate < size + 2 * pad, f"its kernel does not fit {use.x}")
    _groups(use)


def _deconvolution(use: Use) -> None:
    names = ("stride", "dilate", "pad", "adj")
    for size, kernel, stride, dilate, pad, more in _windows(use, names):
        made = stride * (size - 1) + (kernel - 1) * dilate + 1 - 2 * pad + more
        require(made > 0 and more < max(stride, dilate), "nothing is left of it after padding")
    _groups(use)


def _groups(use: Use) -> None:
    groups, filters = use.get("num_group", 1), use.get("num_filter")
    require(
        not use.x[1] % groups and not filters % groups,
        f"num_group={groups} does not divide {use.x[1]} channels and {filters} filters",
    )


def _pooling(use: Use) -> None:
    if use.get("global_pool", False):
        rank = len(use.get("kernel", ()))
        require(3 <= len(use.x) <= 5 and rank in (0, len(use.x) - 2), f"{use.x} has no pixels")
        return
    for size, kernel, _, pad in _windows(use, ("stride", "pad")):
        require(pad < kernel <= size + 2 * pad, f"kernel and pad do not fit {use.x}")


def _dense(use: Use) -> None:
    require(len(use.x) > 1, f"{use.x} is no vector for each image")


def _norm_of_groups(use: Use) -> None:
    groups = use.get("num_groups", 1)
    require(len(use.x) > 2 and not use.x[1] % groups, f"num_groups={groups} does not fit {use.x}")


def _image(use: Use) -> None:
    require(len(use.x) == 4, f"{use.x} is no image")


def _channels(use: Use) -> None:
    require(len(use.x) > 2, f"{use.x} has no pixels")


def _length(use: Use) -> None:
    least = 2 if use.get("mode", "instance") == "instance" else 3
    require(len(use.x) >= least, f"{use.x} has no pixels")


def _response_norm(use: Use) -> None:
    _image(use)
    require(use.get("nsize") % 2, f"nsize={use.get('nsize')} is not odd")


def _leaky(use: Use) -> None:
    if use.get("act_type") == "prelu":
        fits = len(use.x) > 1 and use.shapes[1] in ((), (1,), use.x[1:2])
        require(fits, f"a slope of {use.shapes[1]} does not fit {use.x}")


def _concatenation(name: str, default: int) -> Callable[[Use], None]:
    def rule(use: Use) -> None:
        use.axes(name, default)
        require(all(len(s) == len(use.x) for s in use.shapes), "its inputs differ in rank")

    return rule


def _stack(use: Use) -> None:
    use.axes("axis", 0, more=1)
    require(set(use.shapes) == {use.x}, "its inputs differ in shape")


def _along(name: str, default: int | None = None, more: int = 0) -> Callable[[Use], None]:
    def rule(use: Use) -> None:
        require(use.axes(name, default, more), f"it needs {name}")

    return rule


def _reshape(use: Use) -> None:
    names = ("shape", "reverse", "target_shape", "keep_highest")
    made = reshaped(use.x, **{name: use.get(name) for name in names if name in use.node.attrs})
    require(prod(made) == prod(use.x), f"{use.x} does not fit its shape; {MIXES}")


def reshaped(
    x: Shape,
    shape: Sequence[int] = (),
    reverse: bool = False,
    target_shape: Sequence[int] = (),
    keep_highest: bool = False,
) -> Shape:
    """What Reshape's attributes make of a shape.

    Raises
    ------
    ModelError
        They do not fit it.
    """
    if shape:
        require(not reverse or -4 not in shape, "shape=-4 with reverse is not supported")
        made = _reshaped(shape[::-1] if reverse else shape, x[::-1] if reverse else x)
        return tuple(made[::-1] if reverse else made)
    made = list(target_shape)
    require(made, "it needs a shape")
    if keep_highest:
        made[0] = x[0]
    known = prod(n for n in made if n)
    return tuple(n or prod(x) // known for n in made)


def _reshaped(codes: Sequence[int], shape: Shape) -> list[int]:
    """What MXNet's codes make of a shape; see the documentation of its Reshape."""
    made: list[int] = []
    left, codes = list(shape), list(codes)
    while codes:
        code = codes.pop(0)
        if code == -2:
            made += left
            left = []
        elif code == -4:
            require(len(codes) > 1 and left, "shape=-4 does not fit it")
            first, second = codes.pop(0), codes.pop(0)
            made += _factors(left.pop(0), first, second)
        elif code == -3:
            require(len(left) > 1, "shape=-3 does not fit it")
            made.append(left.pop(0) * left.pop(0))
        elif code == 0:
            require(left, f"its shape copies more axes than {shape} has")
            made.append(left.pop(0))
        else:
            made.append(code)
            left = left[1:]
    known = prod(n for n in made if n > 0)
    require(made.count(-1) < 2, "its shape has more than one -1")
    return [prod(shape) // known if n == -1 else n for n in made]


def _factors(size: int, first: int, second: int) -> tuple[int, int]:
    """The two axes that one is split into; -1 is what the other leaves."""
    require(max(first, second) > 0 and min(first, second) != 0, "shape=-4 does not fit it")
    first, second = (
        first if first > 0 else size // second,
        second if second > 0 else size // first,
    )
    require(first * second == size, f"shape=-4 splits {size} into {first} and {second}")
    return first, second


def _transpose(use: Use) -> None:
    rank = len(use.x)
    axes = tuple(use.get("axes") or range(rank)[::-1])
    order = [a + rank if a < 0 else a for a in axes]
    require(sorted(order) == [*range(rank)], f"axes={axes} does not order {rank} axes")
    require(not use.images[0] or order[0] == 0, MIXES)


def _swap(use: Use) -> None:
    first, second = use.get("dim1", 0), use.get("dim2", 0)
    if first != second:
        use.axes("dim1", 0)
        use.axes("dim2", 0)


def _squeeze(use: Use) -> None:
    axes = use.axes("axis")
    require(axes, "it needs axis, or a batch of one image loses its first axis")
    require(all(use.x[a] == 1 for a in axes), f"axes {axes} of {use.x} are not all of length 1")


def _split(use: Use) -> None:
    (axis,), count = use.axes("axis", 1), use.get("num_outputs", 1)
    size, left = divmod(use.x[axis], count)
    fits = not left and (size == 1 or not use.get("squeeze_axis", False))
    require(fits, f"num_outputs={count} does not fit {use.x}")


def _slice(use: Use) -> None:
    begin, end = use.get("begin"), use.get("end")
    step = use.get("step") or (None,) * len(begin)
    require(
        len(begin) == len(end) == len(step) <= len(use.x) and 0 not in step,
        "begin, end and step do not fit one another",
    )
    parts = [slice(*one) for one in zip(begin, end, step, strict=True)]
    require(all(range(n)[part] for n, part in zip(use.x, parts, strict=False)), "nothing is left")
    first = parts[0] if parts else slice(None)
    whole = first.start in (None, 0) and first.stop is None and first.step in (None, 1)
    require(whole or not use.images[0], "it takes a part of the batch")


def _slice_axis(use: Use) -> None:
    (axis,) = use.axes("axis")
    require(range(use.x[axis])[use.get("begin") : use.get("end")], "nothing is left of it")


def _slice_like(use: Use) -> None:
    axes, like = use.axes("axes"), use.shapes[1]
    require(axes or all(use.images) or not any(use.images), MIXES)
    require(
        all(a < len(like) and like[a] <= use.x[a] for a in axes or range(len(use.x))),
        f"{use.x} is not cut to {like}",
    )


def _broadcast_axis(use: Use) -> None:
    axes, sizes = use.axes("axis"), use.get("size", ())
    fits = len(axes) == len(sizes) and all(use.x[a] == 1 for a in axes)
    require(fits, f"axis and size do not fit {use.x}")


def _take(use: Use) -> None:
    use.axes("axis", 0)
    require(not use.images[1] and use.shapes[1], "what it takes depends on the images")


def _tile(use: Use) -> None:
    reps = use.get("reps")
    require(len(reps) <= len(use.x), f"reps={reps} for {use.x}")
    require(not use.images[0] or len(reps) < len(use.x) or reps[0] == 1, MIXES)


def _reduction(use: Use) -> None:
    given = use.get("axis") or ()
    rank = len(use.x)
    require(all(-rank <= a < rank for a in given), f"axis={given}, but it has {rank} axes")
    axes = {a % rank for a in given}
    require(len(axes) == len(given), f"axis={given} names one axis twice")
    reduced = set(range(rank)) - axes if use.node.op != "norm" and use.get("exclude") else axes
    require(not use.images[0] or (reduced and 0 not in reduced), MIXES)


def _product(use: Use) -> None:
    require(use.shapes[1] and not use.images[1] and not use.get("transpose_a", False), MIXES)


def _product_of_batches(use: Use) -> None:
    require(all(len(shape) == 3 for shape in use.shapes), "its inputs do not have three axes")


def _pad(use: Use) -> None:
    widths, size = use.get("pad_width"), use.x
    fits = len(size) in (4, 5) and len(widths) == 2 * len(size) and not any(widths[:4])
    require(fits, f"pad_width={widths} of {size}: pixels can be padded, nothing else")
    inside = all(max(widths[2 * i : 2 * i + 2]) < n for i, n in enumerate(size))
    require(use.get("mode") != "reflect" or inside, f"reflection is wider than {size}")


def _to_space(use: Use) -> None:
    _image(use)
    block = use.get("block_size")
    require(not use.x[1] % block**2, f"block_size={block} does not fit {use.x}")


def _to_depth(use: Use) -> None:
    _image(use)
    block = use.get("block_size")
    require(not use.x[2] % block and not use.x[3] % block, f"block_size={block} and {use.x}")


def _loss(use: Use) -> None:
    raise ModelError("it is inside of the network; the loss may only be its end")


RULES: dict[str, Callable[[Use], None]] = {
    **dict.fromkeys(("sum", "mean", "max", "min", "prod", "nansum", "norm"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax", "softmin", "LayerNorm"), _along("axis", -1)),
    **dict.fromkeys(("UpSampling", "_contrib_BilinearResize2D"), _image),
    "InstanceNorm": _channels,
    "L2Normalization": _length,
    **dict.fromkeys(("repeat", "reverse"), _along("axis")),
    **dict.fromkeys(LOSSES, _loss),
    "BatchNorm": _along("axis", 1),
    "Concat": _concatenation("dim", 1),
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "FullyConnected": _dense,
    "GroupNorm": _norm_of_groups,
    "LRN": _response_norm,
    "LeakyReLU": _leaky,
    "Pad": _pad,
    "Pooling": _pooling,
    "Reshape": _reshape,
    "SliceChannel": _split,
    "SoftmaxActivation": _dense,
    "SwapAxis": _swap,
    "_contrib_AdaptiveAvgPooling2D": _image,
    "_npi_concatenate": _concatenation("axis", 0),
    "batch_dot": _product_of_batches,
    "broadcast_axis": _broadcast_axis,
    "depth_to_space": _to_space,
    "dot": _product,
    "expand_dims": _along("axis", more=1),
    "slice": _slice,
    "slice_axis": _slice_axis,
    "slice_like": _slice_like,
    "space_to_depth": _to_depth,
    "squeeze": _squeeze,
    "stack": _stack,
    "take": _take,
    "tile": _tile,
    "transpose": _transpose,
}
