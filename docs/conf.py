"""The site that `make docs` builds: the pages as they stand in the repository, and the reference from docstrings.

Its sources are the Markdown files of the whole repository, so that their links lead to the same places here and there.
Nothing is fetched, neither by the build nor by a reader: formulas are MathML, fonts those of the system.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "sphinx")]

from keras_nonlocal import __version__  # noqa: E402

project = "keras_nonlocal"
release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "markdown_docstrings",
    "commands",
    "home",
]

root_doc = "README"
smartquotes = False  # two hyphens begin a flag, and quotes are there to be copied
include_patterns = [
    "*.md",
    "docs/**",
    "training/README.md",
    "saved_models/README.md",
    "saved_models/deploy/README.md",
    "benchmarks/README.md",
]
exclude_patterns = [".*", "*_work", "build", "tests", "keras_nonlocal", "docs/contents.md"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # GitHub's anchors
nb_execution_mode = "cache"  # a notebook is run when it has changed
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds for a cell, on a busy machine too

python_maximum_signature_line_length = 110  # of a longer one each argument has a line
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # Keras' own
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Call arguments", "params_style"), ("Call raises", "params_style")]
highlight_language = "none"  # unless a block says which
default_role = "code"  # docstrings are written as Markdown is

html_theme = "furo"
html_title = "keras_nonlocal"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path = ["sphinx/static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_additional_pages = {"index": "index.html"}
templates_path = ["sphinx/templates"]
