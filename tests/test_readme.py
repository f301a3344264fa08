"""The example of the README, run as it stands there, against the output that it shows."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
NUMBER = r"(?<![\w.])-?\d+(?:\.\d*)?(?![\w.%])"


def shown_after(code):
    """The indented lines below a block of code."""
    below = README.split(code)[1].split("```\n", 1)[1]
    lines = re.match(r"\n*((?:    .*\n|\n)+)", below)[1].splitlines()
    return "\n".join(line[4:] for line in lines)


@pytest.mark.filterwarnings("ignore:.*unseen group:UserWarning")
def test_example_prints_what_it_shows(capsys):
    section = README.split("## An example")[1]
    blocks = re.findall(r"```python\n(.*?)```", section, re.S)
    used = {}
    for code in blocks:
        exec(code, used)
        printed, shown = capsys.readouterr().out, shown_after(code)
        assert re.sub(NUMBER, "#", printed).split() == re.sub(NUMBER, "#", shown).split()
        numbers = [np.array(re.findall(NUMBER, text), float) for text in (printed, shown)]
        # other versions of libraries round otherwise: intervals are of other 4,000 draws
        np.testing.assert_allclose(*numbers, rtol=0.03, atol=0.05)
    assert len(blocks) == 2
