"""From statistics and a prior to weighted or Markov points of the parameters."""
