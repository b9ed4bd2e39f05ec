"""Pictures and films in files: PNG, GIF and MP4, the same bytes for the same pictures."""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import imageio_ffmpeg
import numpy as np
from PIL import Image

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.products.legend import add_legend, check_legend
from pymcdust.products.render import (
    BRIGHTNESS_GAMMA,
    SATURATION_GAMMA,
    Camera,
    check_settings,
    develop,
    exposure_of,
    light_of,
    to_bytes,
)
from pymcdust.products.staging import staged
from pymcdust.products.volume import Volume

#: Endings of pictures, and of films.
ENDINGS: tuple[str, ...] = (".png", ".mp4", ".gif")

#: Pictures per second.
RATE = 25

#: Quality of MP4, by which rates differ from scene to scene; smaller is better (x264's CRF).
QUALITY = 18


def check_file(
    path: Path,
    overwrite: bool,
    allowed: Sequence[str] = ENDINGS,
    size: tuple[int, int] | None = None,
) -> str:
    """Return the ending of a file in small letters, if such pictures can be written there.

    Parameters
    ----------
    path : Path
        The file.
    overwrite : bool
        Whether a file may be replaced.
    allowed : sequence of str, optional
        Endings that are allowed.
    size : (int, int), optional
        Width and height of the pictures in points.

    Returns
    -------
    str
        One of `allowed`.

    Raises
    ------
    ConfigurationError
        If the file has another ending, exists, or its folder cannot be made or written in, or a
        side of the pictures is odd in MP4.
    """
    ending = path.suffix.lower()
    if ending not in allowed:
        raise ConfigurationError(unknown("ending of the file", path.suffix or path.name, allowed))
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise ConfigurationError(f"{path} exists; give another name, or ask to overwrite")
    nearest = next(folder for folder in path.resolve().parents if folder.exists())
    if not nearest.is_dir():
        raise ConfigurationError(f"{nearest} is a file; give a folder to write {path.name} in")
    try:
        with TemporaryDirectory(prefix=".unfinished-", dir=nearest):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{nearest} cannot be written in ({error.strerror}); give another folder"
        ) from error
    if ending == ".mp4" and size is not None:
        _check_even(*size)
    return ending


def _check_even(width: int, height: int) -> None:
    if width % 2 or height % 2:
        raise ConfigurationError(
            f"the pictures are {width} x {height} points; in MP4 both numbers are even"
        )


def take_pictures(
    volume: Volume,
    cameras: Sequence[Camera],
    exposure: float | None = None,
    saturation_gamma: float = SATURATION_GAMMA,
    brightness_gamma: float = BRIGHTNESS_GAMMA,
    legend: bool = True,
) -> Iterator[np.ndarray]:
    """Take the pictures of a film, all with one exposure.

    Parameters
    ----------
    volume : Volume
        The dust.
    cameras : sequence of Camera
        A camera for each picture, as `pymcdust.products.render.loop_camera` returns them.
    exposure : float, optional
        As for `pymcdust.products.render.render`; that of the first picture if left out.
    saturation_gamma, brightness_gamma : float, optional
        As for `pymcdust.products.render.develop`.
    legend : bool, optional
        Whether the legend is written on them.

    Yields
    ------
    (height, width, 3) array of uint8
        One picture after the other, for `write_film`.

    Raises
    ------
    ConfigurationError
        If a setting is impossible, or the pictures are too small for the legend.
    """
    check_settings(exposure, saturation_gamma, brightness_gamma)
    if legend:
        for camera in cameras:
            check_legend(camera)
    for camera in cameras:
        light = light_of(volume, camera)
        exposure = exposure_of(light) if exposure is None else exposure
        picture = to_bytes(develop(light, exposure, saturation_gamma, brightness_gamma))
        if legend:
            picture = add_legend(picture, camera, saturation_gamma, brightness_gamma)
        yield picture


def write_still(path: str | Path, picture: np.ndarray, overwrite: bool = False) -> Path:
    """Write a picture as PNG.

    Parameters
    ----------
    path : path
        The file, whose name ends in ``.png`` or ``.PNG``.
    picture : (height, width, 3) array of uint8
        The picture.
    overwrite : bool, optional
        Whether a file may be replaced.

    Returns
    -------
    Path
        The file. The same picture gives the same bytes.

    Raises
    ------
    ConfigurationError
        If the name has another ending, or the file exists.
    """
    path = Path(path)
    check_file(path, overwrite, ENDINGS[:1])
    with staged(path.parent, [path.name], overwrite) as unfinished:
        Image.fromarray(picture).save(unfinished / path.name, optimize=True)
    return path


def write_film(
    path: str | Path, pictures: Iterable[np.ndarray], rate: int = RATE, overwrite: bool = False
) -> Path:
    """Write a film, picture by picture.

    Parameters
    ----------
    path : path
        The file, whose name ends in ``.mp4`` or ``.gif``.
    pictures : iterable of (height, width, 3) arrays of uint8
        The pictures, all of the same size; for MP4 both sides are even.
    rate : int, optional
        Pictures per second. GIF counts in hundredths of a second, and has 50 a second at most.
    overwrite : bool, optional
        Whether a file may be replaced.

    Returns
    -------
    Path
        The file. GIF has 256 colours for each picture, and goes round for ever.

    Raises
    ------
    ConfigurationError
        If the name has another ending, the file exists, there is no picture, or they differ in
        size, or a side is odd in MP4.
    OSError
        If the film cannot be encoded, as where the disk is full.
    """
    path = Path(path)
    ending = check_file(path, overwrite, ENDINGS[1:])
    if not 0 < rate <= (50 if ending == ".gif" else 240):
        raise ConfigurationError(f"rate is {rate}; allowed are 1 to 240 a second, to 50 in GIF")
    with staged(path.parent, [path.name], overwrite) as unfinished:
        write = _write_gif if ending == ".gif" else _write_mp4
        write(unfinished / path.name, _alike(pictures), rate)
    return path


def _alike(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield pictures that have the size of the first."""
    shape = None
    for picture in pictures:
        shape = shape or picture.shape
        if picture.shape != shape:
            raise ConfigurationError(
                f"a picture has the size {picture.shape[1::-1]}, the first {shape[1::-1]}; those "
                "of a film have the same"
            )
        yield picture
    if shape is None:
        raise ConfigurationError("the film has no picture; give one at least")


def _write_gif(path: Path, pictures: Iterator[np.ndarray], rate: int) -> None:
    # A palette for each picture: dust of a few temperatures needs few hues, but many shades.
    frames = (Image.fromarray(picture).quantize(256) for picture in pictures)
    first = next(frames)
    first.save(path, save_all=True, append_images=frames, duration=round(1000 / rate), loop=0)


def _write_mp4(path: Path, pictures: Iterator[np.ndarray], rate: int) -> None:
    first = next(pictures)
    height, width = first.shape[:2]
    _check_even(width, height)
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(rate), "-i", "-"),
        *("-c:v", "libx264", "-crf", str(QUALITY), "-preset", "slow", "-pix_fmt", "yuv420p"),
        # No time, and threads, on which the encoder's choices depend, as many as anywhere: the
        # same pictures give the same bytes.
        *("-threads", "1", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *("-movflags", "+faststart", "-y", str(path)),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as encoder:
        try:
            for picture in chain([first], pictures):
                encoder.stdin.write(np.ascontiguousarray(picture))
        except BrokenPipeError:
            pass  # The encoder gave up, and says why.
        _, complaint = encoder.communicate()
    if encoder.returncode:
        raise OSError(f"the film could not be encoded: {complaint.decode().strip()}")
