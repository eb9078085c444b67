"""What a run assumes of its network, because neither file nor options say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.types import Note

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition


def assumptions(config: RunConfig, definition: NetworkDefinition) -> list[Note]:
    """Notes of what was assumed of a network."""
    notes = []
    if definition.assumed and config.mean is None and config.std is None:
        mean, std = (
            ",".join(f"{value:g}" for value in values)
            for values in (definition.preprocessing.mean, definition.preprocessing.std)
        )
        text = f"the model file has no preprocessing: --mean {mean} --std {std} were taken"
        notes.append(Note("assumed", text))
    return notes
