"""Whether a comparison chooses rightly: on mock skies drawn from each of the variants.

The truth of every mock is drawn from the prior of one of the variants, and compared under all of
them. If all are as likely beforehand, a variant to which a mock gives the probability P is the
true one in a share P of such mocks, by Bayes' theorem, whatever the data can tell: an evidence that
is wrong shows. How often the true one wins tells what the data are worth.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, ResultError, SkyError, listing
from pymcdust.infer.parts import as_sky
from pymcdust.judge.comparison import compare, name_variants
from pymcdust.judge.preference import DECIDED
from pymcdust.modeling.mock import simulate_sky

#: Edges of the bins of probability.
BINS = (0.0, 0.02, 0.1, 0.3, 0.7, 0.9, 0.98, 1.0)


def calibrate_choice(
    variants: Sequence[Any] | Mapping[str, Any],
    sky: xr.Dataset | str,
    *,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Compare variants on mock skies drawn from each of them.

    Parameters
    ----------
    variants : sequence or mapping
        Two models or more, as for `pymcdust.judge.comparison.compare`; no posteriors, and none that
        couples superpixels.
    sky : xarray.Dataset or path
        The sky that mocks are like: they have its reddening, noise and masks. Each superpixel is a
        mock, of the variants in turn.
    seed : int, optional
        Seed of truths, noise and draws.
    progress : callable, optional
        Called with what is done just now, and the number of superpixels done and their total.
    **settings
        As for `pymcdust.judge.comparison.compare`.

    Returns
    -------
    Dataset
        The comparison of the mocks, with the coordinate `truth` (superpixel): the name of the
        variant that each was drawn from.

    Raises
    ------
    ConfigurationError
        If there are fewer than two variants, posteriors among them, or one that couples
        superpixels.
    SkyError
        If the sky's sigma differs from pixel to pixel.
    """
    models = name_variants(variants)
    drawn = [name for name, variant in models.items() if isinstance(variant, xr.DataTree)]
    coupled = [name for name in models if name not in drawn and models[name].couples_superpixels]
    if drawn or coupled:
        raise ConfigurationError(
            f"{listing(drawn or coupled)} cannot be calibrated; mocks are drawn from models, of "
            "which every superpixel is one: give models that couple no superpixels, not posteriors"
        )
    sky = as_sky(sky)
    if sky["sigma"].dims != ("band",):
        raise SkyError(
            f"the sky's sigma has the dimensions {listing(sky['sigma'].dims)}; mocks can be made "
            "with one sigma for each band"
        )
    sigma = dict(zip(map(str, sky["band"].values), sky["sigma"].values.tolist(), strict=True))
    sky = sky.sortby("superpixel")
    turn = np.arange(sky.sizes["superpixel"]) % len(models)
    mocks = []
    for number, model in enumerate(models.values()):
        # Truths of different variants are to share no random numbers.
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        part = sky.isel(superpixel=turn == number)
        if part.sizes["superpixel"]:
            mock = simulate_sky(model, reddening=part, sigma=sigma, seed=own)
            # Truths have the dimensions of their variant.
            mocks.append(mock.drop_vars([f"true_{name}" for name in model.parameters]))
    together = {"data_vars": "minimal", "coords": "minimal", "compat": "override"}
    mock = xr.concat(mocks, "superpixel", **together).sortby("superpixel")
    comparison = compare(models, mock, seed=seed, progress=progress, **settings)
    return comparison.assign_coords(truth=("superpixel", np.array(list(models))[turn]))


def tabulate_choice(choice: xr.Dataset, decided: float = DECIDED) -> list[dict[str, Any]]:
    """Count for each truth which variant was chosen.

    Parameters
    ----------
    choice : Dataset
        What `calibrate_choice` returned.
    decided : float, optional
        Least probability of a variant that is chosen.

    Returns
    -------
    list of dict
        One row for each truth: ``truth``, ``mocks``, one key for each variant with the number of
        mocks that chose it, ``undecided``, ``probability`` (the mean that mocks give to the truth)
        and ``weight`` (the mean of its stacking weight).
    """
    rows = []
    for name in choice["model"].values:
        here = choice.isel(superpixel=choice["truth"].values == name)
        best = here["probability"].argmax("model")
        sure = here["probability"].max("model") >= decided
        rows.append(
            {
                "truth": str(name),
                "mocks": int(here.sizes["superpixel"]),
                **{
                    str(model): int((sure & (best == number)).sum())
                    for number, model in enumerate(choice["model"].values)
                },
                "undecided": int((~sure).sum()),
                "probability": float(here["probability"].sel(model=name).mean()),
                "weight": float(here["weight"].sel(model=name).mean()),
            }
        )
    return rows


def tabulate_probability(choice: xr.Dataset) -> list[dict[str, float]]:
    """Compare stated probabilities with how often the variants are the true ones.

    Parameters
    ----------
    choice : Dataset
        What `calibrate_choice` returned.

    Returns
    -------
    list of dict
        One row for each bin of probability that is not empty: ``low``, ``high``, ``cases`` (of a
        mock and a variant), ``expected`` and ``found`` number of true ones, and ``z``, their
        difference in units of the standard deviation that chance gives.

    Raises
    ------
    ResultError
        If mocks have no probabilities.
    """
    probability = choice["probability"].transpose("superpixel", "model").values
    if not np.isfinite(probability).all():
        raise ResultError("some mocks have no probability; their evidence is missing")
    true = choice["truth"].values[:, None] == choice["model"].values
    rows = []
    for low, high in pairwise(BINS):
        inside = (probability >= low) & ((probability < high) | (high == 1.0))
        if not inside.any():
            continue
        stated, found = probability[inside], true[inside]
        spread = np.sqrt((stated * (1 - stated)).sum())
        difference = found.sum() - stated.sum()
        rows.append(
            {
                "low": low,
                "high": high,
                "cases": int(inside.sum()),
                "expected": float(stated.sum()),
                "found": float(found.sum()),
                "z": float(difference / spread) if spread > 0 else 0.0,
            }
        )
    return rows
