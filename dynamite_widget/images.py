"""Pictures in: whatever holds a picture becomes one array, RGB uint8; anything else a clear error.

Also the bytes that a browser shows (`encoded_bytes`) and the hash that sessions carry
(`picture_hash`). Pillow and numpy only; torch tensors are recognised without importing torch.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import ImageError
from .pixel_values import shape_advice, to_uint8

logger = logging.getLogger(__name__)

MAX_MEGAPIXELS = 200.0
# Pillow's own value of Image.MAX_IMAGE_PIXELS; only a lower one, set by the user, is respected.
_PILLOW_DEFAULT_PIXELS = 1024**3 // 4 // 3
_MAX_PASSED_BYTES = 16 * 2**20
# Phones write JPEG files with a second picture inside (MPO); browsers show the first, as we do.
_BROWSER_FORMATS = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
}
_ORIENTATION_TAG = 0x0112

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class EncodedImage:
    """A picture as a browser can show it.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG or WebP file.
    mime : str
        Its media type.
    width, height : int
        Size in pixels of the encoded copy, which may be smaller than the picture.
    """

    data: bytes
    mime: str
    width: int
    height: int


def load_image(source: Any, max_megapixels: float | None = MAX_MEGAPIXELS) -> RGB:
    """Read a picture from (nearly) anything.

    Parameters
    ----------
    source : str, Path, bytes, file object, PIL image, numpy array or torch tensor
        Files of every format that Pillow reads (the first frame of animations); EXIF orientation is
        applied; palettes, CMYK and the like become RGB; transparent pixels are composited on white.
        Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Tensors may also be (C, H, W), which
        wins where a shape could be read both ways, as torch's convention. Addresses (``https://…``)
        are refused: nothing is downloaded.

        Values: uint8 as they are; uint16 from 0..65535; bool as black and white; other integers
        must lie in 0..255; floats are 0..1 if no value exceeds 1, else 0..255.
    max_megapixels : float or None
        Larger pictures are refused, files before they are decoded. None: no limit. A lower limit in
        ``PIL.Image.MAX_IMAGE_PIXELS`` is respected (twice its value, as Pillow does).

    Returns
    -------
    (H, W, 3) uint8 array
        RGB, C-contiguous, never sharing memory with `source`.

    Raises
    ------
    ImageError
        Naming what is wrong with the source, and what would be right.
    """
    limit = _pixel_limit(max_megapixels)
    if isinstance(source, Image.Image):
        _check_size(source.width, source.height, limit)
        return _from_pillow(source, "the PIL image")
    if isinstance(source, (str, os.PathLike)):
        return _from_file(_checked_path(source), limit)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), limit)
    if isinstance(source, np.ndarray):
        return _from_array(source, limit, "array")
    if type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach"):
        return _from_tensor(source, limit)
    if callable(getattr(source, "read", None)):
        data = source.read()
        if not isinstance(data, bytes):
            raise ImageError("a file object must be opened in binary mode ('rb')")
        return _from_bytes(data, limit)
    if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        return _from_array(np.asarray(source), limit, "array")
    raise ImageError(
        f"cannot read a picture from {type(source).__name__}; give a path, the bytes of a picture "
        "file, a PIL image, a numpy array or a torch tensor"
    )


def picture_hash(image: RGB) -> str:
    """Return the SHA-256 (hex) of a picture's size and RGB values, the same on every platform."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def encoded_bytes(source: Any, image: RGB, max_long_side: int = 2048) -> EncodedImage:
    """Return a picture as a file for the browser, the original bytes where they will do.

    Parameters
    ----------
    source : object
        What `load_image` was given. The bytes of a JPEG, PNG or WebP file pass through if it needs
        no rotation, is 8-bit RGB or gray without transparency or animation, and small enough.
    image : (H, W, 3) uint8 array
        What `load_image` returned.
    max_long_side : int
        A larger picture is sent as a reduced copy.

    Returns
    -------
    EncodedImage
    """
    height, width = image.shape[:2]
    original = (
        _original_bytes(source, width, height) if max(width, height) <= max_long_side else None
    )
    if original is not None:
        return original
    picture = Image.fromarray(image)
    if max(width, height) > max_long_side:
        scale = max_long_side / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    if _compresses_losslessly(np.asarray(picture)):
        picture.save(buffer, "PNG", compress_level=6)
        return EncodedImage(buffer.getvalue(), "image/png", width, height)
    picture.save(buffer, "JPEG", quality=92)
    return EncodedImage(buffer.getvalue(), "image/jpeg", width, height)


