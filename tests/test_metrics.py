"""Scores of predictive distributions, and scikit-learn's tools that use them."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from runs import SHORT
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor
from skhier.metrics import (
    SCORERS,
    PredictiveScorer,
    crps_mixture,
    crps_normal,
    get_scorer,
    interval_coverage,
    interval_width,
    log_density_normal,
)

# the runs are too short to converge
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FOLDS = KFold(3, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def lines():
    """X (x and, last, the group) and y: six groups, six rows each."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(6), 6)
    x = rng.normal(size=36)
    coef = rng.normal([1, 2], [1, 0.5], size=(6, 2))
    y = coef[code, 0] + coef[code, 1] * x + 0.3 * rng.normal(size=36)
    return np.column_stack([x, code]), y


@pytest.fixture
def model():
    return HierarchicalSlopesRegressor(-1, **SHORT)


@pytest.fixture(scope="module")
def fitted(lines):
    return HierarchicalSlopesRegressor(-1, **SHORT).fit(*lines)


def crps_by_definition(y, cdf, low, high):
    """The integral of (F(x) - 1{y <= x})^2 (Gneiting and Raftery 2007, eq. 20)."""
    below = quad(lambda x: cdf(x) ** 2, low, y, epsabs=1e-12, epsrel=1e-10, limit=500)[0]
    return below + quad(lambda x: (1 - cdf(x)) ** 2, y, high, epsabs=1e-12, limit=500)[0]


def crps_by_pairs(y, mean, sd, weights=None):
    """Grimit et al. (2006), eq. 5-6: every pair of components, one row."""
    weights = np.full(len(mean), 1 / len(mean)) if weights is None else weights

    def distance(m, s):
        return 2 * s * norm.pdf(m / s) + m * (2 * norm.cdf(m / s) - 1)

    pairs = distance(mean[:, None] - mean, np.hypot(sd[:, None], sd))
    return weights @ distance(y - mean, sd) - weights @ pairs @ weights / 2


@pytest.mark.parametrize("y", [-3.0, 0.4, 1.0, 20.0])
def test_crps_normal_is_the_integral(y):
    expected = crps_by_definition(y, norm(1, 2).cdf, -40, 40)
    assert_allclose(crps_normal(y, 1.0, 2.0), expected, rtol=1e-8)


def test_crps_normal_without_spread_is_the_absolute_error():
    assert_allclose(crps_normal([3.0, -1.0], 1.0, [0.0, 0.0]), [2.0, 2.0])


def test_crps_mixture_is_the_integral():
    mean, sd = np.array([0.0, 3.0, 3.5]), np.array([1.0, 0.5, 2.0])

    def cdf(x):
        return norm.cdf(x, mean, sd).mean()

    expected = crps_by_definition(1.2, cdf, -30, 40)
    assert_allclose(crps_mixture([1.2], mean[:, None], sd[:, None]), expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("spread_of_means", "spread_of_sds", "error"),
    [(0.5, 0.1, 1e-8), (20.0, 0.1, 1e-8), (0.5, 0.5, 1e-8), (0.5, 1.0, 1e-8), (0.0, 2.0, 1e-4)],
)
def test_crps_mixture_is_the_sum_over_pairs(spread_of_means, spread_of_sds, error):
    rng = np.random.default_rng(1)
    mean = 7 + spread_of_means * rng.normal(size=(300, 4))
    sd = np.exp(spread_of_sds * rng.normal(size=(300, 4)))
    y = 7 + np.array([0.0, 0.5, -3.0, 40.0])
    expected = [crps_by_pairs(*row) for row in zip(y, mean.T, sd.T, strict=True)]
    assert_allclose(crps_mixture(y, mean, sd), expected, rtol=error)


def test_weights_of_a_crps_mixture_are_repeated_components():
    rng = np.random.default_rng(3)
    mean, sd, times = rng.normal(size=(6, 4)), np.exp(rng.normal(size=(6, 4))), [1, 3, 0, 2, 5, 1]
    y = np.array([0.0, 0.5, -3.0, 40.0])
    expected = [
        crps_by_pairs(*row)
        for row in zip(y, np.repeat(mean, times, 0).T, np.repeat(sd, times, 0).T, strict=True)
    ]
    assert_allclose(crps_mixture(y, mean, sd, times), expected, rtol=1e-6)


