import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from pymcdust.commands.render import render as command
from pymcdust.errors import ConfigurationError
from pymcdust.products.film import check_file, take_pictures, write_film, write_still
from pymcdust.products.render import Camera, exposure_of, light_of, loop_camera, render
from pymcdust.products.volume import Volume
from pymcdust.sky.dataset import save_sky
from pymcdust.sky.store import write_store

SIZE = (64, 36)


def ffmpeg(path, *options):
    """Return what ffmpeg makes of a file, and what it says of it."""
    program = imageio_ffmpeg.get_ffmpeg_exe()
    done = subprocess.run(
        [program, "-i", str(path), *options, "-"], capture_output=True, check=True
    )
    return done.stdout, done.stderr.decode()


def decode(path):
    """Return the pictures of a file as ffmpeg reads them, (picture, height, width, 3)."""
    raw, told = ffmpeg(path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24")
    width, height = map(int, re.search(r"Video: .* (\d+)x(\d+)", told).groups())
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


@pytest.fixture
def pictures():
    """Twelve pictures in which a bright square moves to the right."""
    frames = np.full((12, SIZE[1], SIZE[0], 3), (20, 40, 60), np.uint8)
    for number, frame in enumerate(frames):
        frame[8:24, 4 * number : 4 * number + 16] = (230, 180, 90)
    return frames


def test_a_still_is_read_back_as_it_was(tmp_path, pictures):
    path = write_still(tmp_path / "dust.png", pictures[3])
    np.testing.assert_array_equal(decode(path), pictures[3:4])
    again = write_still(tmp_path / "again.png", pictures[3])
    assert again.read_bytes() == path.read_bytes()
    with Image.open(path) as image:
        assert not image.info  # neither time nor program
    with pytest.raises(ConfigurationError, match=r"dust.png exists"):
        write_still(path, pictures[4])
    write_still(path, pictures[4], overwrite=True)
    np.testing.assert_array_equal(decode(path), pictures[4:5])


@pytest.mark.parametrize(("name", "error"), [("dust.mp4", 12), ("dust.gif", 4)])
def test_a_film_is_read_back_picture_by_picture(tmp_path, pictures, name, error):
    path = write_film(tmp_path / name, iter(pictures))
    read = decode(path)
    assert read.shape == pictures.shape
    # Colours of MP4 are kept for two by two points, so that edges are blurred.
    assert np.abs(read.astype(int) - pictures).mean() < error
    light = read[:, 16].sum(axis=-1, dtype=float) - 120
    middle = (light * np.arange(64)).sum(axis=-1) / light.sum(axis=-1)
    np.testing.assert_allclose(middle, 7.5 + 4 * np.arange(12), atol=1)
    assert write_film(tmp_path / f"2{name}", pictures).read_bytes() == path.read_bytes()
    with pytest.raises(ConfigurationError, match="exists"):
        write_film(path, pictures)


@pytest.mark.parametrize("name", ["dust.mp4", "dust.gif"])
def test_the_rate_is_that_asked_for(tmp_path, pictures, name):
    path = write_film(tmp_path / name, pictures, rate=10)
    _, told = ffmpeg(path, "-f", "null")
    minutes, seconds = re.search(r"Duration: 00:(\d+):(\d+\.\d+)", told).groups()
    assert (int(minutes), float(seconds)) == (0, pytest.approx(1.2, abs=0.02))
    assert len(decode(path)) == 12


def test_mp4_tells_nothing_of_where_it_was_made(tmp_path, pictures):
    path = write_film(tmp_path / "dust.mp4", pictures)
    metadata, told = ffmpeg(path, "-f", "ffmetadata")
    assert "creation_time" not in metadata.decode() + told
    assert "yuv420p" in told  # what every player plays


def test_an_encoder_that_fails_says_why_and_leaves_no_film(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr("pymcdust.products.film.QUALITY", "nonsense")
    with pytest.raises(OSError, match=r"could not be encoded: .*nonsense"):
        write_film(tmp_path / "dust.mp4", pictures)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("dust.avi", 2, r"allowed are .mp4 and .gif"),
        ("dust", 2, r"unknown ending of the file 'dust'"),
        ("dust.mp4", 0, "no picture"),
        ("dust.gif", 0, "no picture"),
    ],
)
def test_films_that_cannot_be(tmp_path, pictures, name, count, message):
    with pytest.raises(ConfigurationError, match=message):
        write_film(tmp_path / name, pictures[:count])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["dust.mp4", "dust.gif"])
def test_pictures_that_differ_in_size_leave_no_film(tmp_path, pictures, name):
    with pytest.raises(ConfigurationError, match=r"size \(64, 34\), the first \(64, 36\)"):
        write_film(tmp_path / name, [pictures[0], pictures[1][:34]])
    assert not list(tmp_path.iterdir())


def test_odd_sides_and_rates(tmp_path, pictures):
    with pytest.raises(ConfigurationError, match="in MP4 both numbers are even"):
        write_film(tmp_path / "dust.mp4", pictures[:, :35])
    assert len(decode(write_film(tmp_path / "dust.gif", pictures[:, :35]))) == 12
    for name, rate in (("a.gif", 60), ("a.mp4", 0)):
        with pytest.raises(ConfigurationError, match=f"rate is {rate}"):
            write_film(tmp_path / name, pictures, rate=rate)


