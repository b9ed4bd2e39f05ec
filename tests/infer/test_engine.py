"""A whole sky in chunks: compiled once, written as it goes, resumed, refused."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

from pymcdust import Prior, fixed, over_sky, per_superpixel
from pymcdust.errors import ConfigurationError, ModelError, SkyError
from pymcdust.infer import compiled as compiled_module
from pymcdust.infer import engine
from pymcdust.infer.engine import fit_map
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import compress
from pymcdust.sky.dataset import save_sky
from pymcdust.sky.store import open_store

#: A model that is quickly compiled.
BETA = TemperaturePerVoxel(
    temperature=fixed(18.0, unit="K"),
    rho=fixed(1e-4, unit="mag-1"),
    beta=per_superpixel(Prior("Normal", mu=1.6, sigma=0.3)),
)


@pytest.fixture
def chunks_of_two(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 2)


@pytest.fixture(scope="module")
def seven(sky_of):
    """Seven superpixels, so that the last chunk of two is a short one."""
    return sky_of(n_superpixel=7, seed=12)


class StoppedError(Exception):
    """What a user's Ctrl-C stands for."""


def stop_after(n_superpixel):
    def progress(done, total):
        if done >= n_superpixel:
            raise StoppedError

    return progress


# Compilation


@pytest.mark.parametrize(
    ("kind", "beta"),
    [
        ("mask of pixels", per_superpixel),
        ("mask of bands", per_superpixel),
        ("sigma of pixels", per_superpixel),
        ("mask of pixels", over_sky),
    ],
)
def test_one_fit_compiles_once(kind, beta, sky_of, monkeypatch, chunks_of_two):
    options = {}
    if kind == "mask of bands":
        options["valid"] = np.random.default_rng(1).random((7, 16, 5)) > 0.2
    if kind == "sigma of pixels":
        options["sigma"] = np.random.default_rng(1).uniform(1, 2, (7, 16, 5))
    sky = sky_of(n_superpixel=7, seed=12, **options)
    model = TemperaturePerVoxel(
        temperature=BETA.temperature,
        rho=BETA.rho,
        beta=beta(Prior("Normal", mu=1.6, sigma=0.3)),
    )
    function, compilations, chunks = compiled_module.pytensor.function, [], []
    monkeypatch.setattr(
        compiled_module.pytensor,
        "function",
        lambda *a, **k: compilations.append(1) or function(*a, **k),
    )
    monkeypatch.setattr(engine, "fit_rows", lambda *a, f=engine.fit_rows: chunks.append(1) or f(*a))
    fit = fit_map(model, sky, starts=2)
    assert fit.sizes["superpixel"] == 7
    assert fit.converged.all()
    assert len(chunks) == (4 if beta is per_superpixel else 1)
    assert len(compilations) == 1


def test_priors_are_looked_at_once(seven, monkeypatch, chunks_of_two):
    looked = []
    originals = {name: getattr(compiled_module, name) for name in ("log_peak", "prior_width")}
    for name in originals:
        monkeypatch.setattr(
            compiled_module,
            name,
            lambda *a, f=originals[name], n=name: looked.append(n) or f(*a),
        )
    fit_map(BETA, seven)
    assert sorted(looked) == ["log_peak", "prior_width"]


# Chunks


@pytest.mark.usefixtures("shared_compilation")
def test_chunks_do_not_show(seven, monkeypatch):
    whole = fit_map(BETA, seven)
    monkeypatch.setattr(engine, "CHUNK", 3)
    parts = fit_map(BETA, seven)
    assert parts.attrs == whole.attrs
    assert set(parts.variables) == set(whole.variables)
    for name in whole.variables:
        assert parts[name].dims == whole[name].dims
        assert parts[name].attrs == whole[name].attrs
        if whole[name].dtype.kind == "f" and name != "gradient_norm":
            np.testing.assert_allclose(parts[name], whole[name], rtol=1e-9)
    np.testing.assert_array_equal(parts.superpixel, seven.superpixel)


