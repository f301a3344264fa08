"""Random tables and parameters: a clear error that leaves the earlier fit alone, or finite results.

Hypothesis draws the ingredients and prints the smallest table that breaks a promise. Few sizes and
numbers of levels, so that few programs are compiled. ``pytest -m slow --hypothesis-seed=7`` looks
at 500 other tables.
"""

import datetime
import linecache
import traceback
import warnings
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

import skhier
from skhier import DecovPrior, HierarchicalSlopesRegressor, Prior

SHORT = {"n_chains": 2, "n_warmup": 100, "n_draws": 50, "random_state": 0, "max_tree_depth": 5}
SKHIER = str(Path(skhier.__file__).parent)
ERRORS = (ValueError, TypeError, MemoryError)  # not their subclasses, such as LinAlgError
WARNINGS = {UserWarning, ConvergenceWarning, DataConversionWarning}

# numbers of a feature or of y; rng, n_samples
NUMBERS = {
    "plain": lambda rng, n: 10 * rng.standard_normal(n),
    "tiny": lambda rng, n: 1e-12 * rng.standard_normal(n),
    "huge": lambda rng, n: 1e12 * rng.standard_normal(n),
    "far": lambda rng, n: 1e9 + rng.standard_normal(n),
    "constant": lambda rng, n: np.full(n, 0.1),
    "zero": lambda rng, n: np.zeros(n),
    "near-constant": lambda rng, n: 1 + 1e-15 * rng.standard_normal(n),
    "outlier": lambda rng, n: np.append(1e12, rng.standard_normal(n - 1)),
    "counts": lambda rng, n: rng.integers(0, 5, n).astype(float),
    "two values": lambda rng, n: rng.integers(0, 2, n).astype(float),
}
BAD_NUMBERS = {
    "1e200": lambda rng, n: 1e200 * rng.standard_normal(n),
    "1e-200": lambda rng, n: 1e-200 * rng.standard_normal(n),
}

# how a column stores them
DTYPES = {
    **{name: name for name in ("float64", "float32", "int8", "int64", "uint16", "bool")},
    **{name: name for name in ("float16", "longdouble", "Int64", "Float64", "object")},
    "decimal": lambda a: np.array([Decimal(repr(v)) for v in a.tolist()], dtype=object),
}
BAD_DTYPES = {
    "string": lambda a: np.array([f"w{v:g}" for v in a], dtype=object),
    "digits": lambda a: np.array([f"{v:g}" for v in a], dtype=object),
    "category": lambda a: pd.Categorical(a),
    "datetime": lambda a: np.datetime64("2020-01-01") + np.arange(len(a)),
    "timedelta": lambda a: np.arange(len(a)).astype("timedelta64[D]"),
    "mixed": lambda a: np.array(["w", *a[1:].tolist()], dtype=object),
    "complex": lambda a: a + 1j,
    "lists": lambda a: pd.Series([[v] for v in a], dtype=object).to_numpy(),
}
CELLS = {"nan": np.nan, "none": None, "NA": pd.NA, "inf": np.inf, "-inf": -np.inf}

# labels of a level's number
LABELS = {
    "strings": lambda k: f"s{k}",
    "ints": int,
    "floats": lambda k: k + 0.5,
    "bools": lambda k: k % 2 == 0,
    "dates": lambda k: datetime.date(2020, 1, 1 + k),
    "tuples": lambda k: ("t", k),
    "bytes": lambda k: bytes([65 + k]),
    "timestamps": lambda k: pd.Timestamp(2020, 1, 1 + k, tz="UTC"),
    "periods": lambda k: pd.Period("2020-01", "M") + k,
    "large ints": lambda k: 2**60 + k,
    "halves": lambda k: np.float16(k / 2),
    "ints and floats": lambda k: k if k % 2 else float(k),
    "decimals": lambda k: Decimal(k) / 2,
    "odd": lambda k: ["", "nan", "a,b", "[x]", "'", "\n", "é", "None"][k % 8],
}
BAD_LABELS = {
    "mixed": lambda k: k if k % 2 else f"s{k}",
    "lists": lambda k: [k],
    "complex": lambda k: complex(k, 1),
    "infinite": lambda k: np.inf if k == 0 else float(k),
    "missing": lambda k: None if k == 0 else f"s{k}",
    "nan": lambda k: np.nan if k == 0 else float(k),
}

