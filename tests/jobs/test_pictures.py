"""What becomes of turned, transparent and deep pictures, from files to what a run holds."""

import json

import h5py
import numpy as np
import pytest
from PIL import Image

from shardcam import open_run
from shardcam.engine.pictures.decode_image import EXTENSIONS
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.source_pictures import SourcePictures
from tests.jobs.command import LOCAL, SMALL, contents, shardcam
from tests.pictures.picture_files import saved, tiff

PICTURE = np.random.RandomState(3).randint(0, 256, (40, 64, 4)).astype(np.uint8)
RGB = Image.fromarray(PICTURE[..., :3])
DEEP = PICTURE[..., :3].astype(np.uint16) << 4


def write(folder, files):
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def extracted(source, run, *options):
    code, _, err = shardcam("extract", source, *SMALL, *LOCAL, "--out", run, *options)
    assert code == 0, err
    return contents(run)


def test_a_run_over_turned_files_is_that_over_upright_ones(tmp_path):
    turned = {
        "0.png": saved(RGB, "PNG", 6),
        "1.webp": saved(RGB, "WEBP", 6, lossless=True),
        "2.tif": saved(RGB, "TIFF", 6),
        "3.tiff": tiff(DEEP, photometric="rgb", extratags=[(274, "H", 1, 6, True)]),
    }
    upright = saved(RGB.transpose(Image.Transpose.ROTATE_270), "PNG")
    sources = {
        "turned": write(tmp_path / "turned", turned),
        "upright": write(tmp_path / "upright", {f"{i}.png": upright for i in range(4)}),
    }
    rows, overlays, placed, read = {}, {}, {}, {}
    for name, source in sources.items():
        run = tmp_path / f"run {name}"
        rows[name] = extracted(
            source, run, "--save", "maps,heatmaps,overlays,logits", "--overlay-format", "png",
        )  # fmt: skip
        files = sorted((run / "overlays").rglob("*.png"))
        overlays[name] = [np.asarray(Image.open(file)) for file in files]
        with open_run(run) as opened:
            maps = opened.cam(opened.layers[0])
            placed[name] = [maps.on_original(i) for i in range(4)]
            pictures = SourcePictures(
                Listing(RunDir.open(run).listing), stored_config(run, opened.config)
            )
            read[name] = [pictures.read(opened, i, enough=30) for i in range(4)]
    assert rows["turned"]["image_size"].tolist() == [[64, 40]] * 4
    del rows["turned"]["key"], rows["upright"]["key"]
    for dataset, values in rows["upright"].items():
        np.testing.assert_array_equal(rows["turned"][dataset], values, err_msg=dataset)
    for found in (overlays, placed, read):
        assert len(found["turned"]) == 4
        np.testing.assert_array_equal(found["turned"], found["upright"])
    assert placed["turned"][0].shape == (64, 40)


def test_files_are_taken_by_every_ending_and_read_by_content(tmp_path):
    """A picture in a format of each ending, and one in that of another."""
    forms = {
        ".avif": "AVIF", ".bmp": "BMP", ".dib": "BMP", ".gif": "GIF", ".png": "PNG",
        ".apng": "PNG", ".tga": "TGA", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
        **dict.fromkeys((".jp2", ".jpf", ".jpx"), "JPEG2000"),
        **dict.fromkeys((".pgm", ".pnm", ".ppm"), "PPM"), ".pbm": "PPM",
    }  # fmt: skip
    codestream = saved(RGB, "JPEG2000", no_jp2=True)
    files = {}
    for ending in EXTENSIONS:
        data = saved(RGB, forms.get(ending, "JPEG"))
        if ending in (".j2c", ".j2k", ".jpc"):
            data = codestream
        files[f"a{ending}"], files[f"B{ending.upper()}"] = data, saved(RGB, "PNG")
    files["notes.txt"] = b"no picture"
    rows = extracted(write(tmp_path / "photos", files), tmp_path / "run")
    assert len(rows["key"]) == len(files) - 1
    assert rows["image_size"].tolist() == [[40, 64]] * len(rows["key"])
    assert rows["flags"].max() < 16


def fingerprint(run):
    return json.loads((run / "run.json").read_text())["fingerprint"]


def test_transparency(tmp_path):
    half = Image.fromarray(PICTURE)
    files = {
        "0.png": saved(half, "PNG"),
        "1.webp": saved(half, "WEBP", lossless=True, exact=True),
        "2.tif": saved(half, "TIFF"),
        "3.png": saved(RGB, "PNG"),
    }
    source = write(tmp_path / "photos", files)
    ignored = extracted(source, tmp_path / "run", "--save", "logits")["logits"]
    np.testing.assert_array_equal(ignored, ignored[[3] * 4])
    laid = extracted(source, tmp_path / "laid", "--save", "logits", "--background", "10,20,30")
    np.testing.assert_array_equal(laid["logits"][:3], laid["logits"][[0] * 3])
    np.testing.assert_array_equal(laid["logits"][3], ignored[3])
    assert not np.array_equal(laid["logits"][0], ignored[0])
    assert fingerprint(tmp_path / "run") != fingerprint(tmp_path / "laid")


def test_depth_range(tmp_path):
    files = {"0.png": saved(RGB, "PNG"), "1.tif": tiff(DEEP, photometric="rgb")}
    source = write(tmp_path / "photos", files)
    logits, flags, prints = {}, {}, {}
    for given in (None, "auto", "0,4095", "full"):
        run = tmp_path / f"run {given}"
        options = ("--depth-range", given) if given else ()
        rows = extracted(source, run, "--save", "logits", *options)
        logits[given], flags[given] = rows["logits"], rows["flags"].tolist()
        prints[given] = fingerprint(run)
    for given in (None, "auto", "0,4095"):
        np.testing.assert_array_equal(logits[given], logits[None][[0, 0]])
        assert max(flags[given]) < 16
    assert flags["full"][1] & 32
    assert prints[None] == prints["auto"]
    assert len(set(prints.values())) == 3


def test_the_looking_commands_decode_as_runs_do(tmp_path):
    source = write(tmp_path / "photos", {"0.png": saved(Image.fromarray(PICTURE), "PNG")})
    stored = []
    for options in ((), ("--background", "0,0,0")):
        run = tmp_path / f"run{len(stored)}"
        code, _, err = shardcam("activations", source, *SMALL, "--out", run, *options)
        assert code == 0, err
        with h5py.File(run / "index.h5") as file:
            stored.append(file["logits" if "logits" in file else "top_score"][:])
    assert not np.array_equal(*stored)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--background", "1,2"), "--background: takes R,G,B, each 0 to 255, such as 255,255,255"),
        (("--background", "1,2,256"), "--background: takes R,G,B, each 0 to 255"),
        (("--depth-range", "12"), "--depth-range: takes auto, full or LOW,HIGH such as 0,4095"),
        (("--depth-range", "9,1"), "--depth-range: takes auto, full or LOW,HIGH"),
        (("--depth-range", "nan,1"), "--depth-range: takes auto, full or LOW,HIGH"),
    ],
)
def test_wrong_options_are_told(tmp_path, options, told):
    code, _, err = shardcam("extract", tmp_path, *SMALL, "--out", tmp_path / "run", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert told in err
