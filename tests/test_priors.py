"""Priors: the packages' documented defaults, the user's forms, and what is refused."""

import pickle

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone

from skhier import DecovPrior, Prior
from skhier.presets import prior_from
from skhier.priors import DataScales, describe

SCALES = DataScales(
    n=100.0,
    x_mean=np.array([1.0, 50.0]),
    x_sd=np.array([2.0, 10.0]),
    y_mean=7.0,
    y_sd=4.0,
    y_median=6.66,
    y_mad=3.21,
)
NAMES = ["a", "b"]


ONE = (("g", (1,)),)
TWO = (("state", (0, 1)), ("state:cafe", (1,)))


def resolve(prior, factors=ONE):
    return prior_from(prior).resolve(SCALES, NAMES, factors)


def blocks_of(choice):
    """Of each factor, the blocks of its scales."""
    return tuple(group.scales for group in choice.groups)


def scales_of(prior, factors=TWO):
    """Factor -> effect -> the mean of its exponential prior."""
    found = {}
    for (name, slopes), blocks in zip(factors, blocks_of(resolve(prior, factors)), strict=True):
        effects = [*(NAMES[j] for j in slopes), "intercept"]
        entries = by_entry(blocks)
        assert sorted(entries) == list(range(len(effects)))
        found[name] = {
            effect: float(1 / np.resize(entries[i][0].rate, len(effects))[entries[i][1]])
            for i, effect in enumerate(effects)
        }
    return found


@pytest.fixture(scope="module")
def sleepstudy_scales(sleepstudy):
    X, y = sleepstudy
    days, y = np.asarray(X[["Days"]], float), np.asarray(y, float)
    mad = 1.4826 * np.median(np.abs(y - np.median(y)))
    of_x = days.mean(0), days.std(0, ddof=1)
    return DataScales(len(y), *of_x, y.mean(), y.std(ddof=1), np.median(y), mad)


def by_entry(blocks):
    """Column -> (distribution, its entry)."""
    return {j: (prior, i) for at, prior in blocks for i, j in enumerate(at)}


def test_default_scales_with_the_data():
    choice = resolve(None)
    assert choice.intercept_at_mean
    assert (choice.intercept.loc, choice.intercept.scale) == (7.0, 10.0)
    ((at, coef),) = choice.coef
    assert at == (0, 1)
    assert_allclose(coef.scale, [2.5 * 4 / 2, 2.5 * 4 / 10])
    assert_allclose(1 / choice.own["noise_scale"].rate, 4.0)
    (((at, scale),),) = blocks_of(choice)
    assert at == (1, 0)  # the intercept, given first, is the kernels' last effect
    assert_allclose(1 / scale.rate, [4.0, 4.0 / 10])


def test_numbers_replace_the_standardised_scales():
    choice = resolve(Prior(intercept=1.0, coef=3.0, group_scale=0.5, noise_scale=2.0))
    assert choice.intercept_at_mean
    assert choice.intercept.scale == 4.0
    assert_allclose(choice.coef[0][1].scale, [3 * 4 / 2, 3 * 4 / 10])
    assert_allclose(1 / blocks_of(choice)[0][0][1].rate, [0.5 * 4, 0.5 * 4 / 10])
    assert_allclose(1 / choice.own["noise_scale"].rate, 8.0)


def test_explicit_intercept_is_at_zero():
    assert not resolve(Prior(intercept=dist.Normal(0.0, 1.0))).intercept_at_mean


def test_dict_covers_named_columns_and_leaves_the_rest():
    prior = Prior(
        coef={"b": dist.Laplace(0.0, 1.0)},
        group_scale={"intercept": dist.HalfCauchy(2.0), "b": 3.0},
    )
    choice = resolve(prior)
    coef = by_entry(choice.coef)
    assert isinstance(coef[1][0], dist.Laplace)
    assert_allclose(coef[0][0].scale[coef[0][1]], 2.5 * 4 / 2)
    scale = by_entry(blocks_of(choice)[0])
    assert isinstance(scale[1][0], dist.HalfCauchy)  # the intercept is last
    assert_allclose(1 / scale[0][0].rate, [3.0 * 4 / 10])


