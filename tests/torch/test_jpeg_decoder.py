"""JPEG files decoded by PyTorch's libraries: on the CPU, which shows all but the GPU's kernels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, WorkerError
from shardcam.engine.models.torch import jpeg_decoder
from shardcam.engine.models.torch.jpeg_decoder import JpegBatch, JpegDecoder, decode_function
from shardcam.engine.models.torch.torch_network import TorchNetwork
from shardcam.engine.pictures.imaging import SMALL_RANGE, border
from shardcam.engine.pipeline.device_decoding import DeviceDecoding
from shardcam.engine.run import runtime_choice
from shardcam.engine.run.network_choice import load_definition
from shardcam.engine.run.runtime_choice import with_runtime
from shardcam.engine.types import Fit
from shardcam.kernels import resize
from tests.jobs.command import SMALL, assert_same, contents, shardcam
from tests.jobs.images import make_folder
from tests.pipeline.test_device_decoding import FILES, ON_DEVICE, ORDERS, loaders, shard_of
from tests.pipeline.test_device_decoding import assert_same as assert_same_batches

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding")  # it is deprecated
RUN = (*SMALL, "--runtime", "torch", "--executor", "local")


@pytest.fixture(scope="module", autouse=True)
def libraries():
    pytest.importorskip("torchvision")


@pytest.fixture
def without_gpu(monkeypatch):
    """Decode on the CPU where a GPU is asked for."""
    monkeypatch.setattr(runtime_choice, "_require_decoder", lambda config, runtime: None)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make_folder(folder, 20, bad=4)
    return folder


def extract(images, out, *options):
    code, printed, err = shardcam("extract", images, *RUN, "--out", out, *options)
    assert code == 0, (printed, err)
    return contents(out)


def overlays_of(run):
    return {path.name: path.read_bytes() for path in (run / "overlays").iterdir()}


def both(order, decode=None, gpu=False):
    """A loader whose pictures the CPU decodes, and one whose JPEG files `decode` does."""
    preprocessing = ORDERS[order]
    cpu, _, _ = loaders(preprocessing)
    sides = preprocessing.height, preprocessing.width
    with pytest.MonkeyPatch.context() as patch:
        if decode is not None:
            patch.setattr(jpeg_decoder, "decode_function", lambda: decode)
        decoder = JpegDecoder(sides, border(preprocessing), SMALL_RANGE, gpu)
    return cpu, replace(cpu, others=DeviceDecoding(cpu, decoder))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("box", [None, (10.5, 3.0, 30.0, 45.2)])
def test_the_same_batches_as_without_it(order, box):
    """Both use libjpeg-turbo. What it only warns of is not told of here."""
    cpu, gpu = both(order)
    shard = shard_of([key for key in FILES if key != "wrong"], box)
    found = list(gpu.batches(shard))
    assert_same_batches(found, list(cpu.batches(shard)))
    assert isinstance(found[0].images, torch.Tensor) == ORDERS[order].takes_rgb


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("box", [None, (10.5, 3.0, 30.0, 45.2)])
def test_on_a_gpu(order, box):
    """Pixels are near those of the CPU; of what it decodes, and of all else, they are the same."""
    cpu, gpu = both(order, gpu=True)
    shard = shard_of([key for key in FILES if key != "wrong"], box)
    for found, expected in zip(gpu.batches(shard), cpu.batches(shard), strict=True):
        assert (found.samples, found.failures) == (expected.samples, expected.failures)
        for sample, view, other in zip(found.samples, found.views, expected.views, strict=True):
            assert replace(view, pixels=0) == replace(other, pixels=0)
            gap = np.abs(view.pixels.astype(int) - other.pixels)
            # Colours of noise, which the two interpolate in different ways: up to 5.3 on an H200.
            assert gap.mean() <= (6 if sample.key in ON_DEVICE else 0), sample.key
        if ORDERS[order].takes_rgb:
            assert found.images.is_cuda
            np.testing.assert_array_equal(found.images.cpu(), [v.pixels for v in found.views])


class Kernels:
    """What the GPU's kernels do with the numbers they are given, as `kernels.cuda` states it."""

    @staticmethod
    def fit_pictures(pixels, fits, out, stream):
        sides = tuple(out.shape[1:3])
        for start, height, width, *box, rows, columns, y, x, row in fits.tolist():
            planes = pixels[start : start + 3 * height * width].view(3, height, width)
            fit = Fit(tuple(box), (rows, columns), (y, x), ())
            picture = np.ascontiguousarray(planes.permute(1, 2, 0).numpy())
            resized = resize(picture, fit.box, fit.size, fit.window(sides))
            out[row][fit.place(sides)] = torch.from_numpy(resized)

    @staticmethod
    def small_ranges(pixels, parts, limit, out, stream):
        for n, (start, height, width, *box) in enumerate(parts.tolist()):
            planes = pixels[start : start + 3 * height * width].view(3, height, width)
            seen = planes[:, box[0] : box[2], box[1] : box[3]].int()
            out[n] = seen.max() - seen.min() < limit


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("box", [None, (10.5, 3.0, 30.0, 45.2)])
def test_what_the_kernels_are_given(order, box, monkeypatch):
    monkeypatch.setattr(jpeg_decoder, "cuda", Kernels)
    monkeypatch.setattr(JpegBatch, "_fit_here", JpegBatch._fit)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    test_the_same_batches_as_without_it(order, box)


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_a_run_is_as_without_it(images, tmp_path, without_gpu, method):
    options = ("--method", method, "--save", "maps,logits,overlays", "--max-pixels", 1_000_000)
    expected = extract(images, tmp_path / "cpu", *options)
    found = extract(images, tmp_path / "gpu", *options, "--decoder", "gpu", "--batch-size", 5)
    assert_same(found, expected)
    overlays = [overlays_of(tmp_path / kind) for kind in ("gpu", "cpu")]
    assert overlays[0] == overlays[1] != {}
    code, _, err = shardcam("extract", images, *RUN, *options, "--out", tmp_path / "gpu")
    assert code == 2 and "holds another run (decoder: gpu there" in err


