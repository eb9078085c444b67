"""Everything between an image set and a run directory; see the folders."""
