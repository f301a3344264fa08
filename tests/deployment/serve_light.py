"""Load pickles and predict, with warnings as errors: ``serve_light.py folder``.

Beside ``NAME.pickle`` lies ``NAME.json``: rows of X, y and what was predicted where it was fitted.
"""

import json
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

warnings.simplefilter("error")
HEAVY = ("jax", "jaxlib", "numpyro", "arviz", "psutil", "tqdm", "matplotlib")

for file in sorted(Path(sys.argv[1]).glob("*.pickle")):
    model = pickle.loads(file.read_bytes())
    known = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    X, y = pd.DataFrame(known["X"]), np.array(known["y"])
    kind = {"kind": "mean"} if hasattr(model, "classes_") else {}
    answers = {
        "predict": model.predict(X),
        "interval": model.predict_interval(X, coverage=0.9, **kind),
        "density": model.log_predictive_density(X, y),
        "population": model.predict(X, level="population"),
    }
    for name, values in answers.items():
        assert np.array_equal(values, np.array(known[name])), (file.name, name)
    assert len(model.sample_y(X, 3, random_state=0)) == len(X)
    assert len(model.summary()) >= 3
    assert len(model._repr_html_()) > 1000
    print(file.stem)

loaded = [name for name in HEAVY if name in sys.modules]
assert not loaded, loaded
