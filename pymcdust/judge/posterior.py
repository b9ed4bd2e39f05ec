"""What a posterior must hold to be judged."""

import numpy as np
import xarray as xr

from pymcdust.errors import ResultError, listing, unknown

#: The methods that draw posteriors.
METHODS = ("laplace", "nuts", "auto", "ptemcee", "smc")

#: What the verdict on a method's draws rests on, besides the draws.
_NEEDED = {
    "laplace": ("pareto_k", "importance_ess"),
    "auto": ("pareto_k", "importance_ess", "method"),
}


def check_posterior(posterior: xr.DataTree) -> None:
    """Refuse what is not a posterior with draws.

    Raises
    ------
    ResultError
        Saying what is missing.
    """
    if not isinstance(posterior, xr.DataTree):
        raise ResultError(
            f"a {type(posterior).__name__} is no posterior; give an xarray.DataTree with the "
            "groups posterior and sample_stats, as sample returns it"
        )
    lacking = [group for group in ("posterior", "sample_stats") if group not in posterior.children]
    if lacking:
        groups = listing(posterior.children) or "none"
        raise ResultError(
            f"a posterior needs the group {listing(lacking)}; the groups are {groups}"
        )
    if posterior.attrs.get("method") not in METHODS:
        raise ResultError(
            "the posterior does not say how it was drawn: "
            + unknown("attribute method", posterior.attrs.get("method"), METHODS)
        )
    draws, stats = posterior["posterior"].dataset, posterior["sample_stats"].dataset
    if "lp" not in stats:
        raise ResultError(f"the group sample_stats lacks lp; it has {listing(stats) or 'nothing'}")
    if not draws.data_vars:
        raise ResultError("the posterior has no parameters: none was free")
    for name, variable in {**draws.data_vars, "lp": stats["lp"]}.items():
        for dim in ("chain", "draw"):
            if not variable.sizes.get(dim):
                raise ResultError(
                    f"{name} of the posterior has no {dim}s: its dimensions are "
                    f"{dict(variable.sizes)}, and should be chain, draw and those of its tying"
                )
    lacking = [name for name in _NEEDED.get(posterior.attrs["method"], ()) if name not in stats]
    if lacking:
        raise ResultError(
            f"a posterior drawn by {posterior.attrs['method']} needs {listing(lacking)} in "
            "sample_stats, on which its verdict rests"
        )


def independent_draws(posterior: xr.DataTree) -> xr.DataArray:
    """Return where draws are independent: bool, by superpixel or for the sky."""
    stats, method = posterior["sample_stats"].dataset, posterior.attrs["method"]
    one = stats["lp"].isel(chain=0, draw=0, drop=True)
    if method != "auto":
        return xr.full_like(one, method == "laplace", dtype=bool).drop_attrs()
    chosen = stats["method"]
    meanings = str(chosen.attrs.get("flag_meanings", "")).split()
    if "laplace" not in meanings:
        raise ResultError(
            "sample_stats.method needs the attributes flag_values and flag_meanings, of which one "
            f"is laplace; its attributes are {chosen.attrs}"
        )
    value = np.atleast_1d(chosen.attrs["flag_values"])[meanings.index("laplace")]
    return (chosen == value).compute().drop_attrs()
