"""Weight files made to harm: each is refused in one line, with little memory and time."""

import io
import json
import os
import random
import socket
import struct
import zipfile
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from safetensors.numpy import save

from shardcam.engine.models.safetensors_file import read_safetensors
from tests.models.test_onnx_files import external
from tests.models.test_torch_file import described
from tests.security.limited import Reader

pytestmark = pytest.mark.process
FIXTURES = Path(__file__).parents[1] / "fixtures" / "torch"


@pytest.fixture(scope="module")
def read():
    with Reader() as reader:
        yield reader


def in_zip(pickled, storage=b"", names=("data/0",)):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x/data.pkl", pickled)
        for name in names:
            file.writestr(f"x/{name}", storage)
    return archive.getvalue()


def shared_tuples(depth):
    """A tuple of a tuple twice, of a tuple twice...: its hash takes 2^depth steps."""
    steps = b"".join(b"h%ch%c\x86q%c0" % (i, i, i + 1) for i in range(depth))
    return b"\x80\x02)q\x000" + steps + b"}h%cNs." % depth


TENSOR = (  # on the stack: the maker and what it is given, for one storage of 2^20 numbers
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
    b"X\x01\0\0\x000X\x03\0\0\0cpuJ\0\0\x10\0tQK\0K\x01J\0\0\x10\0\x86J\0\0\x10\0K\x01\x86\x89"
)


def tensors_that_share(count):
    """Many tensors of (1,2^20) on the same 4 MiB."""
    one = TENSOR + b"}tR"
    first = b"X\x02\0\0\0w0" + one + b"q\x01"
    rest = b"".join(b"X\x05\0\0\0%05dh\x01" % i for i in range(count))
    return in_zip(b"\x80\x02}(" + first + rest + b"u.", bytes(4 << 20))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (shared_tuples(40), "a key of a dictionary is a tuple"),
        (b"\x80\x02" + b"\x8b\xff\xff\xff\x7f" + b"9" * 100, "pickle is damaged"),
        (b"\x80\x02\x8b\0\0\x10\0" + b"\x7f" * (1 << 20) + b".", "an integer is too long"),
        (b"L" + b"9" * 10_000 + b"L\n.", "pickle is damaged"),
        (b"\x80\x02h\x05.", "pickle is damaged: 5"),
        (b"\x80\x020.", "pickle is damaged"),
        (b"\x80\x02t.", "pickle is damaged"),
        (b"\x80\x02N\x86.", "pickle is damaged"),
        (b"\x80\x02K\x01K\x02K\x03s.", "pickle is damaged"),
        (b"\x80\x04\x8f.", "uses EMPTY_SET"),
        (b"\x80\x02cos\nsystem\n.", "asks for os.system"),
        (b"\x80\x02c__builtin__\neval\n.", "asks for __builtin__.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for os.system"),
        (b"\x80\x02ccollections\nOrderedDict\n](]K\x01aK\x02ee\x85R.", "pickle is damaged"),
        (b"(ios\nsystem\n.", "uses INST"),
        (b"\x80\x02\x82\x01.", "uses EXT1"),
        (b"Pid\n.", "uses PERSID"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_hostile_pickles(tmp_path, read, data, said, form):
    path = tmp_path / "w.pth"
    path.write_bytes(in_zip(data) if form == "zip" else data)
    assert said in read.refusal(path, "weights")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x02]" + b"r\xff\xff\xff\x0f" * 50 + b".", "not a PyTorch weight file"),
        (b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"Ns.", "a key of a dictionary is a tuple"),
        (b"\x80\x02" + b")" + b"\x85" * 3_000_000 + b".", "more than 1000000 opcodes"),
        (b"\x80\x02" + b")" + b"\x85" * 500_000 + b".", "not a PyTorch weight file"),
        (b"\x80\x02" + b"]" * 1_000_000 + b".", "more than 1000000 opcodes"),
        (b"\x80\x02" + b"(" * 500_000 + b"t.", "not a PyTorch weight file"),
    ],
)
def test_pickles_that_grow(tmp_path, read, data, said):
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    assert said in read.refusal(path, "weights")


