"""Make tests/fixtures/dense_crf.npz: ``python -m tests.analysis.export_dense_crf``.

Marginals of pydensecrf, as IRN's ``crf_inference_label`` asks for them. It needs
``pip install pydensecrf2 scikit-image``.
"""

from pathlib import Path

import numpy as np
from skimage import data

FIXTURE = Path(__file__).parents[1] / "fixtures" / "dense_crf.npz"


def picture():
    """(75,112,3), a multiple of 4 pixels: pydensecrf adds black ones in the corner to others."""
    return np.ascontiguousarray(data.chelsea()[::4, :448:4])


def labels(count):
    """(75,112) a disc and a bar on the background, which follow no edge."""
    y, x = np.mgrid[:75, :112]
    found = np.where((y - 35) ** 2 + (x - 50) ** 2 < 500, 1, 0)
    found[:, 90:105] = count - 1
    return found.astype(np.uint8)


def marginals(count):
    import pydensecrf.densecrf as crf
    from pydensecrf.utils import unary_from_labels

    height, width = labels(count).shape
    field = crf.DenseCRF2D(width, height, count)
    energy = unary_from_labels(labels(count).astype(int), count, gt_prob=0.7, zero_unsure=False)
    field.setUnaryEnergy(energy)
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=50, srgb=5, rgbim=picture(), compat=10)
    return np.array(field.inference(10)).reshape(count, height, width)


if __name__ == "__main__":
    np.savez_compressed(FIXTURE, **{str(n): marginals(n).astype(np.float16) for n in (2, 3)})
