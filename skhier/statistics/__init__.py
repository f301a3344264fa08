"""Rows become additive statistics: reading, products, units, the order of elimination. NumPy."""
