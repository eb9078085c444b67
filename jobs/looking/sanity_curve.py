"""The curve of a sanity check: how alike maps stay as weights are lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from shardcam.engine.evaluation.sanity_checks import SanityStep
from shardcam.engine.io.whole_file import whole_file

CURVES = {
    "spearman": "Spearman",
    "spearman_abs": "Spearman of absolute values",
    "ssim": "SSIM",
}
_LONGEST = 24  # letters of a layer's name


def draw_sanity_curve(steps: Sequence[SanityStep], path: Path) -> None:
    """Draw means and 95 % intervals, of each layer that is explained, into a PNG file."""
    layers = steps[0].comparison.layers
    width = 1.6 + 0.8 * (len(steps) + 1)
    figure = Figure(figsize=(width, 4.2 * len(layers)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(layers), 1, squeeze=False)[:, 0]
    names = ["trained", *(_short(f"{one.layer}") for one in steps)]
    places = np.arange(len(names))
    for number, (axis, layer) in enumerate(zip(axes, layers, strict=True)):
        for measure, words in CURVES.items():
            found = [one.comparison.layers[number].figures[measure] for one in steps]
            means = np.array([1.0, *(figure.value for figure in found)])
            low, high = (
                np.array([1.0, *(getattr(figure, side) for figure in found)])
                for side in ("low", "high")
            )
            axis.plot(places, means, marker="o", label=words)
            axis.fill_between(places, low, high, alpha=0.2)
        axis.axhline(0, color="grey", linewidth=0.5)
        axis.set_ylim(min(-0.2, axis.get_ylim()[0]), 1.05)
        axis.set_xticks(places, names, rotation=45, ha="right", fontsize=8)
        axis.set_xlabel("weights are random from here to the logits")
        axis.set_ylabel("likeness to the trained network's maps")
        axis.set_title(f"maps of {_short(layer.layer)}", fontsize=10)
    axes[0].legend(fontsize=8)
    with whole_file(path) as stream:
        figure.savefig(stream, format="png", dpi=120)


def _short(name: str) -> str:
    text = name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]
    return text.replace("$", r"\$")
