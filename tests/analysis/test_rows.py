"""Rows are read as NumPy would take them from the whole array."""

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shardcam import open_run
from shardcam.engine.analysis import stored_rows as rows_module
from shardcam.engine.errors import ConfigError, RunDirectoryError
from tests.analysis.runs import LAST, MAP, make_run

N = 12
ANY_ORDER = [
    3,
    -1,
    np.int64(5),
    slice(None),
    slice(2, 9),
    slice(9, 2, -2),
    slice(5, 5),
    [7, 2, 2, 11, 0],
    [],
    np.array([-1, 4, -12]),
    np.arange(N) % 3 == 0,
    (slice(3, 9), 1),
    (4, 1),
    (4, slice(None)),
    ([8, 1, 1], 0),
    ([8, 1, 1], [0, 1, 0]),
    ([8, 1, 1], slice(None, None, -1)),
    (slice(2, 5), [1, 0, 1]),
    (slice(8, 1, -3), [True, False]),
    (7, [1, 1]),
    (np.arange(N) > 6, -1),
    ([3, 1], slice(None), 2),
    ([3, 1], 1, slice(1, 3), 0),
    (slice(3), slice(None), slice(None), [0, 2]),
]


@pytest.mark.parametrize("index", ANY_ORDER, ids=str)
def test_rows_are_those_of_numpy(made, run, index):
    scale = made.rows[f"cam/{MAP}/scale"]
    raw = made.rows[f"cam/{MAP}/map"].astype(np.float32) * scale[..., None, None]
    read = run.cam(MAP)[index]
    np.testing.assert_array_equal(read, raw[index])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(run[f"cam/{MAP}/map"][index], made.rows[f"cam/{MAP}/map"][index])


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(index=npst.basic_indices((N,), allow_newaxis=False, allow_ellipsis=False) | st.lists(
    st.integers(-N, N - 1), max_size=30), block=st.sampled_from([1, 300, 1 << 20]))  # fmt: skip
def test_any_order_and_any_block(made, run, monkeypatch, index, block):
    monkeypatch.setattr(rows_module, "_BLOCK_BYTES", block)
    index = index if not isinstance(index, list) else np.array(index, int)
    np.testing.assert_array_equal(run["crop"][index], made.rows["crop"][index])


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (N, "12 is out of range: there are 12 samples"),
        (-N - 1, "-13 is out of range"),
        ([0, 99], "99 is out of range"),
        ((0, 2), "2 is out of range: there are 2 places on axis 1"),
        ((slice(3), [0, -3]), "-3 is out of range"),
        ([True, False], "a mask of shape"),
        (True, "a mask of shape"),
        ("3", "not a number, a slice, a mask or a list of numbers"),
        (1.0, "not a number"),
        (None, "not a number"),
        (..., "not a number"),
        ([[1, 2]], "not a number"),
        ((0, 0, 0, 0, 0), "5 indices for 4 axes"),
    ],
    ids=str,
)
def test_what_is_no_index_is_one_line(run, index, words):
    for rows in (run.cam(MAP), run.cam(MAP).normalized(), run[f"cam/{MAP}/map"]):
        with pytest.raises(IndexError, match=words) as caught:
            rows[index]
        assert "\n" not in str(caught.value)


def test_numpy_takes_rows_for_an_array(made, run):
    assert np.mean(run["top_score"]) == made.rows["top_score"].mean()
    assert len(list(run.cam(LAST))) == N
    assert run["score"].shape == (N, 2)
    assert run["score"].dtype == np.float32


def test_an_unknown_name_is_one_line(run):
    with pytest.raises(ConfigError, match="no dataset 'logits' in it"):
        run["logits"]
    with pytest.raises(ConfigError, match="no dataset 'cam'"):
        run["cam"]
    with pytest.raises(ConfigError, match=r"no maps of layer 'first'; .*: stage\.conv, last"):
        run.cam("first")


def test_a_damaged_chunk_is_one_line(tmp_path):
    made = make_run(tmp_path / "run")
    path = made.paths.shard(1)
    with h5py.File(path) as file:
        chunk = file[f"cam/{LAST}/map"].id.get_chunk_info(0)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\0" * chunk.size)
    with open_run(made.paths.root) as run:
        run.cam(LAST)[:4]
        parts = (lambda: run.cam(LAST)[:], lambda: [part.cam(LAST)[:] for part in run.shards()])
        for read in parts:
            with pytest.raises(RunDirectoryError, match=f"cam/{LAST}/map: unreadable") as caught:
                read()
            assert "\n" not in str(caught.value)


def test_a_closed_run_says_so(made):
    with open_run(made.paths.root) as run:
        maps = run.cam(MAP)
    for late in (lambda: maps[0], lambda: run.layers, lambda: len(run), lambda: run["label"]):
        with pytest.raises(ValueError, match="the file is closed"):
            late()
