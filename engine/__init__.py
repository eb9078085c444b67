"""shardcam's engine: ``from engine.results import open_run`` reads what a run wrote."""