def test_a_list_that_is_read_again_and_again(tmp_path, read):
    """Where a few bytes each make 20,000 entries."""
    pairs = b"](" + b"".join(b"K\x01K\x02\x86" for _ in range(20_000)) + b"eq\x000"
    again = b"ccollections\nOrderedDict\nq\x010" + b"h\x01h\0\x85R0" * 100
    path = tmp_path / "w.pth"
    path.write_bytes(in_zip(b"\x80\x02" + pairs + again + b"N."))
    assert "too many dictionaries of one list" in read.refusal(path, "weights")


def test_tensors_that_share_a_storage(tmp_path, read):
    path = tmp_path / "w.pth"
    path.write_bytes(tensors_that_share(0))
    assert read(path, "weights") == ["good", str(4 << 20)]
    path.write_bytes(tensors_that_share(2000))
    assert "its tensors would take 8392802304 bytes" in read.refusal(path, "weights")


def test_archives_that_expand(tmp_path, read):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + bytes(1 << 26))
    assert "a compressed archive" in read.refusal(path, "weights")
    path.write_bytes(in_zip(b"\x80\x02}.", b"PK\1\2" * 100_001))
    assert "an archive of more than 100000 files" in read.refusal(path, "weights")
    path.write_bytes(described(count=2**62))
    assert "is cut short" in read.refusal(path, "weights")


def params(*arrays, names=None, count=None):
    """A .params file of arrays that are bytes already."""
    names = [f"w{i}" for i in range(len(arrays))] if names is None else names
    head = struct.pack("<QQQ", 0x112, 0, len(arrays) if count is None else count)
    tail = b"".join(struct.pack("<Q", len(n)) + n.encode() for n in names)
    return head + b"".join(arrays) + struct.pack("<Q", len(names)) + tail


def array(shape, data=b"", dtype=0, kind=0):
    sizes = struct.pack(f"<Iii{len(shape)}q", 0xF993FAC9, kind, len(shape), *shape)
    return sizes + struct.pack("<iii", 1, 0, dtype) + data


EMPTY = struct.pack("<Iii", 0xF993FAC9, 0, 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (params(array((0, 2**62))), "not a usable .params file"),
        (params(array((0, 2**62, 2**62))), "not a usable .params file"),
        (params(array((2**31, 2**31))), "in the middle of a value"),
        (params(array((2**40,), bytes(100))), "in the middle of a value"),
        (params(array((-1,), bytes(100))), "an array of shape (-1,)"),
        (params(array((1,) * 33, bytes(4))), "an array of rank 33"),
        (params(array((1,), bytes(4), kind=1)), "it holds a sparse array"),
        (params(array((1,), bytes(4), dtype=99)), "unknown number type 99"),
        (params(EMPTY * 4_000_000, count=4_000_000), "4000000 arrays, more than 100000"),
        (params(count=2**63), "arrays, more than 100000"),
        (params(EMPTY, names=["a", "b"]), "1 arrays but 2 names"),
        (params(EMPTY)[:-10] + struct.pack("<Q", 2**63) + b"w", "in the middle of a value"),
        (params(EMPTY, names=["w"])[:-1] + b"\xff", "not a usable .params file"),
    ],
)
def test_hostile_params(tmp_path, read, data, said):
    path = tmp_path / "w.params"
    path.write_bytes(data)
    ended, text = read(path, "weights")
    if said == "not a usable .params file" and ended == "good":
        assert text == "0"  # an empty array harms nobody
        return
    assert said in read.refusal(path, "weights")


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (safetensors({"w": entry("F8_E4M3", (4,))}, bytes(4)), "'w' holds 'F8_E4M3'; save it as"),
        (safetensors({"w": entry("F4", (8,))}, bytes(4)), "'w' holds 'F4'"),
        (safetensors({"w": entry("C64", (1,), (0, 8))}, bytes(8)), "'w' holds 'C64'"),
        (safetensors({"w": entry(["F32"])}, bytes(4)), "not a usable .safetensors file"),
        (safetensors({"w": entry(shape=(2**40,))}, bytes(4)), "does not fit its 4 bytes"),
        (safetensors({"w": entry(shape=(0, 2**62), offsets=(0, 0))}), "impossible shape"),
        (safetensors({"w": entry(shape=(-1,))}, bytes(4)), "impossible shape"),
        (safetensors({"w": entry(shape=(1.0,))}, bytes(4)), "impossible shape"),
        (safetensors({"w": entry(shape=(True,))}, bytes(4)), "impossible shape"),
        (safetensors({"w": entry(shape=(1,) * 40)}, bytes(4)), "impossible shape"),
        (safetensors({"w": entry(offsets=(4, 8))}, bytes(4)), "does not fit"),
        (safetensors({"w": entry(offsets=(4, 0))}, bytes(4)), "does not fit"),
        (safetensors({"w": 5}, bytes(4)), "not a usable .safetensors file"),
        (safetensors([1, 2]), "lists no arrays"),
        (safetensors({str(i): entry() for i in range(100)}, bytes(4)), "its arrays overlap"),
        (safetensors({str(i): entry("F32", (0,), (0, 0)) for i in range(100_001)}), "too many"),
        (safetensors(b'{"a":' * 1_000_000), "recursion"),
        (safetensors(b'{"a":' + b"9" * 5000 + b"}"), "not a usable .safetensors file"),
        (safetensors(b"\xff\xff"), "not a usable .safetensors file"),
        (struct.pack("<Q", 2**63), "a header of 9223372036854775808 bytes"),
        (b"", "a header of 0 bytes"),
    ],
)
def test_hostile_safetensors(tmp_path, read, data, said):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    assert said in read.refusal(path, "weights")


