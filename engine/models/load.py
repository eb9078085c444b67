"""From the name a user types to a network definition."""

from __future__ import annotations

from engine.errors import ConfigError, ModelError
from engine.models.definition import NetworkDefinition

LITE0 = "efficientnet_lite0"


def load_network(
    model: str, params: str | None = None, image_size: int | None = None
) -> NetworkDefinition:
    """Load `model`: ``efficientnet_lite0``, or a model zoo name with `params`.

    Raises
    ------
    ConfigError
        No such model.
    ModelError
        Its weights are missing, damaged, or of another network.
    """
    from engine.models.efficientnet_lite import efficientnet_lite0
    from engine.models.zoo import NAMES, zoo_network

    size = image_size or 224
    if model == LITE0:
        if params is not None:
            raise ModelError(f"{LITE0} brings its own weights; leave --params out")
        return efficientnet_lite0(size)
    if model in NAMES:
        return zoo_network(model, params, size)
    raise ConfigError(f"--model: unknown model {model!r}; known: {', '.join((LITE0, *NAMES))}")
