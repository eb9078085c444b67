"""Which runtime `auto` stands for, decided without a GPU and without PyTorch."""

from types import SimpleNamespace

import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, WorkerError
from shardcam.engine.models import cuda
from shardcam.engine.run import runtime_choice
from shardcam.engine.run.runtime_choice import require_gpu, with_runtime
from shardcam.jobs.measuring import machine_checks
from shardcam.jobs.measuring.sweep import _ways


@pytest.fixture
def machine(monkeypatch):
    """A machine with GPUs of such capabilities, an MXNet, and PyTorch or not."""

    def make(*capabilities, built=True, torch=True):
        found = tuple(cuda.Gpu(f"GPU {i}", c) for i, c in enumerate(capabilities))
        monkeypatch.setattr(cuda, "gpus", lambda *_: found)
        monkeypatch.setattr(cuda, "mxnet_has_cuda", lambda: built)
        monkeypatch.setattr(runtime_choice, "has_torch", lambda: torch)

    return make


def config(**options):
    return RunConfig.of(source="s", model="efficientnet_lite0", out="o", **options)


def chosen(**options):
    found, notes = with_runtime(config(**options))
    return found.runtime, [note.text for note in notes]


def test_mxnet_wherever_it_can_run(machine):
    machine((8, 6))
    assert chosen() == ("mxnet", [])
    assert chosen(gpus_per_worker=1) == ("mxnet", [])
    machine((9, 0), built=False)
    assert chosen() == ("mxnet", [])  # on the CPU


def test_torch_on_gpus_that_mxnet_has_no_code_for(machine):
    machine((9, 0))
    runtime, (note,) = chosen(gpus_per_worker=0.5)
    assert runtime == "torch"
    assert note.startswith("PyTorch: the GPU has compute capability 9.0")
    machine((8, 6), built=False)
    assert chosen(gpus_per_worker=1)[0] == "torch"


def test_without_torch_the_refusal_says_what_to_install(machine):
    machine((9, 0), torch=False)
    assert chosen(gpus_per_worker=1) == ("mxnet", [])
    with pytest.raises(WorkerError, match=r"--gpus-per-worker: .* 9.0.* its extra torch"):
        require_gpu("mxnet")
    with pytest.raises(ConfigError, match=r"--runtime torch needs torch: .* its extra torch"):
        chosen(runtime="torch")


def test_a_worker_on_a_node_with_another_gpu_than_the_driver(machine, monkeypatch):
    """The run computes alike everywhere: it says where it cannot, and how it could."""
    monkeypatch.setattr(runtime_choice, "gethostname", lambda: "node7")
    other = runtime_choice.refusal_of
    monkeypatch.setattr(runtime_choice, "refusal_of", lambda r: None if r == "torch" else other(r))
    machine((9, 0))
    told = r"^--gpus-per-worker: node7: the GPU has .* 9.0, which PyTorch serves: --runtime torch$"
    with pytest.raises(WorkerError, match=told):
        require_gpu("mxnet")
    machine((7, 5))
    require_gpu("mxnet")


@pytest.mark.parametrize("gpus", [1.5, 2.25, float("nan"), float("inf"), -1])
def test_parts_of_several_gpus_are_refused(gpus):
    with pytest.raises(ConfigError, match=r"^--gpus-per-worker: "):
        config(gpus_per_worker=gpus)


def test_a_driver_without_a_gpu_goes_by_what_is_installed(machine):
    machine()
    assert chosen(gpus_per_worker=1)[0] == "mxnet"
    machine(built=False)
    assert chosen(gpus_per_worker=1)[0] == "torch"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "tf32", "gpus_per_worker": 1}, "tf32 is for --runtime torch"),
        ({"precision": "int8", "runtime": "torch"}, "int8 is for MXNet on CPUs"),
        ({"precision": "bf16", "gpus_per_worker": 1}, "bf16 is for CPUs"),
    ],
)
def test_precisions_that_a_runtime_lacks(machine, options, message):
    machine((8, 6))
    with pytest.raises(ConfigError, match=message):
        with_runtime(config(**options))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_precisions_of_torch_on_a_gpu(machine, precision):
    machine((9, 0))
    assert chosen(precision=precision, gpus_per_worker=1)[0] == "torch"


@pytest.mark.parametrize(("runtime", "other"), [("torch", "bf16"), ("auto", "int8")])
def test_a_sweep_tries_a_precision_that_the_runtime_has(runtime, other):
    first = SimpleNamespace(workers=1, cpus_per_worker=1, batch_size=32, images=1)
    ways = _ways(config(runtime=runtime, executor="local"), first)
    assert [way["precision"] for way in ways if "precision" in way] == [other]


def test_doctor_names_each_gpu_and_what_serves_it(machine, monkeypatch):
    monkeypatch.setattr(runtime_choice, "refusal_of", lambda *_: None)
    machine((8, 6), (9, 0))
    first, second = machine_checks._gpu(None)
    assert (first.state, first.text) == ("ok", "0: GPU 0, compute capability 8.6: MXNet")
    assert second.state == "ok"
    assert second.text.startswith(
        "1: GPU 1, compute capability 9.0: PyTorch, for the GPU has compute capability 9.0"
    )
    machine((9, 0), torch=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-41b35cd1")
    only, given = machine_checks._gpu(None)
    assert only.state == "note" and "not used: the GPU has" in only.text
    assert given == machine_checks.Finding(
        "note", "CUDA_VISIBLE_DEVICES=MIG-41b35cd1: runs see no others"
    )
