"""The first principal component over space, by the smaller of two Gram matrices.

Of a layer's C x P values, C channels at P positions, centred over the positions, the
singular vectors are eigenvectors of a P x P or of a C x C matrix: 49 x 49 where an SVD
with full matrices works on 2048 x 2048.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from shardcam.engine.types import F4, F8


def first_component(terms: F4) -> F4:
    """(N,C,h,w) -> (N,h,w): each image's terms projected on their first principal component.

    NaN and infinities count as 0, as in pytorch-grad-cam. The sign of a component is
    arbitrary; here the map rises where the sum over the channels does.
    """
    xp = array_namespace(terms)
    rows = centred(terms)
    columns = xp.permute_dims(rows, (0, 2, 1))
    if rows.shape[1] <= rows.shape[2]:  # fewer positions than channels
        vector, value = _leading(rows @ columns)
        maps = vector * xp.sqrt(value)[:, None]
    else:
        vector, _ = _leading(columns @ rows)
        maps = (rows @ vector[:, :, None])[..., 0]
    return oriented(maps, rows).reshape(len(terms), *terms.shape[2:])


def first_kernel_component(terms: F4) -> F4:
    """(N,C,h,w) -> (N,h,w): as `first_component`, in the feature space of a sigmoid kernel.

    ``k(x, y) = tanh(x.y / C + 1)``, centred in feature space (Schoelkopf et al. 1998);
    scikit-learn's ``KernelPCA(kernel="sigmoid")``.
    """
    rows = centred(terms)
    maps = array_namespace(terms).stack([_kernel_component(positions) for positions in rows])
    return oriented(maps, rows).reshape(len(terms), *terms.shape[2:])


def _kernel_component(positions: F8) -> F8:
    """(P,C) -> (P,), one image at a time: the kernel is P x P."""
    xp = array_namespace(positions)
    kernel = xp.tanh(positions @ positions.T / positions.shape[1] + 1)
    means = xp.mean(kernel, axis=1)
    kernel += xp.mean(means) - means - means[:, None]
    vector, value = _leading(kernel[None])
    component: F8 = vector[0] * xp.sqrt(value[0])
    return component


def centred(terms: F4) -> F8:
    """(N,C,h,w) -> (N,P,C): a row for each position, centred over the positions."""
    xp = array_namespace(terms)
    rows = xp.nan_to_num(terms.reshape(*terms.shape[:2], -1), posinf=0, neginf=0)
    rows = xp.astype(xp.permute_dims(rows, (0, 2, 1)), xp.float64)
    centre = xp.mean(rows, axis=1, keepdims=True)
    rounding = xp.finfo(xp.float32).eps * xp.abs(centre)
    apart: F8 = xp.where(xp.abs(rows - centre) > rounding, rows - centre, 0.0)
    return apart


def oriented(maps: F8, rows: F8) -> F4:
    """(N,P), (N,P,C) -> (N,P) f4: each map with the sign of its product with the channel sum."""
    xp = array_namespace(maps)
    agreement = xp.einsum("np,np->n", maps, xp.sum(rows, axis=2))
    signed: F4 = xp.astype(maps * xp.where(agreement < 0, -1, 1)[:, None], xp.float32)
    return signed


def _leading(symmetric: F8) -> tuple[F8, F8]:
    """(N,m,m) positive semidefinite -> (N,m) eigenvector and (N,) value of the largest one."""
    xp = array_namespace(symmetric)
    values, vectors = xp.linalg.eigh(symmetric)
    return vectors[:, :, -1], xp.maximum(values[:, -1], 0)
