"""``shardcam report``: a run as a page for a browser."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from shardcam.engine.errors import ConfigError, Interrupted
from shardcam.engine.run.disk_space import readable
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.outputs import NEW_PLACE, require_new
from shardcam.jobs.terminal import make_console, stop_on_signals

SAMPLE = 200
PORT = 8000


@click.command()
@click.argument("run", shell_complete=complete_path)
@click.argument("beside", required=False, metavar="[RUN]", shell_complete=complete_path)
@click.option(
    "--out",
    type=NEW_PLACE,
    help="File to write  [default: RUN/report.html, which is part of the run and made anew each "
    "time, or NAME-report.html here if RUN is a URL]",
)
@click.option("--force", is_flag=True, help="Replace an existing file outside of RUN.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    help=f"Number of images in the file; its statistics cover all  [default: {SAMPLE}]",
)
@click.option(
    "--no-photographs", is_flag=True, help="Show heatmaps alone, without reading the source."
)
@click.option(
    "--serve",
    is_flag=True,
    help="Write no file; serve all images to browsers on this machine until Ctrl-C.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port of --serve; 0 takes a free one  [default: {PORT}]",
)
@stop_on_signals("the same command begins anew")
def report(
    run: str,
    beside: str | None,
    out: Path | None,
    force: bool,
    sample: int | None,
    no_photographs: bool,
    serve: bool,
    port: int | None,
) -> None:
    """Show RUN in a browser: its account, distributions, failures and pictures.

    Writes one self-contained HTML file with a sample of the images; --serve shows all of them,
    a page at a time. The photographs are read again from the run's source. An unfinished run
    is shown as far as it is. Of a second RUN of the same images, maps and metrics are shown
    beside the first one's.

    \b
    Examples:
      shardcam report runs/photos
      shardcam report runs/gradcam runs/layercam
      shardcam report runs/photos --serve
    """
    run_dir = RunDir.open(run)
    _require_sensible(out, sample, serve, port)
    own = run_dir.root / "report.html"
    page = out or (own if run_dir.shared else Path(f"{run_dir.name}-report.html"))
    if not serve and (page.parent.resolve(), page.name) != (own.parent.resolve(), own.name):
        require_new("--out", page, force, [one for one in (run, beside) if one is not None])
    from shardcam.jobs.gallery.gallery_run import opened_run
    from shardcam.jobs.gallery.html_file import write_page
    from shardcam.jobs.gallery.server import ReportServer

    console = make_console()
    other = RunDir.open(beside) if beside is not None else None
    with opened_run(run_dir, photographs=not no_photographs, beside=other) as opened:
        if serve:
            with ReportServer(opened, PORT if port is None else port) as server:
                console.print(f"look at {server.address}  (Ctrl-C ends it)", soft_wrap=True)
                with suppress(Interrupted), stop_on_signals("it may be served again"):
                    server.serve_forever()
            return
        shown = write_page(opened, page, sample or SAMPLE)
        size = readable(page.stat().st_size)
        of = f"{shown} of {counted(len(opened.run), 'image')} shown, {size}"
        console.print(f"look at {page}  ({of})", soft_wrap=True)


def _require_sensible(out: Path | None, sample: int | None, serve: bool, port: int | None) -> None:
    if serve and (out is not None or sample is not None):
        raise ConfigError("--out and --sample are for a file; --serve writes none, and shows all")
    if port is not None and not serve:
        raise ConfigError("--port is for --serve")
