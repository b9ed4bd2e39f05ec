"""How Sphinx builds the documentation: ``make docs``."""

import shutil
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pymcdust"
author = "The pymcdust developers"
copyright = "2026, the pymcdust developers"
version = release = installed_version("pymcdust")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

# Sphinx reads below its own folder only. The notebooks are kept without results, and run here.
shutil.copytree(
    Path(__file__).parents[1] / "notebooks",
    Path(__file__).parent / "notebooks",
    ignore=shutil.ignore_patterns("_build", ".*"),
    dirs_exist_ok=True,
)
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say more: shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "pymcdust"
html_static_path = ["_static"]
html_theme_options = {"show_toc_level": 2}
html_show_sourcelink = False
html_sidebars = {"**": []}  # the pages stand side by side: there is no section to navigate
