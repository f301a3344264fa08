"""statsmodels: REML."""

import warnings

import numpy as np
from contract import Fit, named
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.tools.sm_exceptions import ConvergenceWarning


def fit(task, seed):
    factor = task.only_factor
    groups, z = task.codes[factor.name], task.z(factor)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = MixedLM(task.y, task.design, groups=groups, exog_re=z).fit(reml=True)
    doubts = {str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)}
    cov = np.asarray(found.cov_re)
    scale = np.sqrt(np.diag(cov))
    beta = np.asarray(found.fe_params)
    corr = cov / np.outer(scale, scale)
    sigma, name = np.sqrt(found.scale), factor.name
    values = named(task, beta[0], beta[1:], sigma, {name: scale}, {name: corr})
    return Fit(values, remark="; ".join(sorted(doubts)))
