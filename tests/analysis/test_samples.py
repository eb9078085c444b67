"""Whole runs, selections and shards answer alike; tables and means are those by hand."""

import gc
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shardcam import export, open_run
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.rundir.shard_file import read_failures
from tests.analysis.runs import LAST, MAP, make_run
from tests.child import printed_by

ROOT = Path(__file__).parents[2]


def keys_of(made):
    return [key.decode() for key in made.rows["key"]]


def test_a_run_says_what_it_holds(made, run):
    assert len(run) == 12
    assert run.layers == (MAP, LAST)
    assert run.keys == keys_of(made)
    shards = [made.paths.shard(number) for number in range(4)]
    assert run.failures == [failure for shard in shards for failure in read_failures(shard)]
    assert [failure.sample for failure in run.failures] == [4, 8, 9, 15]
    assert run.config["method"] == "gradcam"


def test_activations_that_were_not_saved(run):
    assert run.activation_layers == ()
    with pytest.raises(
        ConfigError, match="'last'; layers with some: none; see --save pooled and activations"
    ):
        run.activation("last")


def test_the_table_has_every_column(made, run):
    table, rows = run.table, made.rows
    assert list(table) == [
        *("key", "sample", "label", "flags", "target_0", "target_1", "score_0", "score_1"),
        *(f"top_class_{i}" for i in range(5)),
        *(f"top_score_{i}" for i in range(5)),
        *("height", "width", "y0", "x0", "y1", "x1"),
    ]
    assert list(table.key) == keys_of(made)
    for name in ("sample", "label", "flags"):
        np.testing.assert_array_equal(table[name], rows[name])
        assert table[name].dtype == rows[name].dtype
    for name in ("target", "score", "top_class", "top_score"):
        for k in range(rows[name].shape[1]):
            np.testing.assert_array_equal(table[f"{name}_{k}"], rows[name][:, k])
    np.testing.assert_array_equal(table[["height", "width"]], rows["image_size"])
    np.testing.assert_array_equal(table[["y0", "x0", "y1", "x1"]], rows["crop"])


