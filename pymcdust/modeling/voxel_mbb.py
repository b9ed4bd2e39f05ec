"""The voxel modified-blackbody model: from a declaration of priors to a PyMC model."""

from collections.abc import Sequence
from inspect import Parameter as Argument
from inspect import Signature
from typing import Any, ClassVar

import numpy as np
import pymc as pm
import pymc.dims as pmd
import xarray as xr

from pymcdust.errors import ModelError, unknown
from pymcdust.modeling.parameter import Parameter, Prior, describe_prior
from pymcdust.physics.bands import BANDS
from pymcdust.physics.emission import emissivity

#: The parameters of Eq. 4, which every model declares.
PARAMETERS: tuple[str, ...] = ("temperature", "beta", "rho", "offset")


class VoxelMBB:
    """A model of dust in voxels, each a modified blackbody (Zelko et al. 2022, Eq. 4).

    A variant is a subclass that declares what it believes of `temperature` [K], `beta`, `rho`
    [1/mag] and `offset` [MJy/sr], each by `per_voxel`, `per_superpixel`, `over_sky` or `fixed`.
    An instance can change declarations without a new class.

    Parameters
    ----------
    **changes : Parameter
        Declarations that replace those of the class.

    Examples
    --------
    >>> from math import log
    >>> from pymcdust import Prior, VoxelMBB, fixed, per_superpixel, per_voxel
    >>> class Lukewarm(VoxelMBB):
    ...     temperature = per_voxel(Prior("Normal", mu=18.0, sigma=2.0), unit="K")
    ...     beta = fixed(1.6)
    ...     rho = per_superpixel(Prior("LogNormal", mu=log(1e-4), sigma=1.0), unit="mag-1")
    ...     offset = fixed(0.0, unit="MJy/sr")
    >>> Lukewarm().n_free(n_voxel=9)
    10
    >>> Lukewarm(beta=per_superpixel(Prior("Normal", mu=1.6, sigma=0.1))).n_free(n_voxel=9)
    11
    """

    temperature: ClassVar[Parameter]
    beta: ClassVar[Parameter]
    rho: ClassVar[Parameter]
    offset: ClassVar[Parameter]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if isinstance(value, Parameter) and name not in PARAMETERS:
                raise ModelError(f"{cls.__name__}: {unknown('parameter', name, PARAMETERS)}")
        for name in ("build", "emissivity"):
            if name in vars(cls):
                raise ModelError(
                    f"{cls.__name__} defines {name}, but a model is its four declarations: the "
                    "likelihood and the spectrum (Eq. 4) are the same for all, and fits, "
                    "reconstructions and simulations rely on that"
                )
        missing = [name for name in PARAMETERS if not hasattr(cls, name)]
        if missing:
            raise ModelError(
                f"{cls.__name__} does not declare {', '.join(missing)}; a model declares "
                f"{', '.join(PARAMETERS)}, each by per_voxel, per_superpixel, over_sky or fixed"
            )
        for name in PARAMETERS:
            _check_declaration(cls.__name__, name, getattr(cls, name))
        cls.__signature__ = Signature(
            Argument(name, Argument.KEYWORD_ONLY, default=getattr(cls, name), annotation=Parameter)
            for name in PARAMETERS
        )

    def __init__(self, **changes: Parameter) -> None:
        if type(self) is VoxelMBB:
            raise ModelError(
                "VoxelMBB declares no parameters; use a model of the gallery "
                "(pymcdust.models.available()) or a subclass with your own declarations"
            )
        for name, value in changes.items():
            if name not in PARAMETERS:
                raise ModelError(f"{self.name}: {unknown('parameter', name, PARAMETERS)}")
            _check_declaration(self.name, name, value)
            setattr(self, name, value)

    @property
    def name(self) -> str:
        """Name of the variant: that of its class, in the gallery's spelling."""
        letters = [f"_{c.lower()}" if c.isupper() else c for c in type(self).__name__]
        return "".join(letters).lstrip("_")

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The declarations, by name."""
        declared = {name: getattr(self, name) for name in PARAMETERS}
        declared["offset"] = declared["offset"].for_each_band()
        return declared

    @property
    def free_parameters(self) -> dict[str, Parameter]:
        """The declarations of the parameters that are inferred, by name."""
        return {name: p for name, p in self.parameters.items() if p.free}

    def centred(self) -> "VoxelMBB":
        """Return the model with every hierarchical prior in its centred form.

        The maximum of a density depends on what it is a density of: the temperature itself, or its
        distance from the mean in units of the scatter. A MAP fit speaks of the former.
        """
        return type(self)(**{name: getattr(self, name).centred() for name in PARAMETERS})

    def prior_of(self, variable: str) -> Prior | None:
        """Return the prior of a PyMC variable of the model, such as ``temperature_mu``."""
        for name, parameter in self.free_parameters.items():
            prior = parameter.prior
            words = (
                variable.removeprefix(name).split("_")[1:] if variable.startswith(name) else [""]
            )
            for word in words:
                prior = prior.parameters.get(word) if isinstance(prior, Prior) else None
            if isinstance(prior, Prior):
                return prior
        return None

    @property
    def couples_superpixels(self) -> bool:
        """Whether superpixels share parameters, so that they cannot be fitted one by one."""
        return any("superpixel" not in dims for dims in self._prior_dims())

    def n_free(self, n_voxel: int, n_band: int = len(BANDS)) -> int:
        """Return how many values are inferred for one superpixel, not counting the sky's."""
        sizes = {"superpixel": 1, "voxel": n_voxel, "band": n_band}
        return sum(
            int(np.prod([sizes[dim] for dim in dims]))
            for dims in self._prior_dims()
            if "superpixel" in dims
        )

    def _prior_dims(self) -> list[tuple[str, ...]]:
        """List the dimensions of every prior, those of hierarchies included."""
        priors = [(p.prior, p.dims) for p in self.free_parameters.values()]
        for prior, _ in priors:
            priors.extend(
                (value, value.dims or ())
                for value in prior.parameters.values()
                if isinstance(value, Prior)
            )
        return [dims for _, dims in priors]

    @staticmethod
    def emissivity(frequency: Any, temperature: Any, beta: Any, rho: Any) -> Any:
        """Return the emission per reddening [MJy/sr/mag]: that of a modified blackbody (Eq. 1)."""
        return emissivity(frequency, temperature, beta, rho)

    def build(self, rows: xr.Dataset, varied: Sequence[str] = ()) -> pm.Model:
        """Build the PyMC model of some superpixels.

        Parameters
        ----------
        rows : xarray.Dataset
            Rows of data, as `pymcdust.sky.compression.as_rows` or `compress` make them: pixels of
            the sky, or the few pseudo-pixels that stand for them.
        varied : sequence of str, optional
            Numbers of priors, such as ``"temperature.mu"``, that are data as well: the rows have
            them, as ``temperature_mu``, for each superpixel or for all.

        Returns
        -------
        pymc.Model
            With the free parameters, the deterministic `emissivity` (superpixel, band, voxel)
            [MJy/sr/mag], and the observed `emission` (superpixel, pixel, band) [MJy/sr]. The data
            are `pymc.dims.Data`, so that another sky's can take their place.

        Raises
        ------
        ModelError
            If a prior has numbers for more or fewer voxels or bands than there are.
        """
        for name, parameter in self.parameters.items():
            parameter.check_sizes(name, rows.sizes)
        coords = {name: rows.indexes[name] for name in ("superpixel", "pixel", "voxel", "band")}
        with pm.Model(coords=coords) as model:
            frequency = pmd.Data("frequency", rows.frequency.values, dims="band")
            reddening, intercept, observed, sigma = (
                pmd.Data(f"{name}_data", rows[name].values, dims=rows[name].dims)
                for name in ("reddening", "intercept", "emission", "sigma")
            )
            numbers = {
                number: pmd.Data(data_name(number), rows[data_name(number)].values, dims=dims)
                for number in varied
                for dims in [rows[data_name(number)].dims]
            }
            values = {name: p.create(name, numbers) for name, p in self.parameters.items()}
            offset = values.pop("offset")
            per_reddening = pmd.Deterministic("emissivity", self.emissivity(frequency, **values))
            if "voxel" in per_reddening.dims:
                mu = reddening.dot(per_reddening, dim="voxel")
            else:
                mu = reddening.sum("voxel") * per_reddening
            if self.offset.free or offset != 0:
                mu = mu + intercept * offset
            dims = ("superpixel", "pixel", "band")
            pmd.Normal(
                "emission", mu=mu.transpose(*dims), sigma=sigma, observed=observed, dims=dims
            )
        return model

    def draw(self, coords: dict[str, Any], rng: np.random.Generator) -> xr.Dataset:
        """Draw every parameter from its prior.

        Parameters
        ----------
        coords : dict
            Coordinate values of `superpixel`, `voxel` and `band`.
        rng : numpy.random.Generator
            Source of the randomness.

        Returns
        -------
        xarray.Dataset
            `temperature`, `beta`, `rho` and `offset`, each with the dimensions of its tying.
        """
        with pm.Model(coords=coords) as model:
            values = {name: p.create(name) for name, p in self.free_parameters.items()}
        drawn = {name: ((), float(p.prior)) for name, p in self.parameters.items() if not p.free}
        with model:
            arrays = pm.draw(list(values.values()), random_seed=rng, mode="FAST_COMPILE")
        for (name, parameter), array in zip(self.free_parameters.items(), arrays, strict=True):
            drawn[name] = (parameter.dims, array)
        used = {dim for dims, _ in drawn.values() for dim in dims}
        return xr.Dataset(drawn, coords={dim: coords[dim] for dim in coords if dim in used})

    def to_dict(self) -> dict[str, Any]:
        """Return the model in plain types, for the attributes of results."""
        declarations = {name: getattr(self, name).to_dict() for name in PARAMETERS}
        return {"model": self.name, "parameters": declarations}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "VoxelMBB":
        """Make the model that `to_dict` described."""
        name = "".join(word.capitalize() for word in data["model"].split("_"))
        declarations = {
            name: Parameter.from_dict(parameter) for name, parameter in data["parameters"].items()
        }
        return type(name, (VoxelMBB,), declarations)()

    def describe(self) -> list[dict[str, str]]:
        """Return one row of text for each parameter: its name, tying, prior and unit."""
        return [
            {
                "parameter": name,
                "tying": p.tying + (", per band" if "band" in p.dims else ""),
                "prior": describe_prior(p.prior),
                "unit": p.unit,
            }
            for name, p in self.parameters.items()
        ]

    def __repr__(self) -> str:
        lines = [f"    {name}={getattr(self, name)!r}," for name in PARAMETERS]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def data_name(number: str) -> str:
    """Return the name that a number of a prior has among data: ``temperature_mu``."""
    return number.replace(".", "_")


def _check_declaration(model: str, name: str, value: Any) -> None:
    if not isinstance(value, Parameter):
        raise ModelError(
            f"{model}: {name} is {value!r}, but a declaration is made by per_voxel, "
            "per_superpixel, over_sky or fixed"
            + f"; did you mean fixed({value!r})?"
            * isinstance(value, int | float)
        )
    if name == "offset" and value.tying == "per voxel":
        raise ModelError(
            f"{model}: offset cannot be per voxel, since an offset belongs to a map, not to dust; "
            "allowed are per_superpixel, over_sky and fixed"
        )
