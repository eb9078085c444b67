"""The table of methods: what registering one gives, and that names are unique."""

import numpy as np
import pytest

from shardcam.engine.methods import METHODS, registry
from shardcam.engine.methods.combine import FirstComponent
from shardcam.engine.methods.registry import cam_method


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setattr(registry, "_methods", {})
    return registry._methods


def test_the_families_follow_one_another():
    names = list(METHODS)
    first = [names.index(name) for name in ("cam", "eigencam", "scorecam", "fullgrad", "rollout")]
    assert first == sorted(first)
    assert (first[0], first[-1], len(names)) == (0, 19, 20)
    with pytest.raises(TypeError):
        METHODS["mine"] = METHODS["cam"]


def test_combine_goes_to_the_formulas_that_take_it(empty):
    @cam_method("terms", paper="p", needs="n")
    def terms(layer, targets, combine):
        return combine

    @cam_method("fixed", paper="p", needs="n")
    def fixed(layer, targets):
        return np.zeros((1, 1, 2, 2), np.float32)

    assert empty["terms"].supports_eigen_smooth and not empty["fixed"].supports_eigen_smooth
    chosen = FirstComponent()
    assert empty["terms"](None, None, chosen) is chosen
    assert empty["fixed"](None, None, chosen).shape == (1, 1, 2, 2)
    assert terms(None, None, 3) == 3  # the function itself stays as it is


def test_a_name_is_given_once(empty):
    register = cam_method("same", paper="p", needs="n")
    register(lambda layer, targets: None)
    with pytest.raises(ValueError, match="two CAM methods are named same"):
        register(lambda layer, targets: None)
