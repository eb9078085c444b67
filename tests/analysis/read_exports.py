"""Read exports as the programs do that they are for; runs where those are installed.

Usage: read_exports.py FOLDER, which has the exports and truth.npz with what is in them.
"""

import sys
import warnings
from pathlib import Path

import faiss
import fiftyone.utils.data.importers as importers
import numpy as np
import zarr

warnings.simplefilter("error")
folder = Path(sys.argv[1])
truth = np.load(folder / "truth.npz")
pooled, keys = truth["pooled"], truth["keys"].tolist()

index = faiss.read_index(str(folder / "faiss" / "flat.index"))
assert isinstance(index, faiss.IndexFlatIP) and (index.d, index.ntotal) == pooled.shape[::-1]
unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
np.testing.assert_allclose(index.reconstruct_n(0, len(unit)), unit, rtol=1e-6)
scores, ids = index.search(unit, len(unit))
np.testing.assert_array_equal(ids[:, 0], np.arange(len(unit)))
np.testing.assert_allclose(scores, -np.sort(-(unit @ unit.T), axis=1), rtol=1e-5)

for group in (
    zarr.open_group(folder / "zarr", mode="r"),
    zarr.open_consolidated(folder / "zarr", mode="r"),
):
    np.testing.assert_array_equal(group["pooled"][:], pooled)
    np.testing.assert_array_equal(group["label"][:], truth["label"])
    assert [key.decode() for key in group["key"][:]] == keys

importer = importers.FiftyOneDatasetImporter(str(folder / "fiftyone"))
assert importer._is_legacy_format_data()  # it has no database to load a dataset into here
with importer._to_legacy_importer() as samples:
    for sample, key, shown in zip(samples, keys, truth["shown"].tolist(), strict=True):
        assert (sample.key, sample.filepath) == (key, f"/photos/{key}")
        assert sample.prediction.label.startswith("class ")
        assert sample.has_field("heatmap") == shown
        if shown:
            assert Path(sample.heatmap.map_path).is_file()
            assert sample.heatmap.range == [0, 255]
print("read")
