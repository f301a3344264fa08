"""PyMC through Bambi, with PyMC's own sampler."""

import bambi as bmb
from contract import GROUP, Fit, named
from numpy import stack


def fit(task, seed, inference_method="pymc"):
    priors, draws = task.priors, task.sampling
    effects = ("1", *task.features)
    scales = zip(effects, priors.group_scale, strict=True)
    model = bmb.Model(
        task.formula,
        task.frame,
        priors={
            "Intercept": bmb.Prior("Normal", mu=priors.intercept[0], sigma=priors.intercept[1]),
            **{name: bmb.Prior("Normal", mu=0, sigma=priors.coef) for name in task.features},
            **{
                f"{effect}|{GROUP}": bmb.Prior(
                    "Normal", mu=0, sigma=bmb.Prior("Exponential", lam=1 / mean)
                )
                for effect, mean in scales
            },
            "sigma": bmb.Prior("Exponential", lam=1 / priors.noise_scale),
        },
        center_predictors=False,  # the common prior is on the intercept at x = 0
    )
    found = model.fit(
        draws=draws.n_draws,
        tune=draws.n_warmup,
        chains=draws.n_chains,
        cores=draws.n_cores,
        random_seed=seed,
        inference_method=inference_method,
        progressbar=False,
    )
    posterior = {name: value.values for name, value in found.posterior.items()}
    scale = stack([posterior[f"{effect}|{GROUP}_sigma"] for effect in effects], axis=-1)
    coef = [posterior[name] for name in task.features]
    values = named(
        task,
        posterior["Intercept"],
        stack(coef, axis=-1) if coef else None,
        posterior["sigma"],
        scale,
    )
    return Fit(values, divergences=int(found.sample_stats["diverging"].sum()))
