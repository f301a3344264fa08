"""What y is, given the line: a response a file, the contract in :mod:`skhier.responses.base`."""