WEIGHTS = {
    "ones": lambda rng, n: np.ones(n),
    "counts": lambda rng, n: rng.integers(0, 3, n),
    "half": lambda rng, n: np.full(n, 0.5),
    "fractions": lambda rng, n: rng.uniform(0.1, 3, n),
    "large": lambda rng, n: np.full(n, 1e6),
    "unequal": lambda rng, n: 10.0 ** rng.integers(-3, 6, n),
    "bools": lambda rng, n: rng.integers(0, 2, n).astype(bool),
    "list": lambda rng, n: [1] * n,
    "number": lambda rng, n: 2,
}
BAD_WEIGHTS = {
    "negative": lambda rng, n: np.full(n, -1.0),
    "nan": lambda rng, n: np.full(n, np.nan),
    "infinite": lambda rng, n: np.full(n, np.inf),
    "zeros": lambda rng, n: np.zeros(n),
    "too large": lambda rng, n: np.full(n, 1e300),
    "too small": lambda rng, n: np.full(n, 1e-12),
    "short": lambda rng, n: np.ones(n - 1),
    "column": lambda rng, n: np.ones((n, 1)),
    "strings": lambda rng, n: ["w"] * n,
}

PRIORS = {
    "none": None,
    **{name: name for name in ("default", "mcelreath", "bambi", "brms", "rstanarm")},
    "numbers": Prior(intercept=0.1, coef=1.0, group_scale=2.0, noise_scale=0.5),
    "distributions": Prior(
        intercept=dist.Normal(0, 10),
        coef=dist.StudentT(3, 0, 2),
        group_scale=dist.HalfNormal(1),
        noise_scale=dist.Exponential(1),
    ),
    "by effect": Prior(group_scale={"intercept": 0.1}),
    "decov": DecovPrior(concentration=2.0, scale=0.5),
}
BAD_PARAMS = [
    *(("eta", value) for value in (0, -1, np.nan, np.inf, "2", None, True)),
    *(("n_draws", value) for value in (0, 3, 2.5, "9", -1)),
    *(("n_chains", value) for value in (0, None, 1.5)),
    ("n_warmup", 0),
    ("target_accept", 1.0),
    ("max_tree_depth", 21),
    ("correlated", "yes"),
    ("noncentered", 1),
    ("inference", "vi"),
    ("handle_unknown", "ignore"),
    *(("device", value) for value in ("tpux", 0, "gpu:x")),
    *(("random_state", value) for value in ("a", -1, 1.5)),
    *(("verbose", value) for value in (-1, "no")),
    *(("slopes", value) for value in ("x0", ["nope"], 5, [0.5], [99], ["g"], {"x0": 1})),
    *(("groups", value) for value in ("nope", 99, -99, 1.5, True, (), [], {}, ("g", "g"))),
    *(("groups", value) for value in ([["g"]], ["g", "g"], {"g": "nope"}, [("g",)], [None])),
    *(("groups", value) for value in ({None: None}, lambda X: None, lambda X: X, "G", b"g")),
    *(("prior", value) for value in ("jeffreys", 3, {"coef": 1}, Prior, dist.Normal(0, 1))),
    *(("prior", Prior(coef=value)) for value in (0, -1, np.nan, np.inf, "a", True, {"nope": 1})),
    *(("prior", Prior(coef=value)) for value in (dist.Normal(np.zeros(7), 1), [1, 2])),
    *(("prior", Prior(intercept=value)) for value in (np.nan, -1, dist.Bernoulli(0.5), "a")),
    *(("prior", Prior(group_scale=value)) for value in (dist.Normal(0, 1), {"nope": 1}, -1)),
    *(("prior", Prior(noise_scale=value)) for value in (dist.Normal(0, 1), np.inf, {})),
    *(("prior", DecovPrior(**{name: 0})) for name in ("concentration", "shape", "scale")),
]


