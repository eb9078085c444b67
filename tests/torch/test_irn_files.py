"""IRN's files, written without PyTorch: it loads them as its own scripts do."""

import numpy as np
import pytest

from shardcam import export, open_run
from shardcam.engine.analysis.npy_dictionary import Tensor, npy_dictionary
from tests.analysis.native_runs import FOUR, MAP, make_native_run

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


def test_files_of_several_scales_are_those_of_make_cam(tmp_path):
    """The recipe in PyTorch, from the raw maps of a run of pictures at their own sizes."""
    made = make_native_run(tmp_path / "run", copies=FOUR)
    interpolate = torch.nn.functional.interpolate
    with open_run(made.paths.root) as run:
        assert export.irn(run, tmp_path / "irn", MAP) == len(run)
        for i, key in enumerate(run.keys):
            path = tmp_path / "irn" / key.replace(".png", ".npy")
            found = np.load(path, allow_pickle=True).item()
            height, width = run["image_size"][i].tolist()
            target = run["target"][i]
            order = np.argsort(target)[(target == -1).sum() :]
            grids = [torch.from_numpy(maps[order])[None] for maps in made.raw(i)]
            assert found["keys"].tolist() == target[order].tolist()
            small = -(-height // 4), -(-width // 4)
            if not len(order):
                assert found["cam"].shape == (0, *small)
                continue
            large = -(-height // 16) * 16, -(-width // 16) * 16
            sums = [
                sum(interpolate(g, size, mode="bilinear", align_corners=False) for g in grids)[0]
                for size in (small, large)
            ]
            cam, high = sums[0], sums[1][:, :height, :width]
            expected = [one / (one.amax((1, 2), keepdim=True) + 1e-5) for one in (cam, high)]
            torch.testing.assert_close(found["cam"], expected[0], atol=2e-6, rtol=0)
            high_res = torch.from_numpy(found["high_res"])
            torch.testing.assert_close(high_res, expected[1], atol=2e-6, rtol=0)
            device = "cuda" if torch.cuda.is_available() else "cpu"
            enlarged = interpolate(found["cam"].to(device)[None], large, mode="bilinear")
            assert enlarged.shape == (1, len(order), *large)
