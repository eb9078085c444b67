"""Names of datasets."""

import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.types import LayerInfo

SLASH, DOT = (LayerInfo(name, (4, 3, 3), False) for name in ("a/b", "a.b"))
TOLD = r"^layers 'a/b' and 'a\.b' would both be stored as a\.b; give them to separate runs$"


@pytest.mark.parametrize(("layers", "read"), [((SLASH, DOT), ()), ((SLASH,), (DOT,))])
def test_two_layers_of_one_name_in_the_files_are_refused(layers, read):
    """Also where only one has maps: who asks for the values of a/b would get those of a.b."""
    with pytest.raises(ConfigError, match=TOLD):
        dataset_specs(layers, read, 10, 1, (8, 8), 5, ("maps", "activations"))
    dataset_specs((SLASH,), (SLASH,), 10, 1, (8, 8), 5, ("maps", "activations"))
