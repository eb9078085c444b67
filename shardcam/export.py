"""Maps and features of a run for other programs: each function takes a run, a selection or a shard.

Files are written some rows at a time, and appear when they are complete::

    from shardcam import export, open_run

    with open_run("runs/photos") as run:
        export.coco(run.select(correct=False), "regions.json", run.layers[0])
        export.faiss(run, "photos-index")
"""

from shardcam.engine.analysis.class_means import ClassMeans, class_means
from shardcam.engine.analysis.export_coco import coco
from shardcam.engine.analysis.export_features import clip_retrieval, faiss, parquet, thingsvision
from shardcam.engine.analysis.export_fiftyone import fiftyone
from shardcam.engine.analysis.export_heatmaps import crops, heatmaps
from shardcam.engine.analysis.export_masks import masks
from shardcam.engine.analysis.export_npy import npy
from shardcam.engine.analysis.export_seeds import irn, psa, seeds
from shardcam.engine.analysis.export_virelay import virelay
from shardcam.engine.analysis.export_xarray import xarray
from shardcam.engine.analysis.export_zarr import zarr

__all__ = [
    "ClassMeans",
    "class_means",
    "clip_retrieval",
    "coco",
    "crops",
    "faiss",
    "fiftyone",
    "heatmaps",
    "irn",
    "masks",
    "npy",
    "parquet",
    "psa",
    "seeds",
    "thingsvision",
    "virelay",
    "xarray",
    "zarr",
]