@pytest.mark.usefixtures("shared_compilation", "chunks_of_two")
def test_progress_counts_superpixels(seven):
    seen = []
    fit_map(BETA, seven, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]


@pytest.mark.usefixtures("shared_compilation")
def test_a_sky_may_be_a_path_and_edges_may_differ(seven, tmp_path):
    edges = np.array([0.0, 0.3, 1.0, 3.0]) * np.arange(1, 8)[:, None]
    sky = seven.copy()
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    save_sky(sky, tmp_path / "sky.zarr")
    fit = fit_map(BETA, tmp_path / "sky.zarr")
    np.testing.assert_array_equal(fit.distance_edge, edges)
    np.testing.assert_allclose(fit.beta, fit_map(BETA, seven).beta)


# What is refused


def test_impossible_settings_are_refused(seven):
    with pytest.raises(ConfigurationError, match="starts is 0; it must be 1 or more"):
        fit_map(BETA, seven, starts=0)
    with pytest.raises(ModelError, match="did you mean 'temperature_per_voxel'"):
        fit_map("temperature_per_voxels", seven)
    with pytest.raises(SkyError):
        fit_map(BETA, seven.drop_vars("sigma"))


def test_a_joint_sky_too_large_is_refused_before_anything_is_done(seven, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "LARGEST_JOINT", 34)
    with pytest.raises(ModelError, match=r"couples the 7 superpixels.*35 parameters.*34 allowed"):
        fit_map("offsets_over_sky", seven, out=tmp_path / "fit.zarr")
    assert not list(tmp_path.iterdir())


# Resuming


