"""NumPy twins of the public kernels: the same names and results, written to be read.

The tests hold each kernel to its twin; nothing else uses them. Arguments are those of the
kernels, but are not checked.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, U1
from shardcam.kernels.weighting import ALL_ZERO, CONSTANT, NON_FINITE


def weighted_sum(activation: F4, weight: F4) -> F4:
    """(N,C,h,w) . (N,K,C) -> (N,K,h,w), float32, C order."""
    products = activation[:, None] * weight[..., None, None]
    total: F4 = products.sum(axis=2)
    return total


def product_sum(activation: F4, factor: F4, relu: str) -> F4:
    """(N,C,h,w) * (N,C,h,w) -> (N,h,w), float32, C order."""
    products = (np.maximum(factor, 0) if relu == "factor" else factor) * activation
    kept: F4 = np.maximum(products, 0) if relu == "product" else products
    return kept.sum(axis=1)


def scale_maps(raw: F4) -> tuple[F4, F4, U1]:
    """(N,K,h,w) -> (N,K,h,w), (N,K), (N,K), float32 and uint8, C order."""
    finite = np.isfinite(raw).all(axis=(2, 3))
    tame = np.where(finite[..., None, None], raw, np.float32(0))
    scale = np.abs(tame).max(axis=(2, 3))
    unit = tame / np.where(scale > 0, scale, np.float32(1))[..., None, None]
    high, low = tame.max(axis=(2, 3)), tame.min(axis=(2, 3))
    flags = np.where(high <= 0, ALL_ZERO, 0) | np.where(high == low, CONSTANT, 0)
    return unit, scale, np.where(finite, flags, NON_FINITE).astype(np.uint8)


def normalize(maps: F4) -> F4:
    """(M,h,w) -> (M,h,w), float32, C order."""
    finite = np.isfinite(maps).all(axis=(1, 2), keepdims=True)
    positive = np.maximum(np.where(finite, maps, np.float32(0)), 0)
    shifted = positive - positive.min(axis=(1, 2), keepdims=True)
    divisor = shifted.max(axis=(1, 2), keepdims=True).astype(np.float64) + 1e-7
    unit: F4 = shifted / divisor.astype(np.float32)
    return unit


def upsample(maps: F4, size: tuple[int, int], align_corners: bool = False) -> F4:
    """(M,h,w) -> (M,H,W), float32, C order."""
    weights = _corner_weights if align_corners else _hat_weights
    down, across = weights(maps.shape[1], size[0]), weights(maps.shape[2], size[1])
    heatmaps: F4 = (down @ maps @ across.T).astype(np.float32)
    return heatmaps


def heatmap_u8(maps: F4, size: tuple[int, int]) -> U1:
    """(M,h,w) -> (M,H,W), float32 to uint8, C order."""
    return (np.float32(255) * normalize(upsample(normalize(maps), size))).astype(np.uint8)


def overlay(raw: F4, image: U1, table: U1, alpha: float = 0.5, peak_normalize: bool = False) -> U1:
    """(h,w), (H,W,3), (256,3) -> (H,W,3), float32 and uint8, C order."""
    height, width, _ = image.shape
    heat = table[heatmap_u8(raw[None], (height, width))[0]]
    share = np.float32(alpha)
    blended = share * heat.astype(np.float32) + (1 - share) * image.astype(np.float32)
    if peak_normalize and blended.max() > 0:
        blended = 255 * (blended / blended.max())
    return blended.astype(np.uint8)


def ranks(maps: F4, ties: str) -> NDArray[np.uint32]:
    """(M,H,W) -> (M,H,W), float32 to uint32, C order."""
    flat = maps.reshape(len(maps), -1)
    if ties == "rising":
        order = np.argsort(-flat, axis=1, kind="stable")
    else:
        order = np.argsort(flat, axis=1, kind="stable")[:, ::-1]
    return np.argsort(order, axis=1).astype(np.uint32).reshape(maps.shape)


def multiply(pictures: F4, masks: F4, jobs: NDArray[np.int64], out: F4) -> F4:
    """(N,C,H,W), (P,H,W), (M,2) -> (M,C,H,W), float32, C order."""
    out[...] = pictures[jobs[:, 0]] * masks[jobs[:, 1], None]
    return out


def switch(pictures: F4, ranks: NDArray[np.uint32], jobs: NDArray[np.int64], out: F4) -> F4:
    """(N,C,H,W), (P,H,W), (M,4) -> (M,C,H,W), float32 and uint32, C order."""
    lowest, others, order, count = jobs.T
    chosen = ranks[order, None] < count[:, None, None, None]
    out[...] = np.where(chosen, pictures[lowest], pictures[others])
    return out


def blur(pictures: F4, size: int, sigma: float) -> F4:
    """(N,C,H,W) -> (N,C,H,W), float32, C order."""
    reach = int(4 * sigma + 0.5)
    gaussian = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    delta = np.pad(np.eye(size)[size // 2], reach, mode="symmetric")
    taps = sliding_window_view(delta, len(gaussian)) @ gaussian / gaussian.sum()
    kernel = np.outer(taps, taps)
    padded = np.pad(pictures, [(0, 0), (0, 0), *2 * [(size // 2, size // 2)]])
    windows = sliding_window_view(padded, (size, size), axis=(2, 3))
    return np.einsum("nchwij,ij->nchw", windows, kernel).astype(np.float32)


def impute(picture: F4, removed: U1, tolerance: float, out: F4) -> F4:
    """(C,H,W), (H,W) -> (C,H,W), float32 and uint8, C order."""
    channels, height, width = picture.shape
    places = np.argwhere(removed)
    number = np.full((height, width), -1)
    number[tuple(places.T)] = np.arange(len(places))
    system = np.zeros((len(places), len(places)))
    right = np.zeros((len(places), channels))
    for row, (y, x) in enumerate(places):
        for down, across in np.argwhere(np.ones((3, 3))) - 1:
            i, j = y + down, x + across
            if (down or across) and 0 <= i < height and 0 <= j < width:
                weight = 1 / 12 if down and across else 1 / 6
                system[row, row] += weight
                if removed[i, j]:
                    system[row, number[i, j]] -= weight
                else:
                    right[row] += weight * picture[:, i, j]
    out[...] = picture
    out[:, removed != 0] = np.linalg.solve(system, right).T
    return out


def planar(image: U1, mean: F4, std: F4, out: F4) -> F4:
    """(H,W,3), (3), (3) -> (3,H,W), uint8 and float32, C order."""
    out[...] = ((image.astype(np.float32) - mean) / std).transpose(2, 0, 1)
    return out


def resize(
    image: U1,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    window: tuple[int, int, int, int] | None = None,
) -> U1:
    """(H0,W0,3), (4), (2), (4) -> (H,W,3), uint8, C order."""
    first, start, last, stop = window or (0, 0, *size)
    seen = np.floor(unrounded_resize(image, box, size)[first:last, start:stop] + 0.5)
    return np.ascontiguousarray(seen.astype(np.uint8))


def unrounded_resize(
    image: U1, box: tuple[int, int, int, int], size: tuple[int, int]
) -> NDArray[np.float64]:
    """(H0,W0,3), (4), (2) -> (H,W,3), uint8 to float64."""
    top, left, bottom, right = box
    part = image[top:bottom, left:right].astype(np.float64)
    (h, w, _), (height, width) = part.shape, size
    if height >= h and width >= w:
        weights = _hat_weights
    elif height <= h and width <= w:
        weights = _area_weights
    else:
        weights = _area_hat_weights
    across = np.tensordot(part, weights(w, width), axes=(1, 1))  # (h, 3, W)
    resized: NDArray[np.float64] = np.tensordot(weights(h, height), across, axes=(1, 0))
    return resized.transpose(0, 2, 1)


def _corner_weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) float64: linear interpolation from the first sample to the last."""
    place = np.arange(target)[:, None] * (source - 1) / max(target - 1, 1)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(place - np.arange(source)))
    return weights


