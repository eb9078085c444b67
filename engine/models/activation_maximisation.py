"""Pictures that a unit of a network responds to most, by gradient ascent on the input.

Erhan et al. 2009; made legible as in Olah et al. 2017: the ascent is on the picture's
Fourier coefficients, weighted as in photographs by the inverse of the frequency, so that
a step changes smooth structure before it changes noise; colours are steps along
brightness, red against blue, and green against purple; and every step looks at the
picture shifted, turned and scaled a little, so that only what survives that can grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.types import F4, I4, U1, Preprocessing

UnitGradient = Callable[[F4, I4], tuple[F4, F4]]  # images, units -> activations, gradients

Matrix = npt.NDArray[Any]  # (2,3), affine

_AXES = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], np.float32)
_SPREAD = np.array([1, 0.35, 0.2], np.float32)  # deviation of photographs along each
_STEEP = 1.4  # power of the frequency for units that see all: at 1, noise hides the objects
_RATE = 0.05
_MOMENTUM, _MEMORY = 0.9, 0.999  # of Adam (Kingma & Ba 2015)
_NOISE = 0.02  # of the start, in shares of the range from black to white
_TURN, _ZOOM, _SHIFT = 10, 0.1, 0.06  # degrees, share, share of the height


@dataclass(frozen=True)
class MaximisedUnits:
    """N pictures, one for each unit."""

    pictures: U1  # (N,H,W,3)
    start: F4  # (N,) activations of the noise that the ascent began with
    end: F4  # (N,) activations of the pictures


def maximise_activation(
    gradient_of: UnitGradient,
    units: I4,
    preprocessing: Preprocessing,
    field: float,
    steps: int = 128,
    seed: int = 0,
) -> MaximisedUnits:
    """Find a picture for each unit. All start from the same noise and are moved alike.

    Parameters
    ----------
    gradient_of
        Gives activations and gradients, as `UnitGradients.of` does.
    units
        Numbers of the units, (N,).
    preprocessing
        How the network's input is made from a picture.
    field
        Side of the receptive field in pixels: longer waves get no more weight. Infinite for
        classes and other units that see the whole input: their pictures are smoother.
    """
    canvas = _Canvas(preprocessing, field)
    rng = np.random.default_rng(seed)
    spectrum = np.repeat(canvas.noise(rng), len(units), axis=0)
    start = gradient_of(canvas.images(canvas.colours(spectrum)), units)[0]
    first, second = np.zeros_like(spectrum), np.zeros_like(spectrum)
    for step in range(1, steps + 1):
        colours = canvas.colours(spectrum)
        moved = _motion(rng, preprocessing)
        images = _warped(canvas.images(colours), moved)
        gradient = _warped(gradient_of(images, units)[1], moved, cv2.WARP_INVERSE_MAP)
        slope = canvas.slope(gradient, colours)
        first += (1 - _MOMENTUM) * (slope - first)
        second += (1 - _MEMORY) * (slope**2 - second)
        size = np.sqrt(second / (1 - _MEMORY**step)) + np.finfo(np.float32).tiny
        spectrum += _RATE * first / (1 - _MOMENTUM**step) / size
    colours = canvas.colours(spectrum)
    end = gradient_of(canvas.images(colours), units)[0]
    shown = colours[:, ::-1] if preprocessing.channels == "bgr" else colours
    return MaximisedUnits(_stretched(shown), start, end)


class _Canvas:
    """From Fourier coefficients to colours between 0 and 1, to the network's input, and back.

    Colours are in the order in which the network takes them.
    """

    def __init__(self, preprocessing: Preprocessing, field: float) -> None:
        channels, *self._size = preprocessing.input_shape
        height, width = self._size
        down, across = np.fft.fftfreq(height, 1.0)[:, None], np.fft.rfftfreq(width, 1.0)[None]
        longest = min(field, max(height, width))
        steepness = _STEEP if np.isinf(field) else 1.0
        weight = np.maximum(np.hypot(down, across), 1 / longest) ** -steepness
        self._weight = (weight / np.sqrt((weight**2).mean())).astype(np.float32)
        self._mix = np.eye(channels, dtype=np.float32)
        if channels == 3:
            self._mix = _SPREAD * (_AXES / np.linalg.norm(_AXES, axis=1, keepdims=True)).T
        if preprocessing.channels == "bgr":
            self._mix = self._mix[::-1]
        self._mean = np.array(preprocessing.mean, np.float32)[:, None, None]
        self._std = np.array(preprocessing.std, np.float32)[:, None, None]

    def noise(self, rng: np.random.Generator) -> F4:
        """(1,C,H,W/2+1,2): real and imaginary part of each coefficient."""
        shape = (1, len(self._mix), *self._weight.shape, 2)
        noise: F4 = (rng.standard_normal(shape) * 4 * _NOISE / np.sqrt(2)).astype(np.float32)
        return noise

    def colours(self, spectrum: F4) -> F4:
        """-> (N,C,H,W), from 0 to 1."""
        weighted = spectrum.view(np.complex64)[..., 0] * self._weight
        planes = np.fft.irfft2(weighted, s=self._size, norm="ortho").astype(np.float32)
        mixed = np.einsum("ij,njhw->nihw", self._mix, planes)
        colours: F4 = 1 / (1 + np.exp(-mixed))
        return colours

    def images(self, colours: F4) -> F4:
        """-> (N,C,H,W), the network's input."""
        images: F4 = (255 * colours - self._mean) / self._std
        return images

    def slope(self, gradient: F4, colours: F4) -> F4:
        """From the gradient at the images to that at the coefficients; its scale is arbitrary."""
        mixed = gradient / self._std * colours * (1 - colours)
        planes = np.einsum("ij,nihw->njhw", self._mix, mixed)
        slope = np.fft.rfft2(planes, norm="ortho") * self._weight
        parts: F4 = np.stack([slope.real, slope.imag], axis=-1).astype(np.float32)
        return parts


def _motion(rng: np.random.Generator, preprocessing: Preprocessing) -> Matrix:
    """A random turn, zoom and shift, as a matrix."""
    height, width = preprocessing.height, preprocessing.width
    turn, zoom = rng.uniform(-_TURN, _TURN), 1 + rng.uniform(-_ZOOM, _ZOOM)
    moved: Matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, zoom)
    moved[:, 2] += rng.uniform(-_SHIFT, _SHIFT, 2) * height
    return moved


def _warped(planes: F4, moved: Matrix, direction: int = 0) -> F4:
    """(N,C,H,W) -> (N,C,H,W), moved, or moved back."""
    height, width = planes.shape[2:]
    out = np.empty_like(planes)
    how = cv2.INTER_LINEAR | direction
    border = cv2.BORDER_CONSTANT if direction else cv2.BORDER_REFLECT_101
    for plane, target in zip(
        planes.reshape(-1, height, width), out.reshape(-1, height, width), strict=True
    ):
        cv2.warpAffine(plane, moved, (width, height), dst=target, flags=how, borderMode=border)
    return out


def _stretched(colours: F4) -> U1:
    """(N,C,H,W) -> (N,H,W,3), each stretched to the whole range, its hues kept."""
    low, high = np.percentile(colours, (0.5, 99.5), axis=(1, 2, 3), keepdims=True)
    levels = 255 * np.clip((colours - low) / np.maximum(high - low, 1e-6), 0, 1)
    pictures = np.rint(levels).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.broadcast_to(pictures, (*pictures.shape[:3], 3)))
