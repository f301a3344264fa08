source(file.path(commandArgs(trailingOnly = TRUE)[1], "_session.R"))

serve("lme4", function(task, seed) {
  doubts <- character()
  run <- function() {
    switch(task$response,
      normal = lmer(task$formula, task$data),
      bernoulli = glmer(task$formula, task$data, family = binomial),
      poisson = glmer(task$formula, task$data, family = poisson)
    )
  }
  found <- withCallingHandlers(run(), warning = function(w) {
    doubts <<- c(doubts, conditionMessage(w))
    invokeRestart("muffleWarning")
  })
  beta <- fixef(found)
  cov <- VarCorr(found)
  sd <- function(of, i) attr(cov[[of]], "stddev")[[i]]
  corr <- function(of, i, j) attr(cov[[of]], "correlation")[i, j]
  values <- list(intercept = beta[[1]])
  if (task$response == "normal") values$noise_scale <- sigma(found)
  for (name in task$features) values[[sprintf("coef[%s]", name)]] <- beta[[name]]
  values <- c(values, name_covariance(task, sd, corr))
  if (isSingular(found)) doubts <- c(doubts, "singular fit")
  list(values = values, remark = paste(unique(doubts), collapse = "; "))
})
