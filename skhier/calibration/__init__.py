"""Simulation-based calibration: is the posterior that fit returns the posterior of the model?

Parameters drawn from the prior, data simulated from them and a posterior fitted to the data: the
rank of the true value among independent posterior draws is uniform if, and for enough quantities
only if, prior, likelihood and sampler agree. Functions of the data are ranked along with the
parameters: a posterior that ignores the data has uniform ranks in every parameter, but not in the
log likelihood.

Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv:1804.06788. Modrak et al. (2023),
Bayesian Analysis, doi:10.1214/23-BA1404.
"""

from skhier.calibration._report import Calibration
from skhier.calibration._simulations import simulation_based_calibration

__all__ = ["Calibration", "simulation_based_calibration"]