@pytest.mark.usefixtures("shared_compilation", "chunks_of_two")
class TestResuming:
    @pytest.fixture
    def stopped(self, seven, tmp_path):
        """A place where a fit of four superpixels of seven was left."""
        out = tmp_path / "fit.zarr"
        with pytest.raises(StoppedError):
            fit_map(BETA, seven, out=out, starts=2, progress=stop_after(4))
        assert not out.exists()
        return out

    @pytest.fixture
    def fitted(self, monkeypatch):
        """Count the superpixels of every chunk that is fitted."""
        counts = []

        def counting(posterior, rows, *rest, fit_rows=engine.fit_rows):
            counts.append(rows.sizes["superpixel"])
            return fit_rows(posterior, rows, *rest)

        monkeypatch.setattr(engine, "fit_rows", counting)
        return counts

    def test_a_fit_is_written_as_it_is_returned(self, seven, tmp_path):
        out = tmp_path / "fit.zarr"
        fit = fit_map(BETA, seven, out=out)
        xr.testing.assert_identical(open_store(out).load(), fit)
        assert [p.name for p in tmp_path.iterdir()] == ["fit.zarr"]

    def test_a_fit_that_was_stopped_goes_on_and_ends_the_same(
        self, seven, stopped, fitted, tmp_path
    ):
        resumed = fit_map(BETA, seven, out=stopped, starts=2)
        assert fitted == [2, 1]
        xr.testing.assert_identical(resumed, fit_map(BETA, seven, starts=2))
        xr.testing.assert_identical(open_store(stopped).load(), resumed)
        assert [p.name for p in tmp_path.iterdir()] == ["fit.zarr"]

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"seed": 1}, "seed"),
            ({"starts": 3}, "starts"),
            ({"model": TemperaturePerVoxel(beta=fixed(1.6), rho=fixed(1e-4))}, "model"),
        ],
    )
    def test_another_fit_in_the_same_place_is_refused(self, seven, stopped, change, named):
        asked = {"model": BETA, "starts": 2, "seed": 0} | change
        with pytest.raises(ConfigurationError, match=f"another {named}; start that again"):
            fit_map(sky=seven, out=stopped, **asked)

    @pytest.mark.parametrize("what", ["emission", "reddening", "sigma", "valid", "distance_edge"])
    def test_another_sky_in_the_same_place_is_refused(self, seven, stopped, what):
        other = seven.copy(deep=True)
        values = other[what].values
        if what == "valid":
            values[3, 5] = ~values[3, 5]
        elif values.ndim == 1:
            values[-1] *= 1.5
        else:
            values[3, 5] += 1.0
        with pytest.raises(ConfigurationError, match="another sky"):
            fit_map(BETA, other, out=stopped, starts=2)

    def test_other_superpixels_in_the_same_place_are_refused(self, seven, stopped):
        with pytest.raises(ConfigurationError, match="another sky"):
            fit_map(BETA, seven.isel(superpixel=slice(6)), out=stopped, starts=2)

    def test_chunks_of_another_length_are_refused(self, seven, stopped, monkeypatch):
        monkeypatch.setattr(engine, "CHUNK", 3)
        with pytest.raises(ConfigurationError, match="another chunk"):
            fit_map(BETA, seven, out=stopped, starts=2)

    def test_a_damaged_chunk_is_fitted_again(self, seven, stopped, fitted):
        parts = stopped.with_name("fit.zarr.parts")
        chunk = parts / "00000002.zarr"
        [data] = [p for p in (chunk / "beta").rglob("*") if p.is_file() and p.name != "zarr.json"]
        data.write_bytes(data.read_bytes()[:-3])
        shutil.rmtree(parts / "00000000.zarr" / "objective")
        resumed = fit_map(BETA, seven, out=stopped, starts=2)
        assert fitted == [2, 2, 2, 1]
        xr.testing.assert_identical(resumed, fit_map(BETA, seven, starts=2))

    def test_a_note_cut_short_says_what_to_remove(self, seven, stopped):
        note = stopped.with_name("fit.zarr.parts") / "fingerprint.json"
        note.write_text(note.read_text()[:30])
        with pytest.raises(ConfigurationError, match=r"fit\.zarr\.parts.*remove the folder"):
            fit_map(BETA, seven, out=stopped, starts=2)

    def test_the_note_is_json(self, stopped):
        note = stopped.with_name("fit.zarr.parts") / "fingerprint.json"
        assert json.loads(note.read_text())["starts"] == 2

    def test_a_fit_that_is_there_is_kept_unless_asked(self, seven, fitted, tmp_path):
        out = tmp_path / "fit.zarr"
        first = fit_map(BETA, seven, out=out)
        fitted.clear()
        with pytest.raises(ConfigurationError, match="exists already"):
            fit_map(BETA, seven, out=out, seed=5)
        assert not fitted
        xr.testing.assert_identical(open_store(out).load(), first)
        second = fit_map(BETA, seven.isel(superpixel=slice(3)), out=out, overwrite=True)
        xr.testing.assert_identical(open_store(out).load(), second)
        assert [p.name for p in tmp_path.iterdir()] == ["fit.zarr"]

    def test_what_is_no_fit_is_never_overwritten(self, seven, fitted, tmp_path):
        out = tmp_path / "thesis"
        out.mkdir()
        (out / "chapter.tex").write_text("life's work")
        with pytest.raises(ConfigurationError, match="not a Zarr store"):
            fit_map(BETA, seven, out=out, overwrite=True)
        assert not fitted, "it is said before the work, not after it"
        assert (out / "chapter.tex").read_text() == "life's work"

    def test_compressed_rows_resume_as_well(self, seven, tmp_path):
        rows, out = compress(seven), tmp_path / "fit.zarr"
        with pytest.raises(StoppedError):
            fit_map(BETA, rows, out=out, progress=stop_after(2))
        other = rows.copy(deep=True)
        other["intercept"].values[4, 0] += 0.1
        with pytest.raises(ConfigurationError, match="another sky"):
            fit_map(BETA, other, out=out)
        xr.testing.assert_identical(fit_map(BETA, rows, out=out), fit_map(BETA, rows))
