"""Six photographs with labels and masks, for docs/weak-supervision.md.

``python docs/seeds_example.py FOLDER`` makes FOLDER/photos with the photographs, FOLDER/labels.csv
with the ImageNet classes of each, and FOLDER/truth.json, COCO's, with polygons drawn by hand.
``python docs/seeds_example.py FOLDER SEEDS.jpg SEEDS...`` draws the photographs, the masks and
folders of seeds side by side. The photographs are those that scikit-image and Matplotlib ship.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHIPPED = {"skimage": "data", "matplotlib": "mpl-data/sample_data"}
NAMES = {
    285: "Egyptian cat",
    518: "crash helmet",
    652: "military uniform",
    657: "missile",
    665: "moped",
    812: "space shuttle",
    967: "espresso",
}
POLYGONS = {  # x and y of corners, in turn
    "skimage/chelsea.png": {
        285: [
            [40, 0, 345, 0, 382, 2, 372, 55, 352, 90, 362, 150, 352, 195, 330, 245, 300, 262, 230,
             290, 205, 299, 60, 299, 30, 250, 28, 140, 35, 60],
        ],
    },
    "skimage/coffee.png": {
        967: [
            [176, 95, 205, 45, 260, 20, 330, 22, 385, 55, 403, 100, 404, 125, 440, 140, 475, 190,
             480, 240, 460, 300, 420, 345, 355, 378, 290, 385, 220, 370, 150, 330, 100, 270, 78,
             215, 80, 170, 110, 120, 170, 75],
        ],
    },
    "skimage/motorcycle_left.png": {
        665: [
            [110, 240, 115, 210, 155, 200, 150, 165, 210, 180, 270, 185, 330, 205, 390, 180, 440,
             160, 490, 150, 510, 125, 500, 100, 545, 90, 570, 120, 565, 185, 560, 240, 600, 250,
             640, 300, 665, 350, 682, 400, 680, 430, 650, 450, 600, 430, 560, 390, 520, 340, 500,
             330, 480, 375, 340, 385, 340, 430, 325, 430, 310, 380, 250, 365, 200, 395, 150, 370,
             125, 320, 122, 270],
        ],
    },
    "skimage/rocket.jpg": {
        657: [[312, 175, 318, 135, 323, 125, 330, 135, 335, 175, 336, 410, 310, 410]],
    },
    "skimage/astronaut.png": {
        518: [
            [285, 440, 295, 395, 320, 365, 360, 345, 405, 342, 450, 355, 485, 385, 505, 430, 511,
             470, 511, 511, 290, 511],
        ],
        812: [
            [365, 215, 372, 190, 385, 80, 393, 60, 400, 10, 415, 0, 440, 2, 446, 60, 455, 150, 455,
             210, 447, 235, 442, 285, 400, 285, 385, 230],
        ],
    },
    "matplotlib/grace_hopper.jpg": {
        652: [
            [8, 500, 30, 430, 60, 380, 120, 345, 195, 320, 225, 395, 260, 410, 300, 395, 325, 330,
             400, 350, 470, 385, 500, 440, 511, 500, 511, 599, 0, 599],
            [150, 130, 155, 105, 180, 80, 185, 55, 230, 22, 310, 25, 345, 65, 372, 90, 370, 165,
             310, 140, 250, 130, 200, 135, 150, 160],
        ],
    },
}  # fmt: skip
SIDE = 240  # pixels of a drawing


def photograph(name: str) -> Path:
    package, _, file = name.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"the photographs need {package}: make demo, or pip install {package}")
    return Path(spec.origin).parent / SHIPPED[package] / file


def make(folder: Path) -> None:
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("path", "labels"))
        for name, found in POLYGONS.items():
            shutil.copy(photograph(name), folder / "photos")
            rows.writerow((photograph(name).name, ";".join(map(str, found))))
    images, annotations = [], []
    for number, (name, found) in enumerate(POLYGONS.items(), 1):
        width, height = Image.open(photograph(name)).size
        file = photograph(name).name
        images.append({"id": number, "file_name": file, "width": width, "height": height})
        annotations += [
            {
                "id": 1000 * number + c,
                "image_id": number,
                "category_id": c,
                "segmentation": polygons,
            }
            for c, polygons in found.items()
        ]
    categories = [{"id": c, "name": name} for c, name in NAMES.items()]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))


def draw(picture: Path, seeds: list[Path]) -> None:
    """A column for each photograph: as it is, by hand, and of each folder of seeds."""
    columns = []
    for name, found in POLYGONS.items():
        shown = Image.open(photograph(name)).convert("RGB")
        masks = Image.new("L", shown.size)
        for c, polygons in found.items():
            for polygon in polygons:
                ImageDraw.Draw(masks).polygon(polygon, fill=[*NAMES].index(c) + 1)
        first = Image.open(seeds[0] / f"{photograph(name).stem}.png")
        masks.putpalette(first.getpalette())
        rows = [masks, *(Image.open(folder / f"{photograph(name).stem}.png") for folder in seeds)]
        mixed = [shown, *(Image.blend(shown, one.convert("RGB"), 0.6) for one in rows)]
        for one in mixed:
            one.thumbnail((SIDE, SIDE))
        height = max(one.height for one in mixed)
        column = Image.new("RGB", (SIDE, len(mixed) * SIDE), "white")
        for k, one in enumerate(mixed):
            column.paste(one, ((SIDE - one.width) // 2, k * SIDE + (SIDE - height) // 2))
        columns.append(np.asarray(column))
    Image.fromarray(np.concatenate(columns, axis=1)).save(picture, quality=85)


if __name__ == "__main__":
    folder, *rest = map(Path, sys.argv[1:])
    if rest:
        draw(rest[0], rest[1:])
    else:
        make(folder)
