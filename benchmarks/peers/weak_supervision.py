"""IRN's step from a classifier to maps, in PyTorch: its loop, written from its description.

Run by a Python that has torch and torchvision; `benchmarks/weak_supervision.py` calls it:

    python benchmarks/peers/weak_supervision.py weights FILE.pth
    python benchmarks/peers/weak_supervision.py maps FILE.pth FOLDER LABELS.csv OUT SCALES THREADS
    python benchmarks/peers/weak_supervision.py compare OUT OURS.npz

The first saves IRN's network with random weights. The second writes NAME.npy of each picture and
prints seconds a picture, the first left out: of the processor with one thread. The third prints
how far the sums of maps in OURS.npz are from these files, once they are divided as these.
"""

import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d, interpolate
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))
from irn_network import IrnNet, with_statistics

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
CLASSES = 20


class Scaled(Dataset):
    """Each picture and its mirror image at every scale, and the classes that it shows."""

    def __init__(self, folder, labels, scales):
        with Path(labels).open() as file:
            self.rows = [(row["path"], row["labels"]) for row in csv.DictReader(file)]
        self.folder, self.scales = Path(folder), scales

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        name, labels = self.rows[number]
        picture = Image.open(self.folder / name).convert("RGB")
        pairs = []
        for scale in self.scales:
            size = tuple(round(side * scale) for side in picture.size)
            scaled = picture if scale == 1 else picture.resize(size, Image.Resampling.BICUBIC)
            planes = ((np.asarray(scaled) / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
            pairs.append(torch.from_numpy(np.stack([planes, planes[:, :, ::-1]])))
        shown = torch.zeros(CLASSES)
        shown[[int(label) for label in labels.split(";")]] = 1
        return Path(name).stem, pairs, shown, picture.size[::-1]


def maps(network, pairs, shown, size):
    """What IRN saves of a picture."""
    sums = []
    for pair in pairs:
        both = network.cam(pair)
        sums.append(both[0] + both[1].flip(-1))
    strided = [-(-side // 4) for side in size]
    whole = [16 * -(-side // 16) for side in size]
    small = torch.stack([resized(values, strided) for values in sums]).sum(0)
    large = torch.stack([resized(values, whole) for values in sums]).sum(0)
    keys = shown.nonzero()[:, 0]
    small, large = small[keys], large[keys, : size[0], : size[1]]
    small /= adaptive_max_pool2d(small, 1) + 1e-5
    large /= adaptive_max_pool2d(large, 1) + 1e-5
    return {"keys": keys, "cam": small, "high_res": large.numpy()}


def resized(values, size):
    return interpolate(values[None], size, mode="bilinear", align_corners=False)[0]


def difference(files, ours):
    worst = 0.0
    for name, maps in np.load(ours).items():
        theirs = np.load(Path(files) / f"{name}.npy", allow_pickle=True).item()["cam"].numpy()
        found = maps[: len(theirs)]
        found = found / (found.max(axis=(1, 2), keepdims=True) + 1e-5)
        worst = max(worst, np.abs(found - theirs).max())
    return worst


def main():
    what, weights, *rest = sys.argv[1:]
    if what == "compare":
        print(difference(weights, *rest))
        return
    if what == "weights":
        torch.save(with_statistics(IrnNet(CLASSES)).state_dict(), weights)
        return
    folder, labels, out, scales, threads = rest
    torch.set_num_threads(int(threads))
    now = time.process_time if threads == "1" else time.perf_counter
    network = IrnNet(CLASSES).eval()
    network.load_state_dict(torch.load(weights))
    pictures = Scaled(folder, labels, [float(scale) for scale in scales.split(",")])
    with torch.no_grad():
        for number, [(name, pairs, shown, size)] in enumerate(
            DataLoader(pictures, batch_size=1, collate_fn=list)
        ):
            np.save(Path(out) / f"{name}.npy", maps(network, pairs, shown, size))
            if number == 0:
                start = now()
    print((now() - start) / (len(pictures) - 1))


if __name__ == "__main__":
    main()
