"""skhier as it comes."""

from contract import Fit, named

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor, Prior


def fit(task, seed, **options):
    draws, estimator = task.sampling, HierarchicalSlopesRegressor
    if task.response == "bernoulli":
        estimator = HierarchicalSlopesClassifier
    elif task.response != "normal":
        options |= {"response": task.response}
    model = estimator(
        **grouping(task),
        eta=task.priors.eta,
        prior=prior(task),
        n_chains=draws.n_chains,
        n_warmup=draws.n_warmup,
        n_draws=draws.n_draws,
        random_state=seed,
        **options,
    )
    model.fit(task.frame.drop(columns="y"), task.frame["y"])
    posterior, found = model.posterior_, model.diagnostics_
    names = {factor.name: ":".join(path(task, factor)) for factor in task.factors}
    scale = {name: posterior["group_scale"][theirs] for name, theirs in names.items()}
    corr = {
        factor.name: posterior["group_corr"][names[factor.name]]
        for factor in task.factors
        if factor.slopes and model.correlated
    }
    values = named(
        task, posterior["intercept"], posterior["coef"], posterior.get("noise_scale"), scale, corr
    )
    ran = dict.fromkeys([found["engine"], found.get("sampler", found["engine"])])
    return Fit(
        values,
        divergences=found["divergences"],
        ess_limit=found.get("ess_importance"),
        remark=f"engine: {', '.join(ran)}",
    )


def grouping(task):
    """Columns of the factors, nested ones as tuples, and whose slopes vary."""
    slopes = {key(task, factor): list(factor.slopes) or None for factor in task.factors}
    keys, varying = list(slopes), list(slopes.values())
    if any(of_factor != varying[0] for of_factor in varying):
        return {"groups": slopes}
    return {"groups": keys if len(keys) > 1 else keys[0], "slopes": varying[0]}


def key(task, factor):
    columns = path(task, factor)
    return columns if len(columns) > 1 else columns[0]


def path(task, factor):
    """Columns from the outermost factor to this one."""
    parents = [f for f in task.factors if f.name == factor.within]
    return (*(column for parent in parents for column in path(task, parent)), factor.name)


def prior(task):
    import numpyro.distributions as dist  # as a user who sets priors would: skhier loads it too

    priors = task.priors
    scales = {
        ":".join(path(task, factor)): {
            effect: dist.Exponential(1 / mean)
            for effect, mean in zip(factor.effects, priors.group_scale[factor.name], strict=True)
        }
        for factor in task.factors
    }
    return Prior(
        intercept=dist.Normal(*priors.intercept),
        coef=dist.Normal(0.0, priors.coef),
        group_scale=scales if len(scales) > 1 else next(iter(scales.values())),
        noise_scale=dist.Exponential(1 / priors.noise_scale) if task.response == "normal" else None,
    )
