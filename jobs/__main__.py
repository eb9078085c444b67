"""``python -m jobs`` is ``shardcam``."""

from jobs.cli import main

main()