def test_vector_distribution_has_the_intercept_first():
    choice = resolve(Prior(group_scale=dist.HalfNormal(np.array([5.0, 6.0]))))
    (((at, scale),),) = blocks_of(choice)
    assert dict(zip(at, scale.scale, strict=True)) == {1: 5.0, 0: 6.0}


def test_parameters_become_float64_numpy():
    with jax.enable_x64(False):
        prior = dist.StudentT(4, 0, jax.numpy.ones(2))
    leaves = jax.tree.leaves(resolve(Prior(coef=prior)).coef[0][1])
    assert all(type(leaf) is np.ndarray and leaf.dtype == np.float64 for leaf in leaves)


def test_bambi_matches_its_documented_sleepstudy_defaults(sleepstudy_scales):
    """Bambi's sleepstudy notebook: Intercept and 1|Subject 261.0092, Days 48.8915, sigma 56.1721.

    The slopes there use the sd with divisor n for both y and x, whose ratio is the same.
    """
    choice = prior_from("bambi").resolve(sleepstudy_scales, ["Days"], [("Subject", (0,))])
    assert_allclose(choice.intercept.loc, 298.5079, atol=5e-5)
    assert_allclose(choice.intercept.scale, 261.0092, atol=5e-5)
    assert_allclose(choice.coef[0][1].scale, 48.8915, atol=5e-5)
    assert_allclose(blocks_of(choice)[0][0][1].scale, [261.0092, 48.8915], atol=5e-5)
    assert describe(choice.own["noise_scale"]) == "HalfStudentT(df=4., loc=0., scale=56.1721)"


def test_brms_matches_its_documented_sleepstudy_defaults(sleepstudy_scales):
    """brms: student_t(3, 288.7, 59.3) and student_t(3, 0, 59.3), slopes flat."""
    choice = prior_from("brms").resolve(sleepstudy_scales, ["Days"], [("Subject", (0,))])
    assert describe(choice.intercept) == "StudentT(df=3., loc=288.7, scale=59.3)"
    assert describe(choice.own["noise_scale"]) == "HalfStudentT(df=3., loc=0., scale=59.3)"
    assert describe(blocks_of(choice)[0][0][1], 1) == "HalfStudentT(df=3., loc=0., scale=59.3)"
    assert describe(choice.coef[0][1], 0) == "flat"


def test_rstanarm_matches_its_documented_sleepstudy_defaults(sleepstudy_scales):
    """rstanarm: normal(299, 141), normal(0, 49), exponential(0.018), decov(1, 1, 1, 1)."""
    choice = prior_from("rstanarm").resolve(sleepstudy_scales, ["Days"], [("Subject", (0,))])
    assert_allclose(choice.intercept.loc, 299, atol=0.5)
    assert_allclose(choice.intercept.scale, 141, atol=0.5)
    assert_allclose(choice.coef[0][1].scale, 49, atol=0.5)
    assert_allclose(choice.own["noise_scale"].rate, 0.018, atol=5e-4)
    assert choice.groups[0].decov == (1.0, 1.0, 1.0)
    assert blocks_of(choice) == ((),)


def test_mcelreath_is_for_standardised_variables():
    choice = resolve("mcelreath")
    assert_allclose(choice.intercept.scale, 0.2 * 4)
    assert_allclose(choice.coef[0][1].scale, [0.5 * 4 / 2, 0.5 * 4 / 10])


def test_number_overrides_one_part_of_a_preset():
    prior = prior_from("bambi").set_params(group_scale=2.0)
    choice = prior.resolve(SCALES, NAMES, ONE)
    assert isinstance(blocks_of(choice)[0][0][1], dist.Exponential)
    assert describe(choice.own["noise_scale"]).startswith("HalfStudentT")


def test_no_factor_has_no_group_prior():
    for prior in (None, Prior(group_scale=2.0), Prior(group_scale={"intercept": 2.0})):
        assert resolve(prior, ()).groups == ()
    assert resolve(DecovPrior(), ()).groups == ()


DEFAULT = {
    "state": {"a": 2.0, "b": 0.4, "intercept": 4.0},
    "state:cafe": {"b": 0.4, "intercept": 4.0},
}


