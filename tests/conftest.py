"""Fixtures that every room's tests share."""

import sys
from pathlib import Path

import pytest

import pymcdust
from pymcdust import cli

# For `generated` and `planted`.
sys.path.insert(0, str(Path(__file__).parent))

REALSKY = Path(__file__).resolve().parents[2] / "shared" / "realsky"


@pytest.fixture(scope="session")
def realsky() -> Path:
    """The folder of the small real sky that may stand beside the checkout."""
    if not REALSKY.is_dir():
        pytest.skip("the small real sky is not here: no folder shared/realsky beside the checkout")
    return REALSKY


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process; return exit status, output and errors."""

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pymcdust", *map(str, words)])
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        else:
            status = 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


@pytest.fixture(scope="session")
def skies(tmp_path_factory) -> Path:
    """A folder with a small simulated sky and a fit to it."""
    folder = tmp_path_factory.mktemp("cli")
    sky = pymcdust.simulate_sky(
        {"temperature": ("voxel", [19.0, 17.0]), "beta": 1.6, "rho": 1e-4},
        nside=32,
        superpixel_nside=4,
        center=(100.0, 10.0),
        radius=15.0,
        distance_edge=[0, 0.5, 2],
        seed=3,
    )
    pymcdust.save_sky(sky, folder / "sky.zarr")
    pymcdust.fit_map("temperature_per_voxel", sky, out=folder / "fit.zarr")
    return folder
