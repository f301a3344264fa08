"""The normal response in closed form: density, elimination, conditionals, moments."""