def scaled(**factors):
    """The default with the means of some effects multiplied, factor -> effect -> by how much."""
    return {
        name: {effect: mean * factors.get(name, {}).get(effect, 1) for effect, mean in of.items()}
        for name, of in DEFAULT.items()
    }


EVERY = {"a": 0.5, "b": 0.5, "intercept": 0.5}


@pytest.mark.parametrize(
    ("group_scale", "expected"),
    [
        (None, scaled()),
        ({}, scaled()),
        (0.5, scaled(state=EVERY, **{"state:cafe": EVERY})),
        ({"state": 0.5}, scaled(state=EVERY)),
        ({"state:cafe": 0.5, "state": None}, scaled(**{"state:cafe": EVERY})),
        ({"state": 0.5, "state:cafe": 0.5}, scaled(state=EVERY, **{"state:cafe": EVERY})),
        ({"state": {"b": 3.0}}, scaled(state={"b": 3})),
        ({"state": {}}, scaled()),
        (
            {"state": {"intercept": 2.0}, "state:cafe": {"b": 3.0}},
            scaled(state={"intercept": 2}, **{"state:cafe": {"b": 3}}),
        ),
        ({"intercept": 3.0}, scaled(**{factor: {"intercept": 3} for factor in DEFAULT})),
        # of the effects named, each factor takes those that it has
        ({"a": 3.0}, scaled(state={"a": 3})),
        ({"a": 3.0, "b": 2.0}, scaled(state={"a": 3, "b": 2}, **{"state:cafe": {"b": 2}})),
        ({"b": dist.Exponential(2.5), "intercept": dist.Exponential(0.25)}, scaled()),
    ],
)
def test_group_scale_of_several_factors(group_scale, expected):
    found = scales_of(Prior(group_scale=group_scale))
    for name, of_factor in expected.items():
        assert found[name] == pytest.approx(of_factor)


def test_one_factor_takes_a_dict_of_factors_too():
    ((block,),) = blocks_of(resolve(Prior(group_scale={"g": 0.5})))
    assert_allclose(1 / block[1].rate, [0.5 * 4, 0.5 * 4 / 10])
    (blocks,) = blocks_of(resolve(Prior(group_scale={"g": {"b": dist.HalfCauchy(2.0)}})))
    assert isinstance(by_entry(blocks)[0][0], dist.HalfCauchy)


def test_vector_distribution_is_of_one_factor():
    prior = Prior(
        group_scale={
            "state": dist.HalfNormal(np.array([5.0, 6.0, 7.0])),
            "state:cafe": dist.HalfNormal(np.array([8.0, 9.0])),
        }
    )
    ((first,), (second,)) = blocks_of(resolve(prior, TWO))
    assert dict(zip(first[0], first[1].scale, strict=True)) == {2: 5.0, 0: 6.0, 1: 7.0}
    assert dict(zip(second[0], second[1].scale, strict=True)) == {1: 8.0, 0: 9.0}


def test_factor_named_as_an_effect_needs_a_dict():
    factors = (("intercept", ()), ("g", (0,)))
    with pytest.raises(ValueError, match="names 'intercept', which is both a factor and an effect"):
        resolve(Prior(group_scale={"intercept": 2.0}), factors)
    found = scales_of(Prior(group_scale={"intercept": {"intercept": 2.0}}), factors)
    assert found["intercept"] == {"intercept": pytest.approx(8.0)}
    assert found["g"] == pytest.approx({"a": 2.0, "intercept": 4.0})


def test_decov_is_of_every_factor():
    choice = resolve(DecovPrior(scale=3.0), TWO)
    assert blocks_of(choice) == ((), ())
    assert [group.decov for group in choice.groups] == [(1.0, 1.0, 3.0)] * 2


WHOLE = r"The factors are 'state', 'state:cafe'; their effects: 'intercept', 'a', 'b'\."