def test_all_pictures_of_a_film_have_the_exposure_of_the_first(sky, fit):
    volume = Volume.from_fit(fit, sky)
    cameras = [Camera(look=(45.0, 40.0), size=SIZE), *loop_camera(2, size=SIZE)]
    first = exposure_of(light_of(volume, cameras[0]))
    taken = list(take_pictures(volume, cameras, legend=False))
    for camera, picture in zip(cameras, taken, strict=True):
        np.testing.assert_array_equal(picture, render(volume, camera, first))
    given = next(take_pictures(volume, cameras, exposure=3.0, legend=False))
    np.testing.assert_array_equal(given, render(volume, cameras[0], 3.0))


@pytest.fixture
def run(tmp_path, sky, fit):
    """Return a function that runs the command on a sky and a fit in files."""
    numbers = {dim: np.arange(sky.sizes[dim]) for dim in ("pixel", "voxel")}
    sky = sky.assign_coords(numbers).assign_attrs(reddening_unit="bayestar2019")
    save_sky(sky, tmp_path / "sky.zarr")
    write_store(fit, tmp_path / "fit.zarr", superpixels_per_chunk=4)
    app = Typer()
    app.command()(command)
    files = [str(tmp_path / "fit.zarr"), str(tmp_path / "sky.zarr")]

    def run(out, *options):
        arguments = [*files, "--out", str(tmp_path / out), "--size", "64", "36", *options]
        return CliRunner().invoke(app, arguments)

    return run


def test_the_command_makes_a_picture(run, tmp_path, sky, fit):
    options = ["--camera", "-5", "3", "10", "--look", "40", "30", "--fov", "70"]
    done = run("dust.png", *options, "--exposure", "2", "--no-legend")
    assert done.exit_code == 0, done.output
    camera = Camera((-5.0, 3.0, 10.0), (40.0, 30.0), 70.0, SIZE)
    expected = render(Volume.from_fit(fit, sky), camera, 2.0)
    np.testing.assert_array_equal(decode(tmp_path / "dust.png")[0], expected)


@pytest.mark.parametrize("name", ["dust.mp4", "dust.gif"])
def test_the_command_makes_a_film(run, tmp_path, name):
    options = ["--frames", "3", "--smooth", "2", "--nside", "8", "--size", "200", "112"]
    done = run(name, *options)
    assert done.exit_code == 0, done.output
    assert decode(tmp_path / name).shape == (3, 112, 200, 3)


def test_the_command_passes_on_both_exponents(run, tmp_path, sky, fit):
    options = ["--saturation", "0.6", "--brightness", "1", "--exposure", "2", "--no-legend"]
    done = run("DUST.PNG", *options, "--look", "0", "-90")
    assert done.exit_code == 0, done.output
    camera = Camera((0.0, 25.0, 0.0), (0.0, -90.0), size=SIZE)
    expected = render(Volume.from_fit(fit, sky), camera, 2.0, 0.6, 1.0)
    np.testing.assert_array_equal(decode(tmp_path / "DUST.PNG")[0], expected)


def test_the_command_has_the_exponents_of_the_library(run, tmp_path, sky, fit):
    assert run("dust.png", "--no-legend").exit_code == 0
    expected = render(Volume.from_fit(fit, sky), Camera((0.0, 25.0, 0.0), size=SIZE))
    np.testing.assert_array_equal(decode(tmp_path / "dust.png")[0], expected)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("dust.jpg", [], "unknown ending"),
        ("dust.mp4", ["--camera", "1", "2", "3"], "give --radius"),
        ("dust.mp4", ["--size", "65", "36"], "65 x 36 points; in MP4 both numbers are even"),
        ("dust.png", ["--exposure", "0"], "exposure is 0"),
        ("dust.png", ["--exposure", "nan"], "exposure is nan"),
        ("dust.png", ["--saturation", "-1"], "saturation_gamma is -1"),
        ("dust.gif", ["--brightness", "0"], "brightness_gamma is 0"),
        ("dust.png", ["--look", "0", "91"], "latitude 91"),
        ("dust.png", ["--size", "200000", "200000"], "50,000,000 points"),
        ("dust.png", [], "64 x 36 points; its legend needs 189 x .*--no-legend"),
        ("file/new/dust.png", [], "file is a file; give a folder"),
        ("folder.png", [], "is a folder; give the name of a file"),
    ],
)
def test_the_command_refuses_before_it_reads(run, tmp_path, monkeypatch, out, options, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    before = set(tmp_path.iterdir())
    monkeypatch.setattr("pymcdust.open_sky", lambda path: pytest.fail("the sky was opened"))
    error = run(out, *options).exception
    assert isinstance(error, ConfigurationError)
    assert re.search(message, str(error))
    assert set(tmp_path.iterdir()) == before


def test_a_folder_that_may_not_be_written_in(tmp_path, monkeypatch):
    def refuse(prefix, dir):
        assert dir == tmp_path
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pymcdust.products.film.TemporaryDirectory", refuse)
    with pytest.raises(ConfigurationError, match=r"in \(Read-only file system\); give another"):
        check_file(tmp_path / "new" / "dust.png", overwrite=False)


def test_settings_are_refused_before_the_first_picture(sky, fit):
    volume = Volume.from_fit(fit, sky)
    with pytest.raises(ConfigurationError, match="exposure is 0"):
        next(take_pictures(volume, [Camera(size=SIZE)], exposure=0, legend=False))
    with pytest.raises(ConfigurationError, match="legend needs"):
        next(take_pictures(volume, [Camera(size=SIZE)]))
