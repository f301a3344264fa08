"""Three features with varying slopes: the posterior is where the simulation's truth is."""

import numpy as np
import pytest
from scipy import stats

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical


@pytest.fixture(scope="module")
def simulated():
    sim = make_hierarchical(
        2400,
        n_features=3,
        groups={"site": 60},
        intercept=10.0,
        coef=[2.0, -1.0, 0.5],
        group_scale=[2.0, 1.0, 0.7, 0.5],
        group_corr=0.3,
        noise_scale=1.5,
        balanced=False,
        random_state=1,
    )
    model = HierarchicalSlopesRegressor(sim.groups, n_draws=2500, random_state=0)
    return model.fit(sim.data, sim.target), sim


def test_three_slopes_recover_population(simulated, draws_of):
    model, truth = simulated[0], simulated[1].truth
    known = {"intercept": truth.intercept, "noise_scale": truth.noise_scale}
    known |= {f"coef[{name}]": value for name, value in truth.coef.items()}
    effects = list(truth.group_coef["site"].columns)
    for i, one in enumerate(effects):
        known[f"group_scale[site, {one}]"] = truth.group_scale["site"][one]
        for other in effects[i + 1 :]:
            known[f"group_corr[site, {one}, {other}]"] = truth.group_corr["site"].loc[one, other]
    draws = draws_of(model)
    z = [(draws[name].mean() - value) / draws[name].std() for name, value in known.items()]
    assert np.abs(z).max() < 4
    # fifteen correlated z-scores of a right posterior: a mean square of 1, give or take
    assert np.mean(np.square(z)) < 3


def test_three_slopes_recover_groups(simulated):
    model, sim = simulated
    error = model.group_coef_["site"] - sim.truth.group_coef["site"]
    z = (error / model.group_coef_std_["site"]).to_numpy()
    assert np.abs(z).max() < 5
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], z.size) / z.size  # 240 standard normals
    assert low < np.mean(z**2) < high


def test_three_slopes_beat_separate_regressions(simulated):
    model, sim = simulated
    errors = {"pooled": [], "separate": []}
    for site, rows in sim.data.groupby("site"):
        truth = sim.truth.group_coef["site"].loc[site]
        x = np.column_stack([np.ones(len(rows)), rows[["x0", "x1", "x2"]]])
        separate = np.linalg.lstsq(x, sim.target[rows.index], rcond=None)[0]
        errors["separate"].append(separate - truth)
        errors["pooled"].append(model.group_coef_["site"].loc[site] - truth)
    pooled, separate = (np.mean(np.square(errors[name])) for name in ("pooled", "separate"))
    assert pooled < 0.8 * separate
