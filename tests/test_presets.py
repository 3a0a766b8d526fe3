"""The paper's networks by name: all there, placed where the paper says, and built as they say."""

import re

import pytest

from keras_nonlocal import models, paper
from keras_nonlocal.models import presets, video_resnet


def placement(model):
    found = {}
    for layer in model.layers:
        if match := re.fullmatch(r"(res\d)_(\d+)_nonlocal", layer.name):
            found.setdefault(match[1], []).append(int(match[2]))
    return found


def test_names():
    assert {"c2d_r50", "nl_c2d_r50_5", "i3d_3x1x1_r101", "nl_i3d_r101_5"} <= set(models.list())
    assert len(models.list()) == len(set(models.list()))


def test_every_preset_is_a_row_of_the_paper_and_the_other_way_round():
    used = {paper.RUNS[row.run].network for row in paper.ROWS}
    assert used == {*models.list(), *paper.DETECTORS}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nl_c2d_r50_1", {"res4": [4]}),
        ("nl_c2d_r50_1_res2", {"res2": [1]}),
        ("nl_c2d_r50_1_res3", {"res3": [2]}),
        ("nl_c2d_r50_1_res5", {"res5": [1]}),
        ("nl_c2d_r101_1", {"res4": [21]}),
        ("nl_c2d_r50_5", {"res3": [1, 3], "res4": [1, 3, 5]}),
        ("nl_i3d_r101_5", {"res3": [1, 3], "res4": [6, 13, 20]}),
        ("nl_c2d_r50_10", {"res3": [0, 1, 2, 3], "res4": [0, 1, 2, 3, 4, 5]}),
        ("nl_c2d_r101_10", {"res3": [0, 1, 2, 3], "res4": [2, 6, 10, 14, 18, 22]}),
        ("i3d_3x3x3_r101", {}),
    ],
)
def test_where_blocks_go(name, expected):
    model = models.get(name, (8, 64, 64, 3), width=4)
    assert placement(model) == expected
    assert model.name == name and model.output_shape == (None, 400)


@pytest.mark.parametrize("name", models.list())
def test_every_placement_exists(name):
    network = presets.find(name)
    video_resnet.checked_placement(network.non_local, video_resnet.BLOCK_COUNTS[network.depth])
    number = re.search(r"_(1|5|10)(_|$)", name)
    assert sum(map(len, network.non_local.values())) == (int(number[1]) if number else 0)
    assert models.describe(name).count("Table") >= 1 and "\n" not in models.describe(name)


def test_overrides():
    model = models.get(
        "nl_c2d_r50_1_gaussian", (8, 32, 32, 3), width=4, classes=7, name="mine", non_local_block={"norm": None}
    )
    block = model.get_layer("res4_4_nonlocal")
    assert (model.name, model.output_shape, block.pairwise, block.norm) == ("mine", (None, 7), "gaussian", None)
    assert models.get("i3d_3x1x1_r50", (8, 32, 32, 3), width=4, inflate="3x3x3").get_layer(
        "res3_0_branch2b"
    ).kernel_size == (3, 3, 3)


def test_presets_are_not_changed_by_what_is_done_with_them():
    network = presets.find("nl_c2d_r50_5")
    presets.arguments(network)["non_local"]["res3"].append(0)
    assert presets.arguments(network)["non_local"]["res3"] == [1, 3]


def test_the_wrong_name():
    with pytest.raises(ValueError, match="`name` must be one of c2d_r50, .* Received: name='c2d_r18'"):
        models.get("c2d_r18")
