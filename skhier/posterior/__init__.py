"""What is known after fit, and everything asked of it. NumPy."""
