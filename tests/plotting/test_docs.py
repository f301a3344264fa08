"""The pictures and the code of docs/plots.md."""

import re
from pathlib import Path

import pytest

# ArviZ 0.23 calls Matplotlib 3.11 in a deprecated way
pytestmark = pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")

PAGE = Path(__file__).parents[2] / "docs" / "plots.md"


def test_guide_shows_small_pictures():
    images = re.findall(r"!\[.+?\]\((.+?)\)", PAGE.read_text(encoding="utf-8"))
    assert len(images) >= 7
    for image in images:
        assert 1_000 < (PAGE.parent / image).stat().st_size < 120_000


@pytest.mark.slow
def test_guide_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
