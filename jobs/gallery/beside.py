"""Another run whose maps and metrics are shown beside those of a report's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.evaluation.paired_images import PairedMetrics
from shardcam.engine.rundir.run_json import Manifest
from shardcam.engine.types import U1
from shardcam.jobs.gallery.heatmap_pictures import encode, view_size
from shardcam.jobs.source_pictures import GREY, cut


@dataclass(frozen=True)
class Beside:
    """A run, with what pairs it with the one that the report is of."""

    run: Run
    name: str
    paired: PairedMetrics
    manifest: Manifest

    def heatmap(
        self, samples: Samples, i: int, row: int, layer: str, target: int, colours: U1
    ) -> bytes | None:
        """Its map of the same class of the same image, as a file; None where there is none.

        Where the networks saw other parts of the photograph it is moved to where it belongs.
        """
        there = int(self.paired.rows[row])
        if there < 0:
            return None
        theirs = self.run.take(there)
        same = np.flatnonzero(theirs["target"][0] == samples["target"][i, target])
        if not len(same):
            return None
        crop, their_crop = samples["crop"][i], theirs["crop"][0]
        size = view_size(their_crop)
        heat = colours[theirs.cam(layer).heatmap(size)[0, int(same[0])]]
        start = np.tile(their_crop[:2], 2)
        scale = np.tile(np.array(size) / (their_crop[2:] - their_crop[:2]), 2)
        return encode(cut(heat, (crop - start) * scale, GREY, view_size(crop)))
