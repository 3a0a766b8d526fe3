"""The paper's tables: every row an experiment with its recipe and its file, and the sizes the paper prints."""

import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from official.core import exp_factory
from official.modeling import hyperparams

from keras_nonlocal import configs, models, paper
from keras_nonlocal.analysis import cost
from keras_nonlocal.tfm.experiments import paper as experiments
from keras_nonlocal.tfm.experiments import paper_tables
from keras_nonlocal.tfm.keypoints import checks
from keras_nonlocal.tfm.tasks import answers

ROOT = pathlib.Path(__file__).parent.parent


def test_rows():
    counts = {table: sum(row.table == table for row in paper.ROWS) for table in paper.TITLES}
    assert counts == {
        "2a": 5, "2b": 5, "2c": 8, "2d": 8, "2e": 4, "2f": 6, "2g": 6, "3": 2, "4": 2, "5": 6, "6": 3
    }  # fmt: skip


@pytest.mark.parametrize("name", experiments.names())
def test_every_run_has_an_experiment_and_its_file(name):
    path = pathlib.Path(configs.path(experiments.config_file(name)))
    if path.parent.name == "paper":
        assert path.read_text() == experiments.config_text(name), "keras-nonlocal tables --write_configs"
    about = "\n".join(experiments.about(name))
    assert "not yet run" in path.read_text()
    assert f"--experiment={name}" in about and f"--config_file={experiments.config_file(name)}" in about
    config = exp_factory.get_exp_config(name)
    config = hyperparams.override_params_dict(config, yaml.safe_load(path.read_text()), is_strict=True)
    config.validate()
    config.lock()
    assert config.runtime.num_gpus == 8
    assert config.task.train_data.global_batch_size % 8 == 0


def test_no_file_is_left_over():
    used = {experiments.config_file(name) for name in experiments.names()}
    demo = {"demo_clips", "demo_digits", "demo_video", "demo_video_charades", "study_coco"}
    demo |= {"demo_coco_retinanet", "demo_coco_mask_rcnn", "demo_coco_keypoint_rcnn"}
    schedules = {
        "coco_keypoints_s1x",
        "coco_1x",
        "coco_2x",
        "coco_350_epochs",
        "coco_retinanet_1x",
        "coco_retinanet_2x",
        "coco_x152",
    }
    assert set(configs.names()) - used == demo | schedules and len(used) == 11


def test_the_recipe_of_32_frames():
    config = exp_factory.get_exp_config("paper_nl_c2d_r101_5_32x2")
    assert config.task.train_data.feature_shape == (32, 224, 224, 3)
    assert config.task.train_data.temporal_stride == 2
    assert config.task.train_data.global_batch_size == 64
    assert config.task.losses.l2_weight_decay == 1e-4
    assert config.trainer.train_steps == 400_000
    optimizer = config.trainer.optimizer_config
    assert optimizer.learning_rate.stepwise.boundaries == [150_000, 300_000]
    assert optimizer.learning_rate.stepwise.values == pytest.approx([0.01, 0.001, 0.0001])
    assert (optimizer.optimizer.get().momentum, optimizer.optimizer.get().nesterov) == (0.9, True)
    backbone = config.task.model.backbone.video_resnet
    assert (tuple(backbone.non_local.res4), tuple(backbone.block_counts)) == ((6, 13, 20), (3, 4, 23, 3))
    assert not backbone.norm_frozen and backbone.non_local_block.norm == "batch_norm"


def test_the_recipe_of_128_frames():
    config = exp_factory.get_exp_config("paper_nl_i3d_r50_5_128x1")
    assert config.task.train_data.feature_shape == (128, 224, 224, 3)
    assert config.task.train_data.temporal_stride == 1
    assert config.task.train_data.global_batch_size == 16
    assert config.trainer.optimizer_config.learning_rate.stepwise.values == pytest.approx([0.0025, 0.00025, 0.000025])
    backbone = config.task.model.backbone.video_resnet
    assert backbone.norm_frozen and backbone.non_local_block.norm is None and backbone.group_frames.res3 == 4
    text = yaml.safe_load(experiments.config_text("paper_nl_i3d_r50_5_128x1"))
    assert text["task"]["init_checkpoint"] == "runs/paper_i3d_3x1x1_r50_32x2"
    assert text["task"]["init_checkpoint_modules"] == "trunk"


