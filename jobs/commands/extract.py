"""``shardcam extract``: class activation maps of every image of a source, into a run directory."""

from __future__ import annotations

from typing import Any

import click

from shardcam.jobs.config_file import config_yaml
from shardcam.jobs.options import make_config, run_options
from shardcam.jobs.sections import SectionedCommand
from shardcam.jobs.terminal import as_utf8, make_console


@click.command(cls=SectionedCommand)
@run_options
@click.option(
    "--print-config", is_flag=True, help="Print these options as a file for --config, and exit."
)
def extract(print_config: bool, **options: Any) -> None:
    """Extract class activation maps of the images in SOURCE.

    The result is a run directory of HDF5 shards. Run the same command again to resume.

    \b
    Examples:
      shardcam extract photos --model efficientnet_lite0 --out runs/photos --save maps,overlays
      shardcam extract photos --model vgg16 --params vgg16.pth --out runs/hires \\
          --method hirescam --target top5 --workers 4
    """
    config = make_config(options)
    if print_config:
        click.echo(as_utf8(config_yaml(config)), nl=False)
    else:
        from shardcam.jobs.run_extract import run_extract  # help and completion need none of it

        run_extract(config, make_console())
