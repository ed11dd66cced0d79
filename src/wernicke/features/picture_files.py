"""Opening pictures without trusting them, and choosing frames of a film."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file, check_folder, check_range
from wernicke.core.errors import InputError
from wernicke.store.files import describe_start
from wernicke.store.fingerprint import fingerprint, fingerprint_array

MAX_PIXELS = 50_000_000
_MAX_BYTES = 256 * 2**20
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")


def read_picture(picture: Any, *, squeeze_px: int | None = None) -> Any:
    """Return a picture as PIL's RGB image, squeezed into a square of `squeeze_px` if given (bicubic).

    Parameters
    ----------
    picture : path-like, str, PIL image or array
        An array is uint8, (height, width, 3) or (height, width). A file is PNG, JPEG, BMP, GIF, TIFF, WebP or PPM; of a
        moving one the first frame; turned as its EXIF says; transparent parts on white.

    Raises
    ------
    InputError
        E-REF, E-FMT (no picture, 16-bit or float pixels), E-SIZE (over 50 million pixels, or a decompression bomb),
        E-TRUNC, E-SHAPE.
    """
    image = _read(picture)
    return image if squeeze_px is None else image.resize((squeeze_px, squeeze_px))


def _read(picture: Any) -> Any:
    from PIL import Image

    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8:
            raise InputError("E-FMT", f"found dtype {picture.dtype}, expected uint8", field="picture")
        if picture.ndim not in (2, 3) or 0 in picture.shape or picture.shape[2:] not in ((), (3,)):
            raise InputError("E-SHAPE", f"found shape {picture.shape}, expected (height, width, 3)", field="picture")
        return Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")
    if isinstance(picture, Image.Image):
        return _as_rgb(picture, None)
    if not isinstance(picture, str | os.PathLike):
        raise InputError("E-FMT", f"found {type(picture).__name__}, expected a file, PIL image or array",
                         field="picture")  # fmt: skip
    path = check_file(picture)
    size = path.stat().st_size
    if size == 0 or size > _MAX_BYTES:
        raise InputError(
            "E-SIZE" if size else "E-TRUNC", f"file has {size} bytes, expected 1 to {_MAX_BYTES}", path=path
        )
    return _read_file(path)


def _read_file(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError("E-SIZE", f"{image.width} x {image.height} pixels, at most {MAX_PIXELS} are read",
                                     path=path)  # fmt: skip
                image.load()
                return _as_rgb(image, path)
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            raise InputError("E-FMT", f"not a picture but {describe_start(file.read(64))}", path=path) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError("E-SIZE", f"more than {MAX_PIXELS} pixels", path=path) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        code = "E-TRUNC" if "truncat" in str(error) else "E-SIZE" if "too large" in str(error) else "E-FMT"
        raise InputError(code, f"the picture cannot be read ({error})", path=path) from None


def _as_rgb(image: Any, path: Path | None) -> Any:
    from PIL import Image, ImageOps

    if image.mode not in _MODES:
        raise InputError("E-FMT", f"found pixels of mode {image.mode!r}, expected 8-bit grey or colour", path=path,
                         field="picture", hint="convert it to 8 bits, from the range that you mean")  # fmt: skip
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    return image.convert("RGB")


def picture_print(picture: Any) -> str:
    """Return a fingerprint of a picture's content: of the file, or of the pixels as `read_picture` gives them."""
    if isinstance(picture, str | os.PathLike):
        return fingerprint(check_file(picture))
    return fingerprint_array(np.asarray(read_picture(picture)))  # palette, orientation and transparency applied


def film_frames(
    folder: str | os.PathLike[str], *, run: Any, fps: float, all_frames: bool = False
) -> tuple[list[Path], pd.DataFrame]:
    """Choose the first and the middle frame of each whole second of a film's extracted frames, as drama2brain does.

    Parameters
    ----------
    folder : path-like
        One picture a frame, in the order of the numbers in their names.
    run : label
        For the index.
    fps : float
        Frames a second; the middle one is number ``fps // 2`` of its second. Where `fps` is no whole number, the frame
        that stands at that time.
    all_frames : bool
        Return every frame, as motion energy needs.

    Returns
    -------
    files : list of Path
    index : DataFrame
        `run` and `onset_s` of each file.

    Raises
    ------
    InputError
        E-REF (no folder), E-META (no pictures, less than a second), E-CFG.
    """
    check_range(fps, "fps", low=1)
    folder = check_folder(folder)
    files = sorted((p for p in folder.iterdir() if p.suffix.lower() in ENDINGS), key=_by_number)
    if len(files) < fps:
        raise InputError("E-META", f"found {len(files)} pictures, expected at least a second of {fps:g} frames",
                         path=folder)  # fmt: skip
    if all_frames:
        chosen = np.arange(len(files))
    else:
        begin = np.arange(int(len(files) / fps + 1e-9)) * fps
        chosen = np.stack([np.ceil(begin - 1e-9), np.ceil(begin - 1e-9) + fps // 2], axis=1).astype(int).ravel()
        chosen = chosen[chosen < len(files)]
    index = pd.DataFrame({"run": [run] * len(chosen), "onset_s": chosen / fps})
    return [files[i] for i in chosen], index


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Order frame2 before frame10, whether or not numbers are padded with zeros."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]


def check_index(index: pd.DataFrame | None, names: Sequence[str], n: int, field: str) -> pd.DataFrame:
    """Return the index of `n` items: the given one, or `stimulus_id` from names."""
    if index is None:
        return pd.DataFrame({"stimulus_id": list(names)})
    if len(index) != n:
        raise InputError("E-SHAPE", f"found {len(index)} rows for {n} {field}", field="index")
    return index.reset_index(drop=True)
