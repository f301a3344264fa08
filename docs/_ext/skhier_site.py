"""What the site makes of texts that are read elsewhere too: examples, docstrings, pages."""

import builtins
import re
import tempfile
from pathlib import Path

FIGURES = Path(tempfile.gettempdir()) / "skhier_gallery"
EXAMPLES = Path(__file__).parents[2] / "examples"
PAGES = {"../SECURITY.md": "security.md", "../benchmarks/README.md": "benchmarks.md"}


def to_a_file(gallery_conf, script_vars):
    """Arguments of an example: its figure goes where nobody looks; the page takes it as it is."""
    return [str(FIGURES / "figure.png")]


def name_the_file(gallery_conf, path):
    """An example that asks for ``__file__`` gets it, which sphinx-gallery does not set."""
    builtins.__file__ = str(EXAMPLES / Path(path).name)


def edit_source(app, docname, source):
    """Pages of the gallery get a title; links to files of the repository, pages of the site."""
    if docname.startswith("gallery/plot_"):
        source[0] = titled(docname, source[0])
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"({file}", f"({page}")


def titled(docname, page):
    """The first line of the docstring is a title, and blocks after a colon are literal."""
    head, label, rest = page.partition(f".. _sphx_glr_{docname.replace('/', '_')}.py:\n")
    docstring, start, rest = rest.lstrip("\n").partition(".. GENERATED FROM PYTHON SOURCE LINES")
    title, _, text = docstring.partition("\n")
    text = re.sub(r"(?<=\S)\n\n(?=    \S)", "\n\n::\n\n", text)
    return f"{head}{label}\n{title}\n{'=' * len(title)}\n{text}{start}{rest}"


def edit_docstring(app, what, name, obj, options, lines):
    """A trailing underscore of a shape is no link; neither is a label of scikit-learn's pages."""
    for i, line in enumerate(lines):
        line = re.sub(r"(?<=\w)_(?=[,)]( |\)|$|\*))", r"\\_", line) if "of shape" in line else line
        lines[i] = re.sub(r":ref:`([^`<]+) <\w+>`", r"\1", line)
    for i in reversed(range(2, len(lines))):
        text, empty, formula = lines[i - 2 : i + 1]
        if formula.startswith("    ") and not empty and re.match(r"[^\s:.]", text):
            lines[i:i] = ["::", ""]


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", edit_source)
    app.connect("autodoc-process-docstring", edit_docstring, priority=900)  # numpydoc's is 500
    return {"parallel_read_safe": True}