def test_rows_of_a_crps_mixture_may_have_weights_of_their_own():
    rng = np.random.default_rng(3)
    mean, sd = rng.normal(size=(6, 3)), rng.uniform(0.3, 1.0, (6, 3))
    weights, y = rng.dirichlet(np.ones(6), 3).T, rng.normal(size=3)
    alone = [
        crps_mixture(y[[i]], mean[:, [i]], sd[:, [i]], weights[:, i])[0] for i in range(len(y))
    ]
    assert_allclose(crps_mixture(y, mean, sd, weights), alone, rtol=1e-6)


def test_crps_mixture_of_one_normal_is_crps_normal():
    y = np.linspace(-4, 4, 9)
    mixture = crps_mixture(y, np.zeros((3, 9)), np.full((3, 9), 1.5))
    assert_allclose(mixture, crps_normal(y, 0.0, 1.5), rtol=1e-8)


def test_crps_mixture_keeps_its_digits_far_from_zero():
    rng = np.random.default_rng(2)
    mean, sd, y = rng.normal(size=(100, 2)), np.ones((100, 2)), np.array([0.0, 2.0])
    far = crps_mixture(y + 1e6, mean + 1e6, sd)
    assert_allclose(far, crps_mixture(y, mean, sd), rtol=1e-8)
    assert_allclose(crps_mixture(1e-9 * y, 1e-9 * mean, 1e-9 * sd), 1e-9 * far, rtol=1e-8)


def test_log_density_normal_is_scipys():
    assert_allclose(log_density_normal([1.0, 2.0], 0.5, 2.0), norm.logpdf([1.0, 2.0], 0.5, 2.0))


def test_intervals_are_counted_and_measured():
    interval = np.array([[0, 1], [0, 2], [5, 8]])
    assert interval_coverage([1.0, 3.0, 6.0], interval) == 2 / 3
    assert interval_coverage([1.0, 3.0, 6.0], interval, [1, 2, 1]) == 0.5
    assert interval_width(interval) == 2
    assert interval_width(interval, [1, 0, 1]) == 2
    assert interval_width(interval, [0, 0, 1]) == 3


@pytest.mark.parametrize("interval", [[1.0, 2.0], [[2.0, 1.0]], [[np.nan, 1.0]]])
def test_intervals_of_no_use_are_errors(interval):
    with pytest.raises(ValueError, match="`interval` must have"):
        interval_width(interval)


def test_scorers_are_the_means_over_rows(fitted, lines):
    X, y = lines
    scores = {name: scorer(fitted, X, y) for name, scorer in SCORERS.items()}
    low, high = fitted.predict_interval(X, 0.9).T
    covered = np.mean((low <= y) & (y <= high))
    [(at, mean, sd, weights)] = fitted._predictive_mixture(X)
    crps = [crps_by_pairs(y[i], mean[:, k], sd[:, k], weights) for k, i in enumerate(at)]
    assert_allclose(scores["log_predictive_density"], fitted.log_predictive_density(X, y).mean())
    assert_allclose(scores["neg_crps"], -np.mean(crps), rtol=1e-7)
    assert_allclose(scores["interval_coverage"], covered)
    assert_allclose(scores["neg_coverage_error"], -abs(covered - 0.9))
    assert_allclose(scores["neg_interval_width"], -(high - low).mean())


def test_scorers_see_another_coverage(fitted, lines):
    X, y = lines
    half = PredictiveScorer("neg_interval_width", coverage=0.5)
    assert_allclose(half(fitted, X, y), -np.diff(fitted.predict_interval(X, 0.5)).mean())
    assert repr(half) == "PredictiveScorer('neg_interval_width', coverage=0.5)"
    assert repr(SCORERS["neg_crps"]) == "PredictiveScorer('neg_crps')"


@pytest.mark.parametrize("name", SCORERS)
def test_weight_of_two_is_the_row_twice(fitted, lines, name):
    X, y = lines
    twice = np.r_[np.arange(len(y)), np.arange(5)]
    weight = np.where(np.arange(len(y)) < 5, 2, 1)
    scorer = get_scorer(name)
    found = scorer(fitted, X, y, sample_weight=weight)
    assert_allclose(found, scorer(fitted, X[twice], y[twice]), rtol=1e-9)