class Ingredients(NamedTuple):
    """What a table is made of: names of the entries above, and numbers."""

    n_samples: int
    seed: int
    features: list[tuple[str, str]]  # numbers, dtype
    cell: str | None  # of the first feature
    factors: list[tuple[str, int]]  # labels, number of levels; 0: as many as rows
    container: str
    target: tuple[str, str]
    target_cell: str | None
    target_shape: str
    weights: str | None
    groups: str
    params: dict[str, Any]


@st.composite
def ingredients(draw):
    """Sound but for at most one fault, so that many tables are fitted."""
    fault = draw(st.sampled_from(FAULTS))

    def one_of(sound, unsound, name):
        return draw(st.sampled_from(list(unsound if fault == name else sound)))

    n_features, n_factors = one_of(SHAPES, [(0, 0)], "columns")
    features = [
        (one_of(NUMBERS, BAD_NUMBERS, "numbers"), one_of(DTYPES, BAD_DTYPES, "dtype"))
        for _ in range(n_features)
    ]
    levels = st.sampled_from([1, 2, 4, 4, 4, 0])
    factors = [(one_of(LABELS, BAD_LABELS, "labels"), draw(levels)) for _ in range(n_factors)]
    numbers_of_y = one_of(NUMBERS, BAD_NUMBERS, "numbers of y")
    params = draw(sound_params())
    if fault == "params":
        params |= dict([draw(st.sampled_from(BAD_PARAMS))])
    return Ingredients(
        n_samples=one_of([12, 30, 12, 30, 5, 3, 2], [1], "rows"),
        seed=draw(st.integers(0, 999)),
        features=features,
        cell=one_of([None], CELLS, "cell"),
        factors=factors,
        container=draw(st.sampled_from(["pandas", "numpy", "lists", "polars", "pyarrow"])),
        target=(numbers_of_y, one_of(["float64"] * 8 + list(DTYPES), BAD_DTYPES, "dtype of y")),
        target_cell=one_of([None], CELLS, "cell of y"),
        target_shape=one_of(["vector", "list", "series"], ["short", "column", "table"], "y"),
        weights=one_of([None, None, *WEIGHTS], BAD_WEIGHTS, "weights"),
        groups=draw(st.sampled_from(["name", "position", "list", "dict", "callable", "tuple"])),
        params=params,
    )


FAULTS = [
    *[None] * 20,
    *("numbers", "dtype", "labels", "numbers of y", "cell", "dtype of y", "cell of y", "y"),
    *("rows", "columns", "weights", "weights", "params", "params", "params"),
]
SHAPES = [(1, 1), (1, 1), (2, 1), (1, 0), (0, 1), (1, 2), (0, 2), (1, 1), (1, 1)]


def sound_params():
    return st.fixed_dictionaries(
        {},
        optional={
            "slopes": st.sampled_from(["all", "all", None, [], [0]]),
            "correlated": st.booleans(),
            "eta": st.sampled_from([1, 0.5, 50.0]),
            "prior": st.sampled_from([None, None, *PRIORS.values()]),
            "inference": st.sampled_from(["auto", "marginal", "auto", "marginal", "nuts"]),
            "noncentered": st.booleans(),
            "n_chains": st.sampled_from([1, 2]),
            "handle_unknown": st.sampled_from(["population", "error"]),
        },
    )


def column(numbers, dtype, cell, rng, n):
    """A pandas Series of one feature."""
    with np.errstate(all="ignore"):
        values = (NUMBERS | BAD_NUMBERS)[numbers](rng, n)
        store = (DTYPES | BAD_DTYPES)[dtype]
        if not callable(store):
            if store[0] == "I":  # pandas refuses to round
                values = np.rint(np.clip(values, -1e15, 1e15))
            series = pd.Series(values.astype(store) if store[0].islower() else values)
            series = series.astype(store)
        else:
            series = pd.Series(store(values))
    if cell is None:
        return series
    cells = series.to_list()
    cells[-1] = CELLS[cell]
    return pd.Series(cells, dtype=object)


