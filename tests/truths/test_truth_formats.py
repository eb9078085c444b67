"""What each format of truth means, from its files to classes, boxes and masks."""

import pickle

import numpy as np
import pytest

from tests.truths.truths import (
    annotation,
    coco,
    found,
    levels,
    png,
    read,
    told,
    written,
    xml,
)


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,dog,10,20,40,60\na.jpg,0,1.5,2,3,4\n",
        "\ufeffkey,class,x0,y0,x1,y1\r\na.jpg,dog,10,20,40,60\r\na.jpg,0,1.5,2,3,4\r\n",
        "x0;y0;x1;y1;Label;Path;note\n10;20;40;60;dog;a.jpg;\n1.5;2;3;4;0;a.jpg;\n",
        "filename\txmin\tymin\txmax\tymax\tclass\na.jpg\t10\t20\t40\t60\tdog\n"
        'a.jpg\t1.5\t2\t3\t4\t"cat"',
    ],
    ids=["plain", "head", "columns in another order", "names of other tools"],
)
def test_a_table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    truth = read(tmp_path / "t.csv", "a.jpg", "b.jpg")
    assert truth.format == "table of boxes"
    assert found(truth, "a.jpg") == [(1, (10, 20, 40, 60)), (0, (1.5, 2, 3, 4))]
    assert truth.of("a.jpg").boxes(1).tolist() == [[10, 20, 40, 60]]
    assert truth.of("b.jpg") is None and truth.of("c.jpg") is None
    assert "2 regions in 1 picture of 2" in told(truth)
    assert "1 picture of the run without a truth, the first: b.jpg" in told(truth)


def test_a_table_without_classes_has_those_of_the_labels(tmp_path):
    (tmp_path / "t.csv").write_text("key,x0,y0,x1,y1\na.jpg,10,20,40,60\n")
    assert found(read(tmp_path / "t.csv", "a.jpg", label=2), "a.jpg")[0][0] == 2
    with pytest.raises(Exception, match="of the class of a picture without a label"):
        read(tmp_path / "t.csv", "a.jpg", label=-1)


WSOL = {  # the first boxes of the sets that wsolevaluation ships
    "localization__txt": "val/ILSVRC2012_val_00000002.JPEG,45,49,499,162\n"
    "val/ILSVRC2012_val_00000002.JPEG,2,69,437,207\n"
    "test/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg,60,27,385,331\n",
    "class_labels__txt": "val/ILSVRC2012_val_00000002.JPEG,2\n"
    "test/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg,0\n",
    "image_sizes__txt": "val/ILSVRC2012_val_00000002.JPEG,500,375\n",
}


@pytest.mark.parametrize("name", ["", "localization.txt"])
def test_boxes_of_wsolevaluation(tmp_path, name):
    """They are kept as they are, whether or not x1 is the last pixel."""
    folder = written(tmp_path, **WSOL)
    keys = "val/ILSVRC2012_val_00000002.JPEG", "Black_Footed_Albatross_0046_18.jpg"
    truth = read(folder / name, *keys, size=(375, 500))
    assert truth.format == "wsolevaluation's metadata"
    assert found(truth, keys[0]) == [(2, (45, 49, 499, 162)), (2, (2, 69, 437, 207))]
    assert found(truth, keys[1]) == [(0, (60, 27, 385, 331))]
    assert truth.of(keys[0]).size == (375, 500)


def test_a_box_of_one_pixel_of_wsolevaluation(tmp_path):
    written(tmp_path, localization__txt="a.jpg,3,4,3,4\n")
    assert found(read(tmp_path, "a.jpg"), "a.jpg") == [(0, (3, 4, 3, 4))]


