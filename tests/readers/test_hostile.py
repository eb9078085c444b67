"""Damaged and malicious containers: one line, or accounted failures; quickly and in little memory.

Each case writes one file and says what must come out: the text of a SourceError, or the
number of samples that can be read and of those that fail.
"""

import gzip
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import textwrap
import time

import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from shardcam.engine.errors import SourceError
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.write_listing import run_listing
from tests.readers.sources import opened, pictures, png, write_h5, write_idx, write_tar

CASES = {}
SECRET = b"the bytes of another file"
PICTURE = png(pictures(1)[0])


def case(expected):
    def keep(build):
        CASES[build.__name__] = (build, expected)
        return build

    return keep


def record(payload, flag=0, length=None):
    """One part of a record."""
    word = flag << 29 | (len(payload) if length is None else length)
    return struct.pack("<II", 0xCED7230A, word) + payload + b"\0" * (-len(payload) % 4)


def labelled(image=PICTURE, flag=0):
    return struct.pack("<IfQQ", flag, 1.0, 0, 0) + image


def written(path, data):
    path.write_bytes(data)
    return path


@case("record 0 at byte 0: it does not start as a record does")
def rec_of_another_format(base):
    return written(base / "a.rec", b"PK\3\4" + bytes(100))


@case("record 1 at byte .*: the file ends within the record")
def rec_cut(base):
    return written(base / "a.rec", (record(labelled()) * 2)[:-30])


@case("the file ends within the record")
def rec_with_a_length_beyond_the_file(base):
    return written(base / "a.rec", record(labelled(), length=(1 << 29) - 1))


@case("a part is missing")
def rec_with_a_middle_part_missing(base):
    return written(base / "a.rec", record(labelled(), flag=1) + record(labelled()))


@case((1, 1))
def rec_that_claims_four_billion_labels(base):
    return written(base / "a.rec", record(labelled(flag=2**32 - 1)) + record(labelled()))


@case((1, 1))
def rec_shorter_than_its_header(base):
    return written(base / "a.rec", record(b"short") + record(labelled()))


@case((1, 2))
def rec_whose_index_points_elsewhere(base):
    (base / "a.idx").write_text("0\t0\n1\t4\n2\t999999999999999999\n")
    return written(base / "a.rec", record(labelled()) * 3)


@case("a.idx, line 2: not KEY, tab, OFFSET")
def rec_with_a_broken_index(base):
    (base / "a.idx").write_text("0\t0\nzero\t-1\n")
    return written(base / "a.rec", record(labelled()))


@case("two samples have the key '7'")
def rec_with_one_key_twice(base):
    (base / "a.idx").write_text("7\t0\n7\t0\n")
    return written(base / "a.rec", record(labelled()))


@case((1, 2))
def tar_that_leads_out(base):
    (base / "out.png").write_bytes(SECRET)
    name = str(base / "out.png")
    return write_tar(
        base / "a.tar", [("../out.png", PICTURE), (name, PICTURE), ("in.png", PICTURE)]
    )


