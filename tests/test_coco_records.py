"""Records of images annotated as COCO's, as tf-models-official reads them, and all that can be wrong with them."""

import io
import json
import pathlib
import re
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from coco_files import CATEGORIES, HEIGHT, KITE, WIDTH, Folder, decoded, feature, pixels
from PIL import Image
from pycocotools import coco as pycocotools_coco
from pycocotools import mask as pycocotools_mask

from keras_nonlocal.data.coco import annotations, masks, samples
from keras_nonlocal.data.records import report as reports
from keras_nonlocal.data.records import split
from keras_nonlocal.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    """One image, number 5, in which nothing is annotated yet."""
    folder = Folder(tmp_path)
    folder.image(5, "a.jpg")
    return folder


def blob(seed):
    """A mask of several parts, some at the border."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH))
    return (cv2.GaussianBlur(noise, (0, 0), 3) > 0.03).astype(np.uint8)


def compressed(mask):
    runs = pycocotools_mask.encode(np.asfortranarray(mask))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def uncompressed(mask):
    """Lengths of runs down the columns, the first of zeros."""
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    starts = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], starts])).tolist()
    return {"size": list(mask.shape), "counts": counts}


# What is written.


def test_tf_models_official_reads_what_was_annotated(folder):
    """Several categories with a gap, polygons in parts, run lengths of both kinds, a crowd; nothing in image 9."""
    folder.image(9, "b.png")
    polygons = [[10.5, 5, 30, 5.25, 22, 19.5], [40, 20, 59.5, 20, 59.5, 39, 40, 39]]
    segmentations = [polygons, compressed(blob(0)), uncompressed(blob(1)), uncompressed(1 - blob(1))]
    for number, (segmentation, box) in enumerate(
        zip(segmentations, [[10, 5, 50, 35], [0, 0, 60, 40], [3, 8, 30, 4], [0, 2, 15, 10]], strict=True)
    ):
        one = {"id": number + 1, "image_id": 5, "category_id": (1, 4)[number % 2], "area": 100.5 + number}
        folder.annotate({**one, "bbox": box, "segmentation": segmentation, "iscrowd": int(number == 1)})
    report, records = folder.write(masks=True)
    found = decoded(records[5], masks=True)
    np.testing.assert_allclose(
        found["groundtruth_boxes"],  # y1, x1, y2, x2
        [[5 / 40, 10 / 60, 1, 1], [0, 0, 1, 1], [8 / 40, 3 / 60, 12 / 40, 33 / 60], [2 / 40, 0, 12 / 40, 15 / 60]],
        rtol=1e-6,
    )
    assert found["groundtruth_classes"].tolist() == [1, 4, 1, 4]
    assert found["groundtruth_is_crowd"].tolist() == [False, True, False, False]
    assert found["groundtruth_area"].tolist() == [100.5, 101.5, 102.5, 103.5]
    assert (found["source_id"], found["height"], found["width"]) == (b"5", HEIGHT, WIDTH)
    peer = pycocotools_coco.COCO(str(folder.file))
    expected = np.stack([peer.annToMask(peer.anns[number]) for number in range(1, 5)])
    np.testing.assert_array_equal(found["groundtruth_instance_masks"], expected)
    np.testing.assert_array_equal(expected[1:3], [blob(0), blob(1)])
    assert 100 < expected[0].sum() < HEIGHT * WIDTH
    assert feature(records[5], "image/object/class/text") == [b"person", b"kite", b"person", b"kite"]
    assert feature(records[5], "image/filename") == [b"a.jpg"] and feature(records[5], "image/format") == [b"jpeg"]
    empty = decoded(records[9], masks=True)
    assert empty["groundtruth_boxes"].shape == (0, 4) and empty["groundtruth_classes"].shape == (0,)
    assert empty["groundtruth_instance_masks"].shape == (0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(empty["image"], pixels())
    assert (report["objects"], report["crowds"], report["negatives"], report["left_out"]) == (4, 1, 1, [])


def test_classes_are_the_categories_numbers(folder):
    folder.annotate(KITE)
    report, _ = folder.write()
    lines = (folder.out / "labels.txt").read_text().splitlines()
    assert lines == ["background", "person", "(no category 2)", "(no category 3)", "kite"]
    assert [name for name, count in report["labels"].items() if count] == ["kite"] == [lines[4]]


def test_an_image_with_a_crowd_alone_is_kept(folder):
    folder.annotate({**KITE, "iscrowd": 1})
    report, records = folder.write(masks=True)
    found = decoded(records[5], masks=True)
    assert found["groundtruth_is_crowd"].tolist() == [True] and (report["crowds"], report["negatives"]) == (1, 0)
    assert found["groundtruth_instance_masks"].sum() == 200


def test_keypoints_are_indices_of_pixels_as_parts_of_the_image(folder):
    """Two persons and a kite without; one keypoint is not labelled, one is hidden, and two are outside."""
    person = {**KITE, "category_id": 1}
    folder.annotate(
        {**person, "id": 1, "keypoints": [12, 8, 2, 33, 33, 0, 15.5, 39, 1]},
        {**KITE, "id": 2},
        {**person, "id": 3, "keypoints": [59.5, 10, 2, 59.6, 10, 2, -0.6, 10, 1]},
        {**person, "id": 4, "iscrowd": 1, "keypoints": []},
    )
    report, records = folder.write(keypoints=True)
    x, y, v = (
        np.reshape(feature(records[5], f"image/object/keypoint/{key}"), (4, 3)) for key in ("x", "y", "visibility")
    )
    np.testing.assert_allclose(x, [[0.2, 0, 15.5 / 60], [0, 0, 0], [59.5 / 60, 0, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(y, [[0.2, 0, 39 / 40], [0, 0, 0], [0.25, 0, 0], [0, 0, 0]], rtol=1e-6)
    assert v.tolist() == [[2, 0, 1], [0, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert report["keypoints_outside"] == [{"name": "a.jpg", "annotation": 3, "keypoints": 2}]
    assert decoded(records[5])["groundtruth_boxes"].shape == (4, 4)


def test_records_without_keypoints_do_not_look_at_them(folder):
    folder.annotate({**KITE, "keypoints": [1, 2]})
    _, records = folder.write()
    assert "image/object/keypoint/x" not in tf.train.Example.FromString(records[5]).features.feature


@pytest.mark.parametrize(
    "box, kept, counted",
    [
        ([0, 0, 60, 40], [0, 0, 60, 40], (0, [])),
        ([-0.4, 2, 10, 38.6], [0, 2, 9.6, 40], (1, [])),
        ([-1, -1, 62, 42], [0, 0, 60, 40], (1, [])),
        ([50, 30, 15, 4], [50, 30, 60, 34], (0, [5])),
        ([50, -7.25, 5, 10], [50, 0, 55, 2.75], (0, [7.25])),
    ],
)
def test_a_box_that_sticks_out_is_cut_to_its_image(folder, box, kept, counted):
    folder.annotate({**KITE, "bbox": box})
    report, records = folder.write()
    found = decoded(records[5])["groundtruth_boxes"][0] * [HEIGHT, WIDTH, HEIGHT, WIDTH]
    np.testing.assert_allclose(found[[1, 0, 3, 2]], kept, rtol=1e-6)
    assert (report["clipped"], [cut["pixels"] for cut in report["cut"]]) == counted and report["left_out"] == []


@pytest.mark.parametrize("area", [None, 0])
def test_an_area_that_nobody_wrote_is_the_masks_or_the_boxs(folder, area):
    triangle = {**KITE, "area": area, "segmentation": [[10, 5, 30, 5, 10, 15]]}
    folder.annotate({**triangle, "id": 1}, {**triangle, "id": 2, "segmentation": []})
    _, records = folder.write()
    of_mask, of_box = decoded(records[5])["groundtruth_area"]
    assert of_box == 200 and of_mask == masks.decode(triangle["segmentation"], HEIGHT, WIDTH).sum() and of_mask < 120


# Annotations that cannot be used.

BAD_ANNOTATIONS = {
    "no_image": ({"image_id": 6}, "there is no image 6"),
    "unknown_category": ({"category_id": 2}, "there is no category 2"),
    "no_box": ({"bbox": None}, "has no bbox; annotate one"),
    "no_box with keypoints": ({"bbox": None, "keypoints": [1, 1, 2] * 3}, "has keypoints but no bbox; annotate one"),
    "bad_box": ({"bbox": [1, 2, 3]}, "must be x, y, width and height in pixels"),
    "bad_box negative": ({"bbox": [30, 5, -20, 10]}, "must be x, y, width and height in pixels"),
    "bad_box infinite": ({"bbox": [1, 2, float("inf"), 4]}, "must be x, y, width and height in pixels"),
    "bad_box huge": ({"bbox": [1, 2, 10**400, 4]}, "must be x, y, width and height in pixels"),
    "box_outside": ({"bbox": [60, 5, 20, 10]}, "outside its image of 60x40 pixels"),
    "zero_size": ({"bbox": [10, 5, 20, 0]}, "which holds nothing"),
    "zero_size in float32": ({"bbox": [59, 5, 1e-7, 10]}, "which holds nothing"),
    "bad_area": ({"area": -1}, "has area -1; write square pixels"),
    "bad_crowd": ({"iscrowd": 2}, "has iscrowd 2; it must be 0 or 1"),
    "no_mask": ({"segmentation": []}, "has no segmentation; annotate one, or leave --masks out"),
    "no_mask empty polygon": ({"segmentation": [[]]}, "fewer than three points only"),
    "no_mask two points": ({"segmentation": [[1, 1, 5, 5]]}, "fewer than three points only"),
    "bad_mask odd": ({"segmentation": [[1, 1, 5, 5, 9, 9, 3]]}, "an odd number of coordinates"),
    "bad_mask nan": ({"segmentation": [[1, 1, 5, 5, 9, float("nan")]]}, "a polygon with nan for a number"),
    "bad_mask far": ({"segmentation": [[1, 1, 2e8, 5, 9, 9]]}, "leaves its image by more than the image's size"),
    "no_mask missing": ({"segmentation": None}, "has no segmentation; annotate one, or leave --masks out"),
    "bad_mask text": ({"segmentation": "polygon"}, "neither a list of polygons nor run lengths"),
    "mask_size": ({"segmentation": {"size": [60, 40], "counts": [2400]}}, r"size \[60, 40\] in an image of \[40, 60\]"),
    "mask_size short": ({"segmentation": {"size": [40, 60], "counts": [9]}}, "of 9 pixels in an image of 2400"),
    "mask_size no text": ({"segmentation": {"size": [40, 60], "counts": ""}}, "run lengths of 0 pixels"),
    "mask_size long text": ({"segmentation": {"size": [40, 60], "counts": "ooo0" * 3}}, "pixels in an image of 2400"),
    "bad_mask counts": ({"segmentation": {"size": [40, 60], "counts": [-1, 2401]}}, "neither a list of counts"),
    "bad_mask characters": ({"segmentation": {"size": [40, 60], "counts": "é~"}}, "neither a list of counts nor COCO"),
    "bad_mask endless": ({"segmentation": {"size": [40, 60], "counts": "o" * 50}}, "neither a list of counts nor COCO"),
    "keypoints_number": ({"keypoints": [1, 2, 2] * 4}, "has 12 numbers as keypoints and must have 3 for each of 3"),
    "bad_keypoints": ({"keypoints": [1, 2, 3] * 3}, "not x, y and 0, 1 or 2 each"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ANNOTATIONS)
def test_an_annotation_that_cannot_be_used_is_left_out_and_named(folder, case):
    change, reason = BAD_ANNOTATIONS[case]
    folder.annotate(KITE, {**KITE, "id": 8, **change})
    report, records = folder.write(masks=True, keypoints=True)
    (bad,) = report["left_out"]
    assert (bad["annotation"], bad["kind"]) == (8, case.split()[0])
    assert bad["name"] == ("" if case == "no_image" else "a.jpg")
    assert re.search(reason, bad["reason"]), bad["reason"]
    assert decoded(records[5], masks=True)["groundtruth_instance_masks"].sum(axis=(1, 2)).tolist() == [200]
    assert f"1 annotations are left out (1 {bad['kind']})" in reports.summary(report, folder.plan(), str(folder.out))
    if bad["kind"] == "zero_size":
        reports.check_bad(report, folder.plan(), str(folder.out), 0)
    else:
        says = r"^0 of 1 images and 1 annotations are bad and 0 may be .*allow them with --max_bad=1$"
        with pytest.raises(UserError, match=says):
            reports.check_bad(report, folder.plan(), str(folder.out), 0)
        reports.check_bad(report, folder.plan(), str(folder.out), 1)


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_pycocotools_s(seed):
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 300, 2)
    mask = (generator.random((height, width)) > generator.random()).astype(np.uint8)
    if seed % 2:  # long runs have differences that are negative or take several characters
        mask = np.sort(mask, axis=seed % 4 // 2)
    for runs in (compressed(mask), uncompressed(mask)):
        np.testing.assert_array_equal(masks.decode(runs, height, width), mask)


# Images of all kinds: what is stored decodes to the pixels of the file.


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def without_adobe(jpeg):
    """A JPEG without the marker in which Adobe's programs say that they invert CMYK."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


