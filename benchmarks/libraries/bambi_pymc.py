"""PyMC through Bambi, with PyMC's own sampler."""

import bambi as bmb
from contract import Fit, named
from numpy import stack

FAMILIES = {"normal": "gaussian", "bernoulli": "bernoulli", "poisson": "poisson"}


def fit(task, seed, inference_method="pymc"):
    priors, draws = task.priors, task.sampling
    # its name of each effect and the mean of the prior of its standard deviation
    effects = {
        factor.name: [f"{effect}|{factor.name}" for effect in ("1", *factor.slopes)]
        for factor in task.factors
    }
    scales = {
        effect: mean
        for name, of_factor in effects.items()
        for effect, mean in zip(of_factor, priors.group_scale[name], strict=True)
    }
    noise = bmb.Prior("Exponential", lam=1 / priors.noise_scale)
    model = bmb.Model(
        task.formula,
        task.frame,
        family=FAMILIES[task.response],
        priors={
            "Intercept": bmb.Prior("Normal", mu=priors.intercept[0], sigma=priors.intercept[1]),
            **{name: bmb.Prior("Normal", mu=0, sigma=priors.coef) for name in task.features},
            **{
                effect: bmb.Prior("Normal", mu=0, sigma=bmb.Prior("Exponential", lam=1 / mean))
                for effect, mean in scales.items()
            },
            **({"sigma": noise} if task.response == "normal" else {}),
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
    coef = [posterior[name] for name in task.features]
    values = named(
        task,
        posterior["Intercept"],
        stack(coef, axis=-1) if coef else None,
        posterior.get("sigma"),
        {
            name: stack([posterior[f"{effect}_sigma"] for effect in of_factor], axis=-1)
            for name, of_factor in effects.items()
        },
    )
    return Fit(values, divergences=int(found.sample_stats["diverging"].sum()))
