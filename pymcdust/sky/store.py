"""Zarr stores that are whole or refused: written beside and renamed, checked on opening."""

import os
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from pymcdust.errors import ConfigurationError, FileFormatError, listing

#: Attribute of a group that lists its arrays, so that a lost one is noticed.
INVENTORY = "store_arrays"

#: Attribute of the root that lists the groups of a tree.
GROUPS = "store_groups"


def write_store(
    content: xr.Dataset | xr.DataTree,
    path: str | Path,
    *,
    superpixels_per_chunk: int,
    overwrite: bool = False,
) -> None:
    """Write a dataset or a tree of them as a Zarr 3 store that appears only when it is whole.

    Every chunk is written, even where it is empty, and carries a checksum: a chunk that is
    missing or cut short is then a fault, which Zarr would otherwise fill in silently.

    Parameters
    ----------
    content : xarray.Dataset or xarray.DataTree
        What to write; variables may be lazy.
    path : path
        Folder of the store.
    superpixels_per_chunk : int
        Length of the chunks along ``superpixel``; other dimensions are not cut.
    overwrite : bool
        Replace a Zarr store that is already there.

    Raises
    ------
    ConfigurationError
        If `path` exists and may not be replaced.
    """
    with _appearing_whole(Path(path), overwrite) as partial:
        for group, dataset in _groups(content).items():
            _write_group(dataset, partial, group, superpixels_per_chunk)


def write_blocks(
    blocks: Iterable[xr.Dataset | xr.DataTree],
    path: str | Path,
    *,
    superpixels_per_chunk: int,
    overwrite: bool = False,
    draft: Path | None = None,
) -> None:
    """Write blocks of superpixels as one store, holding one of them at a time.

    Parameters
    ----------
    blocks : iterable of xarray.Dataset or xarray.DataTree
        Lazy or not, with the same groups and variables, each but the last a multiple of
        `superpixels_per_chunk` long. What has no dimension ``superpixel`` is taken from the first.
    path : path
        Folder of the store.
    superpixels_per_chunk : int
        Length of the chunks along ``superpixel``; other dimensions are not cut.
    overwrite : bool
        Replace a Zarr store that is already there.
    draft : path, optional
        Where it is written until it is whole, on the same disk; by default beside `path`, under a
        hidden name. What is there is deleted.

    Raises
    ------
    ConfigurationError
        If `path` exists and may not be replaced.
    """
    with _appearing_whole(Path(path), overwrite, draft) as partial:
        for number, block in enumerate(blocks):
            for group, dataset in _groups(block).items():
                if number == 0:
                    _write_group(dataset, partial, group, superpixels_per_chunk)
                else:
                    _append_group(dataset, partial, group)


def open_store(path: str | Path) -> xr.Dataset:
    """Open a Zarr store of one dataset lazily, after checking that all chunks are there.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    xarray.Dataset
        Variables are read when they are asked for.

    Raises
    ------
    FileFormatError
        If there is no store at `path`, if it is cut short, or if it holds a tree of datasets.
    """
    tree = open_tree(path)
    if tree.children:
        raise FileFormatError(
            f"{path}: a posterior, with the groups {listing(sorted(tree.children))}; a sky or a "
            "fit was expected"
        )
    return tree.to_dataset()