@pytest.mark.parametrize("name", ["nl_c2d_r50_1_concatenation", "nl_i3d_r50_5"])
def test_an_experiment_builds_the_preset_of_its_row(name):
    size = (8, 32, 32, 3)
    config = exp_factory.get_exp_config(f"paper_{name}_32x2")
    for data in (config.task.train_data, config.task.validation_data):
        data.feature_shape = size
    config.task.model.backbone.video_resnet.width = 4
    found = cost.cost(*answers.of(config.task).counted())
    assert found == cost.cost(models.get(name, size, width=4))


def test_a_table():
    rows = [row for row in paper.ROWS if row.table == "6"]
    sizes = {name: cost.Cost(5_000_000, weights, 2 * weights, 7 * 10**9, 1) for name, weights in (
        (rows[0].run, 4 * 10**9), (rows[1].run, 5 * 10**9), (rows[2].run, 6 * 10**9))}  # fmt: skip
    cells = [paper_tables.cells(row, sizes) for row in rows]
    text = paper_tables.layout(paper_tables.columns(rows), cells, "text")
    assert text.count("not yet run") == 3 and "keypoint AP 66.5 (87.3 / 72.8)" in text and " 1.50x (-)" in text
    text = paper_tables.layout(paper_tables.columns(rows), cells, "markdown")
    assert (
        "| R101 baseline | paper_keypoint_rcnn_r101_coco_keypoints | 4000.00 | 8.00 | 5.00 | 7.00 | 1.00x (-) |" in text
    )


def test_keypoint_heads_are_counted_for_a_region():
    """By hand: 9 * (256 * 512 + 7 * 512^2) + 16 * 512 * 17 weights; a block has 4 * 512 * 256 more."""
    rows = [row for row in paper.ROWS if row.table == "6"]
    convolutions, deconvolution, block = 9 * (256 * 512 + 7 * 512**2), 16 * 512 * 17, 4 * 512 * 256
    # Keys and values are of 49 pooled positions, queries of 196; each of 196 x 49 pairs takes 2 * 256.
    of_block = 512 * 256 * (196 * 2 + 49 * 2) + 2 * 196 * 49 * 256
    plain = 196 * (convolutions + deconvolution)
    plain, four = ((plain + 4 * blocks * of_block) / 1e9 for blocks in (0, 1))
    lines = paper_tables.head_note(rows, {}).splitlines()[1:]
    weights = [(convolutions + deconvolution + blocks * block) / 1e6 for blocks in (0, 4, 4)]
    assert lines == [
        f"{row.label}: {weight:.2f} M weights, {macs:.3f} GMACs."
        for row, weight, macs in zip(rows, weights, (plain, four, four), strict=True)
    ]


