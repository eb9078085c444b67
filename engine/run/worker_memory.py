"""How much memory a worker takes, before there is one."""

from __future__ import annotations

import math

from shardcam.engine.config import LITE0, MODEL_FILES, RANDOM_PARAMS, RunConfig
from shardcam.engine.errors import ShardcamError
from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.run.build_worker import decode_processes
from shardcam.engine.run.network_choice import load_definition

_PROCESS = 500_000_000  # bytes: Python with MXNet, Numba, OpenCV and Ray
_DECODER = 150_000_000  # bytes more, for each process that decodes
_GPU = 2_500_000_000  # bytes more, for CUDA and cuDNN
_COPIES = 3  # of the weights: as loaded, and as bound below and above the layer
_LAYERS = 3  # of the size of the largest, that a pass holds at once
_PIXEL = 24  # bytes: of a batch that waits, of the one that is decoded, and in float32
_PICTURE = 1_000_000  # pixels of a picture at its own size, where larger ones are rare
_SPARE = 1.25


def worker_memory(config: RunConfig) -> int | None:
    """Bytes that a worker takes, with a quarter to spare; None if the network cannot be read here.

    Measured: networks of 19, 98 and 528 MB took 500 MB and three times their weights.
    """
    if config.model != LITE0 and not config.model.endswith(MODEL_FILES):
        config = config.model_copy(update={"params": RANDOM_PARAMS})  # of the same size
    try:
        ready_libraries()
        from shardcam.engine.models.layer_names import layer_shapes
        from shardcam.engine.models.memory import CPU_PASS
        from shardcam.engine.models.mxnet_network import BATCH
        from shardcam.engine.models.sized_networks import HELD, held_pixels

        definition = load_definition(config)
        largest = max(map(math.prod, layer_shapes(definition).values()))
        pixels = math.prod(definition.preprocessing.input_shape[1:])
    except ShardcamError:
        return None
    weights = sum(value.nbytes for value in definition.parameters.values())
    batch: float = config.batch_size or BATCH
    at_once: float = CPU_PASS * config.cpus_per_worker
    if config.copies:  # a picture at its largest scale, or what is held
        held = held_pixels(max(HELD, len(config.scales)), config.cpus_per_worker)
        at_once = max(held, _PICTURE * max(config.scales) ** 2) / pixels
        batch = at_once
    passes = 4 * _LAYERS * largest * at_once
    gpu = _GPU if config.gpus_per_worker else 0
    decoders = _DECODER * decode_processes(config)
    inputs = _PIXEL * pixels * batch
    return int(_SPARE * (_PROCESS + _COPIES * weights + inputs + passes + gpu + decoders))