def open_tree(path: str | Path) -> xr.DataTree:
    """Open a Zarr store lazily, after checking that every array and every chunk is there.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    xarray.DataTree
        One node for each group. Variables are read when they are asked for.

    Raises
    ------
    FileFormatError
        If there is no store at `path`, or if it is cut short.
    """
    path = Path(path)
    if not path.exists():
        raise FileFormatError(f"{path}: there is no such file or folder")
    if not (path / "zarr.json").is_file():
        raise FileFormatError(f"{path}: not a Zarr 3 store, it has no zarr.json")
    try:
        with warnings.catch_warnings():
            # An array that has lost its metadata: said below, as an error.
            warnings.filterwarnings("ignore", "Object at", UserWarning)
            root = zarr.open_group(path, mode="r")
            groups = {"/": root, **{f"/{name}": group for name, group in root.groups()}}
            arrays = {name: dict(group.arrays()) for name, group in groups.items()}
            inventory = {name: group.attrs.get(INVENTORY, []) for name, group in groups.items()}
            missing = {
                _inside(group, name): (array.nchunks - array.nchunks_initialized, array.nchunks)
                for group, members in arrays.items()
                for name, array in members.items()
            }
            tree = xr.DataTree.from_dict(
                {
                    name: xr.open_zarr(path, group=name, chunks=None, consolidated=False)
                    for name in groups
                }
            )
    # Zarr raises whatever its JSON, its codecs and its node classes raise.
    except Exception as error:
        raise FileFormatError(f"{path}: cut short or not a Zarr 3 group ({error})") from error
    lost = [
        _inside(group, name)
        for group, names in inventory.items()
        for name in names
        if name not in arrays[group]
    ]
    lost += [name for name in root.attrs.get(GROUPS, []) if f"/{name}" not in groups]
    if lost:
        raise FileFormatError(f"{path}: cut short, array {listing(lost)} is missing; write it anew")
    for name, (count, total) in missing.items():
        if count:
            raise FileFormatError(
                f"{path}: cut short, {count} of {total} chunks of {name!r} are "
                "missing; write it anew"
            )
    for node in tree.subtree:
        node.attrs.pop(INVENTORY, None)
        node.attrs.pop(GROUPS, None)
    return tree


def check_free(path: str | Path, overwrite: bool) -> None:
    """Refuse a place that is taken, before the work whose result is to go there.

    Parameters
    ----------
    path : path
        Folder of a store to be written.
    overwrite : bool
        Whether a Zarr store that is already there may be replaced.

    Raises
    ------
    ConfigurationError
        If `path` exists and may not be replaced.
    """
    path = Path(path)
    if not path.exists():
        return
    if not overwrite:
        raise ConfigurationError(
            f"{path} exists already; choose another name or ask to overwrite it (overwrite=True)"
        )
    if not (path / "zarr.json").is_file():
        raise ConfigurationError(
            f"{path} is not a Zarr store and will not be overwritten; choose another name"
        )


@contextmanager
def _appearing_whole(path: Path, overwrite: bool, draft: Path | None = None) -> Iterator[Path]:
    """Give a place beside `path` to write to, which takes its name when all is written."""
    check_free(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = draft or path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    # What a run that was killed has left of a draft with a name of its own.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        _move_into_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _groups(content: xr.Dataset | xr.DataTree) -> dict[str, xr.Dataset]:
    """Return the datasets by the paths of their groups, the root first."""
    if isinstance(content, xr.Dataset):
        return {"/": content}
    groups = {node.path: node.to_dataset(inherit=False) for node in content.subtree}
    if len(groups) > 1:
        groups["/"] = groups["/"].assign_attrs({GROUPS: sorted(content.children)})
    return groups


def _inside(group: str, name: str) -> str:
    return f"{group}/{name}".lstrip("/")


def _write_group(
    dataset: xr.Dataset, partial: Path, group: str, superpixels_per_chunk: int
) -> None:
    dataset = dataset.assign_attrs({INVENTORY: sorted(map(str, dataset.variables))})
    encoding = {
        name: {
            "chunks": tuple(
                min(superpixels_per_chunk, size) if dim == "superpixel" else size
                for dim, size in variable.sizes.items()
            ),
            "compressors": (ZstdCodec(level=1), Crc32cCodec()),
        }
        for name, variable in dataset.variables.items()
    }
    dataset.to_zarr(
        partial,
        group=group,
        mode="w-",
        zarr_format=3,
        consolidated=False,
        encoding=encoding,
        write_empty_chunks=True,
    )


def _append_group(dataset: xr.Dataset, partial: Path, group: str) -> None:
    fixed = [n for n, v in dataset.variables.items() if "superpixel" not in v.dims]
    growing = dataset.drop_vars(fixed)
    if growing.variables:
        growing.load().to_zarr(
            partial,
            group=group,
            append_dim="superpixel",
            consolidated=False,
            write_empty_chunks=True,
        )


def _move_into_place(partial: Path, path: Path) -> None:
    """Rename the finished store; one that it replaces is moved aside first, then deleted."""
    if not path.exists():
        os.rename(partial, path)
        return
    replaced = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.replaced")
    os.rename(path, replaced)
    try:
        os.rename(partial, path)
    except OSError:
        os.rename(replaced, path)
        raise
    shutil.rmtree(replaced)
