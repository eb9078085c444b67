"""The steps from maps to clusters: against golden values, and against plain NumPy."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from shardcam.engine.clusters import neighbours
from shardcam.engine.clusters.cluster_class import ClassRows, cluster_class
from shardcam.engine.clusters.features import LeftOut, comparable
from shardcam.engine.clusters.grouping import by_size, k_means, plane
from shardcam.engine.clusters.neighbours import nearest, nearest_about
from shardcam.engine.clusters.settings import Settings, rank_key
from shardcam.engine.clusters.spectral import affinity, eigengap, leading, on_sphere
from shardcam.engine.clusters.unlikeness import STANDS_OUT


def golden():
    """Fifteen points in three groups, given by formulas."""
    i = np.arange(15)
    g = i % 3
    points = np.stack(
        [
            5 * g + 0.3 * (i // 3),
            g**2 + 0.1 * ((7 * i) % 5),
            0.2 * ((3 * i) % 4),
            1 + 0.05 * i,
        ],
        axis=1,
    )
    return (points / points.sum(axis=1, keepdims=True)).astype(np.float32)


def spectrum(graph):
    scale = 1 / np.sqrt(graph.sum(axis=1))
    return np.linalg.eigh(scale[:, None] * graph.toarray() * scale)


@pytest.mark.parametrize(
    ("count", "edges", "farthest_from_one"),
    [
        (3, 54, (1.547963, 1.428571, 1.428571, 0, 0, 0)),
        (4, 66, (1.357155, 1.25, 1.25, 0.117605, 0, 0)),
        (8, 152, (1.250553, 1.226594, 1.166667, 1.166667, 0.401516, 0)),
    ],
)
def test_golden_graph(count, edges, farthest_from_one):
    """The six eigenvalues largest in magnitude, as CoRelAy computes them; ours are the highest."""
    graph = affinity(nearest(golden(), count)[0])
    assert graph.nnz == edges
    assert set(graph.data) <= {0.5, 1} and abs(graph - graph.T).max() == 0
    values = spectrum(graph)[0]
    largest = values[np.argsort(-abs(values))[:6]]
    np.testing.assert_allclose(np.sort(1 - largest)[::-1], farthest_from_one, atol=1e-6)
    np.testing.assert_allclose(leading(graph, 6)[0], values[::-1][:6], atol=1e-12)


def test_golden_clusters():
    _, vectors = leading(affinity(nearest(golden(), 4)[0]), 6)
    found = k_means(vectors, 3, seed=0)
    assert len({(c, i % 3) for i, c in enumerate(found)}) == 3


def random_points(count, copies=False):
    """Points, all different; or some of them many times."""
    points = np.random.default_rng(count).random((count, 49), dtype=np.float32) ** 4
    if copies:
        points[::3], points[1::7], points[2::11] = points[0], points[1], points[count // 2]
    return points


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize(("count", "k"), [(2, 5), (40, 7), (700, 32)])
def test_neighbours_are_those_of_all_distances(count, k, copies, monkeypatch):
    points = random_points(count, copies)
    monkeypatch.setattr(neighbours, "_ROWS", 100)
    monkeypatch.setattr(neighbours, "_COLUMNS", 300)
    rows, distances = nearest(points, k, threads=3)
    apart = points[:, None].astype(np.float64) - points
    every = np.sqrt((apart**2).sum(axis=2))
    np.fill_diagonal(every, np.inf)
    k = min(k, count - 1)
    assert np.array_equal(rows, np.argsort(every, axis=1, kind="stable")[:, :k])
    assert np.array_equal(distances, np.take_along_axis(every, rows, axis=1))


def test_a_thousand_copies_are_neighbours_of_one_another_and_never_of_themselves():
    points = random_points(1500)
    points[:1000] = points[0]
    rows, distances = nearest(points, 32)
    assert (rows[:1000] < 1000).all() and not distances[:1000].any()
    assert not (rows == np.arange(1500)[:, None]).any()
    assert all(len(set(row)) == 32 for row in rows.tolist())


class Descent:
    """pynndescent's interface: it counts a row among its neighbours, or loses it among copies."""

    def __init__(self, data, n_neighbors, random_state, n_jobs):
        assert data.dtype == np.float32 and (random_state, n_jobs) == (7, 2)
        apart = np.linalg.norm(data[:, None] - data, axis=2)
        rows = np.argsort(apart, axis=1, kind="stable")[:, :n_neighbors]
        lost = rows[::2]
        lost[lost == np.arange(0, len(data), 2)[:, None]] = n_neighbors - 1
        self.neighbor_graph = rows.astype(np.int32), np.take_along_axis(apart, rows, axis=1)


def test_approximate_neighbours_are_others(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Descent))
    points = random_points(60)
    rows, distances = nearest_about(points, 8, seed=7, threads=2)
    exact, apart = nearest(points, 8)
    assert np.array_equal(rows[1::2], exact[1::2])
    np.testing.assert_allclose(distances[1::2], apart[1::2], atol=1e-6)
    assert rows.shape == distances.shape == (60, 8)
    settings = Settings(exact_to=59, neighbours=6, seed=7)
    found = cluster_class(class_rows(points), settings, 1, 2)
    assert found["cluster"].shape == (60,) and np.isfinite(found["outlier"]).all()


