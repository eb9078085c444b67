"""What every reader must do; each reader's test calls these with a reader of its own."""

from dataclasses import astuple, replace

import numpy as np

from shardcam.engine.pictures.decode_image import picture_of
from tests.pictures.decoded import HOW


def check_listing(reader, count):
    """The same samples in the same order each time, with unique keys and running indices,
    of plain values, which can be saved as JSON."""
    listing = list(reader.samples())
    assert list(reader.samples()) == listing
    assert [sample.index for sample in listing] == list(range(count))
    assert len({sample.key for sample in listing}) == count
    for sample in listing:
        assert [type(v) for v in astuple(sample)[:5]] == [str, int, int, str, int]
        assert sample.box is None or [type(v) for v in sample.box] == [float] * 4
    return listing


def check_content(reader, expected):
    """Each key's bytes are what was put in."""
    listing = list(reader.samples())
    assert {sample.key: reader.read(sample) for sample in listing} == expected
    check_read_many(reader, listing)


def check_pixels(reader, pictures):
    """The listing in its order gives these (H,W,3) pictures; a second reader's samples too."""
    listing = check_listing(reader, len(pictures))
    for sample, picture in zip(listing, pictures, strict=True):
        found = picture_of(reader.read(sample), HOW).pixels
        np.testing.assert_array_equal(found, picture)
    check_read_many(reader, listing)
    return listing


def check_read_many(reader, samples):
    """What reading one by one gives, in the order that is asked for; errors are values."""
    gone = replace(samples[0], location=samples[0].location + 12 * "9")
    wanted = [*reversed(samples), gone, samples[0]]
    found = list(reader.read_many(wanted))
    assert len(found) == len(wanted)
    assert isinstance(found[-2], OSError)
    for sample, many in zip(wanted, found, strict=True):
        alone = read_or_error(reader, sample)
        if isinstance(alone, OSError):
            assert (type(many), str(many)) == (type(alone), str(alone))
        else:
            assert type(many) is type(alone)
            np.testing.assert_array_equal(many, alone)


def read_or_error(reader, sample):
    try:
        return reader.read(sample)
    except OSError as error:
        return error
