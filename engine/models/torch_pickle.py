"""The pickles of PyTorch's weight files, read without `pickle`.

A pickle is a program for a machine with a stack, and can call anything that it can name. The
machine here builds dictionaries, lists, tuples, numbers, texts and descriptions of tensors, and
calls nothing. Its work and what it builds are bounded by the number of opcodes, and so by the
size of the file: keys are texts or numbers, places of its memo have whatever number they claim,
and nothing is copied but references.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from shardcam.engine.errors import ModelError

MAX_OPCODES = 1_000_000  # ten times those of the largest networks with their optimizers
_BITS = 128  # of an integer
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}
_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
        *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MARK = object()


@dataclass(frozen=True)
class Storage:
    """Numbers that tensors share, and the key under which the file has them."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Maker:
    """What a pickle may call."""

    make: Callable[..., object]


def unpickle(stream: IO[bytes]) -> object:
    """Build what the next pickle of a stream describes.

    Raises
    ------
    ModelError
        It is damaged, or asks for something that weights do not need.
    """
    return built(Machine(), stream, MAX_OPCODES)


def built(machine: Machine, stream: IO[bytes], most: int) -> object:
    """What a machine builds of a pickle of at most so many opcodes; see `unpickle`."""
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == most:
                raise ModelError(f"its pickle has more than {most} opcodes")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ModelError(f"its pickle is damaged: {reason}") from error


class Machine:
    """A stack, and a memo of what was built; `named` and `build` say what can be."""

    wanted = "weights"  # what it builds, for messages

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._left = MAX_OPCODES  # entries that may be read from lists that are read again

    def step(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says."""
        if opcode in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > _BITS:
                raise ValueError("an integer is too long")
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise ModelError(f"its pickle uses {opcode}, which {self.wanted} do not need; refused")

    def get(self, index: int) -> None:
        """Push what was built before."""
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        """Remember what is on top."""
        self.memo[index] = self.stack[-1]

    def taken(self) -> list[Any]:
        """What lies above the topmost mark, which is taken off too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # IndexError below the bottom
            at = at - 1 if at else len(self.stack)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def wrap(self, count: int) -> None:
        """Make a tuple of the topmost values."""
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise ValueError("the stack is empty")
        self.stack[-count:] = [items]

    def append(self, items: list[Any]) -> None:
        """Append to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise TypeError("it appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the dictionary on top."""
        if not isinstance(self.stack[-1], dict):
            raise TypeError("it sets an entry of what is no dictionary")
        self.stack[-1].update(_paired(items))

    def push_global(self, names: str | Sequence[object]) -> None:
        """Push what a module's name and a name in it stand for."""
        module, name = names.split(" ", 1) if isinstance(names, str) else names
        found = self.named(str(module), str(name))
        if found is None:
            asked = f"{module}.{name}"[:100]
            raise ModelError(f"it asks for {asked}, which {self.wanted} do not need; refused")
        self.stack.append(found)

    def named(self, module: str, name: str) -> object:
        """What a name of a module stands for; None: it is not known."""
        return _STORAGES.get(name) if module == "torch" else _MAKERS.get((module, name))

    def build(self, state: object) -> None:
        """Give what is on top a state; that of a dictionary does not matter here."""

    def call(self) -> None:
        """Call one of the makers."""
        arguments, maker = self.stack.pop(), self.stack.pop()
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise ModelError("it calls something that is no tensor; refused")
        if arguments and isinstance(arguments[0], list):
            self._left -= len(arguments[0])
            if self._left < 0:
                raise ModelError("it makes too many dictionaries of one list")
        self.stack.append(maker.make(*arguments))

    def push_storage(self) -> None:
        """Push the storage that the tuple on top describes."""
        kind, dtype, key, _location, count, *view = self.stack.pop()
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(v is not None for v in view):
            raise ValueError("an unknown kind of storage")
        if not isinstance(key, str | int) or not isinstance(count, int) or count < 0:
            raise ValueError("a storage without a key or a size")
        self.stack.append(Storage(str(key), dtype, count))


def _paired(items: list[Any]) -> dict[Any, Any]:
    return _dictionary(zip(items[::2], items[1::2], strict=True))


def _dictionary(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    made = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | None):  # what else is hashed may take forever
            raise ModelError(f"a key of a dictionary is a {type(key).__name__}; refused")
        made[key] = value
    return made


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        raise ValueError("a tensor without a storage")
    return Tensor(storage, offset, _sizes(shape), _sizes(stride))


def _sizes(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(isinstance(n, int) for n in values):
        raise ValueError("a tensor without a shape")
    return values


def _parameter(tensor: object, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError("a parameter without a tensor")
    return tensor


_MAKERS = {
    ("collections", "OrderedDict"): Maker(_dictionary),
    ("torch._utils", "_rebuild_tensor_v2"): Maker(_tensor),
    ("torch._utils", "_rebuild_parameter"): Maker(_parameter),
}

_STEPS: dict[str, Callable[[Machine, Any], object]] = {
    "MARK": lambda m, _: m.stack.append(_MARK),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.taken(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.put),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "LIST": lambda m, _: m.stack.append(m.taken()),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.taken()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.taken())),
    "TUPLE1": lambda m, _: m.wrap(1),
    "TUPLE2": lambda m, _: m.wrap(2),
    "TUPLE3": lambda m, _: m.wrap(3),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "DICT": lambda m, _: m.stack.append(_paired(m.taken())),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.taken()),
    "GLOBAL": Machine.push_global,
    "STACK_GLOBAL": lambda m, _: m.push_global([m.stack.pop(), m.stack.pop()][::-1]),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(m.stack.pop()),
    "BINPERSID": lambda m, _: m.push_storage(),
}
