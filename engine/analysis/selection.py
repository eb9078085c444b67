"""Which samples answer to a description."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.stored_rows import Positions
from shardcam.engine.errors import ConfigError
from shardcam.engine.types import NO_LABEL

if TYPE_CHECKING:
    from shardcam.engine.analysis.samples import Samples

Classes = int | Collection[int] | None


def matching(
    samples: Samples,
    predicted: Classes,
    label: Classes,
    min_score: float | None,
    flags: int | None,
    correct: bool | None,
) -> Positions:
    """Return the positions of the samples for which all that is not None is so.

    Raises
    ------
    ConfigError
        Something given is no class number.
    """
    keep = np.ones(len(samples), bool)
    if predicted is not None:
        keep &= _is_one_of("predicted", samples["top_class"][:, 0], predicted)
    if label is not None:
        keep &= _is_one_of("label", samples["label"][:], label)
    if min_score is not None:
        keep &= samples["top_score"][:, 0] >= min_score
    if flags is not None:
        keep &= samples["flags"][:] == flags
    if correct is not None:
        given = samples["label"][:]
        keep &= (given != NO_LABEL) & ((given == samples["top_class"][:, 0]) == correct)
    return np.flatnonzero(keep)


def _is_one_of(name: str, found: npt.NDArray[Any], wanted: Classes) -> npt.NDArray[np.bool_]:
    classes = np.array(list(wanted) if isinstance(wanted, Collection) else wanted)
    if classes.size and classes.dtype.kind not in "iu":
        raise ConfigError(f"{name}: expected class numbers, got {wanted!r}")
    return np.isin(found, classes)
