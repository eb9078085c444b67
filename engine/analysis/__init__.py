"""What is done with a finished run: selections, tables, maps on pictures, exports.

May import: errors, io, kernels, rundir, types.
"""
