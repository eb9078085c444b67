"""Decoding in one short call."""

from shardcam.engine.pictures.decode_image import decode
from shardcam.engine.types import Decoding

HOW = Decoding(max_pixels=10**6)


def decoded(data, enough=None, **options):
    """(height,width,3) pixels of a file of at most a million pixels."""
    return decode(data, Decoding(**{"max_pixels": 10**6} | options), enough).pixels
