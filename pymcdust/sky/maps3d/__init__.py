"""The 3D reddening maps that can be read, each behind the interface `ReddeningMap`."""
