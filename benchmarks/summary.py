"""The report of `make bench` and `make bench-peers`, and the tables of the docs.

    python -m benchmarks.summary [--docs]

Reads build/bench.json and writes build/bench.md and build/bench.png; `--docs` puts the tables
between their marks in pages of docs/, and the plots beside them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.figures import FIGURES

REPORT, PLOT = Path("build/bench.md"), Path("docs/end-to-end.png")
PAGE = Path("docs/benchmarks.md")
TITLES = {
    "resnet50": "ResNet-50",
    "resnet50_v1": "ResNet-50",
    "vgg16": "VGG16",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "deit_tiny_patch16_224": "DeiT-tiny",
    "swin_tiny_patch4_window7_224": "Swin-tiny",
}
CAM_TOOLS = ("pytorch-grad-cam", "torchcam")
TOOLS = {  # with their colours
    "pytorch-grad-cam": "#c2773a",
    "torchcam": "#8a8f98",
    "onnxruntime": "#5e8c61",
    "openvino-xai": "#9a6fb0",
    "openvino-xai int8": "#6d4a80",
}
LABELS = {"pytorch-grad-cam": "pytorch-\ngrad-cam", "onnxruntime": "onnx-\nruntime"}
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


def best(found: dict[str, dict[str, float]]) -> float:
    """Of a peer's batch sizes the fastest, images/s."""
    return max(way["rate"] for way in found.values())


def peers_table(rounds: Rounds) -> list[str]:
    """Images/s, the share of the limit, ratios to the peers, and what these take besides."""
    lines = [
        "| JPEG photographs to HDF5 maps, Grad-CAM | images/s | of what decoding and forward "
        "passes allow | fp32 over it | int8 over it | start-up, s |",
        "|---|---|---|---|---|---|",
    ]
    for network, turns in by(rounds, "network"):
        for precision in OURS:
            rates = spread([turn[precision]["rate"] for turn in turns], ".1f")
            reached = spread([100 * turn[precision]["reached"] for turn in turns], ".0f")
            lines.append(f"| **{TITLES[network]}, {precision}** | {rates} | {reached} % | | | |")
        for tool in (tool for tool in TOOLS if tool in turns[0]):
            for batch in turns[0][tool]:
                found = [turn[tool][batch] for turn in turns]
                over = [
                    spread([turn[ours]["rate"] / turn[tool][batch]["rate"] for turn in turns])
                    for ours in OURS
                ]
                lines.append(
                    f"| {TITLES[network]}, {tool}{'' if batch == '1' else f', batches of {batch}'} "
                    f"| {spread([one['rate'] for one in found], '.1f')} | | "
                    f"{over[0]}x | {over[1]}x | {spread([one['start'] for one in found], '.0f')} |"
                )
    return lines


def commands_table(rounds: Rounds) -> list[str]:
    """Seconds of whole commands."""
    titles = {
        "small": "200 images, EfficientNet-Lite0",
        "small ray": "the same, `--executor ray`",
        "int8": "600 images, ResNet-50, int8, calibrated anew",
        "int8 again": "the same again, calibration kept",
        "status": "`status RUN`",
        "help": "`--help`",
    }
    lines = ["| whole command | s |", "|---|---|"]
    for name, title in titles.items():
        lines.append(f"| {title} | {spread([turn[name] for turn in rounds])} |")
    return lines


