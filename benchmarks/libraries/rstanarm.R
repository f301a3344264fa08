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
  sites <- function(of, i, j) sprintf("Sigma[%s:%s,%s]", of, j, i)
  # draws x chains, turned to one row a chain
  sample <- as.array(found, pars = c("(Intercept)", task$features, "sigma"),
                     regex_pars = "^Sigma")
  draws_of <- function(name) t(sample[, , name])
  sd <- function(of, i) sqrt(draws_of(sites(of, i, i)))
  corr <- function(of, i, j) draws_of(sites(of, i, j)) / (sd(of, i) * sd(of, j))
  values <- list(intercept = draws_of("(Intercept)"), noise_scale = draws_of("sigma"))
  for (name in task$features) values[[sprintf("coef[%s]", name)]] <- draws_of(name)
  list(values = c(values, name_covariance(task, sd, corr)),
       divergences = rstan::get_num_divergent(found$stanfit))
})
