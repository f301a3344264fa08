"""How Sphinx builds the site: ``make docs``; the pages beside this file are Markdown (MyST)."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import skhier  # noqa: E402

project = "skhier"
author = copyright = "The skhier developers"
version = release = skhier.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "skhier_site",
]
exclude_patterns = ["_build", "_ext", "_templates", "gallery/*.py", "gallery/*.ipynb", "images"]
templates_path = ["_templates"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings hold functions
highlight_language = "python"

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # the template of a class has them, in full
default_role = "code"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"(serving|__init__)",
    "reset_argv": "skhier_site.to_a_file",
    "reset_modules": ("matplotlib", "skhier_site.name_the_file"),
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "plot_gallery": "True",
    "abort_on_example_error": True,
    "image_srcset": ["2x"],
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skhier {version}"
html_static_path = ["_static"]
html_css_files = ["skhier.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "skhier"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
WIDE = ["index", "questions", "guide", "api", "which_tool", "benchmarks"]
html_sidebars = {page: [] for page in WIDE}
