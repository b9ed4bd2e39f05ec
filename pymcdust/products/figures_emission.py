"""Emission as observed and as reconstructed (Figs. 2 and 4 to 6, Zelko et al. 2022)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.products.marks import FAILED, Mark, Painter
from pymcdust.products.panels import PAGE_HEIGHT, PAGE_WIDTH, in_view, new_figure, panel_groups
from pymcdust.products.projection import SkyImage
from pymcdust.products.reconstruction import observed, reconstruction_blocks, require
from pymcdust.products.reliability import chi2_per_datum
from pymcdust.products.scales import Scale, is_wide, noisy, reaches_zero, sequential, symmetric

#: Colours of the emission, and of what is left of it: red where more was observed.
EMISSION_COLOURS, RESIDUAL_COLOURS = "inferno", "RdBu_r"

_CHI2 = r"$\chi^2$ per datum"


def plot_emission(
    fit: xr.Dataset,
    sky: xr.Dataset,
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
) -> Figure:
    """Draw observed, reconstructed and residual emission (Figs. 2 and 6, Zelko et al. 2022).

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the sky that was fitted.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.

    Returns
    -------
    Figure
        A row for each band, and chi2 per datum; striped where the fit did not converge.

    Raises
    ------
    ResultError
        If the fit lacks a variable, fit and sky do not belong together, or nothing is in view.
    ConfigurationError
        If the zoom is impossible.
    """
    require(fit, ("chi2", "n_data", "converged"))
    seen = _see(fit, sky, center, radius)
    bands = sky.sizes["band"]
    # Beside the panels stand two colour bars with their labels, above them no titles.
    aspect = seen.sky_image.projection.aspect
    width = min((PAGE_WIDTH - 1.8) / 3, (PAGE_HEIGHT - 0.5) / (bands + 1) / aspect)
    figure = new_figure(3 * width + 1.8, (bands + 1) * (width * aspect + 0.08) + 0.4)
    grid = figure.add_gridspec(bands + 1, 3)
    scales = _brightness(seen.observed, seen.reconstructed, seen.sigma)
    painter = Painter(seen.sky_image, 3 * bands + 1)
    for row, frequency in enumerate(sky["frequency"].values):
        axes = [figure.add_subplot(grid[row, column]) for column in range(3)]
        brightness = scales[row]
        remainder = symmetric(seen.residual[row], RESIDUAL_COLOURS)
        painter.paint(axes[0], seen.observed[row], brightness)
        painter.paint(axes[1], seen.reconstructed[row], brightness, seen.failed)
        painter.paint(axes[2], seen.residual[row], remainder, seen.failed)
        brightness.bar(figure, axes[:2], f"{frequency:.0f} GHz\n[MJy/sr]", vertical=True)
        remainder.bar(figure, axes[2:], "residual\n[MJy/sr]", vertical=True)
        if row == 0:
            for panel, title in zip(axes, ("Observed", "Reconstructed", "Residual"), strict=True):
                panel.set_title(title, fontsize=9)
    panel = figure.add_subplot(grid[bands, 1])
    _chi2_scale(seen).bar(figure, [panel], _CHI2, vertical=True)
    painter.paint(panel, seen.chi2, _chi2_scale(seen), seen.failed)
    painter.write_legend(figure)
    return figure


def plot_residual(
    fit: xr.Dataset,
    sky: xr.Dataset,
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
) -> Figure:
    """Draw what a fit leaves of the emission in units of the noise, and chi2 (Figs. 5 and 6f).

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the sky that was fitted.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.

    Returns
    -------
    Figure
        A panel for each band, all on one scale with zero in its middle, with the root mean square
        of what is shown; and chi2 per datum. Striped where the fit did not converge.

    Raises
    ------
    ResultError
        If the fit lacks a variable, fit and sky do not belong together, or nothing is in view.
    ConfigurationError
        If the zoom is impossible.
    """
    require(fit, ("chi2", "n_data", "converged"))
    seen = _see(fit, sky, center, radius)
    ratio = seen.residual / seen.sigma
    figure, (panels,) = panel_groups([sky.sizes["band"] + 1], seen.sky_image)
    painter = Painter(seen.sky_image, len(panels))
    scale = symmetric(ratio, RESIDUAL_COLOURS)
    for panel, image, frequency in zip(panels, ratio, sky["frequency"].values, strict=False):
        painter.paint(panel, image, scale, seen.failed)
        known = image[np.isfinite(image)]
        rms = f": rms {np.sqrt(np.mean(known**2)):.3g}" if known.size else ""
        panel.set_title(f"{frequency:.0f} GHz{rms}", fontsize=8)
    panels[-1].set_title(_CHI2, fontsize=8)
    # chi2 stands below a residual: its bar has the place below this column.
    column = panels[-1].get_subplotspec().colspan
    mine = [panel for panel in panels if panel.get_subplotspec().colspan == column]
    others = [panel for panel in panels if panel not in mine]
    scale.bar(figure, others, r"(observed $-$ reconstructed) / $\sigma$", vertical=False)
    _chi2_scale(seen).bar(figure, mine, _CHI2, vertical=False)
    painter.paint(panels[-1], seen.chi2, _chi2_scale(seen), seen.failed)
    painter.write_legend(figure)
    return figure


def plot_zoom(
    fit: xr.Dataset,
    sky: xr.Dataset,
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    band: str = "545",
) -> Figure:
    """Draw observed, reconstructed and residual emission of one band (Figs. 4 and 5).

    Contours around bright spots of the residual tell that the resolutions of reddening and
    emission differ (Zelko et al. 2022, Sec. 3.6).

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the sky that was fitted.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.
    band : str
        The band.

    Returns
    -------
    Figure
        Three panels, the first two on one scale; striped where the fit did not converge.

    Raises
    ------
    ResultError
        If the fit lacks a variable, fit and sky do not belong together, or nothing is in view.
    ConfigurationError
        If the sky has no such band, or the zoom is impossible.
    """
    bands = [str(name) for name in sky["band"].values]
    if str(band) not in bands:
        raise ConfigurationError(unknown("band", band, bands))
    require(fit, ("converged",))
    chosen = bands.index(str(band))
    seen = _see(fit, sky, center, radius)
    observation, model = seen.observed[chosen], seen.reconstructed[chosen]
    figure, (panels,) = panel_groups([3], seen.sky_image)
    painter = Painter(seen.sky_image, len(panels))
    (brightness,) = _brightness(observation[None], model[None], seen.sigma[chosen][None])
    remainder = symmetric(seen.residual[chosen], RESIDUAL_COLOURS)
    painter.paint(panels[0], observation, brightness)
    painter.paint(panels[1], model, brightness, seen.failed)
    painter.paint(panels[2], seen.residual[chosen], remainder, seen.failed)
    for panel, title in zip(panels, ("Observed", "Reconstructed", "Residual"), strict=True):
        panel.set_title(title, fontsize=9)
    frequency = f"{sky['frequency'].values[chosen]:.0f} GHz"
    brightness.bar(figure, panels[:2], f"Emission at {frequency} [MJy/sr]", vertical=False)
    remainder.bar(figure, panels[2:], f"Residual at {frequency} [MJy/sr]", vertical=False)
    painter.write_legend(figure)
    return figure


class _Seen(NamedTuple):
    """Images (band, y, x) of the emission and its noise [MJy/sr], and of chi2 per datum (y, x)."""

    sky_image: SkyImage
    observed: np.ndarray
    reconstructed: np.ndarray
    sigma: np.ndarray
    chi2: np.ndarray
    failed: dict[Mark, np.ndarray]

    @property
    def residual(self) -> np.ndarray:
        """Observed minus reconstructed."""
        return self.observed - self.reconstructed


def _see(
    fit: xr.Dataset,
    sky: xr.Dataset,
    center: tuple[float, float] | None,
    radius: float | None,
) -> _Seen:
    """Reconstruct what is in view; NaN where it is not valid, and the model where it failed."""
    fit, sky_image = in_view(fit, center, radius)
    images = sky_image.collect(_blocks(fit, sky))
    observation, model, sigma = np.split(images, 3)
    failed = ~fit["converged"].values.astype(bool)
    model[:, sky_image.sample(failed) == 1] = np.nan
    chi2 = np.full(failed.shape, np.nan)
    if "chi2" in fit:
        chi2 = np.where(failed, np.nan, chi2_per_datum(fit).values)
    return _Seen(sky_image, observation, model, sigma, sky_image.sample(chi2), {FAILED: failed})


def _blocks(fit: xr.Dataset, sky: xr.Dataset) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield observed, reconstructed and sigma (superpixel, pixel, 3 band) of valid pixels."""
    for part, block, predicted in reconstruction_blocks(fit, sky):
        observation = observed(block)
        model = np.where(np.isnan(observation), np.nan, predicted)
        shape = dict(zip(("superpixel", "pixel", "band"), observation.shape, strict=True))
        sigma = block["sigma"].variable.set_dims(shape).transpose(*shape).values
        # Where there are no data, there may be no noise either.
        sigma = np.where(sigma > 0, sigma, np.nan)
        yield part, np.concatenate([observation, model, sigma], axis=2)


def _brightness(observation: np.ndarray, model: np.ndarray, sigma: np.ndarray) -> list[Scale]:
    """Return a scale for observed and reconstructed emission of each band (band, y, x).

    All are of one kind, to compare; the observed emission tells which.
    """
    shown = np.stack([observation, model], axis=1)
    if not any(is_wide(image) for image in observation):
        return [sequential(images, EMISSION_COLOURS, logarithmic=False) for images in shown]
    if not any(reaches_zero(image) for image in observation):
        return [sequential(images, EMISSION_COLOURS, logarithmic=True) for images in shown]
    noise = [np.median(image[image > 0]) if (image > 0).any() else 1.0 for image in sigma]
    return [
        noisy(images, EMISSION_COLOURS, width) for images, width in zip(shown, noise, strict=True)
    ]


def _chi2_scale(seen: _Seen) -> Scale:
    # Unlike emission, chi2 is positive without noise: all of its range means something.
    return sequential(seen.chi2, "viridis", is_wide(seen.chi2), largest_ratio=1e6)
