"""Estimators: recipes that call kernels and utils, and hold no numerics of their own."""
