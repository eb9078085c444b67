"""How good the maps of a finished run are: metrics, each a column of the run.

May import: analysis, config, errors, io, kernels, methods, models, pictures, pipeline,
protocols, readers, run, rundir, truths, types, workers.
"""
