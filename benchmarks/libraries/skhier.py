"""skhier as it comes."""

from contract import GROUP, Fit, named

from skhier import HierarchicalSlopesRegressor, Prior


def fit(task, seed, **options):
    import numpyro.distributions as dist  # as a user who sets priors would: skhier loads it too

    priors, draws = task.priors, task.sampling
    prior = Prior(
        intercept=dist.Normal(*priors.intercept),
        coef=dist.Normal(0.0, priors.coef),
        group_scale={
            effect: dist.Exponential(1 / mean)
            for effect, mean in zip(("intercept", *task.features), priors.group_scale, strict=True)
        },
        noise_scale=dist.Exponential(1 / priors.noise_scale),
    )
    model = HierarchicalSlopesRegressor(
        groups=GROUP,
        eta=priors.eta,
        prior=prior,
        n_chains=draws.n_chains,
        n_warmup=draws.n_warmup,
        n_draws=draws.n_draws,
        random_state=seed,
        **options,
    )
    model.fit(task.frame.drop(columns="y"), task.frame["y"])
    posterior, found = model.posterior_, model.diagnostics_
    correlated = task.q > 1 and model.correlated
    values = named(
        task,
        posterior["intercept"],
        posterior["coef"],
        posterior["noise_scale"],
        posterior["group_scale"][GROUP],
        posterior["group_corr"][GROUP] if correlated else None,
    )
    ran = dict.fromkeys([found["engine"], found.get("sampler", found["engine"])])
    return Fit(
        values,
        divergences=found["divergences"],
        ess_limit=found.get("ess_importance"),
        remark=f"engine: {', '.join(ran)}",
    )
