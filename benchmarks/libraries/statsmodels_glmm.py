"""statsmodels' Bayesian logistic mixed model: a variational approximation, no correlations."""

import numpy as np
from contract import Fit, named
from scipy import sparse
from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM


def fit(task, seed):
    task.needs("bernoulli")
    factor = task.only_factor
    z, codes, n = task.z(factor), task.codes[factor.name], len(task.y)
    member = sparse.csr_matrix((np.ones(n), (np.arange(n), codes)), (n, factor.n_levels))
    effects = sparse.hstack([member.multiply(column[:, None]) for column in z.T]).tocsr()
    ident = np.repeat(np.arange(z.shape[1]), factor.n_levels)
    np.random.seed(seed)  # its start is drawn from the global generator
    found = BinomialBayesMixedGLM(
        task.y, task.design, effects, ident, vcp_p=1.0, fe_p=task.priors.coef
    ).fit_vb()
    beta, scale = found.fe_mean, np.exp(found.vcp_mean)
    return Fit(named(task, beta[0], beta[1:], None, {factor.name: scale}))
