"""The checksum of HDF5: as its definition says, and as HDF5 itself writes it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from shardcam import kernels
from shardcam.kernels import checksum
from tests.kernels import reference

SIZES = (1, 2, 3, 4, 719, 720, 721, 65_535, 65_536, 300_001)
CONTENTS = {
    "random": lambda size: np.random.default_rng(size).integers(0, 256, size, np.uint8),
    "zeros": lambda size: np.zeros(size, np.uint8),
    "largest": lambda size: np.full(size, 255, np.uint8),  # sums that are multiples of 65535
    "one bit": lambda size: np.eye(1, size, size - 1, np.uint8)[0],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("content", CONTENTS)
def test_equals_its_twin_and_what_hdf5_stores(content: str, size: int) -> None:
    data: NDArray[np.uint8] = CONTENTS[content](size)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        stored = file.create_dataset("x", data=data, chunks=(size,), fletcher32=True)
        file.flush()
        _, chunk = stored.id.read_direct_chunk((0,))
    assert kernels.fletcher32(data) == int.from_bytes(chunk[-4:], "little")
    assert kernels.fletcher32(data) == reference.fletcher32(data)


def test_takes_any_address_and_read_only_data() -> None:
    data = np.random.default_rng(0).integers(0, 256, 1001, np.uint8)
    expected = kernels.fletcher32(data[1:].copy())
    data.flags.writeable = False
    assert kernels.fletcher32(data[1:]) == expected


def test_long_data_is_summed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 256, 5001, np.uint8)
    expected = kernels.fletcher32(data)
    monkeypatch.setattr(checksum, "_BLOCK", 7)
    assert kernels.fletcher32(data) == expected


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (np.zeros(0, np.uint8), ValueError),
        (np.zeros((2, 2), np.uint8), ValueError),
        (np.zeros(4, np.uint8)[::2], ValueError),
        (np.zeros(4, np.int8), TypeError),
        (b"abcd", TypeError),
    ],
)
def test_refuses_and_names_the_argument(data: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^data: "):
        kernels.fletcher32(data)  # type: ignore[arg-type]
