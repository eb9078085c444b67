"""Maps of a run for other programs: each function takes a run, a selection or a shard.

Files are written a shard at a time, and appear when they are complete::

    from shardcam import export, open_run

    with open_run("runs/photos") as run:
        export.coco(run.select(correct=False), "regions.json", run.layers[0])
"""

from shardcam.engine.analysis.class_means import ClassMeans, class_means
from shardcam.engine.analysis.export_coco import coco
from shardcam.engine.analysis.export_masks import masks
from shardcam.engine.analysis.export_npy import npy
from shardcam.engine.analysis.export_seeds import irn, psa, seeds
from shardcam.engine.analysis.export_xarray import xarray

__all__ = ["ClassMeans", "class_means", "coco", "irn", "masks", "npy", "psa", "seeds", "xarray"]
