"""Where the objects of pictures are, read from the annotations of data sets.

May import: analysis, config, errors, io, pictures, readers, run, rundir, types.
"""