def test_masks_of_wsolevaluation(tmp_path):
    """As many as there are objects, and what does not count in the first line of a picture."""
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "m1.png").write_bytes(png(levels([255, 0, 0, 0], [0, 0, 0, 0])))
    (masks / "m2.png").write_bytes(png(levels([0, 0, 0, 0], [0, 0, 0, 1])))
    (masks / "i.png").write_bytes(png(levels([255, 255, 0, 0], [0, 0, 0, 0])))
    written(
        tmp_path,
        localization__txt="a.jpg,m1.png,i.png\na.jpg,m2.png\n",
        class_labels__txt="a.jpg,1\n",
    )
    truth = read(f"{tmp_path}::{masks}", "a.jpg", size=(2, 4)).of("a.jpg")
    assert truth.has_masks and truth.labels == {1}
    assert truth.mask(1, (2, 4)).tolist() == [[True, False, False, False], [False] * 3 + [True]]
    assert truth.ignored((2, 4)).tolist() == [[True, True, False, False], [False] * 4]
    assert not truth.mask(0, (2, 4)).any()
    # OpenCV's INTER_NEAREST takes columns 0 and 2 of four
    assert truth.mask(1, (2, 2)).tolist() == [[True, False], [False, False]]


def test_boxes_of_coco(tmp_path):
    path = coco(tmp_path / "c.json", [annotation(), annotation(bbox=[0.5, 1, 2, 3.25])])
    truth = read(path, "val2017/a.jpg")
    assert truth.format == "COCO"
    assert found(truth, "val2017/a.jpg") == [(1, (10, 20, 40, 60)), (1, (0.5, 1, 2.5, 4.25))]


def test_pictures_of_coco_without_objects_are_known(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (1, 2)]
    truth = read(coco(tmp_path / "c.json", [annotation()], images), "1.jpg", "2.jpg")
    assert truth.of("2.jpg").regions == ()


def test_pictures_of_lvis_are_named_by_urls(tmp_path):
    images = [{"id": 1, "coco_url": "http://x/val/a.jpg", "width": 200, "height": 100}]
    assert len(read(coco(tmp_path / "c.json", [annotation()], images), "a.jpg")) == 1


def test_masks_of_coco(tmp_path):
    """Polygons, run lengths and their text of pycocotools; crowds do not count."""
    images = [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}]
    shapes = [
        annotation(bbox=[1, 1, 2, 2], segmentation=[[1, 1, 3, 1, 3, 3, 1, 3]]),
        annotation(bbox=[0, 0, 1, 3], segmentation={"size": [3, 4], "counts": [0, 3, 9]}),
        annotation(bbox=[0, 0, 1, 1], segmentation={"size": [3, 4], "counts": ";1"}, iscrowd=1),
    ]
    truth = read(coco(tmp_path / "c.json", shapes, images), "a.jpg", size=(3, 4)).of("a.jpg")
    assert [r.mask().tolist() for r in truth.regions] == [
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]],
        [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]],
    ]
    assert truth.ignored((3, 4)).tolist() == [[False] * 4, [False] * 4, [False] * 3 + [True]]


def test_categories_by_number_where_the_run_has_no_names(tmp_path):
    categories = [{"id": 13, "name": "stop sign"}, {"id": 7, "name": "dog"}]
    path = coco(tmp_path / "c.json", [annotation(category_id=13)], None, categories)
    truth = read(path, "a.jpg", names={}, count=2)
    assert found(truth, "a.jpg")[0][0] == 1
    assert "categories in the order of their ids" in told(truth)
    truth = read(path, "a.jpg", names={}, count=30)
    assert found(truth, "a.jpg")[0][0] == 13
    assert "ids of categories are their numbers" in told(truth)


def test_what_coco_exports_of_ours_call_classes(tmp_path):
    path = coco(tmp_path / "c.json", [annotation()], None, [{"id": 7, "name": "class 2"}])
    assert found(read(path, "a.jpg", names={}, count=30), "a.jpg")[0][0] == 2


def test_xml_of_voc(tmp_path):
    """Pixels count from 1, and xmax is in the box; parts of objects are none."""
    hard = "<difficult>1</difficult><part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
    objects = ("dog", 9, 21, 40, 60, hard), ("cat", 1, 1, 200, 100)
    written(tmp_path, **{"ann/a__xml": xml(*objects)})
    truth = read(tmp_path / "ann", "JPEGImages/a.jpg")
    assert truth.format == "VOC XML"
    assert found(truth, "JPEGImages/a.jpg") == [(1, (8, 20, 40, 60)), (0, (0, 0, 200, 100))]
    assert [r.difficult for r in truth.of("JPEGImages/a.jpg").regions] == [True, False]
    assert read(tmp_path / "ann/a.xml", "a.jpg").format == "VOC XML"


