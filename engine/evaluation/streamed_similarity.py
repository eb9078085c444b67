"""How alike the representations of the same images are: linear CKA and RSA, from blocks of rows.

A representation is a matrix with a row of features for each of N images. CKA compares the
matrices of dot products of rows, RSA those of Pearson's correlations of rows; neither is ever
held. Sums are float64.

HSIC1 of dot products K and L (Song et al. 2012) is, with zero diagonals and n rows,
``(tr KL + sum(K) sum(L) / ((n-1)(n-2)) - 2 sum(KL) / (n-2)) / (n (n-3))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import F8, counted

Block = Sequence[F8]  # the same n rows (n,C) of each representation
MEASURES = CKA, UNBIASED, RSA, SPEARMAN = "cka", "cka-unbiased", "rsa", "rsa-spearman"
_FEWEST = 4  # images: HSIC1 divides by n - 3
_PRODUCTS = 1 << 29  # bytes of the products of features
_TRIANGLES = 1 << 30  # bytes of correlations whose ranks are asked for


def similarities(
    blocks: Callable[[], Iterable[Block]], measures: Iterable[str]
) -> dict[str, Alike]:
    """How alike M representations are, by measure.

    Images with a feature that is not finite are left out; of RSA also those whose features are
    all the same. A value is NaN where a representation does not vary.

    Parameters
    ----------
    blocks
        Goes through all images, the same ones in the same order whenever it is asked.
    measures
        Of `MEASURES`. CKA of few features is computed in one pass; of features whose products
        are too many, and RSA, by products of all pairs of images, block by block.

    Raises
    ------
    ConfigError
        There are too few images, or too many for ranks.
    """
    wanted, found = set(measures), dict[str, Alike]()
    if wanted & {CKA, UNBIASED}:
        usable = _Usable(blocks, varied=False)
        widths = [rows.shape[1] for rows in next(iter(usable), [])]
        sums: CrossProducts | PairSums
        if 8 * sum(widths) ** 2 <= _PRODUCTS:
            sums = CrossProducts()
            for block in usable:
                sums.add(block)
        else:
            sums = PairSums()
            shift = next(iter(usable))
            _add_pairs(usable, lambda rows, i: rows - shift[i][:1], sums.add)
        images = _enough(sums.images)
        found[CKA] = Alike(sums.cka(), images)
        found[UNBIASED] = Alike(sums.unbiased(), images)
    if wanted & {RSA, SPEARMAN}:
        usable = _Usable(blocks, varied=True)
        triangles = Triangles(SPEARMAN in wanted)
        _add_pairs(usable, _standardised, triangles.add)
        images = _enough(triangles.images)
        found[RSA] = Alike(triangles.pearson(), images)
        if SPEARMAN in wanted:
            found[SPEARMAN] = Alike(triangles.spearman(), images)
    return {name: found[name] for name in MEASURES if name in wanted}


def _enough(images: int) -> int:
    if images < _FEWEST:
        raise ConfigError(
            f"{counted(images, 'image')} that can be compared: similarity takes {_FEWEST} or more"
        )
    return images


class Alike(NamedTuple):
    """How alike M representations are."""

    values: F8  # (M,M)
    images: int  # that could be compared


class _Usable:
    """Blocks without the images that cannot be compared."""

    def __init__(self, blocks: Callable[[], Iterable[Block]], varied: bool) -> None:
        self._blocks, self._varied = blocks, varied

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks():
            keep = np.ones(len(block[0]), bool)
            for rows in block:
                keep &= np.isfinite(rows).all(axis=1)
                if self._varied:
                    keep &= (rows != rows[:, :1]).any(axis=1)
            if keep.any():
                yield [rows[keep] for rows in block]


class CrossProducts:
    """Sums over images of products of features: all that CKA needs of any number of images."""

    def __init__(self) -> None:
        self.images = 0
        self._ends: list[int] = []
        self._shift: F8 = np.empty(0)
        self._product: Any = 0.0  # (D,D) of all D features of all representations
        self._sum: Any = 0.0  # (D,)
        self._by_length: Any = 0.0  # (D,M) features times squared lengths of rows
        self._lengths: Any = 0.0  # (M,M) products of squared lengths
        self._length: Any = 0.0  # (M,)

    def add(self, block: Block) -> None:
        rows = np.concatenate(block, axis=1)
        if not self._ends:
            self._ends = np.cumsum([0, *(one.shape[1] for one in block)]).tolist()
            self._shift = rows[0]  # does not change CKA, but how exact sums are
        rows = rows - self._shift
        lengths = np.stack([(rows[:, own] ** 2).sum(axis=1) for own in self._parts()], axis=1)
        self.images += len(rows)
        self._product += rows.T @ rows
        self._sum += rows.sum(axis=0)
        self._by_length += rows.T @ lengths
        self._lengths += lengths.T @ lengths
        self._length += lengths.sum(axis=0)

    def _parts(self) -> list[slice]:
        return [slice(*ends) for ends in zip(self._ends[:-1], self._ends[1:], strict=True)]

    def cka(self) -> F8:
        centred = self._product - np.outer(self._sum, self._sum) / self.images
        return _normalised(self._pairs(lambda a, b, i, j: float((centred[a, b] ** 2).sum())))

    def unbiased(self) -> F8:
        total, by_length = self._sum, self._by_length
        sums = [float((total[own] ** 2).sum()) - self._length[i] for i, own in
                enumerate(self._parts())]  # fmt: skip

        def hsic(a: slice, b: slice, i: int, j: int) -> float:
            product = self._product[a, b]
            together = float((product**2).sum()) - self._lengths[i, j]
            rows = total[a] @ product @ total[b] + self._lengths[i, j]
            rows -= total[a] @ by_length[a, j] + total[b] @ by_length[b, i]
            return float(_hsic1(together, sums[i] * sums[j], rows, self.images))

        return _normalised(self._pairs(hsic))

    def _pairs(self, value: Callable[[slice, slice, int, int], float]) -> F8:
        parts = self._parts()
        found = np.empty((len(parts), len(parts)))
        for i, a in enumerate(parts):
            for j, b in enumerate(parts[: i + 1]):
                found[i, j] = found[j, i] = value(a, b, i, j)
        return found


class PairSums:
    """The same from products of all pairs of images, for representations of many features."""

    def __init__(self) -> None:
        self.images = 0
        self._products: Any = 0.0  # (M,M) of dot products off the diagonal
        self._squares: Any = 0.0  # (M,M) of those on it
        self._diagonal: list[F8] = []  # (M,n) of each block
        self._rows: list[F8] = []  # (M,n) sums over the others

    def add(self, tile: F8, i: int, j: int) -> None:
        """(M,n,n') dot products of the rows of block i with those of block j <= i."""
        count = len(tile)
        if i == j:
            diagonal = np.einsum("mii->mi", tile)
            self.images += diagonal.shape[1]
            self._diagonal.append(diagonal.copy())
            self._squares += diagonal @ diagonal.T
            diagonal[:] = 0
            self._rows.append(np.zeros(diagonal.shape))
        else:
            self._rows[j] += tile.sum(axis=1)
        self._rows[i] += tile.sum(axis=2)
        flat = tile.reshape(count, -1)
        self._products += (flat @ flat.T) * (1 if i == j else 2)

    def cka(self) -> F8:
        rows = np.concatenate(self._rows, axis=1) + np.concatenate(self._diagonal, axis=1)
        total = rows.sum(axis=1)
        hsic = self._products + self._squares - 2 / self.images * (rows @ rows.T)
        return _normalised(hsic + np.outer(total, total) / self.images**2)

    def unbiased(self) -> F8:
        rows = np.concatenate(self._rows, axis=1)
        total = rows.sum(axis=1)
        parts = self._products, np.outer(total, total), rows @ rows.T
        return _normalised(_hsic1(*parts, self.images))


class Triangles:
    """Correlations of rows over all pairs of images: Pearson's of them, or Spearman's."""

    def __init__(self, ranks: bool) -> None:
        self.images, self._count, self._ranks = 0, 0, ranks
        self._sum: Any = 0.0
        self._products: Any = 0.0
        self._values: list[F8] = []

    def add(self, tile: F8, i: int, j: int) -> None:
        """(M,n,n') correlations of the rows of block i with those of block j <= i."""
        if i == j:
            rows, columns = np.tril_indices(tile.shape[1], -1)
            pairs = tile[:, rows, columns]
            self.images += tile.shape[1]
        else:
            pairs = tile.reshape(len(tile), -1)
        self._count += pairs.shape[1]
        self._sum += pairs.sum(axis=1)
        self._products += pairs @ pairs.T
        if self._ranks:
            if 8 * len(tile) * self._count > _TRIANGLES:
                raise ConfigError(
                    f"--measure {SPEARMAN}: too many pairs of images to rank; take fewer "
                    "(--sample 5000)"
                )
            self._values.append(pairs)

    def pearson(self) -> F8:
        mean = self._sum / max(self._count, 1)
        return _normalised(self._products - self._count * np.outer(mean, mean))

    def spearman(self) -> F8:
        ranks = np.stack([_ranks(one) for one in np.concatenate(self._values, axis=1)])
        centred = ranks - ranks.mean(axis=1, keepdims=True)
        return _normalised(centred @ centred.T)


def _add_pairs(
    blocks: Iterable[Block],
    prepare: Callable[[F8, int], F8],
    add: Callable[[F8, int, int], None],
) -> None:
    """Give the products of the rows of each block with those of it and of all before it.

    `prepare` is given the rows of a representation, and its number.
    """
    for i, block in enumerate(blocks):
        mine = [prepare(rows, number) for number, rows in enumerate(block)]
        add(np.stack([rows @ rows.T for rows in mine]), i, i)
        for j, other in zip(range(i), blocks, strict=False):
            theirs = [prepare(rows, number) for number, rows in enumerate(other)]
            add(np.stack([a @ b.T for a, b in zip(mine, theirs, strict=True)]), i, j)


def _standardised(rows: F8, number: int) -> F8:
    """Rows of mean 0 and length 1: their dot products are Pearson's correlations."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit: F8 = centred / np.maximum(lengths, np.finfo(float).tiny)
    return unit


def _hsic1(together: Any, sums: Any, rows: Any, images: int) -> Any:
    found = together + sums / ((images - 1) * (images - 2)) - 2 * rows / (images - 2)
    return found / (images * (images - 3))


def _normalised(products: F8) -> F8:
    """(M,M) products over the roots of those of each with itself; NaN where that is not above 0."""
    own = np.diag(products)
    scale = np.sqrt(np.where(own > 0, own, np.nan))
    return products / np.outer(scale, scale)


def _ranks(values: F8) -> F8:
    """(n,) -> (n,) from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: F8 = (last - (counts - 1) / 2)[inverse.ravel()]
    return ranks