@pytest.mark.parametrize(
    ("group_scale", "error", "message"),
    [
        ({"cafe": 1.0}, ValueError, f"names 'cafe', which is neither .* {WHOLE}"),
        ({"state": 1.0, "c": 1.0}, ValueError, f"names 'c', which is neither .* {WHOLE}"),
        ({("state", "cafe"): 1.0}, ValueError, r"names \('state', 'cafe'\), which is neither"),
        ({"state": 1.0, "b": 1.0}, ValueError, f"keys of both kinds.*'state', 'b'.*{WHOLE}"),
        ({"state:cafe": {"a": 1.0}}, ValueError, r"`group_scale\['state:cafe'\]` names 'a'"),
        ({"state": {"state": 1.0}}, ValueError, r"`group_scale\['state'\]` names 'state'"),
        ({"state": -1.0}, ValueError, r"`group_scale\['state'\]` must be a positive"),
        ({"intercept": {"state": 1.0}}, TypeError, r"must be None, a number or .* Got {'state'"),
        ({"state": "wide"}, TypeError, r"`group_scale\['state'\]` must be None.*Got 'wide'"),
        (
            dist.HalfNormal(np.ones(3)),
            ValueError,
            r"`group_scale\['state:cafe'\]` must have one entry per column \(2,\).*\(3,\)",
        ),
        (
            {"state": dist.HalfNormal(np.ones(2))},
            ValueError,
            r"`group_scale\['state'\]` must have one entry per column \(3,\).*\(2,\)",
        ),
    ],
)
def test_bad_group_scale_of_several_factors_is_refused(group_scale, error, message):
    with pytest.raises(error, match=message):
        resolve(Prior(group_scale=group_scale), TWO)


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        ("foo", ValueError, "'default', 'mcelreath'.*Got 'foo'"),
        (3, TypeError, "Got 3 instead"),
        (Prior(coef="wide"), TypeError, "prior of `coef`.*Got 'wide'"),
        (Prior(coef=0.0), ValueError, "positive finite number. Got 0.0"),
        (Prior(noise_scale=-1), ValueError, "`noise_scale` must be a positive.*Got -1"),
        (Prior(noise_scale=dist.Normal(0.0, 1.0)), ValueError, "positive numbers. Got Normal"),
        (Prior(group_scale=dist.Uniform(-1.0, 1.0)), ValueError, "positive numbers. Got Uniform"),
        (Prior(coef=dist.Poisson(2.0)), ValueError, "continuous univariate.*Poisson"),
        (Prior(coef=dist.Delta(2.0)), ValueError, "must have a density"),
        (Prior(coef=dist.Normal(np.zeros(3), 1.0)), ValueError, r"one entry per column.*\(3,\)"),
        (Prior(intercept=dist.Normal(np.zeros(2), 1.0)), ValueError, r"be scalar.*\(2,\)"),
        (
            Prior(coef=dist.MultivariateNormal(np.zeros(2), np.eye(2))),
            ValueError,
            "continuous univariate",
        ),
        (Prior(coef={"c": 1.0}), ValueError, "names 'c', which is none of: 'a', 'b'"),
        (Prior(group_scale={"a": 1.0}), ValueError, "names 'a'.*'intercept', 'b'"),
        (DecovPrior(shape=0), ValueError, "`shape` must be a positive"),
    ],
)
def test_bad_prior_is_refused(prior, error, message):
    with pytest.raises(error, match=message):
        resolve(prior)


def test_prior_clones_and_sets_parameters():
    nested = Prior(group_scale={"state": {"intercept": 1.0}, "cafe": None})
    assert clone(nested).group_scale == nested.group_scale
    prior = Prior(coef=dist.Normal(0.0, 1.0), group_scale={"intercept": 1.0})
    copy = clone(prior).set_params(group_scale=2.0)
    assert (prior.group_scale, copy.group_scale) == ({"intercept": 1.0}, 2.0)
    assert copy.coef.scale == 1.0


def test_pickled_prior_holds_no_jax_array():
    rate = jax.numpy.ones(1)
    prior = Prior(
        coef=dist.Normal(jax.numpy.zeros(2), 1.0),
        group_scale={"b": dist.Exponential(2.0), "g": {"b": dist.Exponential(rate)}},
    )
    data = pickle.dumps(prior)
    assert b"ArrayImpl" not in data
    restored = pickle.loads(data)
    assert_allclose(restored.coef.loc, [0, 0])
    assert restored.group_scale["b"].rate == 2.0
    assert_allclose(restored.group_scale["g"]["b"].rate, [1])
