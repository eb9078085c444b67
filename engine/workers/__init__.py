"""Where shards run: in this process, or on Ray.

May import: errors, pipeline, protocols, rundir, types.
"""