@case((1, 4))
def tar_with_links_and_devices(base):
    (base / "out.png").write_bytes(SECRET)
    with tarfile.open(base / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{int(kind)}.png")
            info.type, info.linkname = kind, str(base / "out.png")
            archive.addfile(info)
        info = tarfile.TarInfo("good.png")
        info.size = len(PICTURE)
        archive.addfile(info, io.BytesIO(PICTURE))
    return base / "a.tar"


def changed_header(data, **fields):
    """A tar header with other bytes in some fields, and the right checksum."""
    header = bytearray(data[:512])
    for name, value in fields.items():
        start = {"size": 124, "kind": 156, "name": 0}[name]
        header[start : start + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def one_member(base, name="a.png"):
    return write_tar(base / "a.tar", [(name, PICTURE)]).read_bytes()


@case("the archive ends within it; is the copy complete")
def tar_that_claims_an_exabyte(base):
    size = b"\x80\0\0\0" + struct.pack(">Q", 1 << 60)
    return written(base / "a.tar", changed_header(one_member(base), size=size))


@case("an extension of")
def tar_with_an_endless_long_name(base):
    data = changed_header(one_member(base), kind=b"L", size=b"00077777777\0")
    return written(base / "a.tar", data + bytes(1 << 21))


@case("a pax record is damaged")
def tar_with_a_damaged_pax_header(base):
    data = changed_header(
        write_tar(base / "a.tar", [("x", b"99 path=a\n")]).read_bytes(), kind=b"x"
    )
    return written(base / "a.tar", data)


@case("no tar header at byte 0")
def tar_that_is_none(base):
    return written(base / "a.tar", os.urandom(4096))


@case("no tar header at byte 0: a number in it is damaged")
def tar_with_a_negative_size(base):
    return written(base / "a.tar", changed_header(one_member(base), size=b"\xff" * 12))


@case((0, 1))
def tar_with_a_sparse_member(base):
    return written(base / "a.tar", changed_header(one_member(base), kind=b"S"))


@case("two samples have the key 'a.png'")
def tar_with_one_name_twice(base):
    return write_tar(base / "a.tar", [("a.png", PICTURE)] * 2)


@case((2, 0))
def tar_with_names_that_are_not_utf8(base):
    data = changed_header(one_member(base), name=b"\xff\xfe\0b.png")  # without an ending: no image
    long = write_tar(base / "b.tar", [("n\udcff" * 80 + ".png", PICTURE)]).read_bytes()
    pax = write_tar(
        base / "c.tar", [("\N{SNOWMAN}" * 90 + ".png", PICTURE)], tarfile.PAX_FORMAT
    ).read_bytes()
    return written(base / "a.tar", data[:-9216] + long[:2048] + pax)


@case((1, 0))
def tar_with_a_label_that_is_none(base):
    return write_tar(base / "a.tar", [("a.png", PICTURE), ("a.cls", b"dog")])


@case("not an .npy file: ")
def npy_with_pickled_objects_cut(base):
    np.save(base / "a.npy", np.zeros((2, 4, 4), np.uint8))
    return written(base / "a.npy", (base / "a.npy").read_bytes()[:40])


@case("object .* is not an array of images")
def npy_with_objects(base):
    np.save(base / "a.npy", np.array([[[{}]]], object), allow_pickle=True)
    return base / "a.npy"


def npy_header(shape, descr="'|u1'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


@case("pictures need 1000000000000000000 bytes; the file has 100")
def npy_that_claims_a_huge_shape(base):
    return written(base / "a.npy", npy_header((10**12, 1000, 1000)) + bytes(100))


@case("not an .npy file")
def npy_with_a_deep_header(base):
    return written(base / "a.npy", npy_header("(" * 5000 + ")" * 5000))


@case("no picture in it: its shape is .-1")
def npy_with_negative_sizes(base):
    return written(base / "a.npy", npy_header((-1, 4, 4)) + bytes(16))


@case("not an IDX file of 3 dimensions")
def idx_with_a_wrong_magic(base):
    return written(base / "a-idx3-ubyte", struct.pack(">IIII", 0xD03, 1, 2, 2) + bytes(16))


@case("pictures of .4294967295, 4294967295. are larger than 1073741824 bytes")
def idx_that_claims_a_huge_shape(base):
    most = 2**32 - 1
    return written(base / "a-idx3-ubyte", struct.pack(">IIII", 0x803, most, most, most) + bytes(4))


@case("49 labels for 50 pictures")
def idx_with_a_label_missing(base):
    return write_idx(base, pictures(50, gray=True), [1] * 49)


@case("damaged: |Compressed file ended")
def idx_gz_cut(base):
    path = write_idx(base, pictures(50, gray=True), [1] * 50, packed=True)
    return written(path, path.read_bytes()[:-500])


@case("must be unpacked first")
def idx_gz_that_is_a_bomb(base):
    data = struct.pack(">IIII", 0x803, 1 << 20, 64, 64) + bytes(1 << 22)
    return written(base / "a-idx3-ubyte.gz", gzip.compress(data))


@case("not an HDF5 file")
def h5_of_another_format(base):
    return written(base / "a.h5", os.urandom(5000))


@case("only 0 of .* chunks were written")
def h5_that_claims_a_huge_shape(base):
    with h5py.File(base / "a.h5", "w") as file:
        file.create_dataset("x", (10**9, 64, 64), np.uint8, chunks=(1, 64, 64))
    return base / "a.h5"


@case("chunks of .* are too large")
def h5_with_a_huge_chunk(base):
    with h5py.File(base / "a.h5", "w") as file:
        file.create_dataset("x", (64, 8192, 8192), np.uint8, chunks=(32, 8192, 8192))
    return base / "a.h5"


@case("pictures of .* are larger than 1073741824 bytes")
def h5_that_unpacks_to_gigabytes(base):
    with h5py.File(base / "a.h5", "w") as file:
        options = {"chunks": (1, 8192, 8192, 1), "compression": "gzip"}
        data = file.create_dataset("x", (1, 8192, 8192 * 17, 1), np.uint8, **options)
        data[0, 0, 0] = 1
    return base / "a.h5"


@case("labels: a label is not a class|a.h5: damaged")
def h5_with_labels_that_are_damaged(base):
    write_h5(base / "a.h5", pictures(4))
    with h5py.File(base / "a.h5", "a") as file:
        file.create_dataset("labels", data=np.arange(4), chunks=(4,), fletcher32=True)
        at = file["labels"].id.get_chunk_info(0).byte_offset
    with (base / "a.h5").open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\x55" * 9)
    return base / "a.h5"


@case("its data is in other files")
def h5_with_its_bytes_in_another_file(base):
    (base / "secret.bin").write_bytes(SECRET * 100)
    with h5py.File(base / "a.h5", "w") as file:
        outside = [(str(base / "secret.bin"), 0, 256)]
        file.create_dataset("x", (4, 8, 8), np.uint8, external=outside)
    return base / "a.h5"


@case("its data is in other files")
def h5_with_virtual_data(base):
    write_h5(base / "b.h5", pictures(4))
    layout = h5py.VirtualLayout((4, 12, 9, 3), np.uint8)
    layout[:] = h5py.VirtualSource(base / "b.h5", "images", (4, 12, 9, 3))
    with h5py.File(base / "a.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    return base / "a.h5"


@case("'x' is a link to another file")
def h5_with_a_link_into_another_file(base):
    write_h5(base / "b.h5", pictures(4))
    with h5py.File(base / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(base / "b.h5"), "/images")
    return f"{base}/a.h5::x"


@case("several datasets .first, second.")
def h5_with_two_datasets(base):
    write_h5(base / "a.h5", pictures(4), name="first")
    with h5py.File(base / "a.h5", "a") as file:
        file["second"] = pictures(4)
    return base / "a.h5"


@case((3, 1))
def h5_with_a_damaged_chunk(base):
    write_h5(base / "a.h5", pictures(4), chunks=(1, 12, 9, 3), fletcher32=True)
    with h5py.File(base / "a.h5") as file:
        at = file["images"].id.get_chunk_info(2).byte_offset
    with (base / "a.h5").open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\x55" * 9)
    return base / "a.h5"


@case("longer than 131072 bytes")
def manifest_of_one_endless_line(base):
    with (base / "a.jsonl").open("wb") as stream:
        stream.truncate(1 << 36)  # of zeros, on no disk space
    return base / "a.jsonl"


@case("line 2: not JSON")
def manifest_with_deep_json(base):
    (base / "a.jsonl").write_text('{"path": "a"}\n' + "[" * 100_000 + "\n")
    return base / "a.jsonl"


@case("field larger than field limit|longer than|unexpected end of data")
def manifest_with_an_open_quote(base):
    (base / "a.csv").write_text('path\n"' + "a.png\n" * 100_000)
    return base / "a.csv"


@case("cannot be read as Parquet")
def manifest_that_is_no_parquet(base):
    return written(base / "a.parquet", b"PAR1" + os.urandom(1000) + b"\xff\xff\xff\x7fPAR1")


@case("after row 0: 'utf-8' codec can't decode")
def manifest_of_parquet_that_is_not_utf8(base):
    text = pa.array([b"a.png", b"\xff.png"], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"path": text}), base / "a.parquet")
    return base / "a.parquet"


@case((1, 1))
def tar_with_a_member_of_a_terabyte(base):
    size = b"\x80\0\0\0" + struct.pack(">Q", 1 << 40)
    data = changed_header(one_member(base), size=size)
    written(base / "a.tar", one_member(base, "b.png")[:1024] + data[:512])  # on no disk space
    with (base / "a.tar").open("r+b") as stream:
        stream.truncate(1536 + (1 << 40))
    return base / "a.tar"


@case((1, 3))
def folder_with_pipes_links_and_a_huge_file(base):
    (base / "loop").symlink_to(base)
    (base / "loop2").symlink_to(base)
    os.mkfifo(base / "pipe.png")
    (base / "device.png").symlink_to("/dev/zero")
    with (base / "huge.png").open("wb") as stream:
        stream.truncate(1 << 40)
    (base / "good.png").write_bytes(PICTURE)
    return f"{base}/**/*.png"


@pytest.mark.parametrize("name", CASES)
def test_hostile(tmp_path, name):
    build, expected = CASES[name]
    source = build(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    begin = time.monotonic()
    try:
        with run_listing(RunDir(tmp_path / "run"), {}, opened(source).samples) as listing:
            samples = list(listing)
        shutil.rmtree(tmp_path / "run")
        read, failed = 0, 0
        for sample in samples:
            try:
                data = opened(source).read(sample)
                assert not isinstance(data, bytes) or (data == PICTURE and data != SECRET)
                read += 1
            except OSError:
                failed += 1
        assert (read, failed) == expected
    except SourceError as error:
        assert isinstance(expected, str), error
        assert re.search(expected, str(error)), str(error)
        assert "\n" not in str(error)
    assert time.monotonic() - begin < 5
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.process
def test_hostile_sources_need_little_memory(tmp_path):
    """All of them listed and read in one process of which 1 GB of address space is left."""
    code = """
        import pathlib, resource, sys
        from tests.readers import test_hostile as t
        base = pathlib.Path(sys.argv[1])
        sources = {}
        for name, (build, _) in t.CASES.items():
            (base / name).mkdir()
            sources[name] = build(base / name)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
        for name, source in sources.items():
            try:
                reader = t.opened(source)
                for sample in reader.samples():
                    try:
                        reader.read(sample)
                    except OSError:
                        pass
            except t.SourceError:
                pass
        print("done", len(sources))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert f"done {len(CASES)}" in done.stdout, done.stderr[-2000:]
