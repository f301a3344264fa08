"""NumPyro as a practitioner writes it: the rows, non-centered effects, NUTS with its defaults.

In float64, as every other sampler here. A chain has a device of its own, which is NumPyro's
recommendation on a CPU.
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from contract import Fit, named
from numpyro.infer import MCMC, NUTS


def model(z, codes, y, n_groups, priors):
    q = z.shape[1]
    intercept = numpyro.sample("intercept", dist.Normal(*priors.intercept))
    coef = numpyro.sample("coef", dist.Normal(0.0, priors.coef).expand([q - 1]).to_event(1))
    rate = 1 / jnp.array(priors.group_scale)
    tau = numpyro.sample("tau", dist.Exponential(rate).to_event(1))
    sigma = numpyro.sample("sigma", dist.Exponential(1 / priors.noise_scale))
    root = tau[:, None]
    if q > 1:
        root = root * numpyro.sample("chol", dist.LKJCholesky(q, priors.eta))
    with numpyro.plate("groups", n_groups):
        raw = numpyro.sample("raw", dist.Normal(0.0, 1.0).expand([q]).to_event(1))
    beta = jnp.concatenate([intercept[None], coef]) + raw @ root.T
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(jnp.sum(z * beta[codes], axis=1), sigma), obs=y)


def fit(task, seed):
    draws = task.sampling
    numpyro.enable_x64()
    numpyro.set_host_device_count(draws.n_chains)
    mcmc = MCMC(
        NUTS(model),
        num_warmup=draws.n_warmup,
        num_samples=draws.n_draws,
        num_chains=draws.n_chains,
        progress_bar=False,
    )
    data = (jnp.asarray(task.z), jnp.asarray(task.codes), jnp.asarray(task.y))
    mcmc.run(jax.random.key(seed), *data, task.n_groups, task.priors)
    sample = mcmc.get_samples(group_by_chain=True)
    corr = sample["chol"] @ jnp.swapaxes(sample["chol"], -1, -2) if task.q > 1 else None
    values = named(task, sample["intercept"], sample["coef"], sample["sigma"], sample["tau"], corr)
    return Fit(values, divergences=int(mcmc.get_extra_fields()["diverging"].sum()))
