"""How a run is clustered: the words and numbers that are chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

MAPS, POOLED = KINDS = "maps", "pooled"
PREDICTED, LABEL, ALL = BY = "predicted", "label", "all"
CLUSTERINGS = BY_K_MEANS, BY_DENSITY = "kmeans", "hdbscan"
PLANES = SPECTRAL, T_SNE, UMAP = "spectral", "tsne", "umap"


@dataclass(frozen=True)
class Settings:
    """How a class is clustered; all of it changes the numbers.

    Attributes
    ----------
    neighbours
        Of each row in the graph; a tenth of the class's rows, at most, but at least 3.
    vectors
        Leading eigenvectors that are kept.
    clusters
        How many; None: of 2 to 8, and of as many as the eigengap suggests, the first with
        which a cluster is nearly as unlike the rest of its class as with any.
    clustering
        ``kmeans`` or ``hdbscan``.
    plane
        What the embedding is: ``spectral``, ``tsne`` or ``umap``.
    blur
        Standard deviation of a Gaussian that maps are smoothed with, as a share of their height
        and width: so that a strip of relevance and its neighbour are alike.
    exact_to
        Rows of a class beyond which neighbours are approximate, by pynndescent.
    seed
        Of whatever is drawn.
    """

    neighbours: int = 32
    vectors: int = 32
    clusters: int | None = None
    clustering: str = BY_K_MEANS
    plane: str = SPECTRAL
    blur: float = 0.125
    exact_to: int = 200_000
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """What is asked of a run; see `engine.clusters.clustering.cluster`."""

    by: str = PREDICTED
    of: str = MAPS
    layer: str | None = None
    target: int = 0
    classes: tuple[int, ...] = ()
    name: str | None = None
    replace: bool = False
    settings: Settings = field(default_factory=Settings)


def rank_key(unlikeness: float, count: int, *numbers: int) -> tuple[float, ...]:
    """What clusters are ordered by: the most unlike first, of equal ones the largest.

    Single images, which are outliers, come last.
    """
    return count == 1, -unlikeness, -count, *numbers
