"""Networks: from files to bound graphs. MXNet is imported nowhere else.

May import: config, errors, kernels, types.
"""
