"""The recipes of docs/exchange.md, run one after the other on a small fit."""

import re
from pathlib import Path

import numpy as np

from pymcdust.sky.dataset import save_sky
from pymcdust.sky.store import write_store

PAGE = Path(__file__).parents[2] / "docs" / "exchange.md"

#: NESTED, Nside 4: the superpixel that holds Cepheus, and others.
SUPERPIXELS = [80, 92, 93, 94]


def test_recipes(make_sky, make_fit, tmp_path, monkeypatch, capsys):
    sky = make_sky(SUPERPIXELS).assign_coords(pixel=np.arange(16), voxel=np.arange(2))
    sky.attrs["reddening_unit"] = "bayestar2019"
    fit = make_fit(sky)
    meanings = "not_converged parameter_at_bound"
    fit["flag"].attrs = {"flag_masks": [1, 2], "flag_meanings": meanings}
    fit["flag"][0] = 2
    save_sky(sky, tmp_path / "sky.zarr")
    write_store(fit, tmp_path / "fit.zarr", superpixels_per_chunk=4)
    monkeypatch.chdir(tmp_path)
    names = {}
    recipes = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    for recipe in recipes:
        exec(compile(recipe, PAGE.name, "exec"), names)
    assert len(recipes) == 6

    second = fit["temperature"].isel(voxel=1).astype("f4")
    np.testing.assert_array_equal(names["temperature"][SUPERPIXELS], second)
    assert len(names["warm"]) == (second > 18).sum()
    assert names["centres"].sizes == {"cells": 4}
    printed = capsys.readouterr().out
    assert "dust temperature, " in printed
    assert f"{names['fitted']['temperature'].sel(voxel=1).mean().item()}" in printed
    assert names["coverage"].max_order == 12
    # The flag that the recipe tolerates is not tolerated by default.
    np.testing.assert_allclose(names["valid"].sky_fraction, 3 / 192, rtol=0.03)
    np.testing.assert_allclose(names["coverage"].sky_fraction, 4 / 192, rtol=0.001)