def test_xml_of_voc_for_a_network_of_twenty_classes_without_names(tmp_path):
    (tmp_path / "a.xml").write_text(xml(("tvmonitor", 1, 1, 2, 2)))
    truth = read(tmp_path, "a.jpg", names={}, count=20)
    assert found(truth, "a.jpg")[0][0] == 19
    assert "VOC's 20 in sorted order" in told(truth)


def test_xml_of_ilsvrc(tmp_path):
    """Numbers are kept as they are: wsolevaluation's text has the same."""
    written(tmp_path, **{"n02084071/n02084071_1__xml": xml(("n02084071", 45, 49, 199, 62))})
    truth = read(tmp_path, "n02084071/n02084071_1.JPEG", names={0: "n02084071 dog, domestic dog"})
    assert truth.format == "ILSVRC XML"
    assert found(truth, "n02084071/n02084071_1.JPEG") == [(0, (45, 49, 199, 62))]


@pytest.mark.parametrize("name", ["", "bounding_boxes.txt"])
def test_files_of_cub(tmp_path, name):
    key = "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18111.jpg"
    written(
        tmp_path,
        images__txt=f"1 {key}\n2 b c.jpg\n",
        bounding_boxes__txt="1 60.0 27.0 325.0 304.0\n2 1.0 2.0 3.0 4.0\n",
        image_class_labels__txt="1 3\n2 1\n",
    )
    truth = read(tmp_path / name, f"images/{key}", "images/b c.jpg", size=(335, 500))
    assert truth.format == "CUB"
    assert found(truth, f"images/{key}") == [(2, (60, 27, 385, 331))]
    assert found(truth, "images/b c.jpg") == [(0, (1, 2, 4, 6))]


CLASSES = levels([0, 1, 1, 255], [3, 3, 0, 0])


@pytest.mark.parametrize("palette", [True, False])
def test_masks_of_classes(tmp_path, palette):
    """As VOC's: 0 is the background, 1 the first class, 255 does not count."""
    (tmp_path / "a.png").write_bytes(png(CLASSES, palette))
    truth = read(tmp_path, "a.jpg", size=(2, 4))
    assert truth.format == "PNG masks (from-1)"
    assert "masks read as ::from-1" in told(truth)
    one = truth.of("a.jpg")
    assert one.labels == {0, 2}
    assert one.mask(0, (2, 4)).tolist() == (CLASSES == 1).tolist()
    assert one.mask(2, (2, 4)).tolist() == (CLASSES == 3).tolist()
    assert one.ignored((2, 4)).tolist() == (CLASSES == 255).tolist()


def test_masks_of_classes_with_a_background_class_or_from_0(tmp_path):
    (tmp_path / "a.png").write_bytes(png(levels([0, 1, 1, 255], [2, 2, 0, 0]), palette=True))
    names = {0: "background", 1: "cat", 2: "dog"}
    assert read(tmp_path, "a.jpg", size=(2, 4), names=names).of("a.jpg").labels == {0, 1, 2}
    truth = read(f"{tmp_path}::from-0", "a.jpg", size=(2, 4))
    assert truth.of("a.jpg").labels == {0, 1, 2} and "::from" not in told(truth)


@pytest.mark.parametrize("top, depth", [(255, 8), (1, 8), (1, 1)])
def test_masks_of_one_object(tmp_path, top, depth):
    (tmp_path / "a.png").write_bytes(png(levels([0, top], [0, 0]), depth=depth))
    truth = read(tmp_path, "a.jpg", size=(2, 2), label=2)
    assert truth.format == "PNG masks (object)"
    assert truth.of("a.jpg").mask(2, (2, 2)).tolist() == [[False, True], [False, False]]


def test_levels_of_few_bits_are_as_stored(tmp_path):
    (tmp_path / "a.png").write_bytes(png(levels([0, 1], [3, 0]), depth=4))
    truth = read(tmp_path, "a.jpg", size=(2, 2))
    assert truth.of("a.jpg").labels == {0, 2}


