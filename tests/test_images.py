"""`dynamite_widget.images`: every kind of picture in, clear refusals, bytes for the browser."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynamite_widget.errors import ImageError
from dynamite_widget.images import encoded_bytes, load_image, picture_hash


def gradient(height: int = 24, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def file_bytes(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def check(image: np.ndarray, height: int, width: int) -> None:
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_lossless_formats_keep_the_pixels(kind: str, tmp_path: Path) -> None:
    image = np.zeros((5, 7, 3), np.uint8)
    image[1:3, 2:6] = (250, 20, 130)
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / f"größe {kind}.bin"
    path.write_bytes(file_bytes(Image.fromarray(image), kind, **options))
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes())):
        loaded = load_image(source)
        check(loaded, 5, 7)
        np.testing.assert_array_equal(loaded, image)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_image(file), image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    image = gradient()
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: np.rot90(image, 2).transpose(1, 0, 2),
        8: np.rot90(image, 1),
    }[orientation]
    data = file_bytes(Image.fromarray(image), exif=with_orientation(orientation))
    np.testing.assert_array_equal(load_image(data), turned)
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(load_image(picture), turned)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
)
def test_every_mode_of_pillow(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray((gradient()[:, :, 0].astype(np.uint16)) * 257)
        assert picture.mode == "I;16"
    elif mode == "LAB":
        picture = Image.new("LAB", (32, 24), (50, 128, 128))
    else:
        picture = Image.fromarray(gradient()).convert(mode)
    check(load_image(picture), 24, 32)


def test_sixteen_bit_files_use_the_full_range() -> None:
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        loaded = load_image(file_bytes(Image.fromarray(values), kind))
        np.testing.assert_array_equal(loaded[0, :, 1], [0, 1, 128, 255])
    picture = Image.fromarray(values.astype(np.int32))
    assert picture.mode == "I"
    np.testing.assert_array_equal(load_image(picture)[0, :, 1], [0, 1, 128, 255])
    with pytest.raises(ImageError, match="65536"):
        load_image(Image.fromarray(np.array([[65536]], np.int32)))


def test_cmyk_jpeg() -> None:
    data = file_bytes(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert load_image(data)[4, 4].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_transparency_is_composited_on_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = (0, 128, 255)
    expected = [[255, 255, 255], [227, 127, 127], [200, 0, 0]]
    for source in (rgba, Image.fromarray(rgba), file_bytes(Image.fromarray(rgba))):
        np.testing.assert_allclose(load_image(source)[0], expected, atol=1)
    gray = Image.fromarray(rgba).convert("LA")
    assert load_image(gray)[0, 0].tolist() == [255, 255, 255]
    # A palette with a transparent entry, a gray and an RGB picture with a transparent value.
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    loaded = load_image(file_bytes(palette, transparency=0))
    assert loaded[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    loaded = load_image(file_bytes(Image.new("L", (1, 1), 7), transparency=7))
    assert loaded[0, 0].tolist() == [255, 255, 255]


def test_animations_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    data = file_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_image(data)[0, 0].tolist() == [255, 0, 0]


# --- arrays and tensors ----------------------------------------------------------------------


def test_array_shapes() -> None:
    image = gradient()
    np.testing.assert_array_equal(load_image(image), image)
    assert not np.shares_memory(load_image(image), image)
    for gray in (image[:, :, 0], image[:, :, :1]):
        loaded = load_image(gray)
        check(loaded, 24, 32)
        np.testing.assert_array_equal(loaded[:, :, 2], image[:, :, 0])
    opaque = np.dstack([image, np.full((24, 32), 255, np.uint8)])
    np.testing.assert_array_equal(load_image(opaque), image)
    np.testing.assert_array_equal(load_image(image[::-1, ::2]), image[::-1, ::2])
    check(load_image(np.zeros((1, 1), np.uint8)), 1, 1)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float16), [0, 128, 255]),
        (np.array([[0.0, 127.4, 255.0]], np.float32), [0, 127, 255]),
        (np.array([[0.0, 1.0, 2.0]]), [0, 1, 2]),
        (np.array([[-1e-6, 1 + 1e-6, 1.0]]), [0, 255, 255]),
        (np.array([[False, True, True]]), [0, 255, 255]),
        (np.array([[0, 65535, 257]], np.uint16), [0, 255, 1]),
        (np.array([[0, 65535, 257]], ">u2"), [0, 255, 1]),
        (np.array([[0, 3, 255]], np.int64), [0, 3, 255]),
    ],
)
def test_value_rules(array: np.ndarray, expected: list[int]) -> None:
    np.testing.assert_array_equal(load_image(array)[0, :, 0], expected)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    image = gradient()
    tensor = torch.from_numpy(image)
    np.testing.assert_array_equal(load_image(tensor), image)
    np.testing.assert_array_equal(load_image(tensor.permute(2, 0, 1)), image)
    np.testing.assert_array_equal(load_image(tensor[..., 0]), image[..., [0, 0, 0]])
    floats = (tensor.permute(2, 0, 1).float() / 255).requires_grad_()
    np.testing.assert_array_equal(load_image(floats), image)
    check(load_image(floats.bfloat16()), 24, 32)
    # (3, 4, 3) can be read both ways: channels first is torch's convention.
    check(load_image(torch.zeros(3, 4, 3, dtype=torch.uint8)), 4, 3)
    with pytest.raises(ImageError, match=r"tensor\[0\]"):
        load_image(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ImageError, match="normalisation"):
        load_image(floats * 4 - 2)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np; from dynamite_widget.images import load_image; "
        "load_image(np.zeros((2, 2))); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "empty"),
        (b"not a picture at all", "known format"),
        (b"\x89PNG\r\n\x1a\n", "known format"),
        (np.zeros((0, 4, 3)), "empty"),
        (np.zeros(4), "shape"),
        (np.zeros((4, 4, 2)), "shape"),
        (np.zeros((3, 40, 40)), "transpose"),
        (np.zeros((1, 4, 4, 3)), r"array\[0\]"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.array([[0.0, np.inf]]), "1 of 2"),
        (np.array([[0.0, 300.0]]), "300"),
        (np.array([[-1.0, 1.0]]), "-1"),
        (np.array([[0, 256]]), "256"),
        (np.array([[-1, 5]]), "-1"),
        (np.zeros((2, 2), complex), "complex"),
        (np.array([["a"]]), "dtype"),
        (np.array([[None]]), "dtype"),
        (None, "NoneType"),
        (42, "int"),
        ([[1, 2], [3, 4]], "list"),
        (io.StringIO("text"), "binary"),
        ("https://example.org/cat.jpg", "not downloaded"),
        ("s3://bucket/cat.jpg", "address"),
        ("data:image/png;base64,AAAA", "address"),
        ("", "empty"),
        ("no/such/file.png", "no such file"),
        ("a\0b", "path|no such file"),
        (".", "folder"),
    ],
)
def test_bad_sources_are_named(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(source)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_truncated_files(kind: str, tmp_path: Path) -> None:
    data = file_bytes(Image.fromarray(noise(40, 50)), kind)
    for keep in (0.2, 0.5, 0.9):
        path = tmp_path / "cut.bin"
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            load_image(path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(ImageError, match="0 bytes"):
        load_image(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size, without the pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_size_is_checked_before_decoding() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own warning must not come up either
        with pytest.raises(ImageError, match=r"400\.0 megapixels"):
            load_image(png_header(20_000, 20_000))
        # Between Pillow's limit and ours: refused only for its missing pixels.
        with pytest.raises(ImageError, match="truncated"):
            load_image(png_header(15_000, 13_000), max_megapixels=None)
    with pytest.raises(ImageError, match="max_megapixels"):
        load_image(gradient(), max_megapixels=0.0005)
    check(load_image(gradient(), max_megapixels=None), 24, 32)
    with pytest.raises(ValueError, match="max_megapixels"):
        load_image(gradient(), max_megapixels=0)


def test_pillows_limit_is_respected_when_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"0\.0002 allowed"):
        load_image(file_bytes(Image.fromarray(gradient())))
    assert Image.MAX_IMAGE_PIXELS == 100


def test_damaged_exif_does_not_matter() -> None:
    data = file_bytes(Image.fromarray(gradient()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with pytest.warns(UserWarning, match="EXIF"):  # Pillow's
        image = load_image(data)
    check(image, 24, 32)


# --- hash and bytes for the browser ------------------------------------------------------------


def test_picture_hash_depends_on_size_and_values() -> None:
    image = gradient()
    assert picture_hash(image) == picture_hash(image.copy())
    assert picture_hash(image) == picture_hash(np.asfortranarray(image))
    assert len(picture_hash(image)) == 64
    assert picture_hash(image) != picture_hash(image.reshape(32, 24, 3))
    changed = image.copy()
    changed[3, 3, 0] ^= 1
    assert picture_hash(image) != picture_hash(changed)


@pytest.mark.parametrize(("kind", "mime"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_original_bytes_pass_through(kind: str, mime: str, tmp_path: Path) -> None:
    data = file_bytes(Image.fromarray(noise(40, 50)), kind)
    path = tmp_path / "picture"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        encoded = encoded_bytes(source, load_image(source))
        assert encoded.data == data
        assert (encoded.mime, encoded.width, encoded.height) == (f"image/{mime}", 50, 40)


@pytest.mark.parametrize("case", ["turned", "alpha", "cmyk", "sixteen", "palette", "tiff", "gif"])
def test_what_a_browser_would_show_differently_is_encoded(case: str) -> None:
    picture = Image.fromarray(gradient())
    data = {
        "turned": lambda: file_bytes(picture, "JPEG", exif=with_orientation(6)),
        "alpha": lambda: file_bytes(picture.convert("RGBA")),
        "cmyk": lambda: file_bytes(picture.convert("CMYK"), "JPEG"),
        "sixteen": lambda: file_bytes(Image.fromarray(np.zeros((24, 32), np.uint16))),
        "palette": lambda: file_bytes(picture.convert("P")),
        "tiff": lambda: file_bytes(picture, "TIFF"),
        "gif": lambda: file_bytes(picture, "GIF"),
    }[case]()
    image = load_image(data)
    encoded = encoded_bytes(data, image)
    assert encoded.data != data
    np.testing.assert_array_equal(load_image(encoded.data), image)  # small: PNG, exact
    assert (encoded.height, encoded.width) == image.shape[:2]


def test_photographs_become_jpeg_and_drawings_png() -> None:
    photograph = noise(200, 300)
    assert encoded_bytes(photograph, photograph).mime == "image/jpeg"
    drawing = np.zeros((200, 300, 3), np.uint8)
    drawing[50:90, 60:200] = (255, 0, 0)
    encoded = encoded_bytes(drawing, drawing)
    assert encoded.mime == "image/png"
    np.testing.assert_array_equal(load_image(encoded.data), drawing)


def test_large_pictures_are_reduced() -> None:
    image = noise(30, 400)
    data = file_bytes(Image.fromarray(image), "JPEG")
    encoded = encoded_bytes(data, image, max_long_side=100)
    assert (encoded.width, encoded.height) == (100, 8)
    assert load_image(encoded.data).shape == (8, 100, 3)
    encoded = encoded_bytes(None, np.zeros((1, 500, 3), np.uint8), max_long_side=100)
    assert (encoded.width, encoded.height) == (100, 1)


def test_a_source_that_vanished_is_encoded(tmp_path: Path) -> None:
    image = gradient()
    assert encoded_bytes(tmp_path / "gone.png", image).mime == "image/png"
