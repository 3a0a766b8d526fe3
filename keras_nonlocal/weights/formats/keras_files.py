"""What a file of Keras is of, by the text in it: nothing of it is built, and neither Keras nor HDF5 is needed.

HDF5's own library does not come back from some damaged files.
"""

import json
import mmap
import re
import zipfile
import zlib

from keras_nonlocal.weights.formats import zips
from keras_nonlocal.weights.formats.values import shown

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# In a .keras file, which is a zip.
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
# Of the configuration of a model, in bytes; those of keras.applications have up to a million.
MAX_CONFIG = 16 * 2**20
# How the configuration of a model starts that is in an HDF5 file.
MODEL_CONFIG = re.compile(
    rb'\{(?:"module": "[\w.]{1,100}", )?"class_name": "\w{1,100}", "config": \{"name": "([^"]{1,200})"'
)


def describe(path):
    """A phrase for messages, such as "a Keras file of the model 'mobilenetv2_1.00_224'".

    Args:
      path: str or os.PathLike, of an HDF5 file or a zip.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[: len(zips.MAGIC)] == zips.MAGIC:
                return f"a Keras file of the model {shown(_name_in_zip(path))}"
            if content[: len(HDF5_MAGIC)] == HDF5_MAGIC:
                match = MODEL_CONFIG.search(content)
                return (
                    f"a Keras file of the model {shown(match[1].decode())}"
                    if match
                    else "an HDF5 file, as Keras writes for weights"
                )
    # What damaged zips and configurations of another make raise.
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        pass
    return "a damaged file, or one that Keras has not written"


def _name_in_zip(path):
    with zipfile.ZipFile(path) as archive, archive.open(CONFIG) as file:
        return json.loads(file.read(MAX_CONFIG))["config"]["name"]
