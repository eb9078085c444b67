"""``shardcam demo``: the whole path on real photographs, and one picture of the outcome."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, needs
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.completion import complete_path
from shardcam.jobs.run_extract import run_extract
from shardcam.jobs.terminal import make_console

PHOTOGRAPHS = (  # of those that scikit-image ships
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
RUNS = Path("runs")


@click.command()
@click.argument("source", required=False, shell_complete=complete_path)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run directory  [default: one in runs/]"
)
def demo(source: str | None, out: Path | None) -> None:
    """Show where EfficientNet-Lite0 looks in photographs: those in SOURCE, or well-known ones.

    Two Ray workers compute Grad-CAMs into a run directory; a contact sheet shows each
    image, its heatmap and the predicted class.

    \b
    Examples:
      shardcam demo
      shardcam demo ~/Pictures
    """
    if find_spec("matplotlib") is None:
        raise ConfigError(f"the contact sheet {needs('matplotlib')}")
    console = make_console()
    name = "demo" if source is None else f"demo-{Path(source).resolve().name}"
    root = out or RUNS / name
    config = RunConfig(
        source=source or str(example_photographs(RUNS / "photographs")),
        model="efficientnet_lite0",
        out=str(root),
        workers=2,
        shard_size=4 if source is None else None,
        save=("maps", "overlays"),
    )
    report = run_extract(config, console)
    sheet = root / "contact-sheet.png"
    if report.shards_done_now or not sheet.exists():
        from shardcam.jobs.looking.contact_sheet import draw_contact_sheet

        with open_run(root) as run:
            draw_contact_sheet(run, Listing(RunDir(root).listing), sheet)
    console.print(f"look at {sheet}", style="bold")


def example_photographs(folder: Path) -> Path:
    """Link the photographs that scikit-image ships into a folder of their own."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ConfigError(f"without SOURCE the demo {needs('skimage')}")
    shipped = Path(spec.origin).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        link = folder / name
        if link.exists() and not link.is_symlink():
            raise ConfigError(f"{link}: the demo links its photograph there; move that file away")
        if not link.is_symlink() or link.readlink() != shipped / name:
            link.unlink(missing_ok=True)
            link.symlink_to(shipped / name)
    return folder