def test_more_noise_is_a_worse_score(fitted, lines):
    X, y = lines
    for name in ("log_predictive_density", "neg_crps"):
        assert SCORERS[name](fitted, X, y) > SCORERS[name](fitted, X, y[::-1])


def test_pipeline_is_scored_on_what_its_last_step_sees(model, lines):
    X, y = lines
    double = FunctionTransformer(lambda X: X * [2, 1])
    inner = Pipeline([("again", "passthrough"), ("model", model)])
    pipe = Pipeline([("double", double), ("inner", inner)]).fit(X, y)
    for scorer in SCORERS.values():
        assert scorer(pipe, X, y) == scorer(inner[-1], X * [2, 1], y)
        assert scorer(Pipeline([("model", inner[-1])]), X, y) == scorer(inner[-1], X, y)


def test_grid_search_and_nested_search_take_a_scorer(model, lines):
    X, y = lines
    pipe = Pipeline([("model", model)])
    scorer = get_scorer("neg_crps")
    search = GridSearchCV(pipe, {"model__eta": [1.0, 8.0]}, scoring=scorer, cv=FOLDS).fit(X, y)
    train, test = next(FOLDS.split(X))
    by_hand = scorer(
        clone(pipe).set_params(model__eta=8.0).fit(X[train], y[train]), X[test], y[test]
    )
    assert search.cv_results_["split0_test_score"][1] == by_hand
    assert search.score(X, y) == scorer(search, X, y) == scorer(search.best_estimator_, X, y)


def test_cross_validate_takes_several_by_name(model, lines):
    X, y = lines
    found = cross_validate(model, X, y, cv=FOLDS, scoring={**SCORERS, "r2": "r2"})
    assert {f"test_{name}" for name in (*SCORERS, "r2")} <= found.keys()
    alone = cross_val_score(model, X, y, cv=FOLDS, scoring=SCORERS["log_predictive_density"])
    assert_allclose(found["test_log_predictive_density"], alone)


@pytest.mark.filterwarnings("ignore:.*unseen group:UserWarning")
def test_new_groups_are_scored_as_new_members(model, lines):
    X, y = lines
    known = cross_val_score(model, X, y, cv=FOLDS, scoring=SCORERS["neg_crps"])
    new = cross_val_score(
        model, X, y, groups=X[:, 1], cv=GroupKFold(3), scoring=SCORERS["neg_crps"]
    )
    assert known.mean() > new.mean()


def test_scorers_work_in_other_processes(fitted, lines):
    tasks = (joblib.delayed(scorer)(fitted, *lines) for scorer in SCORERS.values())
    apart = joblib.Parallel(n_jobs=2, backend="loky")(tasks)
    assert_allclose(apart, [scorer(fitted, *lines) for scorer in SCORERS.values()], rtol=1e-12)


def test_scorers_are_copied_and_pickled(fitted, lines):
    scorer = get_scorer("interval_coverage", coverage=0.8)
    for other in (copy.deepcopy(scorer), pickle.loads(pickle.dumps(scorer))):
        assert repr(other) == repr(scorer)
        assert other(fitted, *lines) == scorer(fitted, *lines)


@pytest.mark.parametrize(
    "make", [LinearRegression, lambda: TransformedTargetRegressor(LinearRegression())]
)
def test_estimators_without_a_distribution_are_errors(make, lines):
    X, y = lines
    estimator = make().fit(X, y)
    for found in (estimator, Pipeline([("model", estimator)])):
        with pytest.raises(TypeError, match=f"which {type(estimator).__name__} does not offer"):
            SCORERS["neg_crps"](found, X, y)


def test_unknown_names_and_levels_are_errors():
    with pytest.raises(ValueError, match="must be one of 'log_predictive_density'"):
        get_scorer("crps")
    with pytest.raises(ValueError, match="'coverage' parameter must be a float in the range"):
        get_scorer("interval_coverage", coverage=90)


@pytest.mark.parametrize("weight", [[-1.0] * 36, [0.0] * 36, [1.0] * 3])
def test_weights_of_no_use_are_errors(fitted, lines, weight):
    with pytest.raises(ValueError, match="eight"):
        SCORERS["neg_crps"](fitted, *lines, sample_weight=weight)


