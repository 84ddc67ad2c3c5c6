"""How Sphinx builds the site: scripts/docs."""

from __future__ import annotations

import sys
from pathlib import Path

import pkgdata

sys.path.insert(0, str(Path(__file__).parent))

project = "pkgdata"
author = "The pkgdata developers"
copyright = "The pkgdata developers, BSD-3-Clause"
version = release = pkgdata.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton", "generated"]
exclude_patterns = ["_build", "_static"]
root_doc = "index"

# -- Markdown
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # sections of commands begin a level further down

# -- docstrings: numpydoc's sections name the types; single backticks are names, if there is one
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
add_module_names = False
numpydoc_show_class_members = False
python_use_unqualified_type_names = True

# -- what is copied from an example: the commands, without their prompts and output
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

# -- looks
html_theme = "pydata_sphinx_theme"
html_title = "pkgdata"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "pkgdata"},
    "show_toc_level": 2,
    # the one with text in it has another name for screen readers than it shows
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "troubleshooting": []}
