"""What the tests of all maps share: dustmaps as the witness, and counting of what is read."""

import tracemalloc

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord


@pytest.fixture
def ask_dustmaps():
    """Ask a query of dustmaps for (position, distance) at positions [deg] and distances [kpc]."""

    def ask(query, longitude, latitude, distances, **options):
        shape = (len(longitude), len(distances))
        coordinates = SkyCoord(
            np.broadcast_to(np.asarray(longitude)[:, None], shape) * u.deg,
            np.broadcast_to(np.asarray(latitude)[:, None], shape) * u.deg,
            distance=np.broadcast_to(distances, shape) * u.kpc,
            frame="galactic",
        )
        return query.query(coordinates, **options)

    return ask


@pytest.fixture
def peak_memory():
    """Run a function and return the most memory that it held beyond what was there before."""

    def measure(run):
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            run()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    return measure


@pytest.fixture
def random_sky():
    """Random positions (longitude, latitude) [deg] on the sphere."""

    def draw(n, seed=0):
        rng = np.random.default_rng(seed)
        return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))

    return draw


@pytest.fixture
def whole():
    """Put all rows of a map into one: arrays that follow each other, of one nside."""

    def join(source, edges, nside=1, n_samples=0):
        parts = list(source.rows(np.asarray(edges, dtype=float), nside, n_samples))
        assert len({rows.nside for rows in parts}) == 1
        order = np.argsort(np.concatenate([rows.index for rows in parts]))

        def together(name):
            return np.concatenate([getattr(rows, name) for rows in parts])[order]

        samples = together("samples") if n_samples else None
        return together("index"), together("cumulative"), together("flags"), samples

    return join
