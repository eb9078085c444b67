"""NumPy with the names that MXNet knows, and the part of ``distutils`` that it takes."""

from __future__ import annotations

import re
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


def _gone(*args: Any, **options: Any) -> None:
    raise RuntimeError("NumPy has no financial functions since 1.20")


# What mxnet.* looks up, at its import or in a function, and a later NumPy lacks or means
# otherwise.
_NUMPY: dict[str, Any] = {
    **{"bool": bool, "int": int, "float": float, "object": object},  # Python's own
    **dict.fromkeys(("Inf", "PINF"), np.inf),
    **dict.fromkeys(("NaN", "NAN"), np.nan),
    **{"NINF": -np.inf, "PZERO": 0.0, "NZERO": -0.0},
    **dict.fromkeys(("mirr", "npv", "pmt", "ppmt", "pv", "rate"), _gone),
    "compat": SimpleNamespace(basestring=str),
    "in1d": lambda values, *args, **options: np.isin(np.ravel(values), *args, **options),
    "msort": lambda values: np.sort(values, axis=0),
}
_RENAMED = {
    "alltrue": "all",
    "product": "prod",
    "round_": "round",
    "row_stack": "vstack",
    "sometrue": "any",
    "trapz": "trapezoid",
}


class _OldNumpy(ModuleType):
    """NumPy, and the names it had up to 1.23."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name if hasattr(np, name) else _RENAMED.get(name, name))


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


OLD_NUMPY = _OldNumpy("numpy", np.__doc__)
vars(OLD_NUMPY).update(_NUMPY)
DISTUTILS = SimpleNamespace(LooseVersion=_version, StrictVersion=_version)