# --- files -----------------------------------------------------------------------------------


def _pixel_limit(max_megapixels: float | None) -> float:
    limit = float("inf") if max_megapixels is None else max_megapixels * 1e6
    if not limit > 0:
        raise ValueError(f"max_megapixels must be > 0 or None, got {max_megapixels!r}")
    pillow = Image.MAX_IMAGE_PIXELS
    if pillow is not None and pillow < _PILLOW_DEFAULT_PIXELS:
        limit = min(limit, 2 * pillow)
    return limit


def _check_size(width: int, height: int, limit: float) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the picture is empty: {width} x {height} pixels")
    if width * height > limit:
        raise ImageError(
            f"the picture has {width * height / 1e6:.1f} megapixels ({width} x {height}), more "
            f"than the {limit / 1e6:g} allowed; raise max_megapixels if you trust the file"
        )


def _checked_path(source: str | os.PathLike[Any]) -> Path:
    text = os.fspath(source)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    scheme, separator, _ = text.partition("://")
    if (separator and scheme.isalnum() and len(scheme) > 1) or text.lower().startswith("data:"):
        raise ImageError(
            f"{text[:80]!r} is an address; pictures are not downloaded: fetch it first, then give "
            "the path or the bytes"
        )
    if not text:
        raise ImageError("the path is empty")
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            raise ImageError(f"{text!r} is a folder; give the path of one picture")
        if not path.exists():
            raise ImageError(f"no such file: {text!r} (current folder: {Path.cwd()})")
    except (OSError, RuntimeError, ValueError) as error:  # no home folder, name too long, NUL
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{text[:80]!r} is not a usable path: {error}") from error
    return path


def _from_file(path: Path, limit: float) -> RGB:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ImageError(f"the file {path.name!r} is empty (0 bytes)")
            with _open(file, repr(path.name)) as picture:
                _check_size(picture.width, picture.height, limit)
                return _from_pillow(picture, repr(path.name))
    except OSError as error:  # not readable, vanished; Pillow's own are converted below
        raise ImageError(f"cannot read {str(path)!r}: {error}") from error


def _from_bytes(data: bytes, limit: float) -> RGB:
    if not data:
        raise ImageError("the picture is empty (0 bytes)")
    with _open(io.BytesIO(data), f"{len(data)} bytes") as picture:
        _check_size(picture.width, picture.height, limit)
        return _from_pillow(picture, f"the picture of {len(data)} bytes")


def _open(file: Any, name: str) -> Image.Image:
    """Read the header of a picture, as ``Image.open`` does but without its size check.

    That check refuses pictures which `max_megapixels` allows, and only global settings (PIL's
    constant, the warning filters) could keep it quiet.
    """
    Image.preinit()
    for load_all in (False, True):
        if load_all:
            Image.init()
        file.seek(0)
        prefix = file.read(16)
        for key in list(Image.ID):
            factory, accept = Image.OPEN[key]
            try:
                verdict = accept(prefix) if accept else True
                if verdict is True or (verdict and not isinstance(verdict, str)):
                    file.seek(0)
                    return factory(file, "")
            except (SyntaxError, IndexError, TypeError, KeyError, ValueError, EOFError, OSError):
                continue  # damaged, or another format with the same first bytes
            except Exception as error:  # struct.error, zlib.error, plugin bugs
                logger.debug("%s does not open as %s: %s", name, key, error)
    raise ImageError(
        f"{name}: not a picture in a known format, or its header is damaged (JPEG, PNG, WebP, "
        "TIFF, BMP, GIF and others are read)"
    )


# --- Pillow images ---------------------------------------------------------------------------


