"""What every test needs before TensorFlow starts: quiet logs and two logical CPUs for tf.distribute."""

import os
import random
import subprocess

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes, each with a core
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import tensorflow as tf

# MirroredStrategy wants two devices; they have to exist before the runtime does.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)  # initializers of either Keras take their seeds from here
    tf.random.set_seed(0)


@pytest.fixture(scope="session")
def two_replicas():
    """One strategy for all tests: a second one in the process would number its collectives as the first has."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 40 kB at tmp_path / "disk"; grow it with small_disk(kB)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", str(folder)]).returncode:
        pytest.skip("may not mount a tmpfs")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
