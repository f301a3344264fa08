"""A service that predicts: FastAPI in front of a fit that was pickled elsewhere.

    SKHIER_MODEL=model.pickle uvicorn app:app --workers 2

Needs no JAX. The model is loaded once per process, and its predictions never change it, so that
requests are served by several threads and forked workers alike.
"""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

app = FastAPI(title="Reaction times")
# a pickle can run any code: this file is one that we made
MODEL = pickle.loads(Path(os.environ["SKHIER_MODEL"]).read_bytes())


class Rows(BaseModel):
    """Rows as records, and how much of the distribution the interval is to cover."""

    rows: list[dict[str, float | int | str | None]] = Field(min_length=1, max_length=10_000)
    coverage: float = Field(0.9, gt=0.0, lt=1.0)


@app.get("/health")
def health() -> dict:
    return {"status": "ok", "process": os.getpid(), "features": list(MODEL.feature_names_in_)}


@app.post("/predict")
def predict(request: Rows) -> dict:
    """Mean and interval of each row; a level that fit never saw is a new one of the population."""
    X = pd.DataFrame(request.rows)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # names unseen levels, which we report
            interval = MODEL.predict_interval(X, coverage=request.coverage)
            mean = MODEL.predict(X)
    except (ValueError, TypeError) as error:
        raise HTTPException(422, str(error)) from error
    return {
        "mean": mean.tolist(),
        "lower": interval[:, 0].tolist(),
        "upper": interval[:, 1].tolist(),
        "known": _known(X).tolist(),
        "process": os.getpid(),
    }


def _known(X: pd.DataFrame) -> np.ndarray:
    """Whether fit has seen the level of each row."""
    (factor, levels), *_ = MODEL.group_levels_.items()
    return X[factor].isin(levels).to_numpy()
