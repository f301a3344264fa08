# Reads the data once and answers every seed on standard input with a fit, written as JSON.

folder <- commandArgs(trailingOnly = TRUE)[2]

need <- function(packages) {
  for (package in c("jsonlite", packages)) {
    if (!requireNamespace(package, quietly = TRUE)) {
      cat("unavailable: the R package", package, "is not installed\n")
      quit(status = 0)
    }
  }
  suppressPackageStartupMessages(for (package in packages) library(package, character.only = TRUE))
}

read_task <- function() {
  task <- jsonlite::fromJSON(file.path(folder, "task.json"), simplifyDataFrame = FALSE)
  task$features <- as.character(task$features) # none: a list of length 0
  doubles <- function(name, n) readBin(file.path(folder, name), "double", n, endian = "little")
  n <- task$n_rows
  x <- matrix(doubles("x.bin", n * length(task$features)), nrow = n)
  codes <- matrix(doubles("codes.bin", n * length(task$factors)), nrow = n)
  task$data <- data.frame(y = doubles("y.bin", n))
  for (k in seq_along(task$factors)) task$data[[task$factors[[k]]$name]] <- factor(codes[, k])
  for (j in seq_along(task$features)) task$data[[task$features[j]]] <- x[, j]
  task$formula <- as.formula(task$formula)
  task
}

# Name draws, or estimates, of all factors' standard deviations and correlations as the Python side
# does. `sd` and `corr` are functions of the factor's name and of the effects in R's names.
name_covariance <- function(task, sd, corr) {
  values <- list()
  for (factor in task$factors) {
    slopes <- as.character(factor$slopes)
    theirs <- c("(Intercept)", slopes)
    ours <- c("intercept", slopes)
    of <- factor$name
    for (j in seq_along(ours)) {
      values[[sprintf("group_scale[%s, %s]", of, ours[j])]] <- sd(of, theirs[j])
      for (i in seq_len(j - 1)) {
        name <- sprintf("group_corr[%s, %s, %s]", of, ours[i], ours[j])
        values[[name]] <- corr(of, theirs[i], theirs[j])
      }
    }
  }
  values
}

serve <- function(packages, fit) {
  need(packages)
  task <- read_task()
  versions <- c(list(R = as.character(getRversion())),
                lapply(setNames(packages, packages), function(p) as.character(packageVersion(p))))
  input <- file("stdin", "r")
  while (length(seed <- readLines(input, 1)) > 0) {
    found <- tryCatch(fit(task, as.integer(seed)), error = function(e) {
      cat("error:", gsub("\n", " ", conditionMessage(e)), "\n")
      NULL
    })
    if (is.null(found)) next
    found$versions <- versions
    jsonlite::write_json(found, file.path(folder, "fit.json"), digits = NA, auto_unbox = TRUE)
    cat("done\n")
    flush(stdout())
  }
}
