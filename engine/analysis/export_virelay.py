"""A project of ViRelAy: what the network saw, its maps, and clusters of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import yaml

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_clusters import Clustering
from shardcam.engine.errors import storage_error
from shardcam.engine.io.plain_file import beside
from shardcam.engine.io.whole_file import make_folder, whole_file
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import F4, NO_CLASS, NO_LABEL, U1
from shardcam.kernels import upsample

Array = npt.NDArray[Any]
SPECTRAL = "spectral"
_TOGETHER = 32  # images that are held at once
_CHANNELS = 2  # ViRelAy adds them up, but cannot draw a single one; the second is 0
_PACKED = {"compression": "gzip", "compression_opts": 1}


def virelay(
    samples: Samples,
    folder: str | Path,
    layer: str,
    views: Callable[[Samples, int], U1],
    target: int = 0,
    keep: bool = False,
    names: Callable[[int], str] = str,
    about: Mapping[str, str] | None = None,
) -> int:
    """Write ``project.yaml`` and its files, which ViRelAy 0.6.1 opens.

    ``dataset.h5`` has what the network saw, (N,H,W,3) uint8; ``attributions.h5`` the raw maps,
    enlarged bilinearly to that size, (N,2,H,W) float32, the second channel being 0, and the
    logits (or the highest scores, others being 0); ``labels.json`` the names of classes;
    ``analysis-NAME.h5`` each clustering of the run, with a category for each class. Images
    without a label have the label -1.

    Parameters
    ----------
    folder
        Made if need be; files of the same names are replaced, others are left.
    layer, target
        Whose maps, and which of the explained classes of each sample.
    views
        What the network saw of a row, (H,W,3) RGB, all of one size.
    keep
        Leave files that are there, which are whole.
    names
        From the number of a class to its name.
    about
        ``name``, ``model``, ``method`` and ``strategy`` (``true_label`` or ``predicted_label``) of
        the project.

    Returns
    -------
    int
        How many files were written.

    Raises
    ------
    ConfigError
        The layer has no maps, or maps of several sizes.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    maps, place = samples.cam(layer), Path(folder)
    maps._require_target(target)
    maps.one_size("ViRelAy")
    make_folder(place)
    classes = _classes(samples)
    height, width = views(samples, 0).shape[:2] if len(samples) else (1, 1)
    size = height, width
    writers: dict[str, Callable[[h5py.File], None]] = {
        "dataset.h5": partial(_write_dataset, samples=samples, views=views, size=size),
        "attributions.h5": partial(
            _write_attributions, samples=samples, layer=layer_path(layer), target=target,
            classes=classes, size=size,
        ),
    }  # fmt: skip
    analyses = samples.clusters
    for name, one in analyses.items():
        analysis = partial(_write_analysis, samples=samples, clustering=one)
        writers[f"analysis-{name}.h5"] = analysis
    written = 0
    for name, write in writers.items():
        if not (keep and (place / name).exists()):
            with _whole_hdf5(place / name) as file:
                write(file)
            written += 1
    labels = [_label(number, names(number)) for number in range(classes)]
    with whole_file(place / "labels.json") as stream:
        text = json.dumps([_label(NO_LABEL, "no label"), *labels], indent=1)
        stream.write(text.encode())
    with whole_file(place / "project.yaml") as stream:
        project = _project(dict(about or {}), analyses)
        text = yaml.safe_dump(project, sort_keys=False, allow_unicode=True)
        stream.write(text.encode())
    return written + 2


def _project(about: dict[str, str], analyses: Mapping[str, Clustering]) -> dict[str, Any]:
    name = about.get("name", "shardcam")
    project: dict[str, Any] = {
        "name": name,
        "model": about.get("model", ""),
        "label_map": "labels.json",
        "dataset": {"name": name, "type": "hdf5", "path": "dataset.h5"},
        "attributions": {
            "attribution_method": about.get("method", "CAM"),
            "attribution_strategy": about.get("strategy", "predicted_label"),
            "sources": ["attributions.h5"],
        },
    }
    if analyses:
        project["analyses"] = [
            {"analysis_method": one, "sources": [f"analysis-{one}.h5"]} for one in analyses
        ]
    return {"project": project}


