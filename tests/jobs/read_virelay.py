"""Open a project as ViRelAy does; runs where ViRelAy 0.6.1 is installed.

Usage: read_virelay.py FOLDER, which has project.yaml and truth.npz with what is in it.
"""

import sys
import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from virelay.model import Project

folder = Path(sys.argv[1])
truth = np.load(folder / "truth.npz")
project = Project(str(folder / "project.yaml"))
assert len(project.dataset) == len(truth["labels"])
for i, label in enumerate(truth["labels"].tolist()):
    sample, attribution = project.get_sample(i), project.get_attribution(i)
    for labels in (sample.labels, attribution.labels):
        assert [one.index for one in labels] == [label]
    assert sample.data.dtype == np.uint8 and sample.data.shape == (32, 32, 3)
    np.testing.assert_array_equal(sample.data, truth["view"][i])
    assert attribution.data.shape == (32, 32, 2)
    np.testing.assert_array_equal(attribution.data.sum(axis=2), truth["map"][i])
    assert np.argmax(attribution.prediction) == truth["top"][i]
    for colours in ("gray-red", "black-fire-red", "blue-white-red", "jet"):
        assert attribution.render_heatmap(colours).shape == (32, 32, 3)
        assert attribution.render_heatmap(colours, sample.data).shape == (32, 32, 3)
methods = project.get_analysis_methods()
assert methods == truth["methods"].tolist()
for method in methods:
    (cut,) = project.get_analysis_clustering_names(method)
    (embedding,) = project.get_analysis_embedding_names(method)
    rows = []
    for category in project.get_analysis_categories(method):
        found = project.get_analysis(method, category.name, cut, embedding)
        assert category.human_readable_name or category.name == "all"
        rows += found.attribution_indices.tolist()
        np.testing.assert_array_equal(found.clustering, truth[method][found.attribution_indices])
        assert len(found.embedding) == len(found.clustering)
        assert len(found.eigenvalues) == found.embedding.shape[1]
    assert sorted(rows) == np.flatnonzero(truth[method] >= 0).tolist()
project.close()
print("read", *methods)
