"""The host side: validation, labels, names, tables and diagnostics. NumPy and pandas, no JAX."""
