"""Measure how long pictures take: ``python render.py [--quick] [--write FILE]``."""

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter, process_time

import healpy
import numpy as np
from page import machine

from pymcdust.products.film import take_pictures, write_film
from pymcdust.products.raycast import integrate_rays
from pymcdust.products.render import Camera, light_of, loop_camera
from pymcdust.products.volume import Volume
from pymcdust.sky.edges import edges_from_slices

#: Distance cuts that give 9 and 17 voxels between the same ends.
CUTS = {9: (15, 96, 10), 17: (15, 96, 5)}

#: Where pictures are taken from [pc], and where the camera looks.
VIEWS: dict[str, Camera] = {
    "the Sun": Camera(),
    "25 pc aside, at the anticentre": Camera((0.0, 25.0, 0.0)),
    "25 pc before the Sun, through it": Camera((25.0, 0.0, 0.0)),
    "25 pc behind the Sun, outwards": Camera((-25.0, 0.0, 0.0)),
    "230 pc from the Sun": Camera((100.0, 200.0, 50.0)),
    "20 kpc above the plane, downwards": Camera((0.0, 0.0, 2e4), (0.0, -90.0), up=(0.0, 0.0)),
}

#: How often everything is measured; the least time counts, as others' work only adds to it.
ROUNDS = 3


def random_volume(nside: int, n_voxel: int) -> Volume:
    """Return a volume of random numbers: how fast a picture is does not depend on them."""
    rng = np.random.default_rng(0)
    shape = (n_voxel, healpy.nside2npix(nside), 4)
    emissivity = rng.standard_normal(shape, dtype=np.float32) ** 2
    return Volume(emissivity, 1e3 * np.asarray(edges_from_slices(CUTS[n_voxel]))[None])


def least(view: Camera, volume: Volume, rounds: int) -> tuple[float, float]:
    """Return the seconds that a picture takes, and those of all processors together."""
    seconds, work = [], []
    for _ in range(rounds):
        began, worked = perf_counter(), process_time()
        light_of(volume, view)
        seconds.append(perf_counter() - began)
        work.append(process_time() - worked)
    return min(seconds), min(work)


def main(arguments: list[str]) -> None:
    """Measure, and print the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, small volumes")
    parser.add_argument("--write", type=Path, help="file for the page")
    options = parser.parse_args(arguments)
    rounds = 1 if options.quick else ROUNDS
    sizes = [(32, 9)] if options.quick else [(32, 9), (128, 17), (256, 17)]
    sections = [
        "# Benchmarks of rendering",
        "What `tests/benchmarks/render.py` measured: pictures of 1280 x 720 points, with a field "
        "of 90 degrees, of whole skies of random dust. The time is that of the light alone; the "
        "picture and its legend take 0.2 s more. Beside it is the time that the processors spent, "
        "divided by their number, which is what it takes where nothing else runs.",
        machine(),
    ]
    began = perf_counter()
    integrate_rays(np.ones((1, 12, 4)), np.array([[0.0, 1.0]]), np.zeros(3), np.eye(3))
    compiled = perf_counter() - began
    for nside, n_voxel in sizes:
        volume = random_volume(nside, n_voxel)
        rows = [f"## Nside {nside}, {n_voxel} voxels\n", "| seen from | s | processors [s] |"]
        rows.append("|---|---|---|")
        for name, view in VIEWS.items():
            seconds, work = least(view, volume, rounds)
            rows.append(f"| {name} | {seconds:.2f} | {work / os.cpu_count():.2f} |")
        sections.append("\n".join(rows))
    folder = Path(options.write).parent if options.write else Path.cwd()
    cameras = loop_camera(8, size=(640, 360))
    volume = random_volume(*sizes[min(1, len(sizes) - 1)])
    began = perf_counter()
    film = write_film(folder / "benchmark.mp4", take_pictures(volume, cameras), overwrite=True)
    seconds = (perf_counter() - began) / len(cameras)
    film.unlink()
    sections.append(
        f"A film of 640 x 360 points takes {seconds:.2f} s for each picture, all included. Loading "
        f"the compiled code, or compiling it the first time, took {compiled:.1f} s."
    )
    page = "\n\n".join(sections) + "\n"
    if options.write:
        options.write.write_text(page)
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main(sys.argv[1:])
