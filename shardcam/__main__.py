"""``python -m shardcam`` is ``shardcam``."""

from shardcam.jobs.cli import main

main()
