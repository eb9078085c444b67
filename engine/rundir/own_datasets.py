"""Datasets of a file that anybody may have written: in the file itself, and no larger than it.

HDF5 lets a dataset lie in another file, or a name lead to one, wherever that is, and stores
gigabytes of nothing in a few bytes. Our files have none of that.
"""

from __future__ import annotations

import math
import os

import h5py

from shardcam.engine.rundir.schema_checks import form_problem
from shardcam.engine.types import is_shard_name


class Unsound(Exception):
    """A file that HDF5 can read, but whose contents are wrong."""


_DEEPEST = 3  # names in a path: cam/LAYER/map
_MOST = 10_000  # datasets and groups
# Times that a file can be smaller than a dataset: deflate's limit is 1032, that of zstd 32,768.
_PACKED, _PACKED_BY = 1100, {32015: 1 << 16}


def datasets(group: h5py.Group, virtual: bool = False) -> dict[str, h5py.Dataset]:
    """Return every dataset of a file by its full name, in the order they were made.

    Parameters
    ----------
    group
        The file.
    virtual
        Whether they may be virtual, as those of an index are.

    Raises
    ------
    Unsound
        There is something else in the file, or a dataset that is not its own.
    """
    found: dict[str, h5py.Dataset] = {}
    _collect(group, "", found)
    if not virtual:
        size = group.file.id.get_filesize()
        for name, dataset in found.items():
            _require_own(name, dataset, size)
    return found


def _collect(group: h5py.Group, path: str, found: dict[str, h5py.Dataset], depth: int = 1) -> None:
    if depth > _DEEPEST or len(found) + len(group) > _MOST:
        raise Unsound(f"{path or 'it'} holds groups or datasets that no run has")
    for name in group:
        item = _entered(group, name)
        if isinstance(item, h5py.Dataset):
            found[path + name] = item
        else:
            _collect(item, f"{path}{name}/", found, depth + 1)


def dataset_of(file: h5py.File, name: str, virtual: bool = False) -> h5py.Dataset:
    """One dataset of a file, by its full name, of the form that it has in a run; see `datasets`.

    Raises
    ------
    Unsound
        There is none, it has another form, or it is not the file's own.
    """
    item = file
    for part in name.split("/"):
        item = _entered(item, part) if isinstance(item, h5py.Group) else None
    if not isinstance(item, h5py.Dataset):
        raise Unsound(f"{name} is not a dataset")
    if problem := form_problem(name, (item.shape[1:], item.dtype)):
        raise Unsound(problem)
    if not virtual:
        _require_own(name, item, file.id.get_filesize())
    return item


def _entered(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """What a name in a group is of, if it is the group's own."""
    stored = name.encode("utf-8", "surrogateescape")
    try:
        link = group.id.links.get_info(stored)
    except KeyError:
        raise Unsound(f"there is no {name} in it") from None
    if link.type != h5py.h5l.TYPE_HARD:
        raise Unsound(f"{name} is a link to something elsewhere")
    item = h5py.h5o.open(group.id, stored)  # half the time of group[name]
    if isinstance(item, h5py.h5d.DatasetID):
        return h5py.Dataset(item, readonly=True)
    if isinstance(item, h5py.h5g.GroupID):
        return h5py.Group(item)
    raise Unsound(f"{name} is neither a dataset nor a group")


def _require_own(name: str, dataset: h5py.Dataset, size: int) -> None:
    """Make sure that a dataset's bytes are in its file, and not many more than that has."""
    created, shape = dataset.id.get_create_plist(), dataset.shape
    layout = created.get_layout()
    if layout == h5py.h5d.VIRTUAL or created.get_external_count():
        raise Unsound(f"the data of {name} is in other files")
    if not shape:
        raise Unsound(f"{name} has no rows")
    chunk = created.get_chunk() if layout == h5py.h5d.CHUNKED else ()
    claimed = max(math.prod(shape), math.prod(chunk)) if shape[0] else 0
    if claimed * dataset.dtype.itemsize > size * _PACKED:
        filters = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
        packed = max((_PACKED_BY.get(number, _PACKED) for number in filters), default=_PACKED)
        if claimed * dataset.dtype.itemsize > size * packed:
            raise Unsound(f"{name} claims {shape}, more than its file can hold")


def require_stored(dataset: h5py.Dataset) -> None:
    """Make sure that every chunk of a dataset is there.

    Raises
    ------
    Unsound
        One was never written.
    """
    sides = zip(dataset.shape, dataset.chunks or (), strict=bool(dataset.chunks))
    if dataset.chunks is None or dataset.id.get_num_chunks() != math.prod(
        -(-size // chunk) for size, chunk in sides
    ):
        raise Unsound(f"{dataset.name[1:]} has chunks that were never written")


def foreign_file(dataset: h5py.Dataset) -> str | None:
    """A file that a dataset of an index takes rows from and that is no shard of its run."""
    created = dataset.id.get_create_plist()
    if created.get_external_count():
        return str(os.fsdecode(created.get_external(0)[0]))
    if created.get_layout() != h5py.h5d.VIRTUAL:
        return None
    for i in range(created.get_virtual_count()):
        folder, _, name = created.get_virtual_filename(i).rpartition("/")
        if folder != "shards" or not is_shard_name(name):
            return str(created.get_virtual_filename(i))
    return None
