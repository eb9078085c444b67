"""Files of models read in processes of their own, with little memory and time.

`Reader` starts one Python that has imported everything and computed nothing; for each file it
forks a child with limits. So a file costs milliseconds, and may do to the child what it will.
"""

import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMORY, SECONDS = 1 << 30, 20  # that a child may take, beyond what it begins with; of its CPU


class Reader:
    """Use as a context manager."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __call__(self, path, how="network"):
        """How it ended (good, refused, bug, died), and what was said."""
        print(json.dumps([str(path), how]), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def refusal(self, path, how="network"):
        """The one line by which a file is refused."""
        ended, text = self(path, how)
        assert (ended, "\n" in text) == ("refused", False), text
        assert text.startswith(f"{path}: ")
        assert text.count(str(path)) == 1
        return text


def network(path):
    """Load a network, run it on images forward, and backward to some of its layers."""
    import numpy as np

    from shardcam.engine.models.layer_names import class_count, layer_shapes
    from shardcam.engine.models.load_network import load_network
    from shardcam.engine.models.mxnet_network import MxnetNetwork

    definition = load_network(path, None if path.endswith(".onnx") else "random")
    class_count(definition)
    shapes = layer_shapes(definition)
    images = [name for name, shape in shapes.items() if len(shape) == 3 and shape[1] * shape[2] > 1]
    layers = tuple(images[:: max(1, len(images) // 3)])
    if not layers or sum(map(np.prod, shapes.values())) > 1e7:
        return "not run"
    run = MxnetNetwork(definition, layers, 4)
    rng = np.random.RandomState(0)
    pictures = rng.rand(2, *definition.preprocessing.input_shape).astype(np.float32)
    forward = run.forward(pictures)
    logits = forward.logits
    for name in layers:
        forward.layer(name).gradient(np.ones_like(logits))
    pictures[1] += 1
    alone = np.allclose(run.forward(pictures).logits[0], logits[0], 1e-3, 1e-4, equal_nan=True)
    return "run" if alone else "the images of a batch are mixed"


def weights(path):
    """Read a weight file; return its size in memory."""
    from shardcam.engine.models.weight_files import read_weights

    return str(sum(value.nbytes for value in read_weights(Path(path)).values()))


def _serve():
    sys.path.insert(0, str(ROOT))
    import shardcam.engine.models.load_network
    import shardcam.engine.models.mxnet_network
    import shardcam.engine.models.onnx.onnx_file
    import shardcam.engine.models.zoo  # noqa: F401

    for line in sys.stdin:
        path, how = json.loads(line)
        print(json.dumps(_apart(path, {"network": network, "weights": weights}[how])), flush=True)


def _apart(path, function):
    """Call a function in a child with limits."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _limit()
        os.write(sender, pickle.dumps(_outcome(path, function)))
        os._exit(0)
    os.close(sender)
    data, until = b"", time.monotonic() + 3 * SECONDS
    while (left := until - time.monotonic()) > 0 and select.select([receiver], [], [], left)[0]:
        if not (part := os.read(receiver, 1 << 16)):
            break
        data += part
    os.kill(child, signal.SIGKILL)
    os.close(receiver)
    status = os.waitpid(child, 0)[1]
    return pickle.loads(data) if data else ("died", f"with status {status}")


def _limit():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _outcome(path, function):
    from shardcam.engine.errors import ShardcamError

    try:
        return "good", function(path)
    except ShardcamError as error:
        return "refused", str(error)[:2000]
    except BaseException:
        return "bug", traceback.format_exc()[-2000:]


if __name__ == "__main__":
    _serve()
