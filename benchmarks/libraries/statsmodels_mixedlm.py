"""statsmodels: REML."""

import warnings

import numpy as np
from contract import Fit, named
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.tools.sm_exceptions import ConvergenceWarning


def fit(task, seed):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = MixedLM(task.y, task.z, groups=task.codes, exog_re=task.z).fit(reml=True)
    doubts = {str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)}
    cov = np.asarray(found.cov_re)
    scale = np.sqrt(np.diag(cov))
    beta = np.asarray(found.fe_params)
    corr = cov / np.outer(scale, scale) if task.q > 1 else None
    values = named(task, beta[0], beta[1:], np.sqrt(found.scale), scale, corr)
    return Fit(values, remark="; ".join(sorted(doubts)))