PREDICTED = "top_class"
SELECTIONS = {
    "all": ({}, lambda r: r["sample"] >= 0),
    "class": ({"predicted": 2}, lambda r: r[PREDICTED][:, 0] == 2),
    "classes": ({"predicted": (2, 5, 0)}, lambda r: np.isin(r[PREDICTED][:, 0], [0, 2, 5])),
    "label": ({"label": 1}, lambda r: r["label"] == 1),
    "none": ({"label": -1}, lambda r: r["label"] == -1),
    "score": ({"min_score": 0.8}, lambda r: r["top_score"][:, 0] >= 0.8),
    "flags": ({"flags": 0}, lambda r: r["flags"] == 0),
    "right": ({"correct": True}, lambda r: r["label"] == r[PREDICTED][:, 0]),
    "wrong": (
        {"correct": False},
        lambda r: (r["label"] >= 0) & (r["label"] != r[PREDICTED][:, 0]),
    ),
    "several": (
        {"flags": 1, "min_score": 0.6, "label": range(5)},
        lambda r: (r["flags"] == 1) & (r["top_score"][:, 0] >= 0.6) & (r["label"] >= 0),
    ),
    "nobody": ({"predicted": 99}, lambda r: r["sample"] < 0),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_answers_like_a_run(made, run, name):
    asked, meant = SELECTIONS[name]
    chosen = np.flatnonzero(meant(made.rows))
    view, whole = run.select(**asked), run.cam(MAP)[:]
    assert len(view) == len(chosen)
    assert view.keys == [keys_of(made)[i] for i in chosen]
    assert view.layers == run.layers
    pd.testing.assert_frame_equal(view.table, run.table.iloc[chosen].reset_index(drop=True))
    np.testing.assert_array_equal(view.cam(MAP)[:], whole[chosen])
    np.testing.assert_array_equal(view.cam(MAP)[::-1, 1], whole[chosen][::-1, 1])
    np.testing.assert_array_equal(
        view.cam(MAP).heatmap((8, 9))[:], run.cam(MAP).heatmap((8, 9))[chosen]
    )
    parts = [part["sample"][:] for part in view.shards()]
    np.testing.assert_array_equal(np.concatenate([[], *parts]), made.rows["sample"][chosen])


def test_the_selections_are_not_all_alike(made):
    counts = {name: int(meant(made.rows).sum()) for name, (_, meant) in SELECTIONS.items()}
    assert counts["all"] == 12
    assert counts["nobody"] == 0
    assert all(0 < counts[name] < 12 for name in counts.keys() - {"all", "nobody"}), counts


def test_a_selection_of_a_selection(made, run):
    view = run.select(flags=1).select(min_score=0.6).select(label=(0, 1, 2))
    assert view.keys == run.select(flags=1, min_score=0.6, label=(0, 1, 2)).keys
    i = 1
    row = run.keys.index(view.keys[i])
    np.testing.assert_array_equal(view.cam(MAP).on_original(i), run.cam(MAP).on_original(row))


TAKEN = ([7, 2, 2, -1], slice(3, 9), 5, np.arange(12) % 2 == 0, [])


@pytest.mark.parametrize("rows", TAKEN, ids=str)
def test_samples_are_taken_by_position(made, run, rows):
    expected = np.unique(np.arange(12)[rows]) if len(np.atleast_1d(rows)) else np.arange(0)
    assert run.take(rows).keys == [keys_of(made)[i] for i in expected]
    in_shards = [count for count in np.histogram(expected, [0, 4, 7, 12])[0] if count]
    assert [len(part) for part in run.take(rows).shards()] == in_shards


def test_samples_are_taken_from_a_selection(run):
    view = run.select(flags=1)
    assert view.take([1, 0]).keys == view.keys[:2]
    with pytest.raises(IndexError, match="12 is out of range: there are 12 samples"):
        run.take(12)


@pytest.mark.parametrize("wrong", ["cat", ["cat"], 1.5, [0.5]])
def test_what_is_no_class_is_one_line(run, wrong):
    with pytest.raises(ConfigError, match="predicted: expected class numbers, got"):
        run.select(predicted=wrong)


def test_shards_hold_their_own_rows(made, run):
    lengths, samples = [], []
    for part in run.shards():
        lengths.append(len(part))
        samples.append(part["sample"][:])
        first = int(np.searchsorted(made.rows["sample"], samples[-1][0]))
        np.testing.assert_array_equal(part.cam(LAST)[-1], run.cam(LAST)[first + len(part) - 1])
        assert part.table.equals(run.table[first : first + len(part)].reset_index(drop=True))
        assert [p.keys for p in part.shards()] == [part.keys]
    assert lengths == [4, 3, 5]
    np.testing.assert_array_equal(np.concatenate(samples), made.rows["sample"])


def test_a_shard_that_vanishes_later_is_named(tmp_path):
    made = make_run(tmp_path / "run")
    with open_run(made.paths.root) as run:
        made.paths.shard(1).unlink()
        with pytest.raises(RunDirectoryError, match=r"shard-000001\.h5: missing"):
            list(run.shards())


@pytest.mark.parametrize("by", ["predicted", "label"])
@pytest.mark.parametrize("target", [0, 1])
def test_class_means_are_those_by_hand(made, run, by, target):
    maps = np.maximum(made.rows[f"cam/{MAP}/map"][:, target].astype(np.float64), 0)
    maps -= maps.min(axis=(1, 2), keepdims=True)
    maps /= maps.max(axis=(1, 2), keepdims=True) + 1e-7
    classes = made.rows["label"] if by == "label" else made.rows["top_class"][:, 0]
    means = export.class_means(run, MAP, by, target)
    assert means.classes.tolist() == sorted(set(classes.tolist()) - {-1})
    assert means.maps.shape == (len(means.classes), 5, 7)
    assert means.maps.dtype == np.float64
    for number, count, mean in zip(means.classes, means.counts, means.maps):
        assert count == (classes == number).sum()
        np.testing.assert_allclose(mean, maps[classes == number].mean(axis=0), atol=1e-6)


def test_class_means_of_a_selection_and_of_nothing(run):
    chosen = run.select(flags=(0))
    assert export.class_means(chosen, MAP).counts.sum() == len(chosen) > 0
    nothing = export.class_means(run.select(predicted=99), MAP)
    assert (nothing.classes.shape, nothing.maps.shape) == ((0,), (0, 5, 7))


def test_class_means_refuse_in_one_line(run):
    with pytest.raises(ConfigError, match="by: expected predicted or label, got 'target'"):
        export.class_means(run, MAP, "target")
    with pytest.raises(IndexError, match="target 2: 2 explained"):
        export.class_means(run, MAP, target=2)
    with pytest.raises(ConfigError, match="no maps of layer"):
        export.class_means(run, "first")


def test_labelled_maps(made, run):
    array = export.xarray(run.select(flags=1), MAP)
    chosen = made.rows["flags"] == 1
    assert array.dims == ("sample", "target", "y", "x")
    np.testing.assert_array_equal(array, run.cam(MAP)[chosen])
    np.testing.assert_array_equal(array.sample, made.rows["sample"][chosen])
    np.testing.assert_array_equal(array["class"], made.rows["target"][chosen])
    np.testing.assert_array_equal(array.score, made.rows["score"][chosen])
    np.testing.assert_allclose(array.y, [0.1, 0.3, 0.5, 0.7, 0.9])
    first = int(made.rows["sample"][chosen][0])
    assert str(array.sel(sample=first).key.item()) == f"größe/{first:04d}.png"
    assert array.sel(y=0.31, x=0.5, method="nearest").shape == (chosen.sum(), 2)


@pytest.mark.parametrize(("missing", "call"), [("pandas", "table"), ("xarray", "xarray")])
def test_a_missing_library_is_one_line(run, monkeypatch, missing, call):
    monkeypatch.setitem(sys.modules, missing, None)
    line = f"needs {missing}: install shardcam with its extra analysis$"
    with pytest.raises(ConfigError, match=line):
        run.table if call == "table" else export.xarray(run, MAP)


@pytest.mark.process
def test_nothing_heavy_is_loaded(made):
    code = """
        import sys, tempfile
        import shardcam
        print(*{"h5py", "numpy", "numba"} & sys.modules.keys())
        with shardcam.open_run(sys.argv[1]) as run:
            shardcam.export.class_means(run, "last")
            with tempfile.TemporaryDirectory() as folder:
                shardcam.export.coco(run, folder + "/c.json", "last")
                shardcam.export.masks(run, folder, "last")
                shardcam.export.npy(run, folder + "/m.npy", "last")
        print(*{"mxnet", "ray", "pandas", "xarray", "matplotlib"} & sys.modules.keys())
        """
    assert printed_by(code, made.paths.root).split() == []


SHARDS, ROWS = 120, 50


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("long") / "run", (ROWS,) * SHARDS, failures=0)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_run(long):
    """One shard's maps are 14 kB; all together 1.7 MB."""
    with open_run(long.paths.root) as run:
        whole = run.cam(MAP).shape
        bytes_of_all = 4 * int(np.prod(whole))
        export.class_means(run, MAP)  # what is allocated once
        tracemalloc.start()
        peaks = []
        for part in run.shards():
            gc.collect()
            tracemalloc.reset_peak()
            part.cam(MAP)[:].sum()
            peaks.append(tracemalloc.get_traced_memory()[1])
        export.class_means(run, MAP)
        peak_of_means = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(peaks) == SHARDS
    assert max(peaks[-30:]) < 1.1 * max(peaks[:30])
    assert max(peaks) < bytes_of_all / 5
    assert peak_of_means < bytes_of_all / 3


