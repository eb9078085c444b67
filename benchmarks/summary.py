"""The report of `make bench` and `make bench-peers`, and the tables of docs/benchmarks.md.

    python -m benchmarks.summary [--docs]

Reads build/bench.json (from end_to_end.py and test_methods.py) and writes build/bench.md and
build/bench.png; `--docs` puts the tables between their marks in docs/benchmarks.md, and the plot
beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FIGURES, REPORT = Path("build/bench.json"), Path("build/bench.md")
PLOT, PAGE = Path("docs/end-to-end.png"), Path("docs/benchmarks.md")
TITLES = {
    "resnet50": "ResNet-50",
    "resnet50_v1": "ResNet-50",
    "vgg16": "VGG16",
    "efficientnet_lite0": "EfficientNet-Lite0",
}
CAM_TOOLS = ("pytorch-grad-cam", "torchcam")
TOOLS = {"pytorch-grad-cam": "#c2773a", "torchcam": "#8a8f98", "onnxruntime": "#5e8c61"}
LABELS = {"pytorch-grad-cam": "pytorch-\ngrad-cam"}
OURS = {"fp32": "#3b6ea5", "int8": "#1d3f66"}

Rounds = list[dict[str, Any]]


def by(rounds: Rounds, key: str) -> Iterator[tuple[str, Rounds]]:
    """The rounds of each network, in their order."""
    for name in dict.fromkeys(turn[key] for turn in rounds):
        yield name, [turn for turn in rounds if turn[key] == name]


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and the range if there are several."""
    text = f"{median(values):{form}}"
    if len(values) > 1:
        text += f" ({min(values):{form}} to {max(values):{form}})"
    return text


def best(rates: dict[str, float]) -> float:
    """Of a peer's batch sizes the fastest."""
    return max(rates.values())


