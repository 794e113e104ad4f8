"""How Sphinx builds the documentation: `python3 dev.py docs`."""

import shutil
import sys
from pathlib import Path

import equipnet

project = "equipnet"
author = "The equipnet authors"
copyright = author
release = version = equipnet.__version__

sys.path.insert(0, str(Path(__file__).parent))

extensions = [
    "_reference",
    "_states",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"equipnet {release}"
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# The reference: one page per public module, made from the docstrings. Pages of modules that are gone must go too.
autosummary_generate = True
shutil.rmtree(Path(__file__).parent / "reference" / "api", ignore_errors=True)
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "member-order": "bysource",
    # What a package re-exports is documented where it is defined, once.
    "ignore-module-all": True,
}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_rtype = False
default_role = "py:obj"  # `IConnection` in a docstring is a link, where there is something to link to

# Each wire format has its own `Message`: a name that is not qualified may have more than one target.
suppress_warnings = ["ref.python"]

doctest_test_doctest_blocks = "default"  # what looks like a Python session runs, in docstrings too
