"""The folder of an export that goes on where it was stopped: what its files are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from shardcam.engine.errors import ConfigError, storage_error
from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.io.whole_file import whole_file

MADE_OF = "export.json"
_MOST = 1 << 20  # bytes of that file
_CALLED = {"to": "form", "names": "way to name files"}


def begin_or_go_on(
    out: Path, made_of: dict[str, Any], old: Iterable[Path], force: bool, name: str = MADE_OF
) -> bool:
    """Whether the files of a folder are of the same export, and so are kept.

    If not, what is called as they are is removed, and the folder says what is made now.

    Parameters
    ----------
    old
        Files of before, which would count as made already if this command is stopped.
    name
        Of the file that says it.

    Raises
    ------
    ConfigError
        The folder holds something else, and `force` is false.
    """
    _require_no_file(out)
    anew = force or _is_bare(out, name)
    if not anew and _begun(out, made_of, name):
        return True
    require_new_folder(out, anew)
    try:
        for path in old if out.is_dir() else ():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, out) from error
    with whole_file(out / name) as stream:
        stream.write(json.dumps(made_of, indent=1).encode() + b"\n")
    return False


def require_new_folder(out: Path, force: bool) -> None:
    """Nothing of the user's may be lost, and masks of two runs may not be mixed."""
    _require_no_file(out)
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ConfigError(f"--out {out}: not empty; --force replaces what is there")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def _require_no_file(out: Path) -> None:
    if out.is_file():
        raise ConfigError(f"--out {out}: is a file; name a folder")


def _is_bare(out: Path, name: str) -> bool:
    """Whether a folder says what was to be made, and nothing was."""
    try:
        if [path.name for path in islice(out.iterdir(), 2)] != [name]:
            return False
        stored = parse_json(read_plain(out / name, _MOST))
    except (OSError, ValueError):  # told where it is opened
        return False
    return isinstance(stored, dict) and {"run", "to", "layer"} <= stored.keys()


def _begun(out: Path, made_of: dict[str, Any], name: str) -> bool:
    """Whether a folder has files of the same export."""
    try:
        stored = parse_json(read_plain(out / name, _MOST))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, out / name) from error
    except ValueError:
        stored = None
    if stored != made_of:
        there = stored if isinstance(stored, dict) else {}
        every = dict.fromkeys([*made_of, *there])
        changed = [_CALLED.get(one, one) for one in every if there.get(one) != made_of.get(one)]
        raise ConfigError(
            f"--out {out}: holds an export of another {' and '.join(changed)}; --force replaces "
            "what is there"
        )
    return True
