"""Networks: from files to bound graphs. MXNet is imported nowhere else.

May import: config, errors, kernels, processor, protocols, types.
"""

from shardcam.engine.models.import_mxnet import adapt_imports

adapt_imports()
