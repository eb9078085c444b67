"""CKA and RSA from blocks of rows, against matrices of all pairs of images."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

import shardcam as library
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation import streamed_similarity
from shardcam.engine.evaluation.streamed_similarity import MEASURES, similarities
from tests.analysis.runs import LAST, MAP, make_run
from tests.jobs.command import shardcam


def in_blocks(representations, size):
    count = len(representations[0])
    return lambda: ([one[i : i + size] for one in representations] for i in range(0, count, size))


def gram_cka(x, y):
    """From N x N matrices, centred."""
    n = len(x)
    centre = np.eye(n) - 1 / n
    k, m = (centre @ (a @ a.T) @ centre for a in (x, y))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def gram_unbiased(x, y):
    """From N x N matrices, U-centred as Szekely and Rizzo do."""
    n = len(x)

    def centred(a):
        k = a @ a.T
        np.fill_diagonal(k, 0)
        means = k.sum(axis=0) / (n - 2)
        k -= means[:, None] + means[None] - means.sum() / (2 * (n - 1)) * 2
        np.fill_diagonal(k, 0)
        return k

    k, m = centred(x), centred(y)
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def rdm(x):
    return (1 - np.corrcoef(x))[np.triu_indices(len(x), 1)]


@pytest.fixture(params=["products of features", "products of images"])
def way(request, monkeypatch):
    if request.param == "products of images":
        monkeypatch.setattr(streamed_similarity, "_PRODUCTS", 0)


def test_golden_values(way):
    i, x, y = np.arange(6.0)[:, None], np.arange(4), np.arange(3)
    pair = [i / 2 + (i * x) % 3, ((i + 1) * (y + 2)) % 5]
    for size in (6, 4, 1):
        found = similarities(in_blocks(pair, size), ("cka", "cka-unbiased"))
        assert found["cka"].values[0, 1] == pytest.approx(0.1711438250817334, abs=1e-14)
        assert found["cka-unbiased"].values[1, 0] == pytest.approx(-0.3189342217218835, abs=1e-14)


def test_all_measures_of_several_representations(way):
    rng = np.random.default_rng(3)
    base = rng.normal(size=(90, 8))
    three = [base + 100, base @ rng.normal(size=(8, 20)) + rng.normal(size=(90, 20)), base[:, :3]]
    found = similarities(in_blocks(three, 32), MEASURES)
    oracles = {
        "cka": gram_cka,
        "cka-unbiased": gram_unbiased,
        "rsa": lambda x, y: np.corrcoef(rdm(x), rdm(y))[0, 1],
        "rsa-spearman": lambda x, y: spearmanr(rdm(x), rdm(y))[0],
    }
    for name, oracle in oracles.items():
        expected = [[oracle(x, y) for y in three] for x in three]
        np.testing.assert_allclose(found[name].values, expected, atol=1e-10, err_msg=name)


def test_images_and_layers_that_cannot_be_compared(way):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 2))
    broken = x.copy()
    broken[2, 1], broken[7] = np.nan, 3
    found = similarities(in_blocks([broken, y, np.ones((12, 3))], 5), ("cka", "cka-unbiased"))
    keep = np.arange(12) != 2
    assert found["cka"].images == 11
    assert found["cka"].values[0, 1] == pytest.approx(gram_cka(broken[keep], y[keep]))
    assert np.isnan(found["cka"].values[2]).all()
    assert np.isnan(found["cka-unbiased"].values[:, 2]).all()
    keep[7] = False
    found = similarities(in_blocks([broken, x], 5), ("rsa",))
    assert found["rsa"].images == 10
    np.testing.assert_allclose(found["rsa"].values, np.ones((2, 2)))
    with pytest.raises(ConfigError, match="3 images that can be compared: similarity takes 4"):
        similarities(in_blocks([x[:3], y[:3]], 5), MEASURES)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The same pictures in other shards; each run has some that failed in the other."""
    base = tmp_path_factory.mktemp("similarity")
    return [make_run(base / "a", (9, 8, 7)), make_run(base / "b", (20, 2))]


def features(run, keys, layer):
    at = {key: i for i, key in enumerate(run.rows["key"].tolist())}
    return run.rows[f"pooled/{layer}"][[at[key] for key in keys]].astype(float)


def test_runs_are_paired_by_key(two, tmp_path):
    keys = [key for key in two[0].rows["key"].tolist() if key in two[1].rows["key"].tolist()]
    assert len(keys) < min(len(run.rows["key"]) for run in two)
    roots = [run.paths.root for run in two]
    files = [tmp_path / name for name in ("t.csv", "t.json", "t.png")]
    code, out, err = shardcam(
        *("similarity", *roots, "--csv", files[0], "--json", files[1], "--plot", files[2])
    )
    assert (code, err) == (0, "")
    assert f"{len(keys)} that all runs have" in out and all(str(file) in out for file in files)
    assert f"{24 - len(keys)} images of {roots[0]} that not all have: left out" in out
    stored = json.loads(files[1].read_text())
    four = [features(run, keys, layer) for run in two for layer in (MAP, LAST)]
    matrix = np.array(stored["measures"]["cka"]["matrix"])
    np.testing.assert_allclose(matrix, [[gram_cka(x, y) for y in four] for x in four], atol=1e-12)
    with files[0].open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 2 * 16
    assert float(rows[2]["value"]) == matrix[0, 2]
    assert (rows[2]["layer"], rows[2]["other_run"]) == (MAP, str(roots[1]))
    with Image.open(files[2]) as picture:
        assert picture.format == "PNG"
    code, _, err = shardcam("similarity", *roots, "--csv", files[0])
    assert code == 2
    assert "t.csv: exists; --force replaces it" in err


def test_layers_and_a_sample_are_chosen(two):
    root = two[0].paths.root
    found = library.similarity(root, root, layer=LAST, measure="cka", sample=10)
    assert (found.images, found.names) == (10, [f"{LAST}", f"{LAST}"])
    np.testing.assert_allclose(found.values["cka"], np.ones((2, 2)))
    rows = np.arange(10) * 24 // 10
    both = [two[0].rows[f"pooled/{layer}"][rows].astype(float) for layer in (MAP, LAST)]
    found = library.similarity(root, measure="cka-unbiased", sample=10)
    assert found.values["cka-unbiased"][0, 1] == pytest.approx(gram_unbiased(*both))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", LAST), f"has pooled features of one layer, {LAST}; give another run"),
        (("--layer", "nose"), "has no pooled features of nose; it has stage.conv, last"),
        (("--of", "activations"), "has no activations; extract with --save activations"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_told(two, arguments, words):
    code, _, err = shardcam("similarity", two[0].paths.root, *arguments)
    assert code == 2
    assert words in err


def test_runs_without_a_common_image(two, tmp_path):
    other = make_run(tmp_path / "other", keys="b/{}.png").paths.root
    with pytest.raises(ConfigError, match="the runs share no image: keys such as 'größe"):
        library.similarity(two[0].paths.root, other)
