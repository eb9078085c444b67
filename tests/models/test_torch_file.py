"""Weight files as PyTorch 2.14 wrote them, and hostile ones; read without PyTorch.

``fixtures/torch``: one state dictionary saved in both forms, and inside a training
checkpoint; `expected.npz` has the same tensors.
"""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from shardcam.engine.errors import ModelError
from shardcam.engine.models.torch_file import read_torch_weights

FIXTURES = Path(__file__).parent.parent / "fixtures" / "torch"


@pytest.mark.parametrize("name", ["zip", "legacy", "training"])
def test_every_form(name):
    weights = read_torch_weights(FIXTURES / f"{name}.pth")
    with np.load(FIXTURES / "expected.npz") as expected:
        assert set(weights) == set(expected)
        for key in expected:
            np.testing.assert_array_equal(weights[key], expected[key])
            assert weights[key].dtype == expected[key].dtype


def test_a_file_that_calls_something_is_refused(tmp_path):
    """The payload would create a file; it must not run."""
    marker = tmp_path / "marker"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    legacy = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}, [Payload()]))
    (tmp_path / "legacy.pth").write_bytes(legacy)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"a": Payload()}, 2))
    for name in ("legacy", "zip"):
        with pytest.raises(ModelError, match=r"asks for (posix|os)\.system.*refused"):
            read_torch_weights(tmp_path / f"{name}.pth")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["zip", "legacy"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.3, 0.6, 0.9, 0.99])
def test_truncated(tmp_path, name, part):
    data = (FIXTURES / f"{name}.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ModelError, match=r"cut\.pth") as caught:
        read_torch_weights(tmp_path / "cut.pth")
    assert "\n" not in str(caught.value)


def described(names=("w",), **changes):
    """A zip archive with one float tensor, described as asked, under one or several names."""
    tensor = {"count": 4, "offset": 0, "shape": (2, 2), "stride": (2, 1)} | changes

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, str) and value == "storage here":
                return ("storage", FloatStorage, "0", "cpu", tensor["count"])
            return None

    class FloatStorage:
        pass

    class Rebuild:
        def __reduce__(self):
            arguments = ("storage here", tensor["offset"], tensor["shape"], tensor["stride"])
            return rebuild, (*arguments, False, {})

    def rebuild():
        pass

    stream = io.BytesIO()
    for thing, module, name in (
        (FloatStorage, "torch", "FloatStorage"),
        (rebuild, "torch._utils", "_rebuild_tensor_v2"),
    ):
        thing.__module__, thing.__qualname__, thing.__name__ = module, name, name
    pickled = _pickle_unchecked(Pickler, stream, {name: Rebuild() for name in names})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x/data.pkl", pickled)
        file.writestr("x/data/0", np.arange(min(tensor["count"], 10**4), dtype="<f4").tobytes())
    return archive.getvalue()


def _pickle_unchecked(base, stream, value):
    """Pickle by name without asking whether the name exists."""

    class Python(pickle._Pickler):
        persistent_id = base.persistent_id

        def save_global(self, thing, name=None):
            self.write(f"c{thing.__module__}\n{thing.__qualname__}\n".encode())

        dispatch: ClassVar[dict] = pickle._Pickler.dispatch | {
            type: save_global,
            type(_pickle_unchecked): save_global,
        }

    Python(stream, 2).dump(value)
    return stream.getvalue()


def test_a_well_described_tensor(tmp_path):
    (tmp_path / "w.pth").write_bytes(described())
    assert read_torch_weights(tmp_path / "w.pth")["w"].tolist() == [[0, 1], [2, 3]]


def test_names_of_one_tensor(tmp_path):
    """IRN's networks hold each three times; with many a small file would fill the memory."""
    large = {"count": 10**4, "shape": (100, 100), "stride": (100, 1)}
    (tmp_path / "w.pth").write_bytes(described("abc", **large))
    weights = read_torch_weights(tmp_path / "w.pth")
    assert [weights[name].sum() for name in "abc"] == [49_995_000] * 3
    (tmp_path / "w.pth").write_bytes(described("abcdef", **large))
    with pytest.raises(ModelError, match="its tensors would take 240000 bytes"):
        read_torch_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 10**15}, "cut short"),
        ({"shape": (10**9, 10**9)}, "larger than its storage"),
        ({"offset": 3}, "larger than its storage"),
        ({"stride": (10**12, 1)}, "larger than its storage"),
        ({"stride": (-2, 1)}, "negative"),
        ({"offset": -1}, "negative"),
        ({"shape": (2,)}, "not a PyTorch weight file"),
        ({"shape": "22"}, "without a shape"),
    ],
)
def test_a_tensor_that_reaches_outside(tmp_path, changes, message):
    (tmp_path / "w.pth").write_bytes(described(**changes))
    with pytest.raises(ModelError, match=message):
        read_torch_weights(tmp_path / "w.pth")


def test_no_weights_in_it(tmp_path):
    for data in (b"", b"text", pickle.dumps({"a": 1}), pickle.dumps(5)):
        (tmp_path / "w.pth").write_bytes(data)
        with pytest.raises(ModelError):
            read_torch_weights(tmp_path / "w.pth")
    with pytest.raises(ModelError, match="No such file"):
        read_torch_weights(tmp_path / "gone.pth")
