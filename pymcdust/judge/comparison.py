"""Which variant the data prefer: evidence and prediction, superpixel by superpixel and in all."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, FileFormatError, ResultError, SkyError, listing
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.parts import Parts, as_sky, fingerprint_of
from pymcdust.infer.posterior import model_of, open_posterior, rows_of
from pymcdust.infer.sampling import sample
from pymcdust.judge.comparison_part import all_variants, one_variant, over_the_sky
from pymcdust.judge.evidence import evidence as evidence_of
from pymcdust.judge.kinds import is_comparison
from pymcdust.judge.posterior import check_posterior
from pymcdust.judge.predictive import predict
from pymcdust.judge.predictive_check import check_predictions
from pymcdust.modeling.gallery import resolve
from pymcdust.sky.compression import is_compressed
from pymcdust.sky.store import open_store

#: Superpixels that are compared at a time, and in a chunk of the store.
CHUNK = 32

#: Points of a proposal for the evidence: errors of ln Z are then a hundredth or two.
POINTS = 2000

#: Draws by which predictions are weighted, at most, of all chains; the evidence takes all.
PREDICTING_DRAWS = 2000

#: What posteriors of the same data have in common, by the names of their rows.
SAME = ("reddening", "intercept", "emission", "sigma", "chi2_floor", "log_norm", "n_data")

#: Called with what is done just now, and the number of superpixels done and their total.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Variant:
    """A posterior, and its model compiled as soon as it is needed."""

    posterior: xr.DataTree

    @cached_property
    def compiled(self) -> CompiledPosterior:
        """The model in quantile coordinates."""
        return CompiledPosterior(model_of(self.posterior), rows_of(self.posterior), "quantile")

    def part(self, superpixels: slice) -> xr.DataTree:
        """Return the draws of some superpixels, in memory."""
        return self.posterior.isel(superpixel=superpixels, missing_dims="ignore").load()


def compare(
    variants: Sequence[Any] | Mapping[str, Any],
    sky: xr.Dataset | str | Path,
    *,
    method: str = "auto",
    evidence: str = "auto",
    block: int | None = None,
    folds: int = 10,
    out: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Compare variants by their evidence, and by how well they predict what they have not seen.

    Parameters
    ----------
    variants : sequence or mapping
        Two variants or more. Each is a model (a name of the gallery, a file, a class or an
        instance), which is sampled first, or a posterior of the sky (a tree, or the path of its
        store). In a mapping the keys are their names; else they are called by their models.
    sky : xarray.Dataset or path
        The sky, with its pixels.
    method : str, optional
        Method by which models are sampled, as for `pymcdust.infer.sampling.sample`.
    evidence : {"auto", "importance", "bridge", "smc", "stepping"}, optional
        Estimator of the evidence, see `pymcdust.judge.evidence.evidence`.
    block : int, optional
        Pixels of a block, a power of four: what is predicted together. By default the smallest
        HEALPix pixel that is a beam wide, since neighbours within a beam are correlated.
    folds : int, optional
        Parts into which the blocks are divided for cross-validation.
    out : path, optional
        Zarr store for the comparison. Posteriors of models are kept beside it, in
        ``<out>.posteriors``. A run that was stopped goes on when it is asked for again.
    seed : int, optional
        Seed.
    overwrite : bool, optional
        Replace a comparison that is already at `out`.
    progress : callable, optional
        See `Progress`.
    **settings
        Settings of the method by which models are sampled.

    Returns
    -------
    xarray.Dataset
        With the coordinate `model`, for each superpixel: `ln_evidence` and `ln_evidence_error`
        (NaN for a model that couples superpixels, whose evidence is that of the sky), `elpd` and
        `elpd_error`, `weight`; `temperature_averaged` (superpixel, voxel) and its standard
        deviation; and what they rest on (see ``docs/data.md``). `ln_evidence_sky`, `elpd_sky` and
        `weight_sky` (model) are those of all superpixels together.

    Raises
    ------
    ConfigurationError
        If there are fewer than two variants, two have the same name, or a setting is impossible.
    ResultError
        If posteriors are those of different data or superpixels, or lack a group.
    SkyError
        If the sky has no pixels, or is not that of the posteriors.
    """
    named = name_variants(variants)
    sky = as_sky(sky)
    if is_compressed(sky):
        raise SkyError(
            "compressed rows cannot be compared by prediction, for their pixels are gone; give "
            "the sky itself"
        )
    out = Path(out) if out is not None else None
    posteriors = {
        name: _posterior(name, variant, sky, out, method, seed, progress, settings)
        for name, variant in named.items()
    }
    sky = _common_sky(posteriors, sky)
    arguments = {
        "evidence": evidence,
        "block": None if block is None else int(block),
        "folds": folds,
        "seed": seed,
    }
    parts = None
    if out is not None:
        drawn = {name: _origin(posterior) for name, posterior in posteriors.items()}
        parts = Parts(out, fingerprint_of(sky, posteriors=drawn, **arguments), overwrite)
    variants = {name: _Variant(posterior) for name, posterior in posteriors.items()}
    n_superpixel = sky.sizes["superpixel"]
    coupled = any(model_of(posterior).couples_superpixels for posterior in posteriors.values())
    chunk = n_superpixel if coupled else CHUNK
    results = []
    for start in range(0, n_superpixel, chunk):
        result = parts.load(start) if parts else None
        if result is None:
            superpixels = slice(start, start + chunk)
            result = _compare_part(variants, sky, superpixels, arguments)
            if parts:
                parts.save(start, result, superpixels_per_chunk=chunk)
        results.append(result if isinstance(result, xr.Dataset) else result.to_dataset())
        if progress:
            progress("comparing", min(start + chunk, n_superpixel), n_superpixel)
    whole = xr.concat(
        results,
        "superpixel",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    whole = over_the_sky(whole).assign_attrs(
        {
            **sky.attrs,
            "models": json.dumps(
                {name: json.loads(p.attrs["model_definition"]) for name, p in posteriors.items()}
            ),
            "methods": json.dumps({name: p.attrs["method"] for name, p in posteriors.items()}),
            **{name: value for name, value in arguments.items() if value is not None},
            "pymcdust_version": version("pymcdust"),
        }
    )
    if parts:
        parts.finish(whole, superpixels_per_chunk=CHUNK)
        return open_comparison(out)
    return whole


def open_comparison(path: str | Path) -> xr.Dataset:
    """Open a comparison from its Zarr store, and check that it is whole.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    xarray.Dataset
        The comparison; arrays are read when they are asked for.

    Raises
    ------
    FileFormatError
        If there is no Zarr store at `path`, if it is cut short, or holds something else.
    """
    comparison = open_store(path)
    if not is_comparison(comparison):
        raise FileFormatError(
            f"{path}: not a comparison, it has no elpd of models; comparisons are made by "
            "`pymcdust compare`"
        )
    return comparison


def name_variants(variants: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Return the variants by their names: models are instances, posteriors are open.

    Raises
    ------
    ConfigurationError
        If there are fewer than two, or two have the same name.
    """
    if isinstance(variants, str | Path | xr.DataTree):
        variants = [variants]
    keys = list(variants) if isinstance(variants, Mapping) else None
    found = [_variant(v) for v in (variants.values() if keys is not None else variants)]
    names = keys if keys is not None else [_name(variant) for variant in found]
    if len(found) < 2:
        raise ConfigurationError(
            f"a comparison needs two variants or more; given: {listing(names) or 'none'}"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"two variants are called {listing(twice)}; name them in a mapping, such as "
            f'{{"{twice[0]}": ..., "{twice[0]}_2": ...}}'
        )
    return dict(zip(names, found, strict=True))


def _variant(variant: Any) -> Any:
    """Return an instance of a model, or a posterior."""
    if isinstance(variant, xr.DataTree):
        return variant
    if isinstance(variant, str | Path) and Path(variant).is_dir():
        return open_posterior(variant)
    return resolve(variant)


def _name(variant: Any) -> str:
    return str(variant.attrs.get("model")) if isinstance(variant, xr.DataTree) else variant.name


def _posterior(
    name: str,
    variant: Any,
    sky: xr.Dataset,
    out: Path | None,
    method: str,
    seed: int,
    progress: Progress | None,
    settings: dict[str, Any],
) -> xr.DataTree:
    """Return the posterior of a variant, drawn where it is a model."""
    if isinstance(variant, xr.DataTree):
        check_posterior(variant)
        if "log_likelihood" not in variant.children or "model_definition" not in variant.attrs:
            raise ResultError(
                f"the posterior of {name} lacks the group log_likelihood or the attribute "
                "model_definition, without which it cannot be compared; draw it by "
                "pymcdust.sample"
            )
        return variant
    place = None
    if out is not None:
        place = out.with_name(f"{out.name}.posteriors") / f"{name}.zarr"
        if place.exists():
            drawn = open_posterior(place)
            wanted = {"model_definition": json.dumps(variant.to_dict()), "method": method}
            wanted["seed"] = seed
            other = [key for key, value in wanted.items() if drawn.attrs.get(key) != value]
            given = json.loads(drawn.attrs["settings"])
            other += [key for key, value in settings.items() if given.get(key) != value]
            if other:
                raise ConfigurationError(
                    f"{place} holds a posterior with another {listing(other)}; remove it, or "
                    "choose another place for the comparison"
                )
            return drawn

    def advance(done: int, total: int, worst_rhat: float) -> None:
        if progress:
            progress(f"sampling {name}", done, total)

    return sample(variant, sky, method=method, out=place, seed=seed, progress=advance, **settings)


def _origin(posterior: xr.DataTree) -> dict[str, Any]:
    """Return what a posterior's draws depend on."""
    keys = ("model_definition", "method", "settings", "seed", "pymcdust_version")
    return {key: json.loads(json.dumps(posterior.attrs[key], default=int)) for key in keys}


def _common_sky(posteriors: Mapping[str, xr.DataTree], sky: xr.Dataset) -> xr.Dataset:
    """Return those superpixels of the sky that the posteriors are of, after a look at the data."""
    first, *others = posteriors
    rows = rows_of(posteriors[first])
    superpixel = rows.superpixel.values
    for other in others:
        theirs = rows_of(posteriors[other])
        if not np.array_equal(theirs.superpixel.values, superpixel):
            raise ResultError(
                f"{first} and {other} are posteriors of different superpixels: "
                f"{len(superpixel)} and {theirs.sizes['superpixel']}, "
                f"{len(np.intersect1d(superpixel, theirs.superpixel.values))} of them common to "
                "both; only posteriors of the same superpixels can be compared"
            )
        for name in SAME:
            ours = rows[name]
            if ours.dims != theirs[name].dims or not np.allclose(
                ours.values, theirs[name].values, rtol=1e-6, atol=1e-9
            ):
                raise ResultError(
                    f"{first} and {other} were drawn from different data: their {name} differs; "
                    "only posteriors of the same sky can be compared"
                )
    missing = np.setdiff1d(superpixel, sky.superpixel.values)
    if len(missing):
        raise SkyError(
            f"the sky lacks {len(missing)} superpixels of the posteriors, {missing[0]} the first "
            "of them; give the sky that they were drawn from"
        )
    position = {key: index for index, key in enumerate(sky.superpixel.values)}
    chosen = [position[key] for key in superpixel]
    return sky.isel(superpixel=chosen) if chosen != list(range(len(position))) else sky


def _compare_part(
    variants: Mapping[str, _Variant],
    sky: xr.Dataset,
    superpixels: slice,
    arguments: Mapping[str, Any],
) -> xr.Dataset:
    """Compare the variants in some superpixels."""
    pixels = sky.isel(superpixel=superpixels).load()
    cut = {name: arguments[name] for name in ("block", "folds", "seed")}
    columns = {}
    for name, variant in variants.items():
        part, compiled = variant.part(superpixels), variant.compiled
        method = arguments["evidence"]
        points = {"points": POINTS} if method in ("auto", "importance", "bridge") else {}
        evidence = evidence_of(
            part, method=method, seed=arguments["seed"], compiled=compiled, **points
        )
        sizes = part["posterior"].sizes
        step = max(1, sizes["chain"] * sizes["draw"] // PREDICTING_DRAWS)
        thinned = part.isel(draw=slice(None, None, step))
        prediction = predict(thinned, pixels, **cut, compiled=compiled, refit_loo=False)
        check = check_predictions(thinned, pixels, block=arguments["block"])
        columns[name] = one_variant(part, evidence, prediction, check)
    return all_variants(columns, pixels)
