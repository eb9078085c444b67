"""Pixels on their way to a GPU: from memory that is locked, and from any other."""

import mmap

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shardcam.engine.models.torch.pixel_buffer import PixelBuffer  # noqa: E402
from shardcam.engine.models.torch.torch_device import lock_pages  # noqa: E402
from shardcam.engine.types import Preprocessing  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
RGB = Preprocessing(48, 64, (120.0, 110.0, 100.0), (60.0, 50.0, 40.0))


def test_from_locked_memory_as_from_any_other():
    memory = np.frombuffer(mmap.mmap(-1, 16 * mmap.PAGESIZE), np.uint8)
    pixels = memory[: 5 * 48 * 64 * 3].reshape(5, 48, 64, 3)
    unlock = lock_pages(memory)
    assert torch.from_numpy(pixels).is_pinned()
    buffer = PixelBuffer(6, RGB, torch.device("cuda", 0))
    for seed in range(3):
        pixels[:] = np.random.default_rng(seed).integers(0, 256, pixels.shape)
        expected = (pixels.astype(np.float32) - RGB.mean) / RGB.std
        for given in (pixels, pixels.copy(), pixels[1:3]):
            buffer.put(given)
            torch.cuda.synchronize()
            found = buffer.data.permute(0, 2, 3, 1).cpu().numpy()
            first = 0 if len(given) == 5 else 1
            np.testing.assert_allclose(
                found[: len(given)], expected[first : first + len(given)], rtol=0, atol=1e-6
            )
            assert not found[len(given) :].any()
    unlock()
    assert not torch.from_numpy(pixels).is_pinned()


def test_memory_that_cannot_be_locked_is_left_as_it_is():
    memory = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.uint8)
    unlock = lock_pages(memory)
    lock_pages(memory)()  # a second time is refused
    assert torch.from_numpy(memory).is_pinned()
    torch.ones(2, device="cuda").sum().item()  # nobody else is told of that
    unlock()
