"""GPBoost: maximum likelihood; its random slopes are independent of the intercepts."""

import gpboost as gpb
import numpy as np
from contract import Fit, named


def fit(task, seed):
    n_slopes = task.q - 1
    slopes = {"group_rand_coef_data": task.x, "ind_effect_group_rand_coef": [1] * n_slopes}
    model = gpb.GPModel(
        group_data=task.codes,
        likelihood="gaussian",
        num_parallel_threads=task.sampling.n_cores,
        **(slopes if n_slopes else {}),
    )
    model.fit(y=task.y, X=task.z)
    beta = np.asarray(model.get_coef(std_err=False), dtype=float).ravel()
    variances = np.asarray(model.get_cov_pars(std_err=False), dtype=float).ravel()
    sigma, scale = np.sqrt(variances[0]), np.sqrt(variances[1:])
    return Fit(named(task, beta[0], beta[1:], sigma, scale))
