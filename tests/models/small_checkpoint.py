"""A checkpoint on disk of a network so small that everything around it shows."""

import mxnet as mx
import numpy as np


def write_checkpoint(folder, size):
    """Two convolutions, pooling and a dense layer, for (3,size,size); returns the symbol's path."""
    x = mx.sym.var("data")
    for name, filters in (("one", 8), ("two", 16)):
        x = mx.sym.Convolution(
            x, name=name, num_filter=filters, kernel=(3, 3), stride=(2, 2), pad=(1, 1)
        )
        x = mx.sym.Activation(x, name=f"{name}_relu", act_type="relu")
    x = mx.sym.Pooling(x, name="pool", global_pool=True, pool_type="avg", kernel=(1, 1))
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=10)
    shapes, _, _ = x.infer_shape(data=(1, 3, size, size))
    rng = np.random.RandomState(0)
    parameters = {
        f"arg:{name}": mx.nd.array(0.3 * rng.standard_normal(shape))
        for name, shape in zip(x.list_arguments(), shapes)
        if name != "data"
    }
    x.save(f"{folder}/small-symbol.json")
    mx.nd.save(f"{folder}/small-0000.params", parameters)
    return f"{folder}/small-symbol.json"
