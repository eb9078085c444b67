"""torchvision's weight names for the architectures that Gluon's zoo has exactly alike.

A file need not list its tensors in the order of the layers (.safetensors sorts them by
name), so the order is recovered from the names; both sides are then matched in order.
"""

from __future__ import annotations

import re

# Of the same architecture, layer for layer.
SAME = (
    "alexnet",
    *(f"densenet{n}" for n in (121, 161, 169, 201)),
    *(f"resnet{n}_v1" for n in (18, 34)),
    "squeezenet1.0",
    "squeezenet1.1",
    *(f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")),
)
_GLUON_PARTS = {  # the last part of a torch name: what Gluon calls it
    "weight": ("weight", "gamma"),
    "bias": ("bias", "beta"),
    "running_mean": ("running_mean",),
    "running_var": ("running_var",),
}
_RANKS = {
    name: rank
    for names in (
        ("conv", "bn", "layer", "downsample"),  # ResNet
        ("conv", "norm", "denseblock", "transition"),  # DenseNet
        ("squeeze", "expand1x1", "expand3x3"),  # SqueezeNet
        ("features", "classifier", "fc"),
        tuple(_GLUON_PARTS),
    )
    for rank, name in enumerate(names)
}
_NORM_FIRST = ("denselayer", "transition")  # DenseNet normalises before it convolves
_UNNUMBERED = 1000


def matched(theirs: list[str], own: list[str]) -> dict[str, str] | None:
    """Gluon's name of each weight: torchvision's; None if the layers are not alike."""
    ordered = sorted(
        (name for name in theirs if not name.endswith("num_batches_tracked")), key=_definition_order
    )
    pairs = dict(zip(own, ordered, strict=False))
    alike = all(o.endswith(_GLUON_PARTS.get(t.rpartition(".")[2], ())) for o, t in pairs.items())
    return pairs if alike and len(ordered) == len(own) else None


def _definition_order(name: str) -> list[tuple[int, int]]:
    """A key that sorts names as the layers are defined: by number, then by kind."""
    parts = name.split(".")
    return [
        _place(part, parts[i - 1].startswith(_NORM_FIRST) if i else False)
        for i, part in enumerate(parts)
    ]


def _place(part: str, norm_first: bool) -> tuple[int, int]:
    if part in _RANKS:
        numbered = norm_first  # transitions have one norm and one conv, without numbers
        rank = -1 if norm_first and part == "norm" else _RANKS[part]
        return (0 if numbered else _UNNUMBERED, rank)
    kind, number = re.fullmatch(r"(.*?)(\d*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
    rank = -1 if norm_first and kind == "norm" else _RANKS.get(kind, 0)
    return (int(number) if number else _UNNUMBERED, rank)
