source(file.path(commandArgs(trailingOnly = TRUE)[1], "_session.R"))

serve("lme4", function(task, seed) {
  doubts <- character()
  found <- withCallingHandlers(lmer(task$formula, task$data), warning = function(w) {
    doubts <<- c(doubts, conditionMessage(w))
    invokeRestart("muffleWarning")
  })
  beta <- fixef(found)
  cov <- VarCorr(found)$group
  sd <- attr(cov, "stddev")
  corr <- attr(cov, "correlation")
  values <- list(intercept = beta[[1]], noise_scale = sigma(found))
  for (name in task$features) values[[sprintf("coef[%s]", name)]] <- beta[[name]]
  values <- c(values, name_covariance(task, function(j) sd[[j]], function(i, j) corr[i, j]))
  if (isSingular(found)) doubts <- c(doubts, "singular fit")
  list(values = values, remark = paste(unique(doubts), collapse = "; "))
})
