"""How dust glows: pure functions, the same for NumPy, xarray and PyTensor."""
