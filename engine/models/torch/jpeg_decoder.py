"""JPEG files decoded and fitted on a GPU: by nvJPEG, which torchcodec and torchvision call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from socket import gethostname

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from shardcam.engine.errors import WorkerError
from shardcam.engine.models.torch.torch_device import in_one_line
from shardcam.engine.types import U1, DeviceJpeg, Fit
from shardcam.kernels import cuda, resize

LARGEST = 1 << 25  # pixels of a picture: larger ones are left to the CPU
TOGETHER = 1 << 26  # pixels that are decoded at once, 192 MiB


def decode_function() -> Callable[..., list[Tensor]]:
    """torchcodec's ``decode_jpeg``, or torchvision's, which has the same nvJPEG below it."""
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, RuntimeError):  # none, or one before 0.16, which may ask for FFmpeg
        from torchvision.io import decode_jpeg

        warnings.filterwarnings("ignore", "The image decoding.*TorchVision", DeprecationWarning)
    found: Callable[..., list[Tensor]] = decode_jpeg
    return found


class JpegDecoder:
    """See `engine.pipeline.device_decoding`; on a CPU it does the same by the CPU's kernels.

    Parameters
    ----------
    sides
        Rows and columns of a view.
    border
        (3,) the RGB of what a view shows beyond the picture.
    small_range
        A picture is told of whose values differ by less.
    gpu
        Decode on the first GPU that this process sees; it must be usable.

    Raises
    ------
    WorkerError
        It cannot decode.
    """

    def __init__(
        self, sides: tuple[int, int], border: U1, small_range: int, gpu: bool = True
    ) -> None:
        self.sides, self.small_range = sides, small_range
        self.device = torch.device("cuda", 0) if gpu else torch.device("cpu")
        self.border = torch.tensor(border.tolist(), dtype=torch.uint8, device=self.device)
        self.stream = torch.cuda.Stream(self.device) if gpu else None
        tiny, whole = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)), (0, 0, 16, 16)
        fit = Fit(whole, sides, (0, 0), (0.0, 0.0, 16.0, 16.0))
        try:  # else every file would be left to the CPU, and nobody told
            self._decode = decode_function()
            self._decoded([tiny])
            self.begin(1).decode({0: DeviceJpeg(tiny, (16, 16), whole, fit)})  # compiles kernels
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise WorkerError(f"--decoder gpu: {gethostname()}: {reason}") from error

    @in_one_line
    def begin(self, rows: int) -> JpegBatch:
        """See `engine.pipeline.device_decoding.DeviceDecoder`."""
        return JpegBatch(self, rows)

    def own_stream(self) -> AbstractContextManager[object]:
        """Where it decodes, beside passes of the network."""
        if self.stream is None:
            return nullcontext()
        own: AbstractContextManager[object] = torch.cuda.stream(self.stream)
        return own

    def wait(self) -> None:
        """Until all of it is done."""
        if self.stream is not None:
            self.stream.synchronize()

    def pictures(self, files: Sequence[bytes]) -> list[Tensor | None]:
        """(3,H,W) RGB of each; None where it gives up.

        One file that cannot be decoded ends a call for many: then each has a call of its own, so
        that what becomes of a picture does not depend on those beside it.
        """
        try:
            return [*self._decoded(files)]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            if len(files) == 1:
                return [None]
            return [picture for file in files for picture in self.pictures([file])]

    def _decoded(self, files: Sequence[bytes]) -> list[Tensor]:
        self.wait()  # nvJPEG's hardware may begin before what the stream has to do first
        encoded = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        return self._decode(encoded, mode="RGB", device=self.device)


class JpegBatch:
    """See `engine.pipeline.device_decoding.DeviceBatch`."""

    def __init__(self, decoder: JpegDecoder, rows: int) -> None:
        self._decoder = decoder
        with decoder.own_stream():
            shape = (rows, *decoder.sides, 3)
            self._images = torch.empty(shape, dtype=torch.uint8, device=decoder.device)
            self._images[:] = decoder.border

    @in_one_line
    def decode(self, files: Mapping[int, DeviceJpeg]) -> dict[int, bool]:
        """See `engine.pipeline.device_decoding.DeviceBatch`."""
        small: dict[int, bool] = {}
        with self._decoder.own_stream():
            for some in _together(files):
                made = self._decoder.pictures([file.data for file in some.values()])
                pictures = {
                    row: picture
                    for (row, file), picture in zip(some.items(), made, strict=True)
                    if picture is not None and picture.shape == (3, *file.size)
                }
                if pictures:
                    fit = self._fit if self._images.is_cuda else self._fit_here
                    small |= zip(pictures, fit(pictures, some), strict=True)
        return small

    @in_one_line
    def put(self, views: Mapping[int, U1]) -> None:
        """See `engine.pipeline.device_decoding.DeviceBatch`."""
        if views:
            with self._decoder.own_stream():
                there = torch.from_numpy(np.stack([*views.values()])).to(self._images.device)
                self._images[[*views]] = there

    @in_one_line
    def close(self, rows: Sequence[int]) -> tuple[Tensor, U1]:
        """See `engine.pipeline.device_decoding.DeviceBatch`."""
        with self._decoder.own_stream():
            images = self._images
            if len(rows) < len(images):
                images = images[[*rows]]
            here = images
            if images.is_cuda:
                here = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True)
                here.copy_(images, non_blocking=True)
        self._decoder.wait()
        pixels: U1 = here.numpy()
        return images, pixels

    def _fit(self, pictures: Mapping[int, Tensor], files: Mapping[int, DeviceJpeg]) -> list[bool]:
        """Into their rows; whether the values of each are alike."""
        starts = np.cumsum([0, *(picture.numel() for picture in pictures.values())])
        fits, parts = [], []
        for start, row in zip(starts[:-1].tolist(), pictures, strict=True):
            file, fit = files[row], files[row].fit
            fits.append((start, *file.size, *fit.box, *fit.size, *fit.start, row))
            parts.append((start, *file.size, *file.part))
        images = self._images
        pixels = torch.cat([picture.flatten() for picture in pictures.values()])
        small = torch.empty(len(pictures), dtype=torch.uint8, device=images.device)
        stream = torch.cuda.current_stream(images.device).cuda_stream
        fits_there, parts_there = (torch.tensor(n, device=images.device) for n in (fits, parts))
        cuda.fit_pictures(pixels, fits_there, images, stream=stream)
        cuda.small_ranges(pixels, parts_there, self._decoder.small_range, small, stream=stream)
        return [bool(one) for one in small.tolist()]

    def _fit_here(
        self, pictures: Mapping[int, Tensor], files: Mapping[int, DeviceJpeg]
    ) -> Iterator[bool]:
        for row, picture in pictures.items():
            pixels, fit = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()), files[row].fit
            sides = self._decoder.sides
            rows, columns = fit.place(sides)
            resized = resize(pixels, fit.box, fit.size, fit.window(sides))
            self._images[row, rows, columns] = torch.from_numpy(resized)
            top, left, bottom, right = files[row].part
            seen = pixels[top:bottom, left:right]
            yield int(seen.max()) - int(seen.min()) < self._decoder.small_range


def _together(files: Mapping[int, DeviceJpeg]) -> Iterator[dict[int, DeviceJpeg]]:
    """The files that are not too large, in parts that are not, either."""
    some: dict[int, DeviceJpeg] = {}
    held = 0
    for row, file in files.items():
        pixels = file.size[0] * file.size[1]
        if pixels > LARGEST:
            continue
        if some and held + pixels > TOGETHER:
            yield some
            some, held = {}, 0
        some[row] = file
        held += pixels
    if some:
        yield some