def _area_weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) float64: of each output pixel, which share of it lies in which sample."""
    low = np.arange(target)[:, None] * source / target
    high, start = low + source / target, np.arange(source)
    covered: NDArray[np.float64] = np.minimum(high, start + 1) - np.maximum(low, start)
    return np.maximum(covered, 0) * target / source


def _area_hat_weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) float64: OpenCV's INTER_AREA where the other axis grows or shrinks instead.

    Each output pixel begins in one sample, and mixes in the next one where it reaches it.
    """
    weights = np.zeros((target, source))
    for i in range(target):
        lower = i * source // target
        upper_share = max(i + 1 - (lower + 1) * target / source, 0) % 1
        weights[i, lower] = 1
        if lower < source - 1:
            weights[i, lower : lower + 2] = 1 - upper_share, upper_share
    return weights


def _hat_weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) float64: bilinear interpolation along one axis as a matrix."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(source)))
    return weights


def fletcher32(data: U1) -> int:
    """(B) -> one number of 32 bits, uint8, C order."""
    words = np.append(data, np.zeros(len(data) % 2, np.uint8)).view(">u2").astype(np.uint64)
    sums = int(words.sum()), int(np.cumsum(words).sum())
    first, second = (0 if total == 0 else total % 65535 or 65535 for total in sums)
    return second << 16 | first


