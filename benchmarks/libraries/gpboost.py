"""GPBoost: maximum likelihood; its random slopes are independent of the intercepts."""

import gpboost as gpb
import numpy as np
from contract import Fit, named

LIKELIHOODS = {"normal": "gaussian", "bernoulli": "bernoulli_logit", "poisson": "poisson"}


def fit(task, seed):
    slopes = [(k, name) for k, factor in enumerate(task.factors) for name in factor.slopes]
    options = {}
    if slopes:
        options["group_rand_coef_data"] = task.x[:, [task.features.index(s) for _, s in slopes]]
        options["ind_effect_group_rand_coef"] = [k + 1 for k, _ in slopes]
    model = gpb.GPModel(
        group_data=np.column_stack([task.codes[factor.name] for factor in task.factors]),
        likelihood=LIKELIHOODS[task.response],
        num_parallel_threads=task.sampling.n_cores,
        **options,
    )
    model.fit(y=task.y, X=task.design)
    beta = np.asarray(model.get_coef(std_err=False), dtype=float).ravel()
    # the normal's noise, the factors' intercepts, the slopes in the order they were handed over
    sds = np.sqrt(np.asarray(model.get_cov_pars(std_err=False), dtype=float).ravel())
    noise, sds = (sds[0], sds[1:]) if task.response == "normal" else (None, sds)
    of_slopes = sds[len(task.factors) :]
    scale = {
        factor.name: np.array([sds[k], *of_slopes[[k == at for at, _ in slopes]]])
        for k, factor in enumerate(task.factors)
    }
    return Fit(named(task, beta[0], beta[1:], noise, scale))
