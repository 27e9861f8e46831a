"""Sphinx configuration: `make docs` builds the site from the same pages people read in the repository."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "fedcall"
author = "the fedcall maintainers"
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "config/README.md", "docs/**.md"]
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "fedcall"
html_copy_source = False
nitpicky = True


def setup(app):  # called by Sphinx
    from reference import write_reference

    app.connect("builder-inited", lambda _: write_reference(HERE / "reference"))
