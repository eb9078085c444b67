"""MXNet 1.9.1 on the NumPy and the Python of today.

Its modules see a NumPy of their own, which has the names that NumPy dropped since, a
``distutils`` where Python has none, and no scikit-learn. NumPy itself, and what everything else
imports, stay as they are. Modules that few use are loaded when something in them is asked for, and
functions of operators, which MXNet writes and compiles by the thousand, are compiled when called.
"""

from __future__ import annotations

import builtins
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import LazyLoader
from types import CodeType, ModuleType
from typing import Any

LATER = {  # a third of the time, with SciPy's statistics and requests, which they import
    *(
        "mxnet.contrib.amp",
        "mxnet.contrib.onnx",
        "mxnet.contrib.quantization",
        "mxnet.contrib.tensorboard",
    ),
    *("mxnet.contrib.text", "mxnet.gluon", "mxnet.image", "mxnet.module", "mxnet.notebook"),
    *("mxnet.rnn", "mxnet.test_utils", "mxnet.visualization"),
}
REGISTERS = {"mxnet.ndarray.register", "mxnet.symbol.register"}  # write functions of operators


def import_mxnet() -> None:
    """Import MXNet, which takes half a second."""
    import mxnet  # noqa: F401


def adapt_imports() -> None:
    """Have MXNet's modules import what they expect, now and whenever one is loaded later."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder(MetaPathFinder):
    """Finds MXNet's modules where they are, and has `_Loader` load them."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != "mxnet":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            loader = _Loader(spec.loader.name, spec.loader.path)
            spec.loader = LazyLoader(loader) if name in LATER else loader
        return spec


class _Loader(SourceFileLoader):
    """Gives a module another ``import``, which its functions keep."""

    def get_code(self, fullname: str) -> CodeType | None:
        code: CodeType | None = _with_tobytes(super().get_code(fullname))
        return code

    def exec_module(self, module: ModuleType) -> None:
        changed = {"__import__": _import}
        if module.__name__ in REGISTERS:
            changed["exec"] = partial(_compile_later, vars(module))
        module.__dict__["__builtins__"] = {**vars(builtins), **changed}
        super().exec_module(module)

    def source_to_code(  # type: ignore[override]
        self, data: Any, path: Any, *, _optimize: int = -1
    ) -> CodeType:
        with warnings.catch_warnings():  # invalid escapes in its docstrings
            warnings.simplefilter("ignore")
            return super().source_to_code(data, path, _optimize=_optimize)


def _compile_later(
    own: dict[str, Any], code: str, _: dict[str, Any] | None, found: dict[str, Any]
) -> None:
    """What ``exec`` does of source that defines a function, which is not compiled until called."""
    name = re.findall(r"^def (\w+)\(", code, re.MULTILINE)[-1]

    @cache
    def made() -> Callable[..., Any]:
        namespace: dict[str, Any] = {}
        exec(code, own, namespace)
        function: Callable[..., Any] = namespace[name]
        return function

    def function(*arguments: Any, **named: Any) -> Any:
        return made()(*arguments, **named)

    found[name] = function


def _with_tobytes(value: Any) -> Any:
    """Code that calls ``tobytes``, where it says ``tostring``: arrays have that no more."""
    if not isinstance(value, CodeType):
        return value
    return value.replace(
        co_names=tuple("tobytes" if name == "tostring" else name for name in value.co_names),
        co_consts=tuple(map(_with_tobytes, value.co_consts)),
    )


def _import(
    name: str,
    globals: Any = None,
    locals: Any = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    top = name.partition(".")[0] if level == 0 else ""
    if top == "distutils":  # gone in Python 3.12; MXNet takes two classes of distutils.version
        from shardcam.engine.models.old_numpy import DISTUTILS

        return DISTUTILS
    if top == "sklearn":  # for a base class of a class: a quarter of the time, where installed
        raise ImportError(f"{name} is hidden from MXNet")
    if top == "scipy" and "stats" in (fromlist or ()):  # for an entropy that int8 here has none of
        raise ImportError("scipy.stats is hidden from MXNet")
    found = builtins.__import__(name, globals, locals, fromlist, level)
    if top == "numpy" and found is sys.modules["numpy"]:
        from shardcam.engine.models.old_numpy import OLD_NUMPY

        return OLD_NUMPY
    return found
