"""What a network does with the images of a class: maps that are alike, and those unlike the rest.

May import: analysis, config, errors, io, protocols, run, rundir, types, workers.
"""
