"""Results that are made in chunks: kept as they are done, gone on with when asked for again."""

import shutil
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.sky.compression import is_compressed
from pymcdust.sky.dataset import open_sky, validate_sky
from pymcdust.sky.stages import Claim
from pymcdust.sky.store import check_free, open_tree, write_blocks, write_store

#: What tells one sky (or its rows) from another, where a result is to be continued.
SAMPLED = (
    "reddening",
    "emission",
    "sigma",
    "valid",
    "intercept",
    "chi2_floor",
    "distance_edge",
    "frequency",
)

#: Superpixels that are looked at to tell.
N_SAMPLED = 64


class Parts:
    """The finished chunks of a result, kept beside its final place until all are there.

    Parameters
    ----------
    out : Path
        Where the result will be.
    fingerprint : dict
        What the result depends on. Chunks of a result with another one are refused.
    overwrite : bool
        Replace a result that is already at `out`.
    """

    def __init__(self, out: Path, fingerprint: dict[str, Any], overwrite: bool) -> None:
        self.out, self.overwrite = out, overwrite
        self.folder = out.with_name(f"{out.name}.parts")
        check_free(out, overwrite)
        self._claim = Claim(self.folder, fingerprint, "result")

    def load(self, start: int) -> xr.DataTree | None:
        """Return the chunk that begins at a superpixel's position, None if it is to be done."""
        path = self._path(start)
        if not path.exists():
            return None
        try:
            return open_tree(path).load()
        # Damaged on disk, which each codec reports in its own way: the chunk is made again.
        except Exception:
            shutil.rmtree(path)
            return None

    def has(self, start: int) -> bool:
        """Tell whether the chunk that begins at a superpixel's position is done."""
        return self._path(start).exists()

    def save(self, start: int, part: xr.Dataset | xr.DataTree, superpixels_per_chunk: int) -> None:
        """Keep a finished chunk."""
        write_store(part, self._path(start), superpixels_per_chunk=superpixels_per_chunk)

    def finish(self, whole: xr.Dataset, superpixels_per_chunk: int) -> None:
        """Write the whole result to its place, and remove the chunks."""
        write_store(
            whole,
            self.out,
            superpixels_per_chunk=superpixels_per_chunk,
            overwrite=self.overwrite,
        )
        self._claim.discard()

    def join(self, superpixels_per_chunk: int) -> None:
        """Write the whole result to its place out of its chunks, and remove them."""
        write_blocks(
            map(open_tree, sorted(self.folder.glob("*.zarr"))),
            self.out,
            superpixels_per_chunk=superpixels_per_chunk,
            overwrite=self.overwrite,
        )
        self._claim.discard()

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:08d}.zarr"


def as_sky(sky: xr.Dataset | str | Path) -> xr.Dataset:
    """Return a sky, or its compressed rows, given as such or by the path of a sky."""
    if not isinstance(sky, xr.Dataset):
        return open_sky(sky)
    if not is_compressed(sky):
        validate_sky(sky)
    return sky


def fingerprint_of(sky: xr.Dataset, **settings: Any) -> dict[str, Any]:
    """Return what a result depends on: the sky, the settings (as JSON has them), this package."""
    n_superpixel = sky.sizes["superpixel"]
    spaced = np.unique(np.linspace(0, n_superpixel - 1, N_SAMPLED).astype(int))
    sample = sky.isel(superpixel=spaced)
    return {
        **settings,
        "sky": {
            "superpixels": zlib.crc32(sky.superpixel.values.tobytes()),
            "sample": {
                name: zlib.crc32(np.ascontiguousarray(sample[name].values))
                for name in SAMPLED
                if name in sample
            },
        },
        "version": version("pymcdust"),
    }
