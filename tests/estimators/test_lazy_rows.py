"""Other responses of frames whose rows are elsewhere: equal rows are merged, and fitted as one."""

import numpy as np
import pandas as pd
import pytest
from lazy_frames import LAZY, lazy
from numpy.testing import assert_allclose
from runs import SHORT, budget, spending

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

engines = pytest.mark.parametrize("engine", LAZY)


def visits(n=600):
    """Few distinct rows, some of weight 0."""
    rng = np.random.default_rng(5)
    shop, promo = rng.integers(0, 6, n), rng.integers(0, 2, n)
    rate = np.exp(0.1 * shop + 0.4 * promo)
    y, w = rng.poisson(rate), rng.integers(0, 3, n)
    shops = np.array(list("abcdef"))[shop]
    return pd.DataFrame({"shop": shops, "promo": promo, "visits": y, "w": w})


def merged(rows):
    """What pandas says of them."""
    table = rows[rows["w"] > 0].groupby(["shop", "promo", "visits"])["w"].sum().reset_index()
    return table[["shop", "promo"]], table["visits"], table["w"]


@engines
def test_equal_rows_are_one_with_their_number(engine):
    rows = visits()
    model = HierarchicalSlopesRegressor("shop", slopes=None, response="poisson", **SHORT)
    X, y, n_equal = merged(rows)
    assert len(y) < 100
    expected = model.fit(X, y, n_equal).coef_
    found = model.fit(lazy(rows, engine), "visits", "w")
    assert_allclose(found.coef_, expected, rtol=1e-9)
    assert list(found.feature_names_in_) == ["shop", "promo"]
    # without weights each row counts once
    X, y, n_equal = merged(rows.assign(w=1))
    expected = model.fit(X, y, n_equal).coef_
    assert_allclose(model.fit(lazy(rows.drop(columns="w"), engine), "visits").coef_, expected)


@engines
def test_classes_may_be_words(engine):
    rows = visits().drop(columns="w")
    rows["visits"] = np.where(rows["visits"] > 1, "many", "few")
    model = HierarchicalSlopesClassifier("shop", slopes=None, **SHORT)
    found = model.fit(lazy(rows, engine), "visits")
    assert list(found.classes_) == ["few", "many"]
    coef = found.coef_
    expected = model.fit(rows[["shop", "promo"]], rows["visits"])
    assert_allclose(coef, expected.coef_, rtol=1e-6)


@engines
def test_too_many_distinct_rows_are_counted(engine):
    rows = visits().assign(x=np.arange(600.0))
    model = HierarchicalSlopesRegressor("shop", response="poisson", **SHORT)
    spending(model, budget(distinct_rows=100))
    n = 600 if engine == "dask" else (rows["w"] > 0).sum()
    message = f"response='poisson' needs the rows, of which {n} remain when .* more than 100"
    with pytest.raises(ValueError, match=message):
        model.fit(lazy(rows, engine), "visits", "w")
    assert not hasattr(model, "n_features_in_")


@engines
def test_bad_cells_are_counted_in_all_rows(engine):
    rows = visits().astype({"promo": float})
    rows.loc[:4, "promo"] = np.nan
    model = HierarchicalSlopesRegressor("shop", response="poisson", **SHORT)
    message = "NaN" if engine == "dask" else "NaN in 5 rows of 600"
    with pytest.raises(ValueError, match=f"Input X contains {message}"):
        model.fit(lazy(rows, engine), "visits", "w")
    with pytest.raises(ValueError, match="0 sample"):
        model.fit(lazy(rows[:0], engine), "visits", "w")
