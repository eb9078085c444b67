"""What ``shardcam export`` can write, and which of its options each form takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from shardcam import export
from shardcam.engine.analysis.export_files import ImageFiles, file_stems, plain_stem
from shardcam.engine.analysis.export_heatmaps import CropFiles, HeatmapFiles, shows_nothing
from shardcam.engine.analysis.export_seeds import EVAL_THRESHOLD, SeedFiles, require_few_classes
from shardcam.engine.analysis.feature_rows import MAPS, feature_rows
from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.placement import level_of
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.run.class_names import ClassName, kept_class_names, numbered
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import U1, Preprocessing, counted
from shardcam.jobs.export_processes import Writer, write_all
from shardcam.jobs.source_pictures import SourcePictures

THRESHOLD = 0.5
FILE, FOLDER = "file", "folder"  # what --out is


@dataclass(frozen=True)
class Asked:
    """The run, and the options of the command."""

    run: Run
    home: RunDir
    form: str
    out: Path
    layer: str | None
    target: int
    levels: tuple[float, ...]
    scores: str
    classes: tuple[int, ...]
    crf: bool
    of: str | None
    workers: int | None
    console: Console

    @cached_property
    def config(self) -> RunConfig:
        return stored_config(self.home.home, self.run.config)

    @cached_property
    def map_layer(self) -> str:
        """The layer whose maps are meant."""
        if self.layer is None and len(self.run.layers) != 1:
            if not self.run.layers:
                raise ConfigError(f"{self.home.home}: has no maps; extract with --save maps")
            known = ", ".join(self.run.layers)
            raise ConfigError(f"--layer: choose one of the layers with maps: {known}")
        layer = self.layer or self.run.layers[0]
        self.require_target(self.run.cam(layer).shape[1])
        return layer

    def require_target(self, explained: int) -> None:
        if self.target >= explained:
            raise ConfigError(f"--target-index {self.target}: {explained} explained, from 0")

    @cached_property
    def class_name(self) -> ClassName:
        return kept_class_names(self.home, self.config) or numbered

    @cached_property
    def listing(self) -> Listing:
        self.home.fetch(self.home.listing)
        return Listing(self.home.listing)

    def picture_path(self, number: int) -> str:
        """Where the picture of a sample is, if it is a file."""
        return str(Path(self.listing.read(number, number + 1)[0].location).absolute())

    @cached_property
    def other_place(self) -> str | None:
        """Where the first picture is, if it is no file of this machine."""
        for number in self.run["sample"][:1].tolist():
            place = self.listing.read(number, number + 1)[0].location
            return None if Path(place).is_file() else place
        return None


@dataclass(frozen=True)
class Job:
    """What is to be written, found to be possible.

    Attributes
    ----------
    write
        Writes it, and says what; is told whether files that are there are kept.
    made_of
        What files of a folder are made of, besides the run: those of the same are kept. None if
        it begins anew.
    old
        Files in the folder that are of another export.
    note
        Name of the file that says what files are made of, if not the usual.
    """

    write: Callable[[bool], str]
    made_of: dict[str, Any] | None = None
    old: Iterable[Path] = ()
    note: str | None = None


@dataclass(frozen=True)
class Form:
    """Something that can be written."""

    prepare: Callable[[Asked], Job]
    place: str
    takes: frozenset[str]  # options, besides --force and --layer


def _npy(asked: Asked) -> Job:
    layer = asked.map_layer

    def write(keep: bool) -> str:
        return _done(asked, counted(export.npy(asked.run, asked.out, layer, asked.target), "map"))

    return Job(write)


def _masks(asked: Asked) -> Job:
    layer, level = asked.map_layer, asked.levels[0]

    def write(keep: bool) -> str:
        return _done(
            asked, counted(export.masks(asked.run, asked.out, layer, level, asked.target), "mask")
        )

    return Job(write)


def _coco(asked: Asked) -> Job:
    layer, level = asked.map_layer, asked.levels[0]

    def write(keep: bool) -> str:
        count = export.coco(asked.run, asked.out, layer, level, asked.target, asked.class_name)
        done = f"{counted(count, 'region')} of {counted(len(asked.run), 'picture')}"
        return _done(asked, done + _without_map(asked, " ({})"))

    return Job(write)


def _done(asked: Asked, what: str) -> str:
    return f"{what} of {asked.map_layer} written to {asked.out}"


def _without_map(asked: Asked, form: str) -> str:
    """How many pictures have none that shows anything, if any."""
    without = int(shows_nothing(asked.run, asked.target).sum())
    left_out = (
        f"{without} left out: their maps are not finite, all zero or constant, or of no class"
    )
    return form.format(left_out) if without else ""


def _seeds(asked: Asked) -> Job:
    low, high = asked.levels[0], asked.levels[-1]
    rest = asked.scores, asked.classes, asked.crf
    files = SeedFiles(asked.form, asked.map_layer, low, high, *rest)
    made_of: dict[str, Any] = {}
    if asked.form == "seeds":
        require_few_classes(asked.run, asked.classes)
        _require_known(asked)
        made_of = {"threshold": sorted({low, high}), "scores": asked.scores}
        if asked.classes:
            made_of["classes"] = list(asked.classes)
        if asked.crf:
            made_of["crf"] = True
    return _images(asked, files, made_of)


def _require_known(asked: Asked) -> None:
    """Of a class that the network does not have nothing would be in seeds."""
    count = read_manifest(asked.home).plan.get("classes", sys.maxsize)
    if beyond := [number for number in asked.classes if number >= count]:
        raise ConfigError(f"--classes {beyond[0]}: the network has classes 0 to {count - 1}")


def _heatmaps(asked: Asked) -> Job:
    files = HeatmapFiles(asked.map_layer, asked.target, asked.run.style.colormap)
    return _images(asked, files, {"target": asked.target}, _without_map(asked, "; {}"))


def _crops(asked: Asked) -> Job:
    files = CropFiles(asked.map_layer, asked.target, level_of(asked.levels[0]))
    made_of = {"target": asked.target, "threshold": asked.levels[0]}
    return _images(asked, files, made_of, _without_map(asked, "; {}"))


def _images(asked: Asked, files: ImageFiles, made_of: dict[str, Any], without: str = "") -> Job:
    """A file of each image, by several processes."""
    run = asked.run
    stems = file_stems(run.keys, run["sample"][:].tolist())
    paths = [asked.out / f"{stem}{files.ending}" for stem in stems]

    def write(keep: bool) -> str:
        there = sum(path.exists() for path in paths)
        if files.needs_pictures:
            asked.home.fetch(asked.home.listing)
        writer = Writer(asked.out, files, asked.home.listing, asked.config)
        written = write_all(run, writer, asked.workers, asked.console)
        failed = f"; {counted(len(run.failures), 'image')} failed in the run" * bool(run.failures)
        were = f", {there} were there" if there else ""
        return _done(asked, counted(written, "file")) + were + without + failed

    if stems and stems[0] != plain_stem(run.keys[0]):  # those of a run that grew may be
        made_of = {**made_of, "names": "numbered"}
    return Job(write, {"layer": files.layer, **made_of}, paths)


def _features(
    function: Callable[..., int], *old: str, note: str | None = None, paths: bool = False
) -> Callable[[Asked], Job]:
    """A layout of features, and the files that it has."""

    def prepare(asked: Asked) -> Job:
        rows = feature_rows(asked.run, asked.of, asked.layer)
        made_of = {"layer": rows.layer, "of": rows.of, "images": len(rows)}
        if rows.of == MAPS:
            asked.require_target(asked.run["target"].shape[1])
            made_of["target"] = asked.target
        elif asked.target:
            raise ConfigError(f"--target-index: it is for maps (--of maps), not for {rows.of}")
        more: dict[str, Any] = {}
        if paths and asked.other_place is None:
            more["paths"] = asked.picture_path

        def write(keep: bool) -> str:
            where = asked.run, asked.out, rows.layer, rows.of, asked.target, keep
            written = function(*where, **more)
            of = f"{counted(len(rows), 'row')} ({rows.of}) of {rows.layer}"
            return f"{of}: {counted(written, 'file')} written to {asked.out}"

        files = (path for pattern in old for path in asked.out.glob(pattern))
        return Job(write, made_of, files, note)

    return prepare


def _fiftyone(asked: Asked) -> Job:
    layer, run = asked.map_layer, asked.run
    if asked.other_place is not None:
        raise ConfigError(
            f"--to fiftyone: it takes pictures that are files, which {asked.other_place} is not; "
            "unpack the source, and extract from the folder"
        )

    def write(keep: bool) -> str:
        count = export.fiftyone(
            run, asked.out, layer, asked.target, keep, asked.class_name,
            asked.picture_path,
        )  # fmt: skip
        return _done(asked, counted(count, "sample")) + _without_map(asked, "; heatmaps: {}")

    made_of = {"layer": layer, "target": asked.target, "images": len(run)}
    return Job(write, made_of, asked.out.glob("fields/heatmap/*.png"))


def _virelay(asked: Asked) -> Job:
    layer, run, config = asked.map_layer, asked.run, asked.config
    run.cam(layer).one_size("--to virelay")
    seen = Preprocessing.stored(read_manifest(asked.home).numbers["preprocessing"])
    if seen.resize == "none":
        raise ConfigError("--to virelay: takes pictures of one size, not --resize none")
    pictures = SourcePictures(asked.listing, config)

    def view(samples: Samples, i: int) -> U1:
        size = seen.width, seen.height
        found = cv2.resize(pictures.view(samples, i, seen), size, interpolation=cv2.INTER_AREA)
        return np.asarray(found, np.uint8)

    about = {
        "name": asked.home.name,
        "model": Path(config.model).name,
        "method": config.method,
        "strategy": "true_label" if config.target == "label" else "predicted_label",
    }

    def write(keep: bool) -> str:
        written = export.virelay(
            run, asked.out, layer, view, asked.target, keep, asked.class_name, about
        )
        analyses = f"analyses: {', '.join(run.clusters) or 'none; see shardcam cluster'}"
        return f"{_done(asked, counted(written, 'file'))}; {analyses}"

    made_of = {"layer": layer, "target": asked.target, "images": len(run)}
    made_of["clusters"] = {
        name: {**clustering.summary, "classes": len(clustering.summary["classes"])}
        for name, clustering in run.clusters.items()
    }
    old = (path for pattern in ("*.h5", "labels.json", "project.yaml") for path in
           asked.out.glob(pattern))  # fmt: skip
    return Job(write, made_of, old)


def _takes(*options: str) -> frozenset[str]:
    return frozenset(options)


_FEATURES = _takes("of", "target_index")
FORMS = {
    "npy": Form(_npy, FILE, _takes("target_index")),
    "masks": Form(_masks, FOLDER, _takes("target_index", "threshold")),
    "coco": Form(_coco, FILE, _takes("target_index", "threshold")),
    "heatmaps": Form(_heatmaps, FOLDER, _takes("target_index", "workers")),
    "crops": Form(_crops, FOLDER, _takes("target_index", "threshold", "workers")),
    "seeds": Form(_seeds, FOLDER, _takes("threshold", "scores", "classes", "crf", "workers")),
    "irn": Form(_seeds, FOLDER, _takes("workers")),
    "psa": Form(_seeds, FOLDER, _takes("workers")),
    "thingsvision": Form(
        _features(export.thingsvision, "features.npy", "file_names.txt"), FOLDER, _FEATURES
    ),
    "clip-retrieval": Form(
        _features(
            export.clip_retrieval, "img_emb/img_emb_*.npy", "metadata/metadata_*.parquet",
            paths=True,
        ),
        FOLDER,
        _FEATURES,
    ),
    "faiss": Form(_features(export.faiss, "flat.index", "keys.txt"), FOLDER, _FEATURES),
    "parquet": Form(_features(export.parquet, "part-*.parquet"), FOLDER, _FEATURES),
    "zarr": Form(_features(export.zarr, "*/[0-9]*", "*/.z*", note=".zattrs"), FOLDER, _FEATURES),
    "fiftyone": Form(_fiftyone, FOLDER, _takes("target_index")),
    "virelay": Form(_virelay, FOLDER, _takes("target_index")),
}  # fmt: skip


def default_threshold(form: str) -> float:
    return EVAL_THRESHOLD if form == "seeds" else THRESHOLD
