"""Does an installed skhier do its work? Run from outside of the checkout, with warnings as errors.

python smoke.py 0.2.0
"""

import pickle
import sys
import warnings
from pathlib import Path

import skhier
from skhier.datasets import load_cafes, load_sleepstudy


def main(version: str) -> None:
    home = Path(skhier.__file__).parent
    assert skhier.__version__ == version, (skhier.__version__, version)
    assert "site-packages" in home.parts, f"imported from {home}, not from the wheel"
    assert (home / "py.typed").exists()
    for name in skhier.__all__:
        assert getattr(skhier, name) is not None, name

    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    model = skhier.HierarchicalSlopesRegressor(groups="Subject", random_state=0).fit(X, y)
    # lme4's maximum likelihood fit: 251.405 + 10.467 Days
    assert abs(model.intercept_ - 251.4) < 1 and abs(model.coef_[0] - 10.47) < 0.2
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(X) == model.predict(X)).all()
    assert again.predict_interval(X, coverage=0.9).shape == (180, 2)
    with warnings.catch_warnings():
        # ArviZ 0.23 announces 1.0 at the first import of a day
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing", FutureWarning)
        assert "coef" in model.to_arviz()["posterior"]

    X, y = load_cafes(return_X_y=True, as_frame=True)
    late = skhier.HierarchicalSlopesClassifier("cafe", random_state=0).fit(X, y > 3)
    assert late.predict_proba(X).shape == (200, 2)
    print(f"skhier {version} works from {home}.")


if __name__ == "__main__":
    main(sys.argv[1])
