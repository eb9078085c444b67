"""Everything in a run directory, on disk or at a URL, and how it gets there.

May import: errors, io, kernels, protocols, types.
"""