def test_a_box_has_the_pixels_whose_centres_are_inside(tmp_path):
    (tmp_path / "t.csv").write_text("a.jpg,0,1,0.5,3,1.4\na.jpg,0,0,2,1,3\n")
    one = read(tmp_path / "t.csv", "a.jpg", size=(3, 4)).of("a.jpg")
    assert not one.has_masks
    assert one.mask(0, (3, 4)).astype(int).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_a_digest_is_of_all_that_was_read_and_of_which_class_is_which(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a.jpg,dog,1,2,3,4\n")
    first = read(path, "a.jpg").digest
    assert read(path, "a.jpg", "b.jpg").digest == first  # a run that has grown
    assert read(path, "a.jpg", names={0: "dog", 1: "cat"}).digest != first
    path.write_text("a.jpg,dog,1,2,3,5\n")
    assert read(path, "a.jpg").digest != first
    masks = tmp_path / "masks"
    masks.mkdir()
    digests = set()
    for value in (1, 2, 3):
        (masks / "a.png").write_bytes(png(levels([0, value], [255, 0])))
        digests.add(read(masks, "a.jpg", size=(2, 2)).digest)
    assert len({*digests, read(f"{masks}::from-0", "a.jpg", size=(2, 2), count=9).digest}) == 4


@pytest.mark.parametrize("form", ["wsol", "coco", "xml", "xml file", "cub"])
def test_a_digest_is_of_each_file(tmp_path, form):
    def digest(x):
        if form == "wsol":
            (tmp_path / "m.png").write_bytes(png(levels([0, x], [255, 0])))
            written(tmp_path, localization__txt="a.jpg,m.png\n")
        elif form == "coco":
            coco(tmp_path / "c.json", [annotation(bbox=[x, 0, 1, 1])])
        elif form == "cub":
            boxes = f"1 {x} 0 1 1\n"
            written(tmp_path, images__txt="1 a.jpg\n", bounding_boxes__txt=boxes)
        else:
            (tmp_path / "a.xml").write_text(xml(("dog", x, 1, 9, 9)))
        name = {"coco": "c.json", "xml file": "a.xml"}.get(form, "")
        return read(tmp_path / name, "a.jpg", size=(2, 2) if form == "wsol" else (100, 200)).digest

    assert digest(2) == digest(2) != digest(3)


def test_a_truth_travels_to_workers(tmp_path):
    (tmp_path / "a.png").write_bytes(png(CLASSES))
    truth = pickle.loads(pickle.dumps(read(tmp_path, "a.jpg", size=(2, 4))))
    assert truth.of("a.jpg").mask(0, (2, 4)).sum() == 2


def test_no_object_is_another_thing_than_none_that_can_be_used(tmp_path):
    """Background that a mask shows, or that COCO has nothing of, counts; what was rejected not."""
    here, other = (np.zeros((100, 200), np.uint8), np.zeros((100, 100), np.uint8))
    masks = {"a": here + 1, "empty": here, "ignored": here + 255, "unknown": here + 9}
    masks |= {"shape": other + 1, "both": other}
    for name, pixels in masks.items():
        (tmp_path / f"{name}.png").write_bytes(png(pixels, palette=True))
    truth = read(f"{tmp_path}::from-1", *(f"{name}.jpg" for name in masks))
    empty = {name for name in masks if truth.of(f"{name}.jpg").empty}
    assert empty == {"empty", "ignored"} and "2 regions in 6 pictures" in told(truth)
    keys = ("a.jpg", "b.jpg", "c.jpg")
    images = [
        {"id": i, "file_name": key, "width": 200, "height": 100} for i, key in enumerate(keys)
    ]
    rejected = annotation(image_id=1, bbox=[10, 20, -5, 5])
    crowd = annotation(image_id=2, iscrowd=1)
    path = coco(tmp_path / "c.json", [annotation(image_id=0), rejected, crowd], images)
    truth = read(path, *keys)
    assert [truth.of(key).empty for key in keys] == [False, False, True]
    written(tmp_path / "w", localization__txt="a.jpg,0,0,9,9", image_sizes__txt="b.jpg,200,100")
    assert not read(tmp_path / "w", *keys).of("b.jpg").empty