def _from_pillow(picture: Image.Image, name: str) -> RGB:
    try:
        picture.load()
    except MemoryError:
        raise
    except Exception as error:  # OSError, SyntaxError, struct.error, zlib.error, … by format
        raise ImageError(f"{name}: the file is truncated or damaged ({error})") from error
    picture = _upright(picture)
    mode = picture.mode
    if mode.startswith("I;16"):
        return _from_array(np.asarray(picture).astype(np.uint16), float("inf"), "picture")
    if mode == "I":
        values = np.asarray(picture)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ImageError(
                f"{name}: 32-bit values {values.min()}..{values.max()}; bring them to 0..65535"
            )
        return _from_array(values.astype(np.uint16), float("inf"), "picture")
    if mode == "F":
        return _from_array(np.asarray(picture), float("inf"), "picture")
    try:
        if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
            picture = _on_white(picture.convert("RGBA"))
        elif mode != "RGB":
            picture = picture.convert("RGB")
    except ValueError as error:
        raise ImageError(f"{name}: cannot convert colour mode {mode!r} to RGB ({error})") from error
    return np.array(picture, dtype=np.uint8, order="C")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        if picture.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9):
            return ImageOps.exif_transpose(picture)
        return picture
    except Exception as error:  # EXIF blocks are often damaged; the pixels are fine
        logger.warning("ignoring unreadable EXIF data: %s", error)
        return picture


def _on_white(rgba: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", rgba.size, (255, 255, 255))
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


# --- arrays and tensors ----------------------------------------------------------------------


def _from_tensor(tensor: Any, limit: float) -> RGB:
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        raise ImageError(
            f"a batch of shape {shape} is not one picture; give tensor[0], tensor[1], …"
        )
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array = tensor.numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    return _from_array(array, limit, "tensor")


def _from_array(array: NDArray[Any], limit: float, what: str) -> RGB:
    if array.size == 0:
        raise ImageError(f"the {what} is empty: shape {array.shape}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"the {what} has shape {array.shape}; {shape_advice(array, what)}")
    _check_size(array.shape[1], array.shape[0], limit)
    values = to_uint8(array, what)
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, axis=2)
    elif values.shape[2] == 4:
        values = np.asarray(_on_white(Image.fromarray(np.ascontiguousarray(values))))
    return np.array(values, dtype=np.uint8, order="C")


# --- bytes for the browser -------------------------------------------------------------------


def _original_bytes(source: Any, width: int, height: int) -> EncodedImage | None:
    try:
        if isinstance(source, (str, os.PathLike)):
            path = Path(os.fsdecode(source)).expanduser()
            if path.stat().st_size > _MAX_PASSED_BYTES:
                return None
            data = path.read_bytes()
        elif isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
        else:
            return None
        if not 0 < len(data) <= _MAX_PASSED_BYTES:
            return None
        with _open(io.BytesIO(data), "the picture") as picture:
            fits = (
                picture.format in _BROWSER_FORMATS
                and picture.mode in ("RGB", "L")
                and "transparency" not in picture.info
                and (picture.format == "MPO" or getattr(picture, "n_frames", 1) == 1)
                and picture.size == (width, height)
                and picture.getexif().get(_ORIENTATION_TAG, 1) in (0, 1)
            )
            mime = _BROWSER_FORMATS[picture.format] if fits and picture.format else None
    except Exception as error:  # changed or vanished since it was loaded; it can still be encoded
        logger.debug("original bytes are not usable: %s", error)
        return None
    return EncodedImage(data, mime, width, height) if mime else None


def _compresses_losslessly(image: RGB) -> bool:
    """Tell whether PNG suits a picture: small, or few colours as in plots and synthetic scenes."""
    height, width = image.shape[:2]
    if height * width <= 128 * 128:
        return True
    step = max(1, int(np.sqrt(height * width / 65536)))
    sample = image[::step, ::step].astype(np.uint32)
    codes = sample[..., 0] << 16 | sample[..., 1] << 8 | sample[..., 2]
    return bool(np.unique(codes).size <= 256)
