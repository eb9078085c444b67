"""Everything that lies in a run directory, and how it gets there."""