@pytest.mark.process
def test_resident_memory_and_open_files_do_not_grow(long):
    """HDF5 allocates where tracemalloc does not see."""
    code = """
        import os, sys
        from shardcam import open_run

        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * 4096

        with open_run(sys.argv[1]) as run:
            for turn in range(6):
                for part in run.shards():
                    part.cam("stage.conv").heatmap((24, 30))[:]
                print(resident() >> 10, len(os.listdir("/proc/self/fd")))
        """
    numbers = np.array(printed_by(code, long.paths.root).split(), int).reshape(6, 2)
    assert numbers[-1, 0] - numbers[0, 0] < 4096, "kB in five more passes over 120 shards"
    assert numbers[-1, 1] < 20


def test_a_run_in_which_all_failed_is_empty(tmp_path):
    made = make_run(tmp_path / "run", (0, 0))
    with open_run(made.paths.root) as run:
        assert (len(run), run.keys, len(run.failures), len(run.table)) == (0, [], 2, 0)
        assert list(run.shards()) == []
        assert export.class_means(run, MAP).maps.shape == (0, 5, 7)
        assert export.xarray(run, MAP).shape == run.cam(MAP)[:].shape == (0, 2, 5, 7)
        with pytest.raises(IndexError, match="there are 0 samples"):
            run.cam(MAP)[0]