def peers_table(rounds: Rounds) -> list[str]:
    """Images/s, the share of the limit, and ratios to the peers."""
    lines = [
        "| JPEG photographs to HDF5 maps, Grad-CAM | images/s | of what decoding and forward "
        "passes allow | over pytorch-grad-cam | over torchcam | over onnxruntime | over these with "
        "batches of 32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for network, turns in by(rounds, "network"):
        for precision in OURS:
            rates = [turn[precision]["rate"] for turn in turns]
            reached = [100 * turn[precision]["reached"] for turn in turns]
            cells = [spread(rates, ".1f"), spread(reached, ".0f") + " %"]
            same = []
            for tool in TOOLS:
                run = [turn for turn in turns if tool in turn]
                over = [turn[precision]["rate"] / best(turn[tool]) for turn in run]
                cells.append(f"{spread(over)}x" if run else "")
                if run:
                    same.append(median(turn[precision]["rate"] / turn[tool]["32"] for turn in run))
            cells.append(", ".join(f"{ratio:.1f}x" for ratio in same))
            lines.append(f"| {TITLES[network]}, {precision} | " + " | ".join(cells) + " |")
        for tool in TOOLS:
            if tool in turns[0]:
                each = [
                    f"{spread([turn[tool][batch] for turn in turns], '.1f')} with {batch}"
                    for batch in turns[0][tool]
                ]
                lines.append(f"| {TITLES[network]}, {tool} | {', '.join(each)} | | | | | |")
    return lines


def ratio_table(rounds: Rounds, title: str, ratios: dict[str, tuple[str, str]]) -> list[str]:
    """Medians of ratios within rounds, a column for each network."""
    names = [name for name, _ in by(rounds, "model")]
    lines = [f"| {title} | " + " | ".join(TITLES[name] for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for label, (above, below) in ratios.items():
        cells = [
            spread([turn[above] / turn[below] for turn in turns], ".3f")
            for _, turns in by(rounds, "model")
        ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def costs_table(costs: dict[str, dict[str, float]]) -> list[str]:
    """What each CAM method costs, in forward passes of the same library and network."""
    columns = {
        key: title
        for ours, theirs in (("resnet50_v1", "resnet50"), ("vgg16", "vgg16"))
        for key, title in (
            (ours, TITLES[ours]),
            *((f"{theirs} {tool}", tool) for tool in CAM_TOOLS),
        )
    }
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, found in costs.items():
        cells = (f"{found[key]:.3g}x" if key in found else "" for key in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def growth_table(rounds: Rounds) -> list[str]:
    """Cost per image of a small and of a large set, and memory over the large one."""
    lines = ["| EfficientNet-Lite0 | |", "|---|---|"]
    for turn in rounds:
        few, many = median(turn["1000"]), turn["20000"]
        lines.append(
            f"| images/s with 1,000 images, before and after | {spread(turn['1000'], '.1f')} |"
        )
        lines.append(f"| with 20,000 | {many:.1f} |")
        lines.append(f"| cost of an image, 20,000 over 1,000 | {few / many:.3f} |")
        for name, (first, last, peak) in turn["megabytes"].items():
            lines.append(
                f"| memory of {name.rstrip('0123456789')}, MB: first, last, peak | "
                f"{first:.0f}, {last:.0f}, {peak:.0f} |"
            )
    return lines


def tables(results: dict[str, Any]) -> dict[str, list[str]]:
    """Every table that there are figures for, by the name of its mark."""
    made = {}
    for part, title, ratios in (
        (
            "workers",
            "two cores, images/s over images/s",
            {
                "two workers of one core / one worker": ("all", "one"),
                "Ray, one worker of two cores / no Ray": ("ray", "local"),
                "two workers of one core / no Ray, two threads": ("all", "local"),
            },
        ),
        (
            "saving",
            "images/s over images/s with maps alone",
            {
                "and activations, codec none": ("none", "maps"),
                "and activations, gzip (default)": ("gzip", "maps"),
            },
        ),
    ):
        if part in results:
            made[part] = ratio_table(results[part]["rounds"], title, ratios)
    if "peers" in results:
        made["peers"] = peers_table(results["peers"]["rounds"])
    if "methods" in results:
        made["costs"] = costs_table(results["methods"]["costs"])
    if "growth" in results:
        made["growth"] = growth_table(results["growth"]["rounds"])
    return made


def draw(rounds: Rounds, title: str, place: Path) -> None:
    """Bars: images per second of each tool, and the limit of ours as a line above."""
    networks = list(by(rounds, "network"))
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (network, turns) in zip(figure.subplots(1, len(networks)), networks, strict=True):
        rates = {tool: [best(turn[tool]) for turn in turns] for tool in TOOLS if tool in turns[0]}
        rates |= {f"shardcam {p}": [turn[p]["rate"] for turn in turns] for p in OURS}
        colours = [TOOLS[tool] for tool in rates if tool in TOOLS] + [*OURS.values()]
        middle = [median(values) for values in rates.values()]
        low = [value - min(values) for value, values in zip(middle, rates.values(), strict=True)]
        high = [max(values) - value for value, values in zip(middle, rates.values(), strict=True)]
        bars = axes.bar(list(rates), middle, color=colours, yerr=[low, high], capsize=3, width=0.7)
        texts = [f"{value:.1f}" for value in middle]
        theirs = len(rates) - len(OURS)
        axes.bar_label(bars, texts[:theirs] + [""] * len(OURS), padding=3, fontsize=9)
        inside = [""] * theirs + texts[theirs:]
        axes.bar_label(bars, inside, label_type="center", color="white", fontsize=9)
        for at, precision in enumerate(OURS, theirs):
            limit = median(t[precision]["rate"] / t[precision]["reached"] for t in turns)
            axes.plot([at - 0.35, at + 0.35], [limit, limit], color="#222222", lw=1, ls=":")
        axes.set_title(TITLES[network], fontsize=11)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xticks(
            np.arange(len(rates)), [LABELS.get(name, name.replace(" ", "\n")) for name in rates]
        )
        axes.set_ylabel("images per second")
        axes.margins(y=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(place, dpi=130)


def heading(machine: dict[str, Any]) -> str:
    """Hardware and versions on one line."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{machine['cores']} cores of {machine['processor']}; {versions}"


def put(page: str, mark: str, lines: list[str]) -> str:
    """Replace what stands between `<!-- mark -->` and `<!-- end -->`."""
    body = "\n".join(lines)
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
    found, count = re.subn(pattern, lambda m: f"{m[1]}{body}\n{m[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{PAGE}: {count} places marked {mark}")
    return found


@click.command()
@click.option("--docs", is_flag=True, help="Put the tables into docs/benchmarks.md as well.")
def main(docs: bool) -> None:
    """Write the report, the plot, and the tables of the page."""
    results = json.loads(FIGURES.read_text())
    text, page = ["# From files to maps"], PAGE.read_text()
    for part, lines in tables(results).items():
        machine = heading(results[part]["machine"])
        text += ["", f"## {part}", "", machine, "", *lines]
        if docs:
            page = put(page, part, [*lines, "", f"*{machine}*"])
        if part == "peers":
            place = PLOT if docs else REPORT.with_suffix(".png")
            draw(results[part]["rounds"], machine.partition(";")[0], place)
    REPORT.write_text("\n".join(text) + "\n")
    PAGE.write_text(page)
    click.echo(f"{REPORT}, and its plot")


if __name__ == "__main__":
    main()
