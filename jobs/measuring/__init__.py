"""Checks of this machine, and the ceiling of each stage of a run on it."""
