"""int8: ranges from a few images of the source, and how well it agrees with float32 on others."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shardcam.engine.errors import RunDirectoryError, SourceError, read_error
from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.pictures.imaging import view_of
from shardcam.engine.protocols import Method, Network, Reader
from shardcam.engine.run.intervals import wilson
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import (
    F4,
    I4,
    NO_CLASS,
    Decoding,
    Note,
    Preprocessing,
    Quantization,
    View,
    counted,
)

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition

IMAGES = 32  # for the ranges, and as many again to compare on
FEW = 16  # images, below which agreement says little
MOST_BYTES = 1 << 26  # of the file
LOW_TOP1, LOW_CORRELATION = 0.9, 0.95  # below either, the user is warned


@dataclass(frozen=True)
class Calibration:
    """The ranges of a run, and the agreement of int8 with float32 on held-out images."""

    ranges: dict[str, tuple[float, float]]
    keep_first: bool
    images: int
    held_out: int
    top1_agreement: float | None = None  # share of images with the same first class
    map_correlation: float | None = None  # mean Pearson correlation of raw maps of that class
    correlations: tuple[float, ...] = ()  # of each held-out image
    rounding: dict[str, str] = field(default_factory=dict)  # see Quantization
    shifts: dict[str, str] = field(default_factory=dict)
    folded: bool = False  # runs of before have neither of these

    @property
    def digest(self) -> str:
        """SHA-256 of what changes the numbers."""
        since = [self.rounding, self.shifts] if self.folded else []
        numbers = json.dumps([self.ranges, self.keep_first, *since], sort_keys=True)
        return hashlib.sha256(numbers.encode()).hexdigest()

    @property
    def quantization(self) -> Quantization:
        """The part that a network needs."""
        return Quantization(self.ranges, self.keep_first, self.rounding, self.shifts, self.folded)

    @property
    def top1_interval(self) -> tuple[float, float] | None:
        """95 % interval of `top1_agreement`; None where that is not known."""
        if self.top1_agreement is None or not self.held_out:
            return None
        return wilson(self.top1_agreement * self.held_out, self.held_out)

    @property
    def agrees(self) -> bool:
        """Whether int8 is known to agree with float32 well enough to be used without a thought."""
        top1, correlation = self.top1_agreement or 0, self.map_correlation or 0
        return top1 >= LOW_TOP1 and correlation >= LOW_CORRELATION


def read_calibration(run_dir: RunDir) -> Calibration | None:
    """The calibration that a run directory holds, if any.

    Raises
    ------
    RunDirectoryError
        It is damaged.
    StoreError
        It cannot be read now.
    """
    place = run_dir.place(run_dir.calibration)
    try:
        if not run_dir.fetch(run_dir.calibration):
            return None
        text = read_plain(run_dir.calibration, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise read_error(error, place) from error
    except ValueError as error:
        raise RunDirectoryError(f"{place}: damaged: {error}") from error
    try:
        return parsed(text)
    except ValueError as error:
        raise RunDirectoryError(f"{place}: damaged: {str(error)[:200]}") from error


def parsed(text: bytes) -> Calibration:
    """Read what `as_text` wrote; ValueError where it is something else."""
    stored = parse_json(text)
    try:
        stored.pop("top1_interval", None)
        for name in ("images", "held_out", "top1_agreement", "map_correlation"):
            if (
                not isinstance(value := stored[name], int | float | None)
                or abs(value or 0) > 1 << 31
            ):
                raise ValueError(f"its {name} is not a number")
        ranges = {str(k): (float(low), float(high)) for k, (low, high) in stored["ranges"].items()}
        each = tuple(float(one) for one in stored.get("correlations", ()))  # old runs have none
        for name in ("rounding", "shifts"):
            if not all(isinstance(text, str) for text in stored.get(name, {}).values()):
                raise ValueError(f"its {name} is not of texts")
        return Calibration(**{**stored, "ranges": ranges, "correlations": each})
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def as_text(calibration: Calibration) -> str:
    """JSON, as a run directory holds it."""
    stored = {**asdict(calibration), "top1_interval": calibration.top1_interval}
    return json.dumps(stored, indent=2) + "\n"


def write_calibration(run_dir: RunDir, calibration: Calibration) -> None:
    """Keep the calibration with the run; resuming reads it back."""
    run_dir.write_atomically(run_dir.calibration, as_text(calibration))


def agreement(calibration: Calibration) -> str:
    """How well int8 agrees with float32, in a line."""
    top1, correlation = calibration.top1_agreement, calibration.map_correlation
    if top1 is None or correlation is None:
        return "no image left to compare with float32; its agreement is not known"
    each, interval = calibration.correlations, calibration.top1_interval
    within = f" (95 % interval {interval[0]:.0%} to {interval[1]:.0%})" if interval else ""
    least = f", {min(each):.3f} at least" if each else ""
    return (
        f"agreement with float32 on {calibration.held_out} other images: "
        f"first class {top1:.0%}{within}, maps correlate {correlation:.3f}{least}"
    )


def calibration_notes(calibration: Calibration) -> list[Note]:
    """How well int8 agrees with float32, with a warning where it does not."""
    kept = "; the first convolution stays float32" if calibration.keep_first else ""
    notes = [
        Note("int8", f"calibrated on {counted(calibration.images, 'image')} of the source{kept}"),
        Note("int8", agreement(calibration)),
    ]
    if calibration.top1_agreement is None:
        return notes
    if calibration.held_out < FEW:
        few = f"too few images to tell how well it agrees: {calibration.held_out}"
        notes.append(Note("int8", few))
    if not calibration.agrees:
        warning = (
            f"int8 disagrees with float32 here (first class below {LOW_TOP1:.0%} or correlation "
            f"below {LOW_CORRELATION}); use --precision fp32 where maps matter one by one"
        )
        notes.append(Note("warning", warning))
    return notes


def calibrate_on_source(
    definition: NetworkDefinition,
    layers: tuple[str, ...],
    method: Method,
    views: list[View],
    precision: str = "int8",
    read: tuple[str, ...] = (),
    batch: int = IMAGES,
    threads: int = 1,
) -> Calibration:
    """Ranges from the first half of the views; agreement of a precision on the second.

    Every layer is tried in int8 first; if that does not agree well enough, the first
    convolution stays in float32, unless that agrees less. Passes are those of a run with such
    batches and threads; what is found does not depend on them.

    Raises
    ------
    SourceError
        There is no view.
    """
    from shardcam.engine.models.memory import CPU_PASS
    from shardcam.engine.models.mxnet_network import MxnetNetwork
    from shardcam.engine.models.observed import Unrounded, observe

    if not views:
        raise SourceError("no image of the source can be decoded: nothing to calibrate int8 on")
    half = (len(views) + 1) // 2
    rows = min(batch, CPU_PASS * threads, half)
    exact = Unrounded(definition, layers, rows, read)
    observed = observe(exact, _batches(views[:half], definition, rows))
    held = views[half:]
    if not held:
        found = observed.quantization(keep_first=True)
        return Calibration(**vars(found), images=half, held_out=0)
    compared = _batches(held, definition, rows)
    truths = [_truth(exact, method, images) for images in compared]
    del exact
    tried: list[Calibration] = []
    for keep_first in (False, True):
        found = observed.quantization(keep_first)
        fast = MxnetNetwork(
            definition, layers, rows, precision, found, extra_layers=read, threads=threads
        )
        measured = _agreement(truths, fast, method, compared)
        measured |= {"images": half, "held_out": len(held)}
        tried.append(Calibration(**vars(found), **measured))
        if tried[-1].agrees:
            return tried[-1]
    return max(tried, key=lambda one: (one.top1_agreement or 0) + (one.map_correlation or 0))


def views_of_source(
    plan: Plan, reader: Reader, preprocessing: Preprocessing, decoding: Decoding
) -> list[View]:
    """Images spread evenly over the listing; those that cannot be decoded are left out.

    The first ones would all be of one class where folders are classes.
    """
    chosen = np.unique(np.linspace(0, plan.listed - 1, 2 * IMAGES).astype(int))
    views = []
    for number in np.random.RandomState(0).permutation(chosen):
        with suppress(OSError, UndecodableImage):
            sample = plan.sample(int(number))
            views.append(view_of(reader.read(sample), sample.box, preprocessing, decoding))
    return views


def _batches(views: list[View], definition: NetworkDefinition, rows: int) -> list[F4]:
    """As many preprocessed images as a pass takes; the last may be fewer."""
    from shardcam.engine.models.normalise import normalised
    from shardcam.engine.pictures.imaging import stacked

    pictures = stacked([view.pixels for view in views], definition.preprocessing)
    images = normalised(pictures, definition.preprocessing)
    return [images[i : i + rows] for i in range(0, len(images), rows)]


def _truth(exact: Network, method: Method, images: F4) -> tuple[I4, F4]:
    """(N,1) first classes, and their maps."""
    from shardcam.engine.pipeline.targets import top_classes

    passed = exact.forward(images)
    first = top_classes(passed.logits, 1)
    return first, method(passed.layer(exact.layers[-1].name), np.maximum(first, 0))


def _agreement(
    truths: list[tuple[I4, F4]], fast: Network, method: Method, batches: list[F4]
) -> dict[str, Any]:
    """Fields of `Calibration`: of equal first classes and of the maps of float32's first class."""
    from shardcam.engine.pipeline.targets import top_classes

    same: list[bool] = []
    correlations: list[float] = []
    for images, (first, maps) in zip(batches, truths, strict=True):
        guess = fast.forward(images)
        agrees = (first != NO_CLASS) & (top_classes(guess.logits, 1) == first)
        same += agrees[:, 0].tolist()
        others = method(guess.layer(fast.layers[-1].name), np.maximum(first, 0))
        correlations += [_correlation(a, b) for a, b in zip(maps, others, strict=True)]
    return {
        "top1_agreement": float(np.mean(same)),
        "map_correlation": float(np.mean(correlations)),
        "correlations": tuple(correlations),
    }


def _correlation(first: F4, second: F4) -> float:
    """Pearson's; 0 where a map is constant."""
    if not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
