"""The folder of an export that goes on where it was stopped: what its files are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from shardcam.engine.errors import ConfigError, storage_error
from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.io.plain_text import shortened
from shardcam.engine.io.whole_file import whole_file

MADE_OF = "export.json"
FORCE = "--force replaces files of the same names, and leaves others"
_MOST = 1 << 20  # bytes of that file
_LONGEST = 40  # letters of a value in a message


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


def forget_unbegun(out: Path, name: str = MADE_OF) -> None:
    """Remove a folder that says what was to be made, and has nothing of it."""
    if out.is_dir() and _is_bare(out, name):
        (out / name).unlink()
        out.rmdir()


def require_new_folder(out: Path, force: bool) -> None:
    """Nothing of the user's may be lost, and masks of two runs may not be mixed unasked."""
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ConfigError(f"--out {out}: not empty; {FORCE}")


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
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise storage_error(error, out / name) from error
    except ValueError:
        stored = None
    if stored == made_of:
        return True
    if not isinstance(stored, dict) or not {"run", "to"} <= stored.keys():
        raise ConfigError(f"--out {out}: {name} is of no export; {FORCE}")
    changed = [
        _difference(one, stored.get(one), made_of.get(one))
        for one in {**made_of, **stored}
        if stored.get(one) != made_of.get(one)
    ]
    raise ConfigError(f"--out {out}: holds another export ({'; '.join(changed)}); {FORCE}")


def _difference(name: str, there: Any, now: Any) -> str:
    before, after = _said(there), _said(now)
    if name == "run" or before == after:  # a fingerprint says nothing
        return f"another {name}"
    return f"{name}: {before} there, {after} now"


def _said(value: Any) -> str:
    """A value as its option is typed; of more than that the names."""
    if value is None or value is True:
        return "given" if value else "not given"
    text = ",".join(map(str, value)) if isinstance(value, list | dict) else str(value)
    return shortened(text or "none", _LONGEST)