def precision_table(networks: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Images/s in float32, ratios to it within a round, and agreement."""
    lines = ["| batches of 32, all cores | fp32 | bf16 | int8 |", "|---|---|---|---|"]
    for model, parts in networks.items():
        weights = "ImageNet" if model == "efficientnet_lite0" else "random"
        for part, found in parts.items():
            rates = found["fp32"]["rates"]
            cells = [f"{median(rates):.3g} images/s"]
            for name in ("bf16", "int8"):
                one = found[name]
                ratios = [a / b for a, b in zip(one["rates"], rates, strict=True)]
                text = f"{spread(ratios, '.2g')}x"
                if part == "network":
                    text += f"; {100 * one['top1_agreement']:.0f} %, {one['map_correlation']:.3f}"
                cells.append(text)
            title = f"{TITLES[model]}, {weights} weights: backbone"
            lines.append(f"| {title if part == 'backbone' else 'whole network'} | "
                         + " | ".join(cells) + " |")  # fmt: skip
    return lines


def transformers_table(networks: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Speed over onnxruntime's in float32 within a round, and agreement with that."""
    titles = [TITLES[name] for name in networks]
    lines = [
        f"| of onnxruntime's speed in float32 | {' | '.join(f'{t} | agreement' for t in titles)} |",
        "|---|" + "---|---|" * len(titles),
    ]
    ways = dict.fromkeys(way for found in networks.values() for way in found)
    for way in sorted(ways, key=lambda way: not way.startswith("MXNet")):
        cells = []
        for found in networks.values():
            one, theirs = found[way], found["onnxruntime, fp32"]["seconds"]
            ratios = [b / a for a, b in zip(one["seconds"], theirs, strict=True)]
            agrees = f"logits within {one['logits_off']:.0e}"
            if "top1_agreement" in one:
                agrees += f"; {100 * one['top1_agreement']:.0f} %, {one['map_correlation']:.3f}"
            cells += [spread(ratios), agrees]
        if way != "onnxruntime, fp32":
            lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def clusters_table(rounds: dict[str, Rounds]) -> list[str]:
    """Time and memory, and CoRelAy's over ours of the same maps."""
    lines = ["| maps of 7x7 | s | processor seconds | peak memory |", "|---|---|---|---|"]
    for name, found in rounds.items():
        title = "CoRelAy 1.0.0, 10,000 of a class: graph, embedding, one k-means"
        if name != "CoRelAy":
            count, classes = map(int, name.split(" of "))
            title = f"{count:,} of a class" if classes == 1 else f"{classes:,} classes of {count:,}"
        cells = [
            spread([one["seconds"] for one in found], ".3g"),
            spread([one["cpu"] for one in found], ".3g"),
            spread([one["GB"] for one in found]) + " GB",
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    ours, theirs = rounds.get("10000 of 1", []), rounds.get("CoRelAy", [])
    if ours and len(ours) == len(theirs):
        ratios = [
            spread([b[what] / a[what] for a, b in zip(ours, theirs, strict=True)], ".3g") + "x"
            for what in ("seconds", "cpu", "GB")
        ]
        lines.append(f"| CoRelAy over 10,000 of a class | {' | '.join(ratios)} |")
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


def workers_table(rounds: Rounds) -> list[str]:
    ratios = {
        "two workers of one core / one worker": ("all", "one"),
        "Ray, one worker of two cores / no Ray": ("ray", "local"),
        "two workers of one core / no Ray, two threads": ("all", "local"),
    }
    return ratio_table(rounds, "two cores, images/s over images/s", ratios)


def saving_table(rounds: Rounds) -> list[str]:
    ratios = {
        "and activations, codec none": ("none", "maps"),
        "and activations, gzip (default)": ("gzip", "maps"),
    }
    return ratio_table(rounds, "images/s over images/s with maps alone", ratios)


TABLES: dict[str, tuple[Path, str, Callable[[Any], list[str]]]] = {  # page, figures, table
    "peers": (PAGE, "rounds", peers_table),
    "commands": (PAGE, "rounds", commands_table),
    "workers": (PAGE, "rounds", workers_table),
    "saving": (PAGE, "rounds", saving_table),
    "growth": (PAGE, "rounds", growth_table),
    "costs": (PAGE, "costs", costs_table),
    "precision": (Path("docs/models.md"), "networks", precision_table),
    "transformers": (Path("docs/models.md"), "networks", transformers_table),
    "clusters": (Path("docs/strategies.md"), "rounds", clusters_table),
}


def draw(rounds: Rounds, title: str, place: Path) -> None:
    """Bars: images per second of each tool, and the limit of ours as a line above."""
    networks = list(by(rounds, "network"))
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    widths = [sum(tool in turns[0] for tool in (*TOOLS, *OURS)) for _, turns in networks]
    row = figure.subplots(1, len(networks), squeeze=False, width_ratios=widths)[0]
    for axes, (network, turns) in zip(row, networks, strict=True):
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
            np.arange(len(rates)), [LABELS.get(name, re.sub("[ -]", "\n", name)) for name in rates]
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
        raise SystemExit(f"{count} places marked {mark} on its page")
    return found


@click.command()
@click.option("--docs", is_flag=True, help="Put the tables into pages of docs/ as well.")
def main(docs: bool) -> None:
    """Write the report, the plots, and the tables of the pages."""
    results = json.loads(FIGURES.read_text())
    text = ["# What was measured"]
    for part, (page, figures, table) in TABLES.items():
        if part not in results:
            continue
        machine, lines = heading(results[part]["machine"]), table(results[part][figures])
        text += ["", f"## {part}", "", machine, "", *lines]
        if docs:
            page.write_text(put(page.read_text(), part, [*lines, "", f"*{machine}*"]))
        if part == "peers":
            place = PLOT if docs else REPORT.with_suffix(".png")
            draw(results[part]["rounds"], machine.partition(";")[0], place)
    if docs and (drawn := Path("build/precision.png")).exists():
        shutil.copy(drawn, "docs")
    REPORT.write_text("\n".join(text) + "\n")
    click.echo(f"{REPORT}, and its plot")


if __name__ == "__main__":
    main()