def test_safetensors_of_every_number_type(tmp_path):
    arrays = {t: np.arange(6).reshape(2, 3).astype(t) for t in ("f8", "f4", "f2", "i8", "u1", "?")}
    (tmp_path / "w.safetensors").write_bytes(save(arrays, {"format": "np"}))
    found = read_safetensors(tmp_path / "w.safetensors")
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_safetensors_of_bfloat16(tmp_path):
    value = np.array([1.5, -2, 0.15625], np.float32)  # exact in 8 bits of mantissa
    halves = (value.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors({"w": entry("BF16", (3,), (0, 6))}, halves))
    np.testing.assert_array_equal(read_safetensors(path)["w"], value)


@pytest.mark.parametrize(
    "name", ["net-symbol.json", "net.onnx", "w.params", "w.pth", "w.pt", "w.safetensors"]
)
def test_what_is_no_regular_file(tmp_path, monkeypatch, read, name):
    """A pipe would be waited for, a device might never end."""
    how = "weights" if name.startswith("w") else "network"
    path = tmp_path / name
    os.mkfifo(path)
    assert f"{path}: is a pipe, not a regular file" in read.refusal(path, how)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"{path}: is a device, not a regular file" in read.refusal(path, how)
    path.unlink()
    path.mkdir()
    assert f"{path}: is a directory, not a regular file" in read.refusal(path, how)
    path.rmdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        listener.bind(name)
        assert f"{path}: is a socket, not a regular file" in read.refusal(path, how)
    path.unlink()
    path.symlink_to(name)
    assert f"{path}: Too many levels of symbolic links" in read.refusal(path, how)
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    assert str(path) in read.refusal(path, how)


def test_a_pipe_as_external_data(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.bin")
    path = tmp_path / "net.onnx"
    path.write_bytes(external("pipe.bin").SerializeToString())
    assert "external data 'pipe.bin' is no regular file" in read.refusal(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".pth", ".params", ".safetensors"])
def test_mutants_end_no_process(tmp_path, read, kind):
    """1,000 damaged files: each is read, or refused in one line."""
    rng = random.Random(0)
    originals = _originals(tmp_path, kind)
    path = tmp_path / f"mutant{kind}"
    for _ in range(1000):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.choice((1, 2, 5, 20))):
            place = rng.randrange(len(data))
            draw = rng.random()
            if draw < 0.5:
                data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            elif draw < 0.7:
                data[place : place + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"))
            elif draw < 0.8:
                del data[place : place + rng.randrange(1, 20)]
            else:
                part = data[place : place + rng.randrange(1, 40)]
                data[place:place] = part * rng.choice((1, 2, 50))
        path.write_bytes(data)
        ended, text = read(path, "weights")
        assert ended == "good" or (ended == "refused" and "\n" not in text), f"{text}\n{data!r}"


def _originals(tmp_path, kind):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}
    if kind == ".pth":
        return [(FIXTURES / f"{n}.pth").read_bytes() for n in ("zip", "legacy", "training")]
    if kind == ".safetensors":
        return [save(arrays)]
    mx.nd.save(str(tmp_path / "w.params"), {k: mx.nd.array(v) for k, v in arrays.items()})
    return [(tmp_path / "w.params").read_bytes()]
