"""`resnet50_irn` beside PyTorch: weight files of every kind, and odd sizes."""

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from tests.models.irn_network import IrnNet, with_statistics  # noqa: E402

CLASSES = 20
SIZES = ((97, 131), (64, 49))
EVERY = np.tile(np.arange(CLASSES, dtype=np.int32), (2, 1))


@pytest.fixture(scope="module")
def irn():
    return with_statistics(IrnNet())


@pytest.fixture(scope="module")
def checkpoint(irn, tmp_path_factory):
    path = tmp_path_factory.mktemp("irn") / "res50_cam.pth"
    torch.save(irn.state_dict(), path)
    return path


def pictures(size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))


def equal(definition, network, size):
    """Logits, and maps of every class by `cam`, beside PyTorch's."""
    images = pictures(size)
    with torch.no_grad():
        logits, maps = network(images).numpy(), network.cam(images).numpy()
    forward = MxnetNetwork(definition, ("auto",), 2).forward(images.numpy())
    ours = METHODS["cam"](forward.layer(resolve_layer(definition, "auto").name), EVERY)
    assert ours.shape == maps.shape
    assert abs(forward.logits - logits).max() < 1e-4 * abs(logits).max()
    assert abs(np.maximum(ours, 0) - maps).max() < 1e-4 * maps.max()


@pytest.mark.parametrize("size", SIZES)
def test_a_checkpoint_of_irn(irn, checkpoint, size):
    definition = load_network("resnet50_irn", str(checkpoint), size)
    assert definition.link == "sigmoid"
    assert resolve_layer(definition, "auto").closed_form
    equal(definition, irn, size)


def test_output_stride_8(checkpoint):
    network = IrnNet(stride=8).eval()
    network.load_state_dict(torch.load(checkpoint))
    definition = load_network("resnet50_irn8", str(checkpoint), (97, 131))
    assert resolve_layer(definition, "auto").shape == (2048, 13, 17)
    equal(definition, network, (97, 131))


def test_as_training_scripts_save_it(tmp_path):
    """Inside of DataParallel, in half precision, beside other things; five classes, with a bias."""
    network = with_statistics(IrnNet(classes=5))
    network.classifier.bias = torch.nn.Parameter(torch.arange(5.0))
    state = {
        key: value.half() for key, value in torch.nn.DataParallel(network).state_dict().items()
    }
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "last.pt")
    network.load_state_dict({k.removeprefix("module."): v.float() for k, v in state.items()})
    definition = load_network("resnet50_irn", str(tmp_path / "last.pt"), (97, 131))
    images = pictures((97, 131))
    with torch.no_grad():
        logits = network(images).numpy()
    found = MxnetNetwork(definition, ("auto",), 2).forward(images.numpy()).logits
    assert abs(found - logits).max() < 1e-4 * abs(logits).max()


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_torchvisions_weights(form, tmp_path):
    network = torchvision.models.resnet50(weights=None, num_classes=7)
    network.layer4[0].conv2.stride = network.layer4[0].downsample[0].stride = (1, 1)
    with_statistics(network)
    path = str(tmp_path / f"net.{form}")
    if form == "pth":
        torch.save(network.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    images = pictures((97, 131))
    with torch.no_grad():
        logits = network(images).numpy()
    definition = load_network("resnet50_irn", path, (97, 131))
    assert definition.link == "softmax"
    found = MxnetNetwork(definition, ("auto",), 2).forward(images.numpy()).logits
    assert abs(found - logits).max() < 1e-4 * abs(logits).max()
