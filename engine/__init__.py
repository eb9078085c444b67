"""Everything between an image set and a run directory.

May import: kernels.
"""
