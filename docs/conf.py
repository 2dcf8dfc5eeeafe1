"""How Sphinx makes the site: ``make docs``."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

project = "progspace"
author = "The progspace authors"
version = release = version_of("progspace")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["notebooks"]
html_theme = "furo"
html_title = f"progspace {release}"
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# In docstrings `name` is something of ours, and ``name`` anything else.
default_role = "py:obj"
# Types of others have their documentation elsewhere, and a build needs no network; a type of ours that no page tells of
# is named in a signature all the same. What a docstring's text refers to has to be there.
nitpick_ignore_regex = [(r"py:.*", r"(?!progspace\.).*"), (r"py:class", r".*")]


def write_command_line(app: Sphinx) -> None:
    """Writes the page of the command line, from the commands' own help."""
    page = Path(app.srcdir) / "reference" / "command-line.md"
    subprocess.run(  # noqa: S603 — our own module, by this interpreter
        [sys.executable, "-m", "typer", "progspace.cli", "utils", "docs", "--name", "progspace", "--output", str(page)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def setup(app: Sphinx) -> None:
    """Lets the page of the command line be written before pages are looked for."""
    app.connect("builder-inited", write_command_line)
