"""What the peers' networks see of a JPEG file: the centred square, shrunk by averaging, as ours."""

import cv2
import numpy as np

SIDE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def network_input(path):
    """(3,224,224) float32."""
    pixels = cv2.imread(str(path))[..., ::-1]
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    view = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return ((view / np.float32(255) - MEAN) / STD).transpose(2, 0, 1).copy()


def scaled(sums):
    """(...,h,w) maps after ReLU, from 0 to 1 each."""
    sums = sums.clip(0)
    low, high = (edge(sums, axis=(-2, -1), keepdims=True) for edge in (np.min, np.max))
    return (sums - low) / np.maximum(high - low, 1e-12)
