"""Settings of the documentation: ``sphinx-build -W -b html docs docs/_build/html``."""

import monai_deepssim

project = "monai-deepssim"
author = "monai-deepssim contributors"
copyright = author  # noqa: A001 (Sphinx's name)
version = release = monai_deepssim.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode", "myst_parser"]
exclude_patterns = ["_build"]

# What is not marked as Python is typed into a terminal.
highlight_language = "none"

html_theme = "furo"
html_title = f"monai-deepssim {version}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
