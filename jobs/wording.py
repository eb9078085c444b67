"""Speeds, times and notes, as commands print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from shardcam.engine.types import Note
from shardcam.jobs.terminal import printable

LIKENESS_WORDS = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "spearman_abs": "Spearman of absolute values",
    "ssim": "SSIM",
    "iou_top20": "IoU of the highest 20 %",
}


def speed(rate: float) -> str:
    """``0.0221`` -> ``0.022 images/s``."""
    return f"{rate:.1f} images/s" if rate >= 1 else f"{rate:.2g} images/s"


def duration(seconds: float) -> str:
    """``7800`` -> ``2 h 10 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 100:
        return f"{hours / 24:.0f} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def note_rows(notes: Iterable[Note]) -> Iterator[tuple[str, str]]:
    """Two cells for each note; of those of a kind only the first is called by it."""
    for kind, told in groupby(sorted(notes, key=lambda note: note.kind), lambda note: note.kind):
        for i, one in enumerate(told):
            yield "" if i else kind, printable(one.text)
