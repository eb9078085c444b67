"""Dense CRF: the marginals of pydensecrf, and seeds by IRN's pair of thresholds."""

import numpy as np
import pytest

from shardcam.engine.analysis.dense_crf import DenseCrf
from shardcam.engine.analysis.export_seeds import seed_of
from tests.analysis.export_dense_crf import FIXTURE, labels, picture


@pytest.mark.parametrize("count", [2, 3])
def test_marginals_of_pydensecrf(count):
    expected = np.load(FIXTURE)[str(count)].astype(np.float32)
    found = DenseCrf(picture()).marginals(labels(count), count)
    assert found.dtype == np.float32 and found.shape == (count, 75, 112)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (expected.argmax(axis=0) != labels(count)).mean() > 0.02  # it does something
    refined = DenseCrf(picture()).refine(labels(count), count)
    assert (refined != expected.argmax(axis=0)).mean() < 1e-3  # float16 makes ties


def test_of_the_background_alone_nothing_is_asked():
    assert (DenseCrf(picture()).marginals(labels(2) * 0, 1) == 1).all()


def test_one_pixel():
    assert DenseCrf(picture()[:1, :1]).refine(np.ones((1, 1), np.uint8), 2).tolist() == [[1]]


def test_seeds_by_the_rules_of_irn():
    rng = np.random.default_rng(0)
    scores = np.array([np.where(labels(3) == k, 0.2 + rng.random(), 0.02 * k) for k in (1, 2)])
    scores[0, 30:40] = 0.1  # between the thresholds
    classes, scores, crf = (
        np.array([3, 8], np.int32),
        scores.astype(np.float32),
        DenseCrf(picture()),
    )
    found = seed_of(classes, scores, 0.05, 0.3, crf.refine)
    keys = np.array([0, 4, 9])
    planes = (np.concatenate([np.full((1, 75, 112), t, "f4"), scores]) for t in (0.3, 0.05))
    sure, maybe = (keys[crf.marginals(p.argmax(0).astype("u1"), 3).argmax(0)] for p in planes)
    expected = sure.copy()
    expected[sure == 0] = 255
    expected[sure + maybe == 0] = 0
    np.testing.assert_array_equal(found, expected)
    assert {0, 4, 9, 255} == {*np.unique(found).tolist()}
    one = seed_of(classes, scores, 0.3, 0.3, crf.refine)
    np.testing.assert_array_equal(one, sure)
