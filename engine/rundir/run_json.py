"""``run.json``: what a run directory holds, and whether another run may continue it."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

from shardcam.engine.errors import RunDirectoryError, WrongRun, read_error, storage_error
from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.io.store import PROBE
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_files import LISTING_STAGED, PART_LOCK
from shardcam.engine.types import counted

_NEXT = "restore it, or begin another run"
_LISTING = ("label_from_folder", "label_data", "labels", "extensions", "follow_links", "root")
_MADE_OF = {  # options that decide numbers of another name
    "overlays": ("colormap", "alpha", "overlay_format", "overlay_norm"),
    "preprocessing": ("image_size", "resize", "interpolation", "channels", "mean", "std"),
    "source": _LISTING,
}
_REPEATED = ("layer", "activation_layer", "input")  # for each of their values
_MOST = 1 << 26  # bytes; 100,000 class folders take some 5 MB


@dataclass(frozen=True)
class Manifest:
    """Everything needed to know what a run is, without its data."""

    config: dict[str, Any]
    numbers: dict[str, Any]  # all that changes the numbers; its hash is the fingerprint
    plan: dict[str, int]  # samples, shards, shard_size; classes that the network has
    versions: dict[str, str]
    classes: dict[str, int] = field(default_factory=dict)  # of folders, with --label-from-folder
    grown: dict[str, Any] = field(default_factory=dict)  # see `engine.rundir.grow_run`

    @property
    def source(self) -> str | None:
        """The digest of the listing; that in `numbers` is of what a run was begun with."""
        digest: str | None = self.grown.get("source", self.numbers.get("source"))
        return digest

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `numbers`."""
        return hashlib.sha256(json.dumps(self.numbers, sort_keys=True).encode()).hexdigest()


def read_manifest(run_dir: RunDir) -> Manifest:
    """Read ``run.json``.

    Raises
    ------
    WrongRun
        There is none.
    RunDirectoryError
        It is damaged.
    StoreError
        It cannot be read now.
    """
    place = run_dir.place(run_dir.run_json)
    try:
        if not run_dir.fetch(run_dir.run_json):
            raise FileNotFoundError
        text = read_plain(run_dir.run_json, _MOST)
    except FileNotFoundError:
        if has_begun(run_dir):
            raise WrongRun(
                f"{run_dir.home}: a run that was begun and has no shard yet; the same extract "
                "command goes on"
            ) from None
        raise WrongRun(f"{run_dir.home}: not a run directory (no run.json in it)") from None
    except OSError as error:
        raise read_error(error, place) from error
    except ValueError as error:
        raise RunDirectoryError(f"{place}: damaged: {error}; {_NEXT}") from error
    try:
        stored = parse_json(text)
        fingerprint = stored.pop("fingerprint")
        manifest = _checked(Manifest(**stored))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunDirectoryError(f"{place}: damaged: {str(error)[:200]}; {_NEXT}") from error
    if fingerprint != manifest.fingerprint:
        raise RunDirectoryError(
            f"{place}: edited: its fingerprint is not that of its contents; {_NEXT}"
        )
    return manifest


def _checked(manifest: Manifest) -> Manifest:
    """Only `numbers` has a hash: the rest can be edited, and must still be of its kind."""
    for name, value in asdict(manifest).items():
        if not isinstance(value, dict):
            raise ValueError(f"its {name!r} is not an object")
    for name in ("samples", "shards"):
        value = manifest.plan.get(name)
        if type(value) is not int or value < 0:
            raise ValueError(f"its plan has no number of {name}")
    if type(size := manifest.plan.get("shard_size", 1)) is not int or size < 1:
        raise ValueError("its plan has no number of images in a shard")
    if type(classes := manifest.plan.get("classes", 1)) is not int or classes < 1:
        raise ValueError("its plan has no number of classes")
    if not isinstance(manifest.config.get("limit"), int | None):
        raise ValueError("its limit is not a number")
    return manifest


def holds_run(run_dir: RunDir, manifest: Manifest) -> bool:
    """Whether the run directory holds this very run already, to be resumed.

    Raises
    ------
    WrongRun
        It holds another run (the differences are named), or something that is not a run.
    """
    require_usable(run_dir)
    try:
        if not run_dir.exists(run_dir.run_json):
            return False
    except OSError as error:
        raise read_error(error, run_dir.run_json) from error
    _require_same(run_dir, read_manifest(run_dir), manifest)
    return True


def begin_run(run_dir: RunDir, manifest: Manifest) -> None:
    """Write ``run.json``, with which the run exists: all that belongs to it must be there before.

    Raises
    ------
    RunDirectoryError, DiskFull
        It cannot be written.
    """
    try:
        run_dir.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, run_dir.root) from error
    text = json.dumps({"fingerprint": manifest.fingerprint, **asdict(manifest)}, indent=2)
    run_dir.write_atomically(run_dir.run_json, text + "\n")


