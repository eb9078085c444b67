"""What cannot fit the memory is refused in a line that names the option."""

import subprocess
import sys

import mxnet as mx
import pytest

from shardcam.engine.errors import ConfigError, ModelError, OutOfMemory
from shardcam.engine.models.free_memory import free_memory
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.memory import LARGEST, require_memory
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.mxnet_network import MxnetNetwork, batch_that_fits
from tests.child import ROOT, printed_by
from tests.jobs.command import SMALL, shardcam
from tests.jobs.images import make_folder
from tests.models.networks import every_tap_kind


def test_what_is_reckoned():
    network = every_tap_kind()
    require_memory(network, ("add",), 32, 8, free=10_000_000)
    with pytest.raises(ConfigError, match=r"^--batch-size 32: taps needs some \d MB of memory"):
        require_memory(network, ("add",), 32, 8, free=100_000)
    with pytest.raises(ConfigError, match=r"^--image-size 12: "):
        require_memory(network, ("add",), 1, 1, free=1000)
    with pytest.raises(ConfigError, match=f"MXNet's hold at most {LARGEST}"):
        require_memory(network, ("add",), 10**7, 8)
    with pytest.raises(ConfigError, match=r"^--batch-size 10000000"):
        MxnetNetwork(network, ("add",), 10**7)


def test_the_usual_batch_keeps_to_the_index_of_mxnet():
    network = load_network("resnet18_v1", "random", 4096)
    assert batch_that_fits(network, ("stage4_activation1",), 512) == 7  # 64 x 2048 x 2048 each


def test_weights_for_which_there_is_no_memory(monkeypatch):
    monkeypatch.setattr("shardcam.engine.models.weight_files.free_memory", lambda: 10**9)
    with pytest.raises(ModelError, match=r"vgg16: .* 137\.6 GB, and 1\.0 GB are free"):
        load_network("vgg16", "random", 4096)


def test_a_batch_of_the_command_is_refused_before_there_is_a_run(tmp_path):
    make_folder(tmp_path / "images", 1)
    out = tmp_path / "run"
    options = ("--executor", "local", "--batch-size", 10**8, "--out", out)
    code, _, err = shardcam("extract", tmp_path / "images", *SMALL, *options)
    assert (code, out.exists()) == (2, False)
    assert err.startswith("shardcam: --batch-size 100000000: a tensor of small would hold ")
    assert err.count("\n") == 1


@pytest.mark.process
def test_little_address_space(tmp_path):
    command = f"ulimit -v 900000; exec {sys.executable} -m shardcam layers vgg16 --params random"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "shardcam: ulimit -v 900000 (kB) is too little: MXNet and Numba take 1572864 before there "
        "is a network; raise it\n"
    )


@pytest.mark.process
def test_free_memory_keeps_to_the_limits():
    limited = """
        import resource
        from shardcam.engine.models.free_memory import free_memory
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        print(free_memory())
    """
    assert 0 < int(printed_by(limited)) < 1 << 30


def test_free_memory_of_a_container(tmp_path):
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert free_memory(tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 3000


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (
            "Traceback\n  File x\nMXNetError: Check failed: a == b",
            ModelError,
            "run the network: Ch",
        ),
        ("Traceback\nMXNetError: Failed to allocate CPU Memory", OutOfMemory, "--batch-size"),
        ("std::bad_alloc", OutOfMemory, "out of memory"),
        ("MXNetError: could not create a memory object", OutOfMemory, "out of memory"),
    ],
)
def test_errors_of_mxnet_are_one_line(text, kind, said):
    @in_one_line
    def fails():
        raise mx.MXNetError(text)

    with pytest.raises(kind, match=said) as caught:
        fails()
    assert "\n" not in str(caught.value)
