"""Runs as jobs of a Ray cluster: submission, logs, batch files, checks of its nodes."""
