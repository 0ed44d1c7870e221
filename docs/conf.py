"""Sphinx: `pip install ".[docs]"`, then `sphinx-build -W docs docs/_build`."""

from importlib.metadata import version as version_of

project = "klqp"
author = "The klqp developers"
copyright = "The klqp developers"
release = version = version_of("klqp")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"klqp {release}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say it in words
napoleon_google_docstring = False
napoleon_use_ivar = True
