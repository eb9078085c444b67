"""ScatterND: values written to constant places, as exporters write ``x[:, :, 1:, 1:] = y``."""

from __future__ import annotations

from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import BATCHES, Array, Known, Tensor
from shardcam.engine.models.onnx.shapes import joined, reshape, take

_MOST = 2**24  # places that a float32 tells apart


def scatter_nd(call: Call) -> Tensor:
    """Each image's updates go to the same places of its own."""
    call.must_be("reduction", "none")
    like = next((value for i in (0, 2) if isinstance(value := call.value(i), Tensor)), None)
    if like is None:
        raise ModelError("its places depend on the images")
    x, updates = (
        call.spread(call.rows(value), like) if isinstance(value := call.value(i), Known)
        else call.tensor(i) for i in (0, 2)
    )  # fmt: skip
    return scattered(call, x, updates, _places(call, like.multiple))


def scattered(call: Call, x: Tensor, updates: Tensor, places: Array) -> Tensor:
    """`x` with updates at its `places`, (updates, axes), the batch's axis not among them.

    What was there and what comes lie side by side; of these, one is taken for each place.
    """
    axes = places.shape[1]
    if axes >= x.rank:
        raise ModelError(f"places along {axes} axes do not fit {x.sizes} for each image")
    outer, inner = x.sizes[:axes], prod(x.sizes[axes:])
    count, more = prod(outer), len(places)
    if (places < -np.array(outer)).any() or (places >= outer).any():
        raise ModelError(f"a place is out of range of {outer}")
    if count + more > _MOST:
        raise ModelError(f"{count} places are too many")
    index = np.arange(count)
    places = places % np.array(outer)
    taken = np.ravel_multi_index(tuple(places.T), outer) if axes else np.zeros(more, np.intp)
    index[taken] = count + np.arange(more)
    old = reshape(call, x, x.multiple, (count, inner), "old")
    new = reshape(call, updates, x.multiple, (more, inner), "new")
    chosen = take(call, joined(call, [old, new], 1, "both"), 1, index, "chosen")
    return reshape(call, chosen, x.multiple, x.sizes)


def _places(call: Call, multiple: int) -> Array:
    """Where the updates of each image go, without the image's own number."""
    known, batch = call.known(1), call.fixed_batch
    sizes = (batch,) * 2 if batch is not None and not known.varies else BATCHES
    found = []
    for index, size in zip(known.values, sizes, strict=True):
        axes, rows = index.shape[-1], multiple * size
        if index.size == 0 or index.dtype.kind not in "iu" or index.size % (rows * axes):
            raise ModelError("it would mix the images of a batch")
        of_images = index.reshape(rows, -1, axes)
        own = of_images[..., 0] == np.arange(rows)[:, None]
        if not own.all() or (of_images[..., 1:] != of_images[:1, :, 1:]).any():
            raise ModelError("it would mix the images of a batch")
        found.append(of_images[0, :, 1:])
    if not np.array_equal(found[0], found[1]):
        raise ModelError("it would mix the images of a batch")
    return found[0]
