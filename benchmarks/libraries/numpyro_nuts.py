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


def model(x, z, codes, y, factors, priors, response):
    intercept = numpyro.sample("intercept", dist.Normal(*priors.intercept))
    coef = numpyro.sample("coef", dist.Normal(0.0, priors.coef).expand([x.shape[1]]).to_event(1))
    line = intercept + x @ coef
    for factor in factors:
        b = effects(factor, priors)
        line = line + jnp.sum(z[factor.name] * b[codes[factor.name]], axis=1)
    if response == "normal":
        law = dist.Normal(line, numpyro.sample("sigma", dist.Exponential(1 / priors.noise_scale)))
    else:
        law = dist.BernoulliLogits(line) if response == "bernoulli" else dist.Poisson(jnp.exp(line))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", law, obs=y)


def effects(factor, priors):
    name, q = factor.name, len(factor.effects)
    rate = 1 / jnp.array(priors.group_scale[name])
    root = numpyro.sample(f"tau_{name}", dist.Exponential(rate).to_event(1))[:, None]
    if q > 1:
        root = root * numpyro.sample(f"chol_{name}", dist.LKJCholesky(q, priors.eta))
    with numpyro.plate(name, factor.n_levels):
        raw = numpyro.sample(f"raw_{name}", dist.Normal(0.0, 1.0).expand([q]).to_event(1))
    return raw @ root.T


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
    z = {factor.name: jnp.asarray(task.z(factor)) for factor in task.factors}
    codes = {name: jnp.asarray(values) for name, values in task.codes.items()}
    data = (jnp.asarray(task.x), z, codes, jnp.asarray(task.y))
    mcmc.run(jax.random.key(seed), *data, task.factors, task.priors, task.response)
    sample = mcmc.get_samples(group_by_chain=True)
    scale = {f.name: sample[f"tau_{f.name}"] for f in task.factors}
    chol = {f.name: sample[f"chol_{f.name}"] for f in task.factors if f.slopes}
    corr = {name: root @ jnp.swapaxes(root, -1, -2) for name, root in chol.items()}
    values = named(task, sample["intercept"], sample["coef"], sample.get("sigma"), scale, corr)
    return Fit(values, divergences=int(mcmc.get_extra_fields()["diverging"].sum()))