def test_grid_search_passes_weights_to_the_scorer(model, lines):
    X, y = lines
    weight = np.where(np.arange(len(y)) < 12, 3.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        asks = (
            clone(model).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        )
        scorer = get_scorer("neg_crps").set_score_request(sample_weight=True)
        for scoring in (scorer, {"score": scorer}):
            search = GridSearchCV(asks, {"eta": [2.0]}, scoring=scoring, cv=FOLDS, refit=False)
            search.fit(X, y, sample_weight=weight)
            found = [v for k, v in search.cv_results_.items() if k.startswith("split0_test")]
            train, test = next(FOLDS.split(X))
            fit = clone(model).fit(X[train], y[train], sample_weight=weight[train])
            assert found == [scorer(fit, X[test], y[test], sample_weight=weight[test])]
        with pytest.raises(ValueError, match="sample_weight"):
            GridSearchCV(asks, {"eta": [2.0]}, scoring=get_scorer("neg_crps"), cv=FOLDS).fit(
                X, y, sample_weight=weight
            )
        with pytest.raises(TypeError, match="can ask for sample_weight only"):
            scorer.set_score_request(groups=True)


def test_weights_reach_the_scorer_as_scikit_learns_own(model, lines):
    """From scikit-learn 1.8 on also without routing."""
    X, y = lines
    weight = np.where(np.arange(len(y)) < 12, 3.0, 1.0)
    version = tuple(map(int, sklearn.__version__.split(".")[:2]))
    search = GridSearchCV(model, {"eta": [2.0]}, scoring=SCORERS["neg_crps"], cv=FOLDS, refit=False)
    search.fit(X, y, sample_weight=weight)
    train, test = next(FOLDS.split(X))
    fit = clone(model).fit(X[train], y[train], sample_weight=weight[train])
    given = weight[test] if version >= (1, 8) else None
    expected = SCORERS["neg_crps"](fit, X[test], y[test], sample_weight=given)
    assert search.cv_results_["split0_test_score"][0] == expected


def run(script):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_registers_nothing():
    run(
        "import sklearn.metrics as m; before = m.get_scorer_names(); import skhier.metrics;"
        "assert m.get_scorer_names() == before; import sys; assert 'jax' not in sys.modules"
    )


def test_registered_names_work_wherever_scikit_learn_takes_one():
    run(
        "from sklearn.model_selection import GridSearchCV, cross_val_score\n"  # before: lists made
        "from sklearn.linear_model import LinearRegression\n"
        "from sklearn.metrics import get_scorer\n"
        "import numpy as np, skhier.metrics as m\n"
        "names = m.register_scorers()\n"
        "first = get_scorer(names[0])\n"
        "assert m.register_scorers() == names == ['skhier_' + name for name in m.SCORERS]\n"
        "assert repr(get_scorer('skhier_neg_crps')) == repr(m.SCORERS['neg_crps'])\n"
        "X, y = np.random.rand(9, 1), np.random.rand(9)\n"
        "for call in (\n"
        "    lambda: cross_val_score(LinearRegression(), X, y, scoring=names[0],"
        " error_score='raise'),\n"
        "    lambda: GridSearchCV(LinearRegression(), {}, scoring=names[0],"
        " error_score='raise').fit(X, y),\n"
        "):\n"
        "    try:\n"
        "        call()\n"
        "    except TypeError as error:\n"
        "        assert 'needs the predictive distribution' in str(error), error\n"
        "    else:\n"
        "        raise AssertionError('the scorer was not called')\n"
    )


def test_registering_with_an_unknown_scikit_learn_is_a_clear_error(monkeypatch):
    from sklearn.metrics import _scorer

    from skhier.metrics import register_scorers

    monkeypatch.delattr(_scorer, "_SCORERS")
    with pytest.raises(RuntimeError, match="Pass the scorer itself"):
        register_scorers()


def test_check_scoring_returns_the_scorer_itself(model):
    assert check_scoring(model, scoring=SCORERS["neg_crps"]) is SCORERS["neg_crps"]


@pytest.mark.parametrize("name", ["interval_coverage", "neg_coverage_error"])
def test_coverage_of_classes_is_an_error(name):
    classifier = HierarchicalSlopesClassifier()  # whose intervals are of probabilities
    with pytest.raises(TypeError, match="are of probabilities"):
        SCORERS[name](classifier, np.zeros((4, 1)), [0, 1, 0, 1])