@pytest.mark.parametrize("name", ["paper_nl_keypoint_rcnn_r101_head_backbone_coco_keypoints", "keypoint_rcnn_r50_coco"])
def test_the_recipe_of_keypoints(name):
    config = exp_factory.get_exp_config(name)
    task, with_blocks = config.task, name.startswith("paper_nl")
    model, network = task.model, task.model.backbone.non_local_resnet
    assert (model.num_classes, model.include_mask, model.num_keypoints, len(task.sigmas)) == (2, False, 17, 17)
    assert tuple(model.keypoint_head.non_local) == ((1, 3, 5, 7) if with_blocks else ())
    assert model.keypoint_head.non_local_block.norm is None
    assert (network.model_id, tuple(network.non_local.res4)) == ((101, (21,)) if with_blocks else (50, ()))
    assert not network.bn_trainable and task.losses.l2_weight_decay == 1e-4 and task.losses.keypoint_weight == 1
    assert task.train_data.parser.aug_rand_hflip and task.train_data.dtype == task.validation_data.dtype == "float32"
    assert (config.trainer.train_steps, task.train_data.global_batch_size) == (90_000, 16)
    for schedule, steps, falls in (("", 90_000, [60_000, 80_000]), ("_s1x", 130_000, [100_000, 120_000])):
        path = configs.path(f"coco_keypoints{schedule}")
        hyperparams.override_params_dict(config, yaml.safe_load(pathlib.Path(path).read_text()), is_strict=True)
        rate = config.trainer.optimizer_config.learning_rate.stepwise
        assert (config.trainer.train_steps, rate.boundaries) == (steps, falls)
        assert rate.values == pytest.approx([0.02, 0.002, 0.0002])
    assert config.trainer.optimizer_config.warmup.linear.warmup_steps == 500
    checks.check(task)


@pytest.mark.parametrize(
    ("table", "score"),
    [("2a", "top-1 / top-5"), ("4", "mAP"), ("5", "AP (AP50 / AP75)"), ("6", "keypoint AP (AP50 / AP75)")],
)
def test_a_table_s_scores_are_those_of_its_task(table, score):
    columns = paper_tables.columns([row for row in paper.ROWS if row.table == table])
    assert columns[-2:] == [f"the paper, {score}", "ours"]


def test_what_the_data_refers_to_is_there():
    for name, run in paper.RUNS.items():
        recipe = paper.RECIPES[run.recipe]
        assert run.network in (paper.DETECTORS if recipe.frames is None else paper.NETWORKS)
        assert run.start in {None, *paper.RUNS}
        end = f"{recipe.frames}x{recipe.stride}" if recipe.dataset == "kinetics400" else recipe.dataset
        assert name == f"paper_{run.network}_{end}"
    assert {row.run for row in paper.ROWS} == set(paper.RUNS)
    assert {row.baseline for row in paper.ROWS} <= {None, *paper.RUNS}
    assert {run.recipe for run in paper.RUNS.values()} == set(paper.RECIPES)


def test_a_run_is_found_by_its_name():
    text = (ROOT / "keras_nonlocal" / "paper.py").read_text()
    assert [name for name in paper.RUNS if text.count(f'"{name}"') < 2] == [], "its run and its rows write it out"


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_the_script_prints_every_table_and_the_papers_factors():
    done = subprocess.run(
        [sys.executable, "-m", "training.tables"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert [title for title in paper.TITLES.values() if title not in done.stdout] == []
    table = done.stdout.split(paper.TITLES["2e"])[1].split(paper.TITLES["2f"])[0]
    factors = re.findall(r"([\d.]+)x \(([\d.]+)x\)", table)
    assert len(factors) == 8
    assert all(round(float(ours), 1) == float(theirs) for ours, theirs in factors), factors
    weights, strides = re.search(r"Ours has ([\d.]+) M", table)[1], re.search(r"([\d.]+) GMACs: that", table)[1]
    assert float(weights) == pytest.approx(43.214, rel=0.0005)
    assert float(strides) == pytest.approx(34.2, rel=0.005)


def test_a_shown_configuration_is_what_training_takes(tmp_path):
    name = "paper_nl_i3d_r50_5_128x1"
    override = "--params_override=runtime.num_gpus=4"
    command = [sys.executable, "training/show_config.py", f"--experiment={name}"]
    shown = subprocess.run([*command, override], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr == "" and shown.stdout.startswith("# Table 2(g), R50 NL I3D. The paper: 76.5 / 92.6.")
    settings = yaml.safe_load(shown.stdout)
    config = exp_factory.get_exp_config(name)
    config.runtime.num_gpus = 4
    assert settings == yaml.safe_load(yaml.safe_dump(config.as_dict()))
    hyperparams.override_params_dict(exp_factory.get_exp_config(name), settings, is_strict=True)
