"""Kernels: here a *kernel* is a pure numerical function, not a covariance function.

Arrays and NamedTuples in and out; no scikit-learn, pandas or ArviZ. What fitting needs is JAX and
NumPyro (``models``, ``nuts``, ``runtime``); what prediction needs as well is NumPy only (``types``,
``linalg``, ``stats``, ``conditional``), so that predicting starts no JAX. Nothing is imported here.
"""
