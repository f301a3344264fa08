source(file.path(commandArgs(trailingOnly = TRUE)[1], "_session.R"))

serve(c("rstanarm", "rstan"), function(task, seed) {
  priors <- task$priors
  draws <- task$sampling
  found <- suppressWarnings(stan_lmer(
    task$formula, task$data,
    prior = normal(0, priors$coef, autoscale = FALSE),
    prior_intercept = normal(priors$intercept[1], priors$intercept[2], autoscale = FALSE),
    prior_aux = exponential(1 / priors$noise_scale, autoscale = FALSE),
    prior_covariance = decov(regularization = priors$eta),
    chains = draws$n_chains, iter = draws$n_warmup + draws$n_draws, warmup = draws$n_warmup,
    cores = draws$n_cores, seed = seed, refresh = 0
  ))
  effects <- c("(Intercept)", task$features)
  sites <- function(i, j) sprintf("Sigma[group:%s,%s]", effects[j], effects[i])
  # draws x chains, turned to one row a chain
  sample <- as.array(found, pars = c("(Intercept)", task$features, "sigma"),
                     regex_pars = "^Sigma")
  draws_of <- function(name) t(sample[, , name])
  sd <- function(j) sqrt(draws_of(sites(j, j)))
  corr <- function(i, j) draws_of(sites(i, j)) / (sd(i) * sd(j))
  values <- list(intercept = draws_of("(Intercept)"), noise_scale = draws_of("sigma"))
  for (name in task$features) values[[sprintf("coef[%s]", name)]] <- draws_of(name)
  list(values = c(values, name_covariance(task, sd, corr)),
       divergences = rstan::get_num_divergent(found$stanfit))
})
