"""Kernels: here a *kernel* is a pure numerical function, not a covariance function.

Arrays and NamedTuples in and out; no scikit-learn, pandas or ArviZ. What fitting needs is JAX and
NumPyro (``cholesky``, ``covariance``, ``distributions``, ``flat``, ``normal.collapse``,
``normal.models``); the others, which prediction needs as well, are NumPy and SciPy only, so that
predicting starts no JAX. Nothing is imported here.
"""