def label_column(labels, n_levels, rng, n):
    """A pandas Series of one factor's labels."""
    codes = rng.integers(0, n_levels, n) if n_levels else np.arange(n) % 28
    cells = np.empty(n, dtype=object)
    cells[:] = [(LABELS | BAD_LABELS)[labels](int(code)) for code in codes]
    series = pd.Series(cells)
    if labels == "strings" and rng.integers(2):
        return pd.Series(pd.Categorical(cells, categories=[f"s{k}" for k in range(32)]))
    return series.infer_objects() if rng.integers(2) else series


def table_of(made, seed):
    """X as its container, and a frame of the same rows."""
    rng, n = np.random.default_rng(seed), made.n_samples
    columns = {
        f"x{j}": column(*feature, made.cell if j == 0 else None, rng, n)
        for j, feature in enumerate(made.features)
    }
    for name, factor in zip("gh", made.factors, strict=False):
        columns[name] = label_column(*factor, rng, n)
    return in_container(pd.DataFrame(columns, index=range(n)), made.container)


def in_container(frame, container):
    """The frame as it is where a container cannot hold its cells."""
    if container == "numpy":
        return frame.to_numpy()
    if container == "lists":
        return frame.to_numpy(dtype=object).tolist()
    try:
        if container == "polars":
            return pl.from_pandas(frame)
        if container == "pyarrow":
            return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return frame
    return frame


def target_of(made):
    rng = np.random.default_rng(made.seed + 1000)
    y = column(*made.target, made.target_cell, rng, made.n_samples)
    shapes = {
        "vector": lambda: y.to_numpy(),
        "list": y.to_list,
        "series": lambda: y,
        "short": lambda: y.to_numpy()[1:],
        "column": lambda: y.to_frame(),
        "table": lambda: np.column_stack([y.to_numpy()] * 2),
    }
    return shapes[made.target_shape]()


def weights_of(made):
    if made.weights is None:
        return None
    rng = np.random.default_rng(made.seed + 2000)
    return (WEIGHTS | BAD_WEIGHTS)[made.weights](rng, made.n_samples)


def groups_of(made):
    """The factors as a user may name them; by position where columns have no names."""
    p, factors = len(made.features), len(made.factors)
    if not factors:
        return None
    named = made.container not in ("numpy", "lists") and made.groups != "position"
    columns = ["g", "h"][:factors] if named else list(range(p, p + factors))
    one = columns[0]
    if made.groups == "callable":
        return lambda X: columns
    if made.groups == "dict":
        return dict.fromkeys(columns, "all") if factors == 1 else {one: "all", columns[1]: None}
    if factors == 1:
        return [one] if made.groups == "list" else one
    return [one, tuple(columns)] if made.groups == "tuple" else columns


@pytest.fixture(scope="module")
def check(fitted, people):
    """Checks one example; a fixture in one piece, since Hypothesis prints a test's arguments."""
    before = fitted.predict(people[0], return_std=True)

    def check(made):
        model, error = outcome(made, fitted)
        if error is not None:
            model.set_params(**fitted.get_params())
            for now, then in zip(model.predict(people[0], return_std=True), before, strict=True):
                assert_array_equal(now, then)

    return check


def outcome(made, fitted):
    """A fit on top of an earlier one, and its error; without one, all that can be asked of it."""
    model = HierarchicalSlopesRegressor.__new__(HierarchicalSlopesRegressor)
    model.__dict__ = dict(vars(fitted))
    params = {**SHORT, "groups": groups_of(made), **made.params}
    y, weights = target_of(made), weights_of(made)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        X = table_of(made, made.seed)
        model.set_params(**params)
        # RuntimeError: no valid starting point, and chains that left the numbers there are
        error = attempt(lambda: model.fit(X, y, sample_weight=weights), (*ERRORS, RuntimeError))
        if error is None:
            check_results(model, X, y, table_of(made, made.seed + 1))
    event("fitted" if error is None else f"{type(error).__name__} in fit")
    unexpected = [w for w in caught if w.category not in WARNINGS]
    assert not unexpected, [str(w) for w in unexpected]
    return model, error


def attempt(call, allowed=ERRORS):
    """None, or the error: one that a check raised, never one that some operation fell over."""
    try:
        call()
    except AssertionError:
        raise
    except Exception as error:
        if type(error) not in allowed or not str(error) or not was_raised(error):
            raise
        return error
    return None