@pytest.mark.slow
def test_approximate_neighbours_are_nearly_all_of_the_exact_ones():
    pytest.importorskip("pynndescent")
    points = normal(hills(np.random.default_rng(0), 5000, (4, 3)))
    exact = nearest(points, 32)[0]
    rows, _ = nearest_about(points, 32, seed=0, threads=2)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), rows.tolist())]
    assert np.mean(shared) > 0.95 * 32
    assert not (rows == np.arange(5000)[:, None]).any()


class Umap:
    """umap-learn's interface."""

    def __init__(self, n_neighbors, random_state, n_jobs):
        assert (n_neighbors, random_state, n_jobs) == (15, 7, 1)

    def fit_transform(self, rows):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        return rows[:, 3:5].astype(np.float64)


def test_a_plane_by_umap(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    vectors = random_points(40).astype(float)
    found = plane(vectors, "umap", seed=7)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, on_sphere(vectors)[:, 3:5], rtol=1e-6)


@pytest.mark.slow
def test_umap_itself_keeps_islands_apart():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(side, 0.1, (60, 6)) for side in (-1, 1)])
    found = plane(vectors, "umap", seed=0)
    one, other = found[:60], found[60:]
    apart = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    assert apart > 3 * max(one.std(axis=0).max(), other.std(axis=0).max())


@pytest.mark.parametrize("total", [200, 900])
def test_leading_eigenvectors_are_those_of_the_whole_matrix(total):
    graph = affinity(nearest(random_points(total), 10)[0])
    values, vectors = leading(graph, 8)
    expected, _ = spectrum(graph)
    np.testing.assert_allclose(values, expected[::-1][:8], atol=1e-8)
    scale = 1 / np.sqrt(graph.sum(axis=1))
    image = scale[:, None] * (graph @ (scale[:, None] * vectors))
    np.testing.assert_allclose(image, vectors * values, atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(8), atol=1e-6)


def test_islands_have_the_eigenvalue_one_each():
    points = np.concatenate([random_points(n)[:, :9] + 10 * n for n in (600, 40, 80, 41)])
    values, vectors = leading(affinity(nearest(points, 8)[0]), 6)
    np.testing.assert_allclose(values[:4], 1, atol=1e-12)
    assert values[4] < 0.999 and eigengap(values) >= 4
    found = k_means(vectors, 4, seed=0)
    assert [len(set(part)) for part in np.split(found, [600, 640, 720])] == [1] * 4
    assert np.bincount(found).tolist() == [600, 80, 41, 40]
    few, rows = leading(affinity(nearest(points, 8)[0]), 2)
    np.testing.assert_allclose(few, 1, atol=1e-12)
    assert (k_means(rows, 2, seed=0) == -1).sum() == 81


def test_clusters_are_numbered_from_the_largest():
    assert by_size(np.array([5, 2, 2, -1, 5, 2, 9])).tolist() == [1, 0, 0, -1, 1, 0, 2]


def test_what_cannot_be_compared_is_left_out_with_its_reason():
    maps = np.ones((6, 2, 2), np.float32) * np.arange(4, dtype=np.float32).reshape(2, 2)
    maps[1], maps[2], maps[3, 0, 0] = -maps[1] - 1, 5, np.inf
    target = np.array([0, 0, 0, 0, -1, 3])
    rows, reason = comparable(maps, target, "maps")
    expected = (0, LeftOut.ALL_ZERO, LeftOut.CONSTANT, LeftOut.NON_FINITE, LeftOut.NOT_EXPLAINED, 0)
    assert tuple(reason) == expected
    np.testing.assert_allclose(rows[[0, 5]], [np.arange(4) / 6] * 2)
    assert not rows[1:5].any()
    signed = np.array([[-1.0, 3], [0, 0]])
    rows, reason = comparable(signed, np.array([0, 0]), "pooled")
    np.testing.assert_allclose(rows[0], signed[0] / 10**0.5, rtol=1e-6)
    assert reason.tolist() == [0, LeftOut.ALL_ZERO]


def test_smoothing_keeps_the_sum_and_makes_near_places_alike():
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, 0, 0] = maps[1, 0, 1] = maps[2, 7, 7] = 3
    sharp, smooth = (comparable(maps, np.zeros(3, int), "maps", blur)[0] for blur in (0, 0.125))
    np.testing.assert_allclose(smooth.sum(axis=1), 1, rtol=1e-6)
    near, far = (abs(smooth[0] - smooth[i]).sum() for i in (1, 2))
    assert near < far / 2 and abs(sharp[0] - sharp[1]).sum() == abs(sharp[0] - sharp[2]).sum()


def class_rows(points):
    count = len(points)
    return ClassRows(
        np.arange(count),
        points.astype(np.float32),
        np.ones(count, np.int8),
        np.full(count, 0.5, np.float32),
    )