def _label(number: int, name: str) -> dict[str, Any]:
    return {"index": number, "word_net_id": _category(number), "name": name}


def _category(number: int) -> str:
    """What a class is called where ViRelAy asks for an identifier of WordNet."""
    return f"{number:08d}"


def _classes(samples: Samples) -> int:
    """How many classes there are, as far as the run knows."""
    if samples.has("logits") and (outputs := samples["logits"].shape[1]) > 1:
        return int(outputs)
    columns = (samples[name][:] for name in ("label", "target", "top_class"))
    return 1 + max(int(column.max(initial=0)) for column in columns)


def _write_dataset(
    file: h5py.File,
    samples: Samples,
    views: Callable[[Samples, int], U1],
    size: tuple[int, int],
) -> None:
    data = file.create_dataset(
        "data", (len(samples), *size, 3), np.uint8, chunks=(1, *size, 3), **_PACKED
    )
    file["label"] = samples["label"][:].astype(np.int64)
    row = 0
    for shard in samples.shards():
        for i in range(len(shard)):
            data[row] = views(shard, i)
            row += 1


def _write_attributions(
    file: h5py.File,
    samples: Samples,
    layer: str,
    target: int,
    classes: int,
    size: tuple[int, int],
) -> None:
    maps, count = samples.cam(layer), len(samples)
    attribution = file.create_dataset(
        "attribution",
        (count, _CHANNELS, *size),
        np.float32,
        chunks=(1, _CHANNELS, *size),
        **_PACKED,
    )
    prediction = file.create_dataset("prediction", (count, classes), np.float32)
    file["label"] = samples["label"][:].astype(np.int64)
    for start in range(0, count, _TOGETHER):
        part = slice(start, min(start + _TOGETHER, count))
        raw = np.asarray(maps[part, target], np.float32)
        attribution[part, 0] = upsample(np.nan_to_num(raw), size)
        prediction[part] = _predictions(samples, part, classes)


def _predictions(samples: Samples, part: slice, classes: int) -> F4:
    """(n,classes) logits, or the scores that are stored."""
    if samples.has("logits") and samples["logits"].shape[1] == classes:
        logits: F4 = samples["logits"][part]
        return logits
    top, scores = samples["top_class"][part], np.nan_to_num(samples["top_score"][part])
    found = np.zeros((len(top), classes), np.float32)
    rows = np.broadcast_to(np.arange(len(top))[:, None], top.shape)
    known = top != NO_CLASS
    found[rows[known], top[known]] = scores[known]
    return found


def _write_analysis(file: h5py.File, samples: Samples, clustering: Clustering) -> None:
    numbers = samples["sample"][:]
    how = clustering.summary
    for number in map(int, how["classes"]):
        found = clustering.of_class(number)
        rows = np.searchsorted(numbers, found["sample"])
        there = np.flatnonzero(numbers[np.minimum(rows, len(numbers) - 1)] == found["sample"])
        if not len(there):
            continue
        group = file.create_group("all" if how["by"] == "all" else _category(number))
        group["index"] = rows[there].astype(np.uint32)
        vectors = found["spectral"][there].astype(np.float32)
        group[f"embedding/{SPECTRAL}"] = vectors
        group[f"embedding/{SPECTRAL}"].attrs["eigenvalue"] = 1 - found["eigenvalue"]
        if how["plane"] != SPECTRAL:
            plane = group["embedding"].create_dataset(how["plane"], data=found["embedding"][there])
            plane.attrs.update({"embedding": SPECTRAL, "index": np.array([0, 1])})
        cut = group.create_dataset(
            f"cluster/{how['clustering']}", data=found["cluster"][there].astype(np.int64)
        )
        places = np.arange(vectors.shape[1])
        count = len(found["of_cluster/count"])
        cut.attrs.update({"embedding": SPECTRAL, "k": count, "index": places})


@contextmanager
def _whole_hdf5(path: Path) -> Iterator[h5py.File]:
    """Write a file beside its place, and put it there when all is written."""
    try:
        with beside(path) as temporary:
            with h5py.File(temporary, "w") as file:
                yield file
            temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
