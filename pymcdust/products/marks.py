"""What of a map is no measurement: how it is painted over, and how the legend explains it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pymcdust.products.panels import draw_image, panel_width, striped_patch, stripes
from pymcdust.products.projection import NO_DATA_COLOUR, SkyImage
from pymcdust.products.reliability import PRIOR_DOMINATED
from pymcdust.products.scales import Scale

#: Labels in more panels than this are clutter, and in narrower ones [inch] they overlap.
MOST_LABELLED = 9
LEAST_LABELLED_WIDTH = 1.5


@dataclass(frozen=True)
class Mark:
    """Stripes over superpixels: what they say, their two colours, and which way they run."""

    label: str
    colours: tuple[str, str]
    rising: bool = True


PRIOR = Mark(
    rf"prior dominates ($\sigma / \sigma_\mathrm{{prior}} > {PRIOR_DOMINATED}$)", ("0.76", "0.58")
)
FAILED = Mark("not converged", ("0.20", "0.45"))
PADDING = Mark("no such voxel", ("1.0", "0.86"), rising=False)


class Painter:
    """Paints images into the panels of a figure, and keeps account of what its legend must tell.

    Parameters
    ----------
    sky_image : SkyImage
        The projection of the figure.
    n_panel : int
        The number of panels. Of more than `MOST_LABELLED` the first alone has the graticule
        labelled; panels narrower than `LEAST_LABELLED_WIDTH` have not.
    width : float, optional
        Width of a panel [inch]; by default its share of the figure.
    """

    def __init__(self, sky_image: SkyImage, n_panel: int, width: float | None = None) -> None:
        self._sky_image = sky_image
        self._labelled, self._painted = n_panel if n_panel <= MOST_LABELLED else 1, 0
        self._width = width
        self._seen: set[Mark] = set()
        self._empty = False

    def paint(
        self,
        panel: Axes,
        image: np.ndarray,
        scale: Scale,
        marks: Mapping[Mark, np.ndarray] | None = None,
    ) -> None:
        """Draw an image into a panel, and marks over it.

        Parameters
        ----------
        panel : Axes
            The panel.
        image : (y, x) array
            The values; NaN where there are none.
        scale : Scale
            Their colours.
        marks : mapping of Mark to (superpixel,) array of bool, optional
            The superpixels to be painted over.
        """
        overlays, covered = [], ~self._sky_image.on_sky
        for mark, where in (marks or {}).items():
            here = self._sky_image.sample(where) == 1
            if here.any():
                self._seen.add(mark)
                overlays.append(stripes(here, mark.colours, rising=mark.rising))
                covered |= here
        self._empty |= bool((np.isnan(image) & ~covered).any())
        width = self._width or panel_width(panel)
        labels = self._painted < self._labelled and width >= LEAST_LABELLED_WIDTH
        draw_image(panel, self._sky_image, image, scale, overlays, labels=labels)
        self._painted += 1

    def write_legend(self, figure: Figure, note: str = "") -> None:
        """Explain below the panels what was painted other than by its value, and write a note."""
        handles = []
        if self._empty:
            style = {"facecolor": NO_DATA_COLOUR, "edgecolor": "0.6", "linewidth": 0.5}
            handles.append(Patch(label="no data", **style))
        for mark in (PRIOR, FAILED, PADDING):
            if mark in self._seen:
                handles.append(striped_patch(mark.colours, mark.label, rising=mark.rising))
        if handles or note:
            style = {"ncols": 4, "fontsize": 7.5, "title_fontsize": 7.5, "frameon": False}
            place = "outside lower center"
            figure.legend(handles=handles, title=note or None, loc=place, **style)
