"""Lines of docs/questions.md, run one after the other as they stand there."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "questions.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*unseen group:UserWarning")
def test_answers_run_and_print_what_they_show(capsys):
    used = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(code, used)
    known, new = np.array(re.findall(r"\[+(\d+)\. +(\d+)\.\]", capsys.readouterr().out), float)
    shown = np.array(re.findall(r"\[+(\d+)\. +(\d+)\.\]", PAGE), float)
    np.testing.assert_allclose([known, new], shown, atol=1)  # rounded there
    assert np.diff(new) > 1.5 * np.diff(known)
    # the simulated slopes: -12, sd 3
    assert abs(used["slope"].mean() + 12) < 3
    assert np.all(used["sd"] > 0)
    assert len(used["scores"]) == 5