def test_metrics_of_such_a_run(images, tmp_path, without_gpu):
    for kind in ("cpu", "gpu"):
        run = tmp_path / kind
        extract(images, run, "--decoder", kind, "--max-pixels", 1_000_000)
        order = ("--metrics", "deletion", "--executor", "local", "--csv", tmp_path / f"{kind}.csv")
        code, printed, err = shardcam("evaluate", run, *order)
        assert code == 0, (printed, err)
    assert (tmp_path / "cpu.csv").read_text() == (tmp_path / "gpu.csv").read_text()


def test_what_it_gives_up_spoils_nothing_beside_it():
    """nvJPEG's wrappers raise for all of a call: each picture is then decoded by itself."""
    calls = []

    def decode(files, mode, device):
        calls.append(len(files))
        if any(FILES["progressive"] == bytes(file.numpy()) for file in files):
            raise RuntimeError("nvjpegDecode failed: 2")
        return decode_function()(files, mode=mode, device=device)

    cpu, gpu = both("crop", decode)
    shard = shard_of(["plain", "progressive", "dark", "4:4:4"])
    assert_same_batches(list(gpu.batches(shard)), list(cpu.batches(shard)))
    assert calls == [1, 1, 4, 1, 1, 1, 1]  # the first two are to see that it works


def test_what_is_not_of_the_headers_size_is_left_to_the_cpu():
    """Such as a picture that the decoder turns, by an EXIF block that is read another way."""

    def decode(files, mode, device):
        made = decode_function()(files, mode=mode, device=device)
        return [picture.transpose(1, 2) for picture in made]

    cpu, gpu = both("crop", decode)
    shard = shard_of(["plain", "4:4:4"])
    assert_same_batches(list(gpu.batches(shard)), list(cpu.batches(shard)))


def test_not_too_many_pixels_at_once(monkeypatch):
    files = {row: _File(size) for row, size in enumerate([(2, 3), (4, 4), (3, 3), (2, 2), (4, 5)])}
    monkeypatch.setattr(jpeg_decoder, "LARGEST", 16)
    monkeypatch.setattr(jpeg_decoder, "TOGETHER", 22)
    assert [[*some] for some in jpeg_decoder._together(files)] == [[0, 1], [2, 3]]


class _File:
    def __init__(self, size):
        self.size = size


def test_memory_that_runs_out_stops_the_run():
    def decode(files, mode, device):
        if len(files) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return decode_function()(files, mode=mode, device=device)

    _, gpu = both("crop", decode)
    with pytest.raises(WorkerError, match=r"out of memory: .*smaller --batch-size"):
        list(gpu.batches(shard_of([*ON_DEVICE])))


def test_a_decoder_that_never_works_is_refused_at_once():
    """Else the CPU would decode everything, and nobody be told."""

    def decode(files, mode, device):
        raise RuntimeError("decode_jpeg: not compiled with nvJPEG support\nmore")

    with pytest.raises(WorkerError, match=r"^--decoder gpu: .*: decode_jpeg: .* support$"):
        both("crop", decode)


REFUSED = {
    "needs a GPU \\(--gpus-per-worker\\)": {"gpus_per_worker": 0},
    "is for --runtime torch; for MXNet the CPU decodes": {"runtime": "mxnet"},
    "--fast-decode: with --decoder gpu": {"fast_decode": True},
    "--interpolation: with --decoder gpu": {"interpolation": "bilinear"},
    "--decode-processes: with --decoder gpu": {"decode_processes": 2},
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused(words):
    options = {"runtime": "torch", "gpus_per_worker": 1, "decoder": "gpu"} | REFUSED[words]
    with pytest.raises(ConfigError, match=words):
        with_runtime(RunConfig(source="-", model="-", out="-", **options))


def test_refused_without_a_library(monkeypatch):
    monkeypatch.setattr(runtime_choice, "find_spec", lambda name: name == "torch" or None)
    options = {"runtime": "torch", "gpus_per_worker": 1, "decoder": "gpu"}
    with pytest.raises(ConfigError, match=r"--decoder gpu needs torchcodec: .*, or torchvis"):
        with_runtime(RunConfig(source="-", model="-", out="-", **options))


def test_a_network_takes_bytes_that_are_there():
    """As it takes those of the host."""
    config = RunConfig(source="-", model=str(SMALL[1]), image_size=SMALL[3], out="-")
    net = TorchNetwork(load_definition(config), ("one_relu",), 4)
    pixels = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    here = net.forward(pixels)
    logits, images = here.logits.copy(), here.images
    there = net.forward(torch.from_numpy(pixels))
    np.testing.assert_array_equal(there.logits, logits)
    np.testing.assert_array_equal(there.images, images)
