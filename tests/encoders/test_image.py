"""Pictures of every format and mode, upright, on white, within limits."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from encoders import EmptyMediaError, Limits, MediaTooLargeError, UndecodableMediaError
from encoders.image import decode_image

Save = Callable[..., bytes]


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two RGB pictures, in levels of 255."""
    assert one.mode == other.mode == "RGB" and one.size == other.size
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize(
    "form, options, bound",
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95}, 4),
        ("JPEG", {"quality": 90, "progressive": True}, 6),
        ("GIF", {}, 20),
    ],
)
def test_formats(
    photo: Image.Image, saved: Save, form: str, options: dict[str, object], bound: float
) -> None:
    assert difference(decode_image(saved(photo, form, **options)), photo) <= bound


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes(photo: Image.Image, saved: Save, mode: str) -> None:
    form = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    picture = photo.convert(mode)
    bound = 6 if form == "JPEG" else 0
    assert difference(decode_image(saved(picture, form)), picture.convert("RGB")) <= bound


def test_sixteen_bits(photo: Image.Image, saved: Save) -> None:
    grey = np.asarray(photo.convert("L"))
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    expected = Image.fromarray(grey).convert("RGB")
    for form in ("PNG", "TIFF"):
        assert difference(decode_image(saved(wide, form)), expected) == 0
    fractions = Image.fromarray(grey.astype(np.float32) / 255)
    assert difference(decode_image(saved(fractions, "TIFF")), expected) < 1
    levels = Image.fromarray(grey.astype(np.float32))
    assert difference(decode_image(saved(levels, "TIFF")), expected) == 0
    heights = Image.fromarray(grey.astype(np.float32) * 30 - 900)
    low, high = int(grey.min()), int(grey.max())
    stretched = Image.fromarray(((grey - float(low)) * 255 / (high - low)).astype(np.uint8))
    assert difference(decode_image(saved(heights, "TIFF")), stretched.convert("RGB")) < 1


def test_transparency_is_flattened_on_white(saved: Save) -> None:
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 4, 8))
    clear.putpixel((7, 0), (0, 0, 0, 128))
    for content in (saved(clear, "PNG"), saved(clear, "WEBP", lossless=True), saved(clear, "TIFF")):
        picture = decode_image(content)
        assert picture.getpixel((0, 0)) == (0, 0, 255)
        assert picture.getpixel((6, 6)) == (255, 255, 255)
        assert picture.getpixel((7, 0)) == (127, 127, 127)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((0, 0), 0)
    for form in ("PNG", "GIF"):
        picture = decode_image(saved(palette, form, transparency=1))
        assert picture.getpixel((3, 3)) == (255, 255, 255)
        assert picture.getpixel((0, 0)) == (0, 0, 0)
    grey = Image.new("LA", (2, 2), (0, 0))
    assert decode_image(saved(grey, "PNG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(photo: Image.Image, saved: Save, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tagged = photo.copy()
    tagged.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(tagged)
    found = decode_image(saved(photo, form, exif=exif.tobytes() if form != "TIFF" else exif))
    assert found.size == ((300, 400) if orientation > 4 else (400, 300))
    assert difference(found, expected) < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # PIL says so, and goes on
def test_broken_exif_costs_the_orientation_only(photo: Image.Image, saved: Save) -> None:
    content = saved(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(content).size == (400, 300)


def test_first_frame_of_an_animation(saved: Save) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue", "lime")]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        content = saved(frames[0], form, save_all=True, append_images=frames[1:])
        pixel = decode_image(content).getpixel((3, 3))
        assert np.abs(np.subtract(pixel, (255, 0, 0))).max() < 12, form


def test_content_decides_and_not_the_name(saved: Save, photo: Image.Image) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    refused = (
        svg,
        b"<html>not found",
        b"\0" * 64,
        saved(photo, "PPM"),
        saved(photo, "PDF"),
        b"RIFF",
    )
    for content in refused:
        with pytest.raises(UndecodableMediaError, match="PNG, JPEG, WEBP, GIF, BMP, TIFF"):
            decode_image(content)
    with pytest.raises(EmptyMediaError):
        decode_image(b"")


def test_limits(photo: Image.Image, saved: Save) -> None:
    content = saved(photo, "PNG")
    assert decode_image(content, Limits(max_pixels=120_000)).size == (400, 300)
    with pytest.raises(MediaTooLargeError, match="at most 119,999 pixels; got 400 x 300 = 120,000"):
        decode_image(content, Limits(max_pixels=119_999))
    with pytest.raises(MediaTooLargeError, match="bytes"):
        decode_image(content, Limits(max_bytes=1000))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and brings none."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", b"x"),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_bomb_is_refused_by_its_header() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MediaTooLargeError, match=r"100000 x 100000 = 10,000,000,000 pixels"):
        decode_image(png_header(100_000, 100_000))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000  # KB


BIG = """
import resource, struct, sys, time, zlib
from encoders.image import decode_image
width, height = 14_000, 12_000
squeeze = zlib.compressobj(1)
row = b"\\0" + b"\\xff\\0\\0\\x80" * width
data = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
body = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
png = b"\\x89PNG\\r\\n\\x1a\\n" + body
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = decode_image(png, target=224)
print(*picture.size, *picture.getpixel((5, 5)),
      (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_168_megapixels_with_alpha_decode_in_bounded_memory() -> None:
    # In a process of its own, so that the peak is this picture's.
    run = subprocess.run([sys.executable, "-c", BIG], capture_output=True, text=True, check=True)
    width, height, red, green, blue, megabytes = map(int, run.stdout.split())
    assert min(width, height) >= 448 and max(width, height) < 600
    assert (red, green, blue) == (255, 127, 127)
    # The decoded picture itself is 672 MB; PIL's own convert and resize would hold three.
    assert megabytes < 672 + 130


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_reduction_keeps_the_picture(photo: Image.Image, saved: Save, form: str) -> None:
    large = photo.resize((3000, 2250), Image.Resampling.BICUBIC)
    reduced = decode_image(saved(large, form), target=224)
    assert min(reduced.size) >= 448 and min(reduced.size) < 900
    small = (224, 168)
    plain = large.resize(small, Image.Resampling.BICUBIC)
    assert difference(reduced.resize(small, Image.Resampling.BICUBIC), plain) < 1.5
    # Nothing is lost where there is little to gain.
    assert difference(decode_image(saved(photo, "PNG"), target=224), photo) == 0


def test_threads_agree(photo: Image.Image, saved: Save) -> None:
    contents = [saved(photo, form) for form in ("PNG", "JPEG", "WEBP", "GIF")] * 8
    expected = [np.asarray(decode_image(content)).tobytes() for content in contents[:4]]
    found: dict[int, bytes] = {}

    def work(start: int) -> None:
        for i in range(start, len(contents), 4):
            found[i] = np.asarray(decode_image(contents[i])).tobytes()

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(contents))] == expected * 8
