"""BayesForge, formerly BayesianInference (BI): its varying effects, its sampler's defaults."""

import jax.numpy as jnp
from BayesForge import bf
from contract import Fit, named

forge: bf | None = None


def fit(task, seed):
    global forge
    draws, priors, factor = task.sampling, task.priors, task.only_factor
    name, q = factor.name, len(factor.effects)
    forge = forge or bf(platform="cpu", cores=draws.n_chains, print_devices_found=False)
    data = {
        "x": jnp.asarray(task.x),
        "codes": jnp.asarray(task.codes[name]),
        "y": jnp.asarray(task.y),
    }
    m, coef_shape, rates = forge, (q - 1,), 1 / jnp.array(priors.group_scale[name])

    def model(x, codes, y):
        intercept = m.dist.normal(*priors.intercept, shape=(1,), name="intercept")
        coef = m.dist.normal(0.0, priors.coef, shape=coef_shape, name="coef")
        tau = m.dist.exponential(rates, name="tau")
        sigma = m.dist.exponential(1 / priors.noise_scale, name="sigma")
        chol = m.dist.lkj_cholesky(q, priors.eta, name="chol") if q > 1 else jnp.eye(1)
        intercepts, slopes = m.effects.varying_effects(
            N_vars=q - 1,
            N_group=factor.n_levels,
            group_id=codes,
            group_name=name,
            alpha_bar=intercept,
            beta_bar=coef,
            sd_intercept=tau[:1],
            sd_beta=tau[1:],
            corr=chol,
        )
        mean = intercepts + jnp.sum(x * slopes.reshape(x.shape), axis=1)
        m.dist.normal(mean, sigma, obs=y)

    m.fit(
        model,
        obs=data,
        num_warmup=draws.n_warmup,
        num_samples=draws.n_draws,
        num_chains=draws.n_chains,
        progress_bar=False,
        seed=seed,
    )
    sample = m.posteriors_by_chain
    corr = {name: sample["chol"] @ jnp.swapaxes(sample["chol"], -1, -2)} if q > 1 else None
    intercept, scale = sample["intercept"][..., 0], {name: sample["tau"]}
    values = named(task, intercept, sample["coef"], sample["sigma"], scale, corr)
    return Fit(values, divergences=int(m.extra_fields["diverging"].sum()))
