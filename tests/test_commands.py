"""The commands, as a program of the checkout and from a wheel in an environment that lacks the extras."""

import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import venv

import pytest

from keras_nonlocal import commands, configs

ROOT = pathlib.Path(__file__).parent.parent
PROGRAM = ROOT / "keras_nonlocal" / "commands" / "keras-nonlocal"
EXTRAS = ("official", "tf_models", "tf_keras", "cv2", "opencv", "tqdm", "tensorflow_serving", "matplotlib")

# Each in a child of one process that has imported what takes long.
PRELOAD = "import cv2, matplotlib.figure, keras_nonlocal.tfm.evaluate, keras_nonlocal.tfm.export"
HELP = """
import os, sys
from keras_nonlocal import commands
{preload}
os.dup2(1, 2)
for name in {names}:
    print("<<", name, flush=True)
    if not os.fork():
        sys.argv = ["keras-nonlocal", name, "--help"]
        commands.main()
    os.wait()
"""


def program(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def helps():
    return shown(program("-c", HELP.format(names=list(commands.COMMANDS), preload=PRELOAD)).stdout)


def shown(text):
    return dict(re.findall(r"^<< (\w+)\n(.*?)(?=^<< |\Z)", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_shows_the_command_line_and_its_flags(helps, name):
    text = helps[name]
    examples = re.findall(rf"keras-nonlocal {name} (.*?)\n\n", text, re.DOTALL)
    described = set(re.findall(r"^  --(?:\[no\])?(\w+):", text, re.MULTILINE))
    assert examples or name == "tables"
    # What comes after -- is another command's.
    used = {flag for example in examples for flag in re.findall(r"--(\w+)=", example.split(" -- ")[0])}
    assert described and used <= described, (used, described)


def test_the_program_lists_its_commands():
    done = program(PROGRAM, "--help")
    assert done.returncode == 0 and all(re.search(rf"^  {name} ", done.stdout, re.M) for name in commands.COMMANDS)
    done = program(PROGRAM, "trian")
    assert done.returncode == 1 and done.stderr.endswith("error: trian is no command; choose one of those above.\n")


@pytest.mark.parametrize("folder", ["training", "saved_models"])
def test_scripts_run_the_command_of_their_name(folder):
    for script in (ROOT / folder).glob("*.py"):
        assert script.stem in commands.COMMANDS and f'commands.run("{script.stem}")' in script.read_text()


def test_configurations_are_found_by_name():
    assert {"coco", "kinetics400", "demo_clips", "paper/nl_i3d_r50_5_128x1"} <= set(configs.names())
    assert pathlib.Path(configs.path("coco")).is_file() and configs.path("my/own.yaml") == "my/own.yaml"


@pytest.fixture(scope="module")
def wheel_environments(tmp_path_factory):
    """Two environments with the wheel: one with all else that this one has, one without the extras' packages."""
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy of what git would hand out: setuptools leaves its build folder beside its sources.
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        if name.startswith("keras_nonlocal/") or "/" not in name:
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("*.whl")
    environments = {}
    for kind in ("full", "base"):
        venv.create(folder / kind)
        python = folder / kind / "bin" / "python"
        subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
        others = folder / f"{kind}_packages"
        others.mkdir()
        for entry in pathlib.Path(sysconfig.get_path("purelib")).iterdir():
            is_ours = entry.name.startswith(("keras_nonlocal", "__editable__", "_keras_nonlocal"))
            if not is_ours and not (kind == "base" and entry.name.startswith(EXTRAS)):
                (others / entry.name).symlink_to(entry)
        (site_packages,) = (folder / kind / "lib").glob("python*/site-packages")
        (site_packages / "others.pth").write_text(f"{others}\n")
        environments[kind] = python
    return environments


def installed(python, *arguments, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_has_commands_and_configurations(wheel_environments, tmp_path):
    name = "paper_nl_i3d_r50_5_128x1"
    arguments = [f"--experiment={name}", "--config_file=paper/nl_i3d_r50_5_128x1"]
    python = wheel_environments["full"]
    done = installed(python, python.with_name("keras-nonlocal"), "show_config", *arguments, cwd=tmp_path)
    assert done.returncode == 0 and "init_checkpoint: runs/paper_i3d_3x1x1_r50_32x2" in done.stdout, done.stderr
    assert done.stderr == ""


MISSING = {
    "train": ("(official|tf_keras)", "tfm"),
    "prepare_videos": ("(cv2|tqdm)", "video"),
    "prepare_coco": ("(cv2|tqdm|pycocotools)", "(coco|video)"),
    "client": ("tensorflow_serving", "serving"),
    "publish": ("tensorflow_serving", "serving"),
    "demo_report": ("(cv2|official)", "(video|demo|tfm)"),
}


def test_a_missing_extra_is_one_sentence(wheel_environments, tmp_path):
    done = installed(wheel_environments["base"], "-c", HELP.format(names=list(MISSING), preload=""), cwd=tmp_path)
    found = shown(done.stdout)
    for name, (package, extra) in MISSING.items():
        sentence = rf"error: {package}[\w.]* is not installed: pip install 'keras_nonlocal\[{extra}\]'\n"
        assert re.fullmatch(sentence, found[name]), found[name]
    code = "from keras_nonlocal.analysis import plot; plot.new_figure(1, (1, 1))"
    done = installed(wheel_environments["base"], "-c", code, cwd=tmp_path)
    assert done.stderr.endswith("matplotlib is not installed: pip install 'keras_nonlocal[plot]'\n"), done.stderr