def hills(rng, count, centre):
    """Maps with a hill that wanders about a place."""
    y, x = np.mgrid[:7, :7]
    at = centre + rng.normal(0, 0.7, (count, 2))
    away = (y - at[:, 0, None, None]) ** 2 + (x - at[:, 1, None, None]) ** 2
    return np.exp(-away / 3) + 0.05 * rng.random((count, 7, 7))


@pytest.mark.parametrize("seed", range(5))
def test_a_strategy_of_some_images_stands_out_and_one_of_all_does_not(seed):
    rng = np.random.default_rng(seed)
    maps = hills(rng, 300, (4, 3))
    marked = rng.random(300) < 0.12
    settings = Settings(seed=seed)
    honest = cluster_class(class_rows(normal(maps)), settings, 1, 1)
    assert honest["of_cluster/unlikeness"].max() < STANDS_OUT
    maps[marked] = hills(rng, marked.sum(), (0.5, 0.5))
    found = cluster_class(class_rows(normal(maps)), settings, 1, 1)
    first = int(found["of_cluster/unlikeness"].argmax())
    assert found["of_cluster/unlikeness"][first] > STANDS_OUT
    assert ((found["cluster"] == first) == marked).mean() > 0.98


def normal(maps):
    return comparable(maps, np.zeros(len(maps), int), "maps", Settings().blur)[0]


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_cluster_that_stands_out(seed):
    points = np.random.default_rng(seed).random((400, 10))
    found = cluster_class(class_rows(points), Settings(), 1, 1)
    assert found["of_cluster/unlikeness"].max(initial=0) < STANDS_OUT


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 20])
@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(clusters=3), Settings(clustering="hdbscan"), Settings(plane="tsne")],
)
def test_classes_of_few_images(count, settings):
    for points in (np.random.default_rng(0).random((count, 9)), np.ones((count, 9))):
        found = cluster_class(class_rows(points), settings, 1, 1)
        assert len(found["cluster"]) == len(found["embedding"]) == count
        assert np.isfinite(found["outlier"]).all() and np.isfinite(found["embedding"]).all()
        assert found["of_cluster/count"].sum() == (found["cluster"] >= 0).sum()


def test_the_outcome_depends_on_neither_threads_nor_the_run_of_it():
    rows = class_rows(random_points(500))
    first, again = (cluster_class(rows, Settings(plane="tsne"), 1, n) for n in (1, 3))
    for name, values in first.items():
        assert np.array_equal(values, again[name], equal_nan=True), name


def test_an_image_far_from_the_others_is_an_outlier():
    points = random_points(200) * 0.01 + 1
    points[17] += 5
    found = cluster_class(class_rows(points), Settings(), 1, 1)
    assert found["outlier"].argmax() == 17 and found["outlier"][17] > 10
    assert 0.9 < np.median(found["outlier"]) < 1.1


CORELAY = """
import sys
import numpy as np
from corelay.processor.affinity import SparseKNN
from corelay.processor.distance import SciPyPDist
from corelay.processor.embedding import EigenDecomposition
from corelay.processor.laplacian import SymmetricNormalLaplacian

points, out = np.load(sys.argv[1]), sys.argv[2]
graph = SparseKNN(n_neighbors=10)(SciPyPDist(metric="euclidean")(points))
values, vectors = EigenDecomposition(n_eigval=6)(SymmetricNormalLaplacian()(graph))
np.savez(out, graph=graph.toarray(), values=values, vectors=vectors)
"""


@pytest.mark.slow
@pytest.mark.skipif("SHARDCAM_CORELAY" not in os.environ, reason="CoRelAy is not at hand")
@pytest.mark.parametrize("seed", range(3))
def test_as_corelay(seed, tmp_path):
    """Its graph to the last bit and its embedding, where no point has a copy.

    All of its eigenvalues that are largest in magnitude are positive here, so they are the highest.
    """
    points = np.random.default_rng(seed).random((250, 49), dtype=np.float32) ** 4
    np.save(tmp_path / "points.npy", points)
    command = [os.environ["SHARDCAM_CORELAY"], "-c", CORELAY, tmp_path / "points.npy"]
    subprocess.run([*map(str, command), str(tmp_path / "out.npz")], check=True)
    theirs = np.load(tmp_path / "out.npz")
    graph = affinity(nearest(points, 10)[0])
    assert np.array_equal(graph.toarray(), theirs["graph"])
    values, vectors = leading(graph, 6)
    order = np.argsort(theirs["values"])
    np.testing.assert_allclose(1 - values, theirs["values"][order], atol=1e-8)
    spanned = [on_sphere(v) @ on_sphere(v).T for v in (vectors, theirs["vectors"][:, order])]
    np.testing.assert_allclose(*spanned, atol=1e-5)  # their signs are free


def test_clusters_are_ranked_by_unlikeness_then_size_and_single_images_last():
    found = [(0.9, 1, 0), (0.0, 2, 1), (0.0, 7, 2), (0.4, 3, 3)]
    assert [one[2] for one in sorted(found, key=lambda one: rank_key(*one))] == [3, 2, 1, 0]