def run_lengths(labels: NDArray[np.int32], label: int) -> NDArray[np.int64]:
    """(H,W), (1) -> (R), int32 to int64, C order."""
    found = (labels == label).ravel("F").astype(np.int8)
    edges = np.flatnonzero(np.diff(found, prepend=0, append=0))
    return np.diff(edges, prepend=0, append=found.size)


def lzw_length(data: U1, bits: int, *, gif: bool) -> int:
    """(B) -> how many values of that many bits LZW codes stand for, uint8, C order."""
    clear = 1 << bits
    order = "little" if gif else "big"
    stream = np.unpackbits(data, bitorder=order)  # type: ignore[call-overload]
    strings: list[bytes] = []
    found = b""
    last = b""
    width, at = bits + 1, 0
    while at + width <= len(stream):
        digits = stream[at : at + width][:: -1 if gif else 1]
        code = int("".join(map(str, digits)), 2)
        at += width
        if code == clear or not strings:
            strings = [bytes([value]) for value in range(clear)] + [b"", b""]
            last, width = b"", bits + 1
            if code == clear:
                continue
        if code == clear + 1:
            break
        if code < len(strings):
            string = strings[code]
        elif code == len(strings) and last:
            string = last + last[:1]
        else:
            return -1
        if last and len(strings) < 4096:
            strings.append(last + string[:1])
        if len(strings) + (not gif) == 1 << width and width < 12:
            width += 1
        found += string
        last = string
    return len(found)


def packbits_length(data: U1) -> int:
    """(B) -> how many bytes PackBits data stand for, uint8, C order; -1 if they are cut off."""
    found, rest = b"", data.tobytes()
    while rest:
        head = int.from_bytes(rest[:1], "big", signed=True)
        taken = 2 + head if head >= 0 else 2 if head > -128 else 1
        if taken > len(rest):
            return -1
        found += rest[1:taken] if head >= 0 else rest[1:taken] * (1 - head)
        rest = rest[taken:]
    return len(found)


def contour_boxes(levels: U1) -> NDArray[np.int32]:
    """(H,W) -> (M,5), by OpenCV's contours at each threshold."""
    return np.array(
        [(threshold, *box) for threshold in range(255) for _, box in _contours(levels, threshold)],
        np.int32,
    )


def largest_boxes(levels: U1) -> NDArray[np.int32]:
    """(H,W) -> (255,5), by OpenCV's contours at each threshold."""
    each = (max(_contours(levels, t), key=lambda contour: contour[0])[1] for t in range(255))
    return np.array([(t, *box) for t, box in enumerate(each)], np.int32)


def box_overlaps(found: NDArray[np.int32], boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,5), (M,4) -> (255)."""
    best = [0] * 255
    for threshold, *one in found.tolist():
        for other in boxes.tolist():
            best[threshold] = max(best[threshold], _iou(one, other))
    return np.array(best)


def _contours(levels: U1, threshold: int) -> list[tuple[float, tuple[int, ...]]]:
    above = (levels > threshold).astype(np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    bottom, right = levels.shape[0] - 1, levels.shape[1] - 1
    found = []
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        box = x, y, min(x + width, right), min(y + height, bottom)
        found.append((cv2.contourArea(contour), box))
    return found or [(0.0, (0, 0, 0, 0))]


def _iou(one: list[int], other: list[int]) -> int:
    """In 1/10000, rounded down; every extent is one more than the difference."""
    across = max(min(one[2], other[2]) - max(one[0], other[0]) + 1, 0)
    down = max(min(one[3], other[3]) - max(one[1], other[1]) + 1, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    whole = sum(areas) - across * down
    return 10_000 * across * down // whole if whole > 0 else 0
