"""How Sphinx builds the documentation: ``make docs``."""

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

# Notebooks are shown with the results that they were saved with; `make notebooks` runs them.
nb_execution_mode = "off"
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
