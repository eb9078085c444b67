"""From options to a finished run: prepare, plan, build the workers, drive, account.

May import: config, errors, io, kernels, methods, models, pictures, pipeline, protocols,
readers, rundir, truths, types, workers.
"""
