"""Measure how a sky is prepared: ``python ingestion.py [--archive FOLDER] [--write FILE]``.

An archive of a sky that is known is generated in the layouts of the surveys; a process of its own,
whose memory is looked at from outside, prepares and compresses it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from time import perf_counter

import healpy
import numpy as np
import xarray as xr
from page import machine

from pymcdust import open_sky
from pymcdust.sky.smoothing import Smoother, kernel_width

sys.path.insert(0, str(Path(__file__).parents[1]))

from generated import BANDS, BEAMS, Archive, analyse, synthesise

#: What a full-size archive may take on two cores.
MOST_MINUTES, MOST_GIGABYTES, FULL_NSIDE = 30, 4.0, 1024

#: Distances of the reddening maps that are prepared; the first is Bayestar19's number.
SLICES: tuple[int, int] = (120, 31)

#: FWHM [arcmin] of the common beam, at nside 1024.
BEAM = 10.0

#: Seconds between two looks at the memory.
PERIOD = 0.02

#: How often a map is smoothed by each method; the quickest counts.
REPEATS = 3

GIGABYTE = 1e9

#: Packages that read, smooth and store maps.
LIBRARIES = ("ducc0", "healpy", "astropy", "h5py", "zarr")


@dataclass
class Stage:
    """A step of the work: seconds, and the most memory [byte] that was seen in it.

    `anonymous` is what the process itself took, `resident` that and the pages of mapped files
    that were in memory, which the system takes back where it needs them.
    """

    name: str
    began: float
    seconds: float = 0.0
    anonymous: int = 0
    resident: int = 0


@dataclass(frozen=True)
class Run:
    """A sky prepared and compressed: its stages, what the process says of itself, the sky's size.

    `report` holds the `processor` seconds, the most `resident` bytes by the kernel's own count, the
    bytes of the `compressed` rows and the number of `superpixels`; `stored` is the sky's size on
    disk [byte].
    """

    stages: list[Stage]
    report: dict[str, float]
    stored: int

    @property
    def seconds(self) -> float:
        """From the first stage's start to the last one's end."""
        return sum(stage.seconds for stage in self.stages)


def archives(folder: Path, nside: int) -> list[Archive]:
    """Return an archive for each of `SLICES`, written where the folder has none.

    They differ in the reddening alone: the later ones have no other files.
    """
    made = []
    for n_slices in SLICES:
        place = folder if n_slices == SLICES[0] else folder / f"slices_{n_slices}"
        archive = Archive(place, nside, n_slices, sfd_size=4 * nside)
        note = place / "configuration.json"
        if not note.exists():
            _say(f"writing the archive of {n_slices} slices")
            place.mkdir(parents=True, exist_ok=True)
            if made:
                archive.write_reddening()
            else:
                archive.write()
            # The last file: the others are whole.
            note.write_text(json.dumps(archive.configuration(), indent=1))
        made.append(archive)
    return made


def prepared(archive: Archive, whole: Archive, out: Path) -> Run:
    """Prepare a sky of the reddening of one archive and the maps of another."""
    configuration = whole.configuration()
    configuration["reddening"] = archive.configuration()["reddening"]
    given = out.with_suffix(".json")
    given.write_text(json.dumps(configuration))
    script = Path(__file__).with_name("full_archive.py")
    stages, report = [Stage("importing pymcdust", perf_counter())], {}
    with subprocess.Popen(
        [sys.executable, str(script), str(given), str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        over = Event()
        looking = Thread(target=_look, args=(process.pid, stages, over))
        looking.start()
        for line in process.stdout:
            said = json.loads(line)
            stages[-1].seconds = perf_counter() - stages[-1].began
            if "stage" in said:
                stages.append(Stage(said["stage"], perf_counter()))
                # Some are shorter than the time between two looks.
                _note(process.pid, stages[-1])
                _say(f"  {said['stage']}")
            else:
                report = said["report"]
        over.set()
        looking.join()
    if process.returncode:
        raise SystemExit(f"the process of {given} ended with {process.returncode}")
    stored = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return Run(stages, report, stored)


def _look(pid: int, stages: list[Stage], over: Event) -> None:
    """Follow the memory of a process, and note the most of each stage."""
    while not over.wait(PERIOD):
        _note(pid, stages[-1])


def _note(pid: int, stage: Stage) -> None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return
    size = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if " kB" in line}
    # A process that has ended has none of these.
    stage.anonymous = max(stage.anonymous, size.get("RssAnon", 0) + size.get("RssShmem", 0))
    stage.resident = max(stage.resident, size.get("VmRSS", 0))


def accuracy(archive: Archive, sky: xr.Dataset) -> list[list[str]]:
    """Compare a sky with the truth, under the common beam."""
    _say("comparing with the truth")
    valid = sky.valid.values
    latitude = _latitude(sky)
    plane = valid & (np.abs(latitude) < 9.0)
    edges = sky.distance_edge.values
    rows = []
    for i in range(sky.sizes["voxel"]):
        near, far = edges[i], edges[i + 1]
        dusty = any(near < archive.shown_distance(s) <= far for s in archive.screens)
        if not dusty:
            continue
        truth = _on_sky(sky, archive.reddening(near, far, BEAM, archive.nside))
        found = sky.reddening.isel(voxel=i).values
        rows.append([f"{near:.2f} to {far:.2f} kpc [mag]", *_errors(found, truth, plane, valid)])
    for i, band in enumerate(BANDS):
        truth = _on_sky(sky, archive.emission(band, BEAM, archive.nside))
        found = sky.emission.isel(band=i).values
        rows.append([f"emission {band} GHz [MJy/sr]", *_errors(found, truth, plane, valid)])
    return rows


def _errors(
    found: np.ndarray, truth: np.ndarray, plane: np.ndarray, valid: np.ndarray
) -> Iterable[str]:
    """Say how much a map varies, and how far it is from the truth in the plane and elsewhere."""
    error = found - truth
    yield f"{np.std(truth[valid]):.3g}"
    for pixels in (plane, valid & ~plane):
        yield f"{np.sqrt(np.mean(error[pixels] ** 2)):.2g}"
        yield f"{np.quantile(np.abs(error[pixels]), 0.999):.2g}"


def _latitude(sky: xr.Dataset) -> np.ndarray:
    """Galactic latitude of the pixels [deg], (superpixel, pixel)."""
    n_pixel = sky.sizes["pixel"]
    pixel = sky.superpixel.values[:, np.newaxis] * n_pixel + np.arange(n_pixel)
    return healpy.pix2ang(sky.attrs["nside"], pixel, nest=True, lonlat=True)[1]


def _on_sky(sky: xr.Dataset, values: np.ndarray) -> np.ndarray:
    """Values of NESTED pixels, by superpixel."""
    return values.reshape(-1, sky.sizes["pixel"])[sky.superpixel.values]


def smoothings(archive: Archive) -> list[list[str]]:
    """Smooth one map by ducc0 and by healpy, and compare it with the truth."""
    nside, scale = archive.nside, archive.scale
    fwhm = kernel_width(BEAMS["map"] * scale, BEAM * scale)
    width, lmax = np.deg2rad(fwhm / 60), archive.lmax
    ring = synthesise(_beam(sum(archive.harmonics), BEAMS["map"] * scale), nside)
    truth = synthesise(_beam(sum(archive.harmonics), BEAM * scale), nside)
    nested = healpy.reorder(ring, r2n=True)

    def ducc() -> np.ndarray:
        return synthesise(healpy.almxfl(analyse(ring, lmax), healpy.gauss_beam(width, lmax)), nside)

    def by_healpy(iterations: int) -> Callable[[], np.ndarray]:
        return lambda: healpy.smoothing(ring, fwhm=width, lmax=lmax, iter=iterations)

    methods: dict[str, Callable[[], np.ndarray]] = {
        "`ducc0`, one analysis and one synthesis": ducc,
        "`healpy.smoothing`, `iter=0`": by_healpy(0),
        "`healpy.smoothing`, `iter=3`, its default": by_healpy(3),
        "`pymcdust`, weights and order of pixels included": lambda: Smoother(
            np.isfinite(nested), fwhm, nside
        ).smooth(nested),
    }
    rows, first = [], None
    spread = truth.std()
    for name, method in methods.items():
        _say(f"smoothing: {name}")
        seconds = np.inf
        for _ in range(REPEATS):
            began = perf_counter()
            found = method()
            seconds = min(seconds, perf_counter() - began)
        if name.startswith("`pymcdust"):
            found = healpy.reorder(found, n2r=True)
        first = found if first is None else first
        error = np.abs(found - truth) / spread
        rows.append(
            [
                name,
                f"{seconds:.2f}",
                f"{np.sqrt(np.mean(error**2)):.1g}",
                f"{error.max():.1g}",
                f"{np.abs(found - first).max() / spread:.1g}",
            ]
        )
    return rows


def _beam(harmonics: np.ndarray, fwhm: float) -> np.ndarray:
    lmax = healpy.Alm.getlmax(len(harmonics))
    return healpy.almxfl(harmonics, healpy.gauss_beam(np.deg2rad(fwhm / 60), lmax))


def write_page(
    archive: Archive, runs: list[Run], precision: list[list[str]], smoothing: list[list[str]]
) -> str:
    """Return the page in Markdown."""
    first = runs[0]
    bytes_of_files = sum(f.stat().st_size for f in archive.folder.iterdir() if f.is_file())
    stages = ["step"]
    for n_slices in SLICES:
        stages += [f"{n_slices} slices: seconds", "own memory [GB]", "resident [GB]"]
    sections = [
        "# Benchmarks of preparing a sky",
        "What `make bench` measured. The archive is generated, in the surveys' own layouts and "
        f"of a sky that is known: reddening at nside {archive.nside}, coarser away from the plane, "
        f"north of declination -30, with {archive.n_samples} posterior samples; four frequency "
        f"maps at nside {2 * archive.nside}, the pair of images at 100 µm, and a map of the CMB; "
        f"{bytes_of_files / GIGABYTE:.1f} GB. The dust lies in {len(archive.screens)} screens, "
        "each at its distance and of its temperature, under the beam of every map. It becomes a "
        f"sky of 9 voxels and {first.report['superpixels']:,.0f} superpixels, and that is "
        "compressed.",
        machine(),
        "Of what matters here: " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES) + ".",
        "## Time and memory",
        "In a process of its own, from nothing but the files, which the system had in its cache as "
        "far as it would. Own memory is what the system cannot take back; resident memory counts "
        "the pages of mapped files that happened to be there as well. Both are looked at every "
        f"{1e3 * PERIOD:.0f} ms; the last row is the kernel's own count. The second run has a "
        "reddening map of fewer slices and the same maps of the bands: it saves where that file is "
        "read and its checksum computed; other differences are chance, and what else the machine "
        "did.",
        _table(stages, _stage_rows(runs)),
        f"The sky takes {first.stored / GIGABYTE:.2f} GB on disk, compressed "
        f"{first.report['compressed'] / 1e6:.0f} MB in memory.",
        "## Accuracy",
        "Of the first of these skies, against the truth under the common beam: how much the truth "
        "varies (standard deviation); then the error in the plane, where the reddening has its "
        "finest pixels (|b| < 9°), and elsewhere, where its pixels are up to four times as wide "
        "and do not show all that the beam would; each as root mean square and as what 99.9 % of "
        "the pixels keep to. Voxels without dust are left out. The four bands of Planck have the "
        "noise of their pixels, and the CMB that was subtracted; the images at 100 µm have pixels "
        "of 2.4 arcmin, between which was interpolated twice, once to write and once to read them.",
        _table(
            [
                "",
                "sd of the truth",
                "error in the plane",
                "99.9 %",
                "elsewhere",
                "99.9 %",
            ],
            precision,
        ),
        "## One map",
        f"A map of nside {archive.nside} without holes, up to l = {archive.lmax}, from 3.44 to 10 "
        "arcmin"
        + ("" if archive.scale == 1 else f" (times {archive.scale:g}, as its pixels are)")
        + ". Errors are in units of the map's standard deviation, against its harmonics times the "
        "window of the beam. A single analysis errs in the pixels next to the poles; the division "
        "by the smoothed weight, which holes need anyhow, takes most of that away. It costs "
        "another transform, once for all maps that share their holes.",
        _table(
            [
                "",
                f"seconds, least of {REPEATS}",
                "rms error",
                "largest error",
                "off the first row at most",
            ],
            smoothing,
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _stage_rows(runs: list[Run]) -> Iterable[list[str]]:
    names = list(dict.fromkeys(stage.name for run in runs for stage in run.stages))
    for name in names:
        row = [name]
        for run in runs:
            same = [stage for stage in run.stages if stage.name == name]
            row += [
                f"{sum(stage.seconds for stage in same):.1f}",
                *_memory(same),
            ]
        yield row
    whole = ["**whole**"]
    for run in runs:
        whole += [f"**{run.seconds:.1f}**", *(f"**{size}**" for size in _memory(run.stages))]
    yield whole
    yield [
        "processor time, most resident",
        *(cell for run in runs for cell in (f"{run.report['processor']:.1f}", "", _resident(run))),
    ]


def _resident(run: Run) -> str:
    return f"{run.report['resident'] / GIGABYTE:.2f}"


def _memory(stages: Sequence[Stage]) -> Iterable[str]:
    for name in ("anonymous", "resident"):
        yield f"{max((getattr(s, name) for s in stages), default=0) / GIGABYTE:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def main() -> None:
    """Measure, print the page, and fail where a full-size sky takes too much."""
    parser = argparse.ArgumentParser(description="Measure the making of a sky.")
    parser.add_argument("--nside", type=int, default=FULL_NSIDE, help="of the reddening map")
    parser.add_argument("--archive", type=Path, help="folder of the generated files, kept")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        made = archives(options.archive or Path(temporary) / "archive", options.nside)
        runs = []
        for n_slices, archive in zip(SLICES, made, strict=True):
            _say(f"preparing the sky of {n_slices} slices")
            runs.append(prepared(archive, made[0], Path(temporary) / f"{n_slices}.zarr"))
        sky = open_sky(Path(temporary) / f"{SLICES[0]}.zarr")
        page = write_page(made[0], runs, accuracy(made[0], sky), smoothings(made[0]))
    print(page)
    if options.write:
        options.write.write_text(page)
    for run in runs:
        if run.seconds > 60 * MOST_MINUTES or run.report["resident"] > MOST_GIGABYTES * GIGABYTE:
            sys.exit(
                f"{run.seconds / 60:.1f} minutes and {_resident(run)} GB; "
                f"{MOST_MINUTES} minutes and {MOST_GIGABYTES:.0f} GB are the most"
            )


def _say(what: str) -> None:
    print(f"Measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
