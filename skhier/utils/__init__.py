"""The host side: validation, labels, names and diagnostics. NumPy and pandas, no JAX."""
