"""Lines of docs/deployment.md, run as they stand there."""

import re
from pathlib import Path

import numpy as np

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
NAMES = {
    "np": np,
    "HierarchicalSlopesRegressor": HierarchicalSlopesRegressor,
    "make_hierarchical": make_hierarchical,
}


def test_alarm_goes_off_where_the_level_moves_and_only_there(capsys):
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "alarm" in code)
    exec(code, dict(NAMES))
    same, moved = (
        [float(z) for z in re.findall(r"-?[\d.]+", line)]
        for line in capsys.readouterr().out.splitlines()
    )
    assert max(np.abs(same)) < 3  # standard errors
    # a level off by 0.25, 0.75, 1.25, 1.75 sd of the noise costs half its square a row
    assert np.all(np.array(moved[1:]) > 3)
    assert np.all(np.diff(moved) > 0)
    printed = re.findall(r"^    \[(.+)\]$", PAGE.split(code)[1], re.M)
    shown = [float(z) for line in printed[:2] for z in line.split(", ")]
    np.testing.assert_allclose(same + moved, shown, atol=0.3)
