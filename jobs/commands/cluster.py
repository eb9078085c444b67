"""``shardcam cluster``: images that the network treats alike, and unlike others of their class."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from shardcam.engine.clusters.settings import (
    ALL,
    BY,
    CLUSTERINGS,
    KINDS,
    PLANES,
    Comparison,
    Settings,
)
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.plain_text import cell
from shardcam.engine.run.class_names import ClassName, kept_class_names, numbered
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.events import Progress, RunOpened
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import Event, counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.options import changed_config, place_options
from shardcam.jobs.outputs import csv_option, print_written, require_new, write_csv
from shardcam.jobs.progress import REPORTED
from shardcam.jobs.resumable import resumable
from shardcam.jobs.sections import SectionedCommand, section_option
from shardcam.jobs.terminal import make_console, printable

if TYPE_CHECKING:
    from shardcam.engine.clusters.clustering import Clustered

DEFAULT = Settings()
FIGURES = ("cluster", "count", "unlikeness", "apart", "joined", "spread", "right", "score")


_option = section_option("What is compared")
_how = section_option("How", show_default=True)
_result = section_option("Results")


@click.command(cls=SectionedCommand)
@click.argument("run", shell_complete=complete_path)
@_option(
    "--by",
    type=click.Choice(BY),
    default=BY[0],
    show_default=True,
    help="Compare the images of each predicted class, of each label, or all together.",
)
@_option(
    "--of",
    type=click.Choice(KINDS),
    default=KINDS[0],
    show_default=True,
    help="What is compared: maps, or pooled activations (of a run with --save pooled).",
)
@_option("--layer", help="Layer whose maps or activations to compare  [default: the run's first]")
@_option(
    "--target",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which of the explained classes of each image, from 0.",
)
@_option("--classes", metavar="ID[,ID...]", help="Only these classes  [default: all]")
@_how(
    "--neighbours",
    type=click.IntRange(min=1),
    default=DEFAULT.neighbours,
    help="Nearest neighbours of each image in the graph; a tenth of the class at most.",
)
@_how(
    "--vectors",
    type=click.IntRange(min=2),
    default=DEFAULT.vectors,
    help="Leading eigenvectors to compute and to keep.",
)
@_how(
    "--clusters",
    type=click.IntRange(min=1),
    metavar="N",
    help="Clusters of each class  [default: as many as show most clearly, or as the eigengap "
    "suggests]",
)
@_how(
    "--clustering",
    type=click.Choice(CLUSTERINGS),
    default=DEFAULT.clustering,
    help="How the embedding is cut: k-means, or by density, where some images are in no cluster.",
)
@_how(
    "--plane",
    type=click.Choice(PLANES),
    default=DEFAULT.plane,
    help="Places to look at: two eigenvectors, t-SNE (minutes for 10,000 images), or UMAP.",
)
@_how(
    "--blur",
    type=click.FloatRange(0, 1),
    default=DEFAULT.blur,
    help="Smooth maps by a Gaussian of this share of their side, so that near places are alike.",
)
@_how(
    "--exact-to",
    type=click.IntRange(min=1),
    default=DEFAULT.exact_to,
    metavar="N",
    help="Images of a class beyond which neighbours are approximate; needs pynndescent.",
)
@_how("--seed", type=int, default=DEFAULT.seed, help="Of whatever is drawn.")
@_result(
    "--name",
    help="Folder in RUN/clusters  [default: after what is compared: predicted, label-pooled, ...]",
)
@_result(
    "--replace",
    is_flag=True,
    help="Forget clusters that were made in another way under the same name, and damaged ones.",
)
@_result(
    "--top",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many clusters to list, those most unlike the rest of their class first, single "
    "images last.",
)
@_result("--json", "as_json", is_flag=True, help="Print one JSON object.")
@csv_option("all clusters", _result)
@_result("--force", is_flag=True, help="Replace what is at --csv.")
@place_options
def cluster(
    run: str,
    by: str,
    of: str,
    layer: str | None,
    target: int,
    classes: str | None,
    neighbours: int,
    vectors: int,
    clusters: int | None,
    clustering: str,
    plane: str,
    blur: float,
    exact_to: int,
    seed: int,
    name: str | None,
    replace: bool,
    top: int,
    as_json: bool,
    table_file: Path | None,
    force: bool,
    **place: Any,
) -> None:
    """Find which images of RUN its network treats alike, and which unlike the rest of their class.

    The maps of each class are compared with one another (spectral relevance analysis): where the
    network looks at something else in some images, as at a mark, these are a cluster of their own.
    RUN must be complete. Results go to RUN/clusters/NAME, class by class, and become columns of the
    run. The same command resumes what was stopped. Needs the extra clusters.

    In the table, apart is how much of the relevance lies elsewhere than in the rest of the class (0
    to 1), joined how many neighbours the cluster has outside, over those that it would have by lot
    (0: an island), and unlike what both say together: look at clusters from 0.3.

    \b
    Examples:
      shardcam cluster runs/photos
      shardcam cluster runs/photos --by label --classes 207,208 --plane tsne
      shardcam cluster runs/photos --of pooled --clusters 8 --csv clusters.csv
    """
    from shardcam.engine.clusters.clustering import run_clustering

    require_new("--csv", table_file, force, [run])
    run_dir = RunDir.open(run)
    config = changed_config(stored_config(run, read_manifest(run_dir).config), place)
    config = config.model_copy(update={"out": run})
    asked = Comparison(
        by=by,
        of=of,
        layer=layer,
        target=target,
        classes=_numbers(classes),
        name=name,
        replace=replace,
        settings=Settings(
            neighbours=neighbours,
            vectors=vectors,
            clusters=clusters,
            clustering=clustering,
            plane=plane,
            blur=blur,
            exact_to=exact_to,
            seed=seed,
        ),
    )
    console = make_console()
    console.quiet = as_json
    with resumable() as observed:
        with console.status("clustering") as status:

            def show(event: Event) -> None:
                if isinstance(event, RunOpened) and event.images_done:
                    classes = counted(event.images, "class")
                    console.print(f"resuming: {event.images_done} of {classes} done")
                elif isinstance(event, Progress):
                    status.update(f"clustering: {counted(event.images, 'class')} of this share")
                elif type(event) in REPORTED:
                    console.print(printable(REPORTED[type(event)].format(**vars(event))))

            found = run_clustering(config, asked, observed(show), may_exit=True)
        name_of = (kept_class_names(run_dir, config) or numbered) if by != ALL else _all
        if table_file is not None:
            _write_csv(found, run, by, name_of, table_file)
        if as_json:
            click.echo(json.dumps(_as_json(found), indent=2, allow_nan=False))
        else:
            _print(found, run, top, name_of, console)
        print_written(console, table_file)


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in (text or "").split(",") if word.strip())
    except ValueError:
        raise ConfigError(f"--classes {text}: takes class numbers: 3 or 3,17") from None


def _all(number: int) -> str:
    return ALL


def _as_json(found: Clustered) -> dict[str, Any]:
    return {
        "name": found.name,
        "without_class": found.without_class,
        "classes": {str(one.number): one.as_json() for one in found.classes},
    }


def _print(found: Clustered, run: str, top: int, name_of: ClassName, console: Console) -> None:
    from shardcam.engine.clusters.cluster_summary import ranked

    table = Table(box=None)
    table.add_column("class")
    for column in ("cluster", "images", "unlike", "apart", "joined", "right", "score"):
        table.add_column(column, justify="right")
    table.add_column("")
    for one, cluster in islice(ranked(found.classes), top):
        table.add_row(
            printable(name_of(one.number)),
            str(cluster.cluster),
            f"{cluster.count} of {one.count}",
            *(f"{x:.2f}" for x in (cluster.unlikeness, cluster.apart, cluster.joined)),
            "-" if cluster.right is None else f"{cluster.right:.1%}",
            "-" if cluster.score is None else f"{cluster.score:.3f}",
            "look at it" if cluster.stands_out else "",
        )
    console.print(table)
    notes = Table(show_header=False, box=None)
    every = [cluster for one in found.classes for cluster in one.clusters]
    of = f"{counted(len(every), 'cluster')} of {counted(len(found.classes), 'class')}"
    unlike = sum(cluster.stands_out for cluster in every)
    notes.add_row("found", f"{of}; {unlike} unlike the rest of their class")
    left_out = sum((Counter(one.left_out) for one in found.classes), Counter[str]())
    for reason, count in left_out.items():
        notes.add_row("left out", f"{counted(count, 'image')} ({reason})")
    if found.without_class:
        notes.add_row("left out", f"{counted(found.without_class, 'image')} without a class")
    notes.add_row("written", f"{run}/clusters/{found.name}, and columns of the run")
    console.print(notes)


def _write_csv(found: Clustered, run: str, by: str, name_of: ClassName, path: Path) -> None:
    """A row for each cluster, those most unlike the rest of their class first."""
    from shardcam.engine.analysis.open_run import open_run
    from shardcam.engine.clusters.cluster_summary import ranked

    order = list(ranked(found.classes))
    wanted = sorted({sample for _, cluster in order for sample in cluster.nearest})
    with open_run(run) as opened:
        keys = opened.take(np.searchsorted(opened["sample"][:], wanted)).keys
    key_of = dict(zip(wanted, keys, strict=True))
    table = [
        (
            *("" if by == ALL else one.number, cell(name_of(one.number))),
            *(getattr(cluster, name) for name in FIGURES),
            " ".join(map(str, cluster.nearest)),
            cell(" | ".join(key_of[sample] for sample in cluster.nearest)),
        )
        for one, cluster in order
    ]
    write_csv(path, ("class", "name", *FIGURES, "nearest", "nearest_keys"), table)