def require_usable(run_dir: RunDir) -> None:
    """Refuse a directory that holds something that is not a run.

    Leftovers of a run that was killed while it began do not count: the next one overwrites
    them.

    Raises
    ------
    WrongRun
        It does, or it is not a directory.
    """
    held = run_dir.names(run_dir.root)
    if run_dir.run_json.name not in held and _early(run_dir, held) != held:
        raise WrongRun(f"{run_dir.home}: not empty and not a run directory; give --out another one")


def has_begun(run_dir: RunDir) -> bool:
    """Whether a directory holds what a run has before its ``run.json``, and nothing else."""
    held = run_dir.names(run_dir.root)
    return bool(held) and run_dir.run_json.name not in held and _early(run_dir, held) == held


def _early(run_dir: RunDir, held: set[str]) -> set[str]:
    """Of the names in a directory those of what a run begins with."""
    files = (run_dir.run_json, run_dir.listing, run_dir.calibration, run_dir.class_names)
    early = [path.name for path in files]
    locks = (run_dir.begin_file.name, PART_LOCK)
    unfinished = (*(f".{name}" for name in early), *locks, LISTING_STAGED, PROBE)
    return {name for name in held if name in early or name.startswith(unfinished)}


def is_raised(before: int | None, after: int | None) -> bool:
    """Whether one ``--limit`` is larger than another; None is none."""
    return before is not None and (after is None or after > before)


def as_stored(numbers: dict[str, Any]) -> dict[str, Any]:
    """As JSON returns it: tuples become lists."""
    return dict(json.loads(json.dumps(numbers)))


def _require_same(run_dir: RunDir, stored: Manifest, wanted: Manifest) -> None:
    grows = wanted.plan["samples"] > stored.plan["samples"]  # by `engine.rundir.grow_run`
    if stored.fingerprint == wanted.fingerprint and (grows or stored.source == wanted.source):
        return
    before, after = (_flat(as_stored(m.numbers | {"source": m.source})) for m in (stored, wanted))
    names = [n for n in sorted(before.keys() | after.keys()) if before.get(n) != after.get(n)]
    changed = [
        _source_difference(stored, wanted)
        if name == "source"
        else f"{name}: {_short(before.get(name))} there, {_short(after.get(name))} now"
        for name in names
    ]
    raise WrongRun(
        f"{run_dir.home}: holds another run ({'; '.join(changed)}); "
        f"give another --out, {_go_on(stored.config, wanted.config, names)}"
    )


def _go_on(there: dict[str, Any], now: dict[str, Any], changed: list[str]) -> str:
    """What else to do about a run of other numbers: the options that it has, as they are typed."""
    parts = dict.fromkeys(name.partition(".")[0] for name in changed)
    options = dict.fromkeys(option for part in parts for option in _MADE_OF.get(part, (part,)))
    if is_raised(now.get("limit"), there.get("limit")):
        options["limit"] = None
    differing = [name for name in options if name in there and there[name] != now.get(name)]
    unset = [_flag(name) for name in differing if there[name] in (None, [])]
    typed = [word for name in differing for word in _typed(name, there[name])]
    ways = " and ".join(
        f"{how} {' '.join(words)}" for how, words in (("with", typed), ("without", unset)) if words
    )
    return f"delete it, or go on {ways}" if ways else "or delete it"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _typed(name: str, value: Any) -> list[str]:
    """An option with its value, as words of a command; none if it has none."""
    if isinstance(value, bool):
        return [_flag(name) if value else f"--no-{_flag(name)[2:]}"]
    if isinstance(value, list) and name not in _REPEATED:
        value = ",".join(map(str, value))
    values = value if isinstance(value, list) else [value] * (value not in (None, ""))
    return [word for one in values for word in (_flag(name), shlex.quote(str(one)))]


def _source_difference(stored: Manifest, wanted: Manifest) -> str:
    there, now = stored.plan["samples"], wanted.plan["samples"]
    before, after = stored.config.get("limit"), wanted.config.get("limit")
    limits = [f"--limit {limit}" if limit else "no --limit" for limit in (before, after)]
    if is_raised(after, before):
        has = f"it has {counted(there, 'image')} already, and can grow, but not shrink"
        return f"{limits[0]} there, {limits[1]} now: {has}"
    if is_raised(before, after) and now >= there:
        return (
            f"{limits[0]} there, {limits[1]} now, and not the same first {counted(there, 'image')}"
        )
    options = [
        f"{_flag(name)}: {_given(old)} there, {_given(new)} now"
        for name in _LISTING
        if (old := stored.config.get(name)) != (new := wanted.config.get(name)) and (old or new)
    ]
    if options:
        return "; ".join(options)
    if there != now:
        return f"{counted(there, 'image')} there, {now} now"
    return "the source's files are others, or of other sizes, labels or boxes"


def _given(value: Any) -> str:
    """An option's value, as it is typed."""
    if value is True:
        return "given"
    return (
        ",".join(value) if isinstance(value, list | tuple) and value else str(value or "not given")
    )


def _flat(numbers: dict[str, Any]) -> dict[str, Any]:
    """Nested options by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in numbers.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        else:
            flat[name] = value
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else text[:12] + "..."
