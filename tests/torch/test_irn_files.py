"""IRN's files, written without PyTorch: it loads them as its own scripts do."""

import numpy as np
import pytest

from shardcam.engine.analysis.npy_dictionary import Tensor, npy_dictionary

torch = pytest.importorskip("torch")


def test_tensors_are_tensors(tmp_path):
    rng = np.random.default_rng(0)
    keys, cam, high = np.array([0, 14]), rng.random((2, 5, 7), "f4"), rng.random((2, 20, 27), "f4")
    data = npy_dictionary({"keys": Tensor(keys), "cam": Tensor(cam), "high_res": high})
    (tmp_path / "2007_000032.npy").write_bytes(data)
    found = np.load(tmp_path / "2007_000032.npy", allow_pickle=True).item()
    assert isinstance(found["keys"], torch.Tensor) and found["keys"].dtype == torch.int64
    assert isinstance(found["cam"], torch.Tensor) and found["cam"].dtype == torch.float32
    assert isinstance(found["high_res"], np.ndarray)
    np.testing.assert_array_equal(found["cam"].cpu().numpy(), cam)
    np.testing.assert_array_equal(found["high_res"], high)
    padded = np.pad(found["keys"] + 1, (1, 0), mode="constant")  # as eval_cam and make_sem_seg do
    assert padded.tolist() == [0, 1, 15]
    enlarged = torch.nn.functional.interpolate(found["cam"][None], (20, 27), mode="bilinear")
    assert enlarged.shape == (1, 2, 20, 27)
    none = npy_dictionary({"keys": Tensor(keys[:0]), "cam": Tensor(cam[:0]), "high_res": high[:0]})
    (tmp_path / "none.npy").write_bytes(none)
    found = np.load(tmp_path / "none.npy", allow_pickle=True).item()
    assert found["cam"].shape == (0, 5, 7) and found["keys"].numel() == 0
