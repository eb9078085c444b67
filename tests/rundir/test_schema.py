"""Names of datasets."""

import h5py
import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.schema import dataset_specs, layer_path
from shardcam.engine.types import LayerInfo

SLASH, DOT = (LayerInfo(name, (4, 3, 3), False) for name in ("a/b", "a.b"))
TOLD = r"^layers 'a/b' and 'a\.b' would both be stored as a\.b; give them to separate runs$"


@pytest.mark.parametrize(("layers", "read"), [((SLASH, DOT), ()), ((SLASH,), (DOT,))])
def test_two_layers_of_one_name_in_the_files_are_refused(layers, read):
    """Also where only one has maps: who asks for the values of a/b would get those of a.b."""
    with pytest.raises(ConfigError, match=TOLD):
        dataset_specs(layers, read, 10, 1, (8, 8), 5, ("maps", "activations"))
    dataset_specs((SLASH,), (SLASH,), 10, 1, (8, 8), 5, ("maps", "activations"))


@pytest.mark.parametrize(
    ("layer", "stored"),
    [
        ("stage/conv.1 é:0", "stage.conv.1 é:0"),
        ("/features/0", ".features.0"),
        ("/", "%2E"),
        (".", "%2E"),
        ("", "%"),
        ("..", ".."),
        ("//", ".."),
        ("a\0\x1b[1m\udc80", "a%00%1B[1m%DC80"),
        ("L" * 70_000, "L" * 70_000),
    ],
)
def test_any_name_of_a_layer_is_that_of_a_group(tmp_path, layer, stored):
    assert layer_path(layer) == layer_path(stored) == stored
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[f"cam/{layer_path(layer)}/map"] = 1
    with h5py.File(tmp_path / "a.h5") as file:
        assert [*file] == ["cam"]
        assert [*file["cam"]] == [stored]
        assert [*file["cam"][stored]] == ["map"]