def was_raised(error):
    """Whether by a statement of skhier's, or in scikit-learn."""
    frames = traceback.extract_tb(error.__traceback__)
    # scikit-learn's check of a seed hands it to NumPy, whose message says it well
    frame = [f for f in frames if f.filename.endswith(".py")][-1]
    line = linecache.getline(frame.filename, frame.lineno).strip()
    return "sklearn" in frame.filename or (
        frame.filename.startswith(SKHIER) and line.startswith("raise ")
    )


def check_results(model, X, y, X_new):
    """All that a user may ask is finite."""
    for name in ("intercept_", "coef_", "noise_scale_"):
        finite(getattr(model, name), name)
    for name in ("group_coef_", "group_coef_std_", "group_effects_", "group_scale_", "group_corr_"):
        for part in getattr(model, name).values():
            finite(part, name)
    for name in ("intercept", "coef", "noise_scale"):
        finite(model.posterior_[name], name)
    for name in ("group_scale", "group_corr"):
        for draws in model.posterior_[name].values():
            finite(draws, name)
    if model.diagnostics_["engine"] == "marginal":
        finite(model.log_evidence_, "log_evidence_")
    check_tables(model)
    attempt(lambda: check_predictions(model, X_new))
    model.set_params(handle_unknown="population")  # rows of weight 0 may have levels of their own
    check_predictions(model, X)
    assert np.isfinite(model.log_predictive_density(X, y)).all()
    finite(model.score(X, y) if len(y) > 1 else 0, "score")
    for call in (model.loo, partial(model.loo, conditional=True), model.logo):
        attempt(partial(check_elpd, call))


def check_predictions(model, X):
    mean, sd = model.predict(X, return_std=True)
    finite(mean, "mean")
    finite(sd, "sd")
    assert (sd >= 0).all()
    for kind in ("response", "mean"):
        interval = model.predict_interval(X, kind=kind)
        finite(interval, f"interval, {kind}")
        assert (interval[:, 0] <= interval[:, 1]).all()
    finite(model.predict_quantiles(X, [0.01, 0.5, 0.99]), "quantiles")
    finite(model.sample_y(X, 3, random_state=0), "sample_y")
    finite(model.predict(X, return_std=True, level="population"), "population")
    attempt(lambda: finite(model.sample_prior(X, 2, random_state=0), "sample_prior"))


def check_tables(model):
    table = model.summary(group_effects=True)
    finite(table, "summary", but="r_hat")  # infinite of chains that stand still
    assert model.n_chains == 1 or table["r_hat"].notna().all()
    finite(model.variance_components(), "variance_components")
    attempt(lambda: finite(model.r_squared(), "r_squared"))
    assert model.prior_summary()["prior"].str.len().all()
    for factor in model.group_levels_:
        finite(model.sample_group_effects(factor), "group effects")
    attempt(lambda: finite(model.prior_sensitivity(), "prior_sensitivity", but="pareto_k"))
    model.to_arviz(group_effects=False)


def check_elpd(call):
    result = call()
    finite([result.elpd, result.se, result.p], "elpd")
    finite(result.pointwise, "pointwise", but="pareto_k")  # infinite: too few distinct weights
    assert not result.pointwise["pareto_k"].isna().any()
    repr(result)


def finite(values, name, but=None):
    if isinstance(values, pd.DataFrame):
        values = values.drop(columns=but or []).select_dtypes("number")
        bad = values.loc[~np.isfinite(values).all(axis=1), ~np.isfinite(values).all(axis=0)]
        assert bad.empty, f"{name}: {bad.to_dict()}"
    assert np.isfinite(np.asarray(values, dtype=float)).all(), f"{name}: {values}"


SETTINGS = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@settings(SETTINGS, max_examples=15, derandomize=True)
@given(made=ingredients())
def test_random_table_is_refused_or_finite(made, check):
    check(made)


@pytest.mark.slow
@settings(SETTINGS, max_examples=500)
@given(made=ingredients())
def test_many_random_tables_are_refused_or_finite(made, check):
    check(made)
