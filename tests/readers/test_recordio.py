"""Against MXNet's own writer and reader."""

import struct
import tempfile
from contextlib import suppress
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardcam.engine.errors import SourceError
from shardcam.engine.readers.recordio import RecordReader
from tests.readers.reader_conformance import check_listing
from tests.readers.sources import write_rec

MAGIC = struct.pack("<I", 0xCED7230A)
words = st.lists(st.sampled_from([MAGIC, b"abcd", b"\0\0\0\0", b"x", MAGIC[:3]]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(words.map(b"".join), min_size=1, max_size=6), st.booleans())
def test_payloads_with_the_magic_word_in_them(payloads, index):
    """MXNet splits them where the word is aligned; the same bytes come back."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_rec(Path(folder) / "a.rec", payloads, range(len(payloads)), index)
        reader = RecordReader(str(path))
        listing = check_listing(reader, len(payloads))
        assert [reader.read(sample) for sample in listing] == payloads
        assert [sample.label for sample in listing] == list(range(len(payloads)))
        theirs = mx.recordio.MXRecordIO(str(path), "r")
        assert [mx.recordio.unpack(theirs.read())[1] for _ in payloads] == payloads
        theirs.close()


def test_a_header_that_is_split(tmp_path):
    """The id is the magic word, so that the first part ends within the header."""
    record = mx.recordio.MXRecordIO(str(tmp_path / "a.rec"), "w")
    record.write(mx.recordio.pack(mx.recordio.IRHeader(0, 5.0, 0xCED7230A, 0), b"image"))
    record.close()
    reader = RecordReader(str(tmp_path / "a.rec"))
    (sample,) = check_listing(reader, 1)
    assert (sample.label, reader.read(sample)) == (5, b"image")


@pytest.mark.parametrize(
    ("label", "kept"),
    [(3.0, 3), (0.5, -1), (-2.0, -1), (np.nan, -1), (np.inf, -1), (3e9, -1), ([7.0, 8.0, 9.0], 7)],
)
def test_labels(tmp_path, label, kept):
    (sample,) = check_listing(
        RecordReader(str(write_rec(tmp_path / "a.rec", [b"image"], [label]))), 1
    )
    assert sample.label == kept
    assert RecordReader(str(tmp_path / "a.rec")).read(sample) == b"image"


def test_the_order_and_the_keys_are_those_of_the_index(tmp_path):
    path = write_rec(tmp_path / "a.rec", [b"a", b"b", b"c"], [0, 1, 2])
    lines = (tmp_path / "a.idx").read_text().splitlines()
    (tmp_path / "a.idx").write_text("\n".join([lines[2], lines[0].replace("0\t", "zero\t")]))
    reader = RecordReader(str(path))
    listing = check_listing(reader, 2)
    assert [(s.key, s.label, reader.read(s)) for s in listing] == [
        ("2", 2, b"c"),
        ("zero", 0, b"a"),
    ]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_one_line_or_a_failure(data):
    with tempfile.TemporaryDirectory() as folder:
        path = write_rec(Path(folder) / "a.rec", [b"a" * 9, MAGIC * 3, b""], [0, 1, 2], index=False)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        reader = RecordReader(str(path))
        try:
            listing = list(reader.samples())
        except SourceError as error:
            assert "\n" not in str(error)
            return
        for sample in listing:
            with suppress(OSError):
                assert len(reader.read(sample)) <= len(content)