def exif(orientation):
    block = Image.Exif()
    block[0x112] = orientation
    return block


def cmyk():
    return Image.fromarray(np.dstack([255 - pixels(), pixels()[..., 0] // 2]), "CMYK")


RGB = Image.fromarray(pixels())
GRAY = np.repeat(np.asarray(RGB.convert("L"))[..., None], 3, -1)
DEEP = (pixels().astype(np.uint16) << 8) + 201
CMYK_PIXELS = (pixels() * (1 - pixels()[..., :1] // 2 / 255)).astype(np.uint8)
# {kind: (bytes, expected pixels, how far the mean may be off, the former format where it is written anew)}
KINDS = {
    "jpeg": (encoded(RGB, "JPEG", quality=95), pixels(), 3, None),
    "progressive": (encoded(RGB, "JPEG", quality=95, progressive=True), pixels(), 3, None),
    "gray jpeg": (encoded(RGB.convert("L"), "JPEG", quality=95), GRAY, 2, None),
    "cmyk": (encoded(cmyk(), "JPEG", quality=95), CMYK_PIXELS, 3, None),
    "cmyk unmarked": (without_adobe(encoded(cmyk(), "JPEG", quality=95)), CMYK_PIXELS, 3, "JPEG of CMYK"),
    "rotated by exif": (encoded(RGB, "JPEG", quality=95, exif=exif(6)), pixels(), 3, None),
    "mirrored png": (encoded(RGB, "PNG", exif=exif(2)), pixels(), 0, None),
    "gray png": (encoded(RGB.convert("L"), "PNG"), GRAY, 0, None),
    "black and white": (encoded(RGB.convert("1"), "PNG"), np.asarray(RGB.convert("1").convert("RGB")), 0, None),
    "palette": (encoded(RGB.quantize(16), "PNG"), np.asarray(RGB.quantize(16).convert("RGB")), 0, None),
    "transparent": (encoded(Image.fromarray(np.dstack([pixels(), GRAY[..., 0]])), "PNG"), pixels(), 0, None),
    "16 bits": (cv2.imencode(".png", DEEP[..., ::-1])[1].tobytes(), pixels(), 0, None),
    "16 bits gray": (cv2.imencode(".png", DEEP[..., 1])[1].tobytes(), pixels()[..., [1, 1, 1]], 0, None),
    "gif": (encoded(RGB.quantize(16), "GIF"), np.asarray(RGB.quantize(16).convert("RGB")), 0, "GIF"),
    "bmp": (encoded(RGB, "BMP"), pixels(), 0, "BMP"),
    "webp": (encoded(RGB, "WEBP", lossless=True), pixels(), 0, "WEBP"),
    "tiff": (encoded(RGB, "TIFF"), pixels(), 0, "TIFF"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_decodes_to_the_pixels_of_the_file(tmp_path, kind):
    data, expected, off, was = KINDS[kind]
    folder = Folder(tmp_path)
    folder.image(5, "a", save=False)
    (folder.images / "a").write_bytes(data)
    folder.annotate(KITE)
    report, records = folder.write()
    found = decoded(records[5])
    assert found["image"].shape == expected.shape
    assert np.abs(found["image"].astype(int) - expected).mean() <= off
    corners = np.s_[:: HEIGHT - 1, :: WIDTH - 1]
    assert np.abs(found["image"][corners].astype(int) - expected[corners]).max() <= 5 * off, "not turned"
    stored = feature(records[5], "image/encoded")[0]
    assert report["rewritten"] == ([{"name": "a", "was": was}] if was else [])
    assert was is not None or stored == data
    is_png = stored.startswith(b"\x89PNG")
    assert feature(records[5], "image/format") == [b"png" if is_png else b"jpeg"] and (was is None or is_png)
    turned = {"rotated by exif": 6, "mirrored png": 2}.get(kind)
    assert report["rotated"] == ([{"name": "a", "orientation": turned}] if turned else [])
    np.testing.assert_allclose(found["groundtruth_boxes"], [[5 / 40, 10 / 60, 15 / 40, 30 / 60]], rtol=1e-6)


def test_a_size_that_the_list_does_not_say_is_the_files(tmp_path):
    folder = Folder(tmp_path)
    folder.image(5, "a.jpg", size=None)
    _, records = folder.write()
    assert feature(records[5], "image/height") + feature(records[5], "image/width") == [HEIGHT, WIDTH]


def bomb():
    """A PNG that says it has 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


JPEG = KINDS["jpeg"][0]
BAD_IMAGES = {
    "not there": (None, "no such file; download it, or correct --images"),
    "no bytes": (b"", r"is no image \(0 bytes\); download it again"),
    "a page": (b"<html>404</html>", r"is no image \(16 bytes\); download it again"),
    "cut": (JPEG[: len(JPEG) * 2 // 3], "is no whole image, or one that TensorFlow cannot decode .*download it again"),
    "its end lost": (JPEG[: len(JPEG) * 3 // 4] + bytes(len(JPEG) // 4), "is no whole image, or one that TensorFlow"),
    "cut png": (KINDS["gray png"][0][:-30], "is no whole image, or one that TensorFlow"),
    "cut gif": (KINDS["gif"][0][:-60], "is no whole GIF; download it again"),
    "bomb": (bomb(), "has more than 89,478,485 pixels; shrink it and its annotations"),
    "deep tiff": (encoded(Image.fromarray(DEEP[..., 0]), "TIFF"), "is TIFF of mode I;16; write it as JPEG or PNG"),
    "other size": (encoded(RGB.resize((30, 20)), "JPEG"), "is 30x20 and its list says 60x40; take the file that was"),
    "annotated as shown": (
        encoded(RGB.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif(6)),
        "is 40x60 and its list says 60x40, as a viewer shows it that heeds EXIF; store its pixels so",
    ),
}  # fmt: skip


def test_bad_images_are_named_and_left_out(folder):
    """All in one folder, beside a good one."""
    folder.annotate(KITE)
    for number, (name, (data, _)) in enumerate(BAD_IMAGES.items()):
        folder.image(100 + number, name, save=False)
        folder.annotate({**KITE, "id": 100 + number, "image_id": 100 + number})
        if data is not None:
            (folder.images / name).write_bytes(data)
    report, records = folder.write(masks=True, shards=2)
    assert list(records) == [5] and (report["written"], report["objects"], report["missing"]) == (1, 1, 1)
    reasons = {bad["name"]: bad["reason"] for bad in report["bad"]}
    assert sorted(reasons) == sorted(BAD_IMAGES)
    for name, (_, reason) in BAD_IMAGES.items():
        assert re.match(reason, reasons[name]), reasons[name]
    with pytest.raises(UserError, match="^11 of 12 images are bad and 0 may be .* allow them with --max_bad=11$"):
        reports.check_bad(report, folder.plan(), str(folder.out), 0)


# Files of annotations that are none, or that nobody could tell the meaning of.


def spoiled(**parts):
    return lambda content: {**content, **parts}


def second(part, **change):
    """Another image, annotation or category like the last one but for this."""
    return lambda content: {**content, part: [*content[part], {**content[part][-1], **change}]}


BAD_FILES = {
    "results": (lambda content: [KITE], "has no list of images and annotations and categories as a detector's results"),
    "captions": (lambda content: {**content, "categories": None}, "no file of annotations .* no list of categories;"),
    "image twice": (second("images", file_name="b.jpg"), "image 5 of .* is listed twice; each has an id of its own"),
    "name twice": (second("images", id=6), "a.jpg is listed twice in .*, as image 5 and as image 6"),
    "annotation twice": (second("annotations"), "annotation 7 of .* is there twice; each has an id of its own"),
    "category twice": (second("categories"), "category 4 of .* is there twice"),
    "image's name": (second("images", id="000139"), "number 1 of .* an integer as id.*Received: '000139'"),
    "half an id": (second("images", id=1.5), "must have an integer as id"),
    "true": (second("images", id=True), "must have an integer as id"),
    "image id": (second("annotations", id=8, image_id="5"), "annotation 8 of .* must have an integer as image_id"),
    "no category": (second("annotations", id=8, category_id=None), "annotation 8 of .* an integer as category_id"),
    "no image": (spoiled(images=[3]), "image number 0 of .* is 3; it must be an object with an id"),
    "no file name": (second("images", id=6, file_name=""), "image 6 of .* must have a file_name"),
    "file name of two lines": (second("images", id=6, file_name="a\nb"), "another control character"),
    "size": (second("images", id=6, file_name="b.jpg", height=0), "image 6 of .* positive integers as height"),
    "background": (
        spoiled(categories=[{"id": 0, "name": "kite"}], annotations=[{**KITE, "category_id": 0}]),
        "annotation 7 of .* is of category 0, kite, and a detector's class 0 is the background; number the categories",
    ),
    "no name": (second("categories", id=5, name=""), "category 5 of .* must have a name"),
    "two of a name": (second("categories", id=5), "two categories of .* are called 'kite'"),
    "far": (second("categories", id=10**9, name="far"), "must have an id from 1 to 99,999"),
    "no classes": (spoiled(categories=[], annotations=[]), "has no category above 0"),
    "other folder": (spoiled(images=[{"id": 5, "file_name": "x.jpg"}]), "not one of the 1 images .* exists, such as"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_meant(folder, case):
    folder.annotate(KITE)
    change, says = BAD_FILES[case]
    folder.content = change(folder.content)
    with pytest.raises(UserError, match=says) as caught:
        folder.plan()
    assert "\n" not in str(caught.value) and "annotations.json" in str(caught.value)


@pytest.mark.parametrize(
    "data, says",
    [
        (None, "cannot be read .No such file"),
        (b"", "are not JSON .*; download the file again"),
        (b'{"images": [', "are not JSON"),
        (b"\xff\xfe\x00", "are not JSON"),
        (b"[" * 100_000, "are not JSON"),
    ],
)
def test_a_file_that_is_no_json(tmp_path, data, says):
    path = tmp_path / "a.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=says) as caught:
        annotations.read(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_category_0_without_objects_is_nobody_s_fault(folder):
    """As annotation tools list the background."""
    folder.content["categories"] = [{"id": 0, "name": "_background_"}, *CATEGORIES]
    folder.annotate(KITE)
    assert folder.plan().labels[:2] == ["background", "person"]


def test_keypoints_need_categories_that_agree_on_them(folder):
    folder.content["categories"] = [CATEGORIES[1]]
    with pytest.raises(UserError, match='no category of .* names its "keypoints".*or leave --keypoints out'):
        folder.plan(keypoints=True)
    folder.content["categories"] = [CATEGORIES[0], {"id": 2, "name": "dog", "keypoints": ["nose"]}]
    with pytest.raises(UserError, match="category person of .* has 3 keypoints and category dog has 1"):
        folder.plan(keypoints=True)


# Rerunning.


def test_what_decides_the_bytes_decides_the_plan(folder):
    folder.annotate(KITE)
    plans = {folder.plan().id, folder.plan(masks=True).id, folder.plan(keypoints=True).id}
    folder.content["annotations"][0] = {**KITE, "bbox": [10, 5, 20, 11]}
    plans.add(folder.plan().id)
    folder.content["annotations"][0] = {**KITE, "caption": "not looked at"}
    assert len(plans) == 4 and folder.plan().id in plans
    folder.write()
    with pytest.raises(
        UserError, match="from another plan .masks was False and is True.*or remove them with --overwrite"
    ):
        folder.write(masks=True)


def test_a_check_finds_what_writing_finds_and_leaves_no_records(folder):
    folder.annotate(KITE, {**KITE, "id": 8, "bbox": [0, 0, 0, 0]}, {**KITE, "id": 9, "segmentation": [[]]})
    folder.image(6, "missing.jpg", save=False)
    planned = folder.plan(masks=True)
    checked = split.check(planned, str(folder.out), workers=1)
    assert [path.name for path in folder.out.iterdir()] == ["train-check.json"]
    written, _ = folder.write(masks=True)
    assert {key: written[key] for key in checked} == checked and len(checked["left_out"]) == 2


# Pictures to look at.


def test_samples_show_what_the_records_hold(folder):
    """The mask is beside the keypoints; images without objects and bad ones are not drawn."""
    folder.image(6, "empty.jpg")
    folder.image(7, "missing.jpg", save=False)
    folder.annotate({**KITE, "image_id": 7})
    for number in range(10, 19):
        folder.image(number, f"{number}.png")
        person = {**KITE, "id": number, "image_id": number, "category_id": 1}
        folder.annotate({**person, "bbox": [4, 16, 40, 20], "segmentation": [[4, 16, 24, 16, 24, 36, 4, 36]],
                         "keypoints": [30, 20, 2, 40, 30, 1, 0, 0, 0]})  # fmt: skip
    planned = folder.plan(masks=True, keypoints=True)
    folder.out.mkdir()
    drawn = samples.draw(planned, ((0, 1), (0, 2)), str(folder.out))
    assert drawn == [str(folder.out / f"train-check-{number}.png") for number in range(1, 9)]
    image, original = np.asarray(Image.open(drawn[0])).astype(int), pixels().astype(int)
    colour = image[35, 30]
    assert (image[16:36, [4, 43]] == colour).all() and (image[35, 4:44] == colour).all(), "the box, to its last pixel"
    inside = np.s_[18:34, 6:22]
    np.testing.assert_array_equal(image[inside], np.rint(0.55 * original[inside] + 0.45 * colour))
    np.testing.assert_array_equal(image[20, 30], colour, "the first keypoint")
    np.testing.assert_array_equal(image[30, 40], colour, "the second")
    assert (image[25, 35] != original[25, 35]).any(), "their line"
    np.testing.assert_array_equal(image[30:35, 26:34], original[30:35, 26:34])
    np.testing.assert_array_equal(image[:, 50:], original[:, 50:], "no line to what is not labelled")


# The command.


def run(folder, *flags):
    """The command as people type it, in a process of its own: other modules define flags of the same names."""
    script = [sys.executable, str(ROOT / "training/prepare_coco.py"), "--split=train", f"--out={folder.out}"]
    arguments = [f"--annotations={folder.file}", f"--images={folder.images}", *flags]
    return subprocess.run([*script, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_command_writes_by_several_processes_what_one_writes(folder):
    for number in range(4):
        folder.image(10 + number, f"{number}.png")
        folder.annotate({**KITE, "id": 20 + number, "image_id": 10 + number})
    folder.annotate({**KITE, "id": 40, "bbox": None})
    done = run(folder, "--masks", "--shards=2", "--workers=2")
    assert done.returncode == 1, done.stderr
    assert "5 of 5 images are good, 4 objects, 0 crowds, 1 negatives, 0 clipped" in done.stdout
    assert "\n1 annotations are left out (1 no_box): the report says why\n" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: 0 of 5 images and 1 annotations are bad and 0 may be")
    first = {path.name: path.read_bytes() for path in folder.out.glob("*.tfrecord")}
    folder.out = folder.path / "again"
    folder.write(masks=True, shards=2)
    assert {path.name: path.read_bytes() for path in folder.out.glob("*.tfrecord")} == first and len(first) == 2
    assert json.loads((folder.path / "records/train-report.json").read_text())["left_out"][0]["annotation"] == 40
