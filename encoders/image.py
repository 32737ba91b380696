"""Pictures: header first, then pixels, then upright RGB on white.

Formats are told by their first bytes and opened by the class of that format, never through
`PIL.Image.open`: that call tries whatever plugins are registered, and guards against bombs by a
process-wide setting that is not ours to change. Our own limit is checked on the header instead.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, Any

from .errors import EmptyMediaError, MediaError, MediaTooLargeError, UndecodableMediaError
from .files import check_size
from .limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

_FORMATS: tuple[tuple[str, int, tuple[bytes, ...], str], ...] = (
    # name, offset of the magic, the magic, "PIL module:class"
    ("PNG", 0, (b"\x89PNG\r\n\x1a\n",), "PngImagePlugin:PngImageFile"),
    ("JPEG", 0, (b"\xff\xd8\xff",), "JpegImagePlugin:JpegImageFile"),
    ("WEBP", 8, (b"WEBP",), "WebPImagePlugin:WebPImageFile"),
    ("GIF", 0, (b"GIF87a", b"GIF89a"), "GifImagePlugin:GifImageFile"),
    ("BMP", 0, (b"BM",), "BmpImagePlugin:BmpImageFile"),
    ("TIFF", 0, (b"II*\x00", b"MM\x00*"), "TiffImagePlugin:TiffImageFile"),
)

_BIG_PIXELS = 25_000_000
_big_picture = threading.Lock()
"""Held while a picture of more than 25 megapixels is decoded: a pool of worker threads would
otherwise hold several of them (up to 800 MB each) at once."""

_BAND_PIXELS = 4_000_000
_ORIENTATION = 0x0112
_WHITE = (255, 255, 255)


def decode_image(
    content: bytes, limits: Limits = DEFAULT_LIMITS, target: int | None = None
) -> Image:
    """Decode a picture to upright RGB.

    PNG, JPEG, WEBP, GIF, BMP and TIFF, whatever the file was called; the first frame of an
    animation; transparency flattened on white, as a shop's page shows it; 16-bit and floating
    grey brought to 8 bits; palette and CMYK converted; EXIF orientation applied, and ignored
    where it does not read. Thread-safe.

    Args:
        content: the bytes of the file.
        limits: bounds on pixels and bytes.
        target: pixels of the shorter side that the model looks at. A picture more than four
            times that is reduced by a whole factor while decoding, to no less than twice it; the
            model's own resize does the rest. None keeps every pixel.

    Returns:
        PIL image of mode RGB.

    Raises:
        UndecodableMediaError: of no supported format, or damaged.
        EmptyMediaError: no bytes.
        MediaTooLargeError: more pixels or bytes than allowed.
    """
    check_size(content, limits)
    if not content:
        raise EmptyMediaError(
            "image",
            expected="the bytes of a picture",
            got="0 bytes",
            remedy="Fetch the file again, or leave the picture out of the item.",
        )
    name, opener = _format(content)
    with _translated(name):
        picture = opener(BytesIO(content))
    with picture:
        width, height = picture.size
        pixels = width * height
        if pixels > limits.max_pixels:
            raise MediaTooLargeError(
                f"{name} image",
                expected=f"at most {limits.max_pixels:,} pixels",
                got=f"{width} x {height} = {pixels:,} pixels",
                remedy="Shrink it, or raise Limits.max_pixels.",
            )
        with _big_picture if pixels > _BIG_PIXELS else nullcontext(), _translated(name):
            return _decode(picture, target)


def decode_square(content: bytes, side: int, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode a picture and make it square by white at the sides.

    And not by a crop: catalog pictures stand on white, so the padding looks like more of the same,
    while a crop cuts off the ends of what is long or tall.

    Returns:
        uint8 array with shape (side, side, 3).

    Raises:
        MediaError: as `decode_image`.
    """
    import numpy as np
    from PIL import Image

    picture = decode_image(content, limits, target=side)
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    square = Image.new("RGB", (side, side), _WHITE)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(resized, ((side - width) // 2, (side - height) // 2))
    return np.asarray(square)


def _format(content: bytes) -> tuple[str, Any]:
    """Return the format's name and the PIL class that opens it."""
    for name, offset, magics, target in _FORMATS:
        if any(content.startswith(magic, offset) for magic in magics):
            if name == "WEBP" and not content.startswith(b"RIFF"):
                continue
            module, _, attribute = target.partition(":")
            return name, getattr(importlib.import_module(f"PIL.{module}"), attribute)
    raise UndecodableMediaError(
        "image",
        expected=", ".join(name for name, *_ in _FORMATS),
        got=f"a file that begins with {content[:12]!r}",
        remedy="Convert it to one of these formats.",
    )


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn whatever PIL raises into our errors.

    Everything is caught, on purpose: on damaged files its plugins raise OSError, SyntaxError,
    ValueError, struct.error, KeyError, IndexError, zlib.error and more, and the list grows.
    """
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaTooLargeError(
            f"{name} image",
            expected="a picture that fits in memory",
            got="out of memory while decoding",
            remedy="Shrink it, or lower Limits.max_pixels.",
        ) from error
    except Exception as error:
        raise UndecodableMediaError(
            f"{name} image",
            expected=f"a whole {name} file",
            got=f"{type(error).__name__}: {error}",
            remedy="Fetch the file again, or save it anew.",
        ) from error


def _decode(picture: Any, target: int | None) -> Image:
    shorter = min(picture.size)
    if target is not None and shorter > 4 * target:
        # JPEG decodes straight to 1/2, 1/4 or 1/8; other formats ignore the call.
        scale = 2 * target / shorter
        picture.draft(None, tuple(max(1, round(side * scale)) for side in picture.size))
    picture.load()
    shorter = min(picture.size)
    factor = shorter // (2 * target) if target is not None and shorter > 4 * target else 1
    # After `load`: the TIFF plugin turns the picture itself and drops the tag.
    orientation = _orientation(picture)
    picture = _eight_bits(picture)
    return _upright(_reduced_on_white(picture, factor), orientation)


def _orientation(picture: Any) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it does not read."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:
        # Broken metadata is common and says nothing about the pixels.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bits(picture: Any) -> Any:
    """Bring 16-bit, 32-bit and floating grey to mode L, which PIL's own conversion would clip."""
    if not (picture.mode.startswith("I") or picture.mode == "F"):
        return picture
    import numpy as np
    from PIL import Image

    values = np.asarray(picture)
    if values.dtype.itemsize == 2:
        return Image.fromarray((values >> 8).astype(np.uint8))
    levels = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0, copy=False)
    low, high = float(levels.min()), float(levels.max())
    # The usual scales are told by the range; of an unknown one what there is fills 8 bits.
    scales = (1.0, 255.0, 65_535.0)
    full = next((scale for scale in scales if low >= 0 and high <= scale), None)
    if values.dtype.kind in "iu" and full == 1.0:
        full = 255.0
    if full is None:
        levels -= low
        full = max(high - low, 1e-12)
    levels *= 255 / full
    return Image.fromarray(levels.astype(np.uint8))


def _reduced_on_white(picture: Any, factor: int) -> Image:
    """Flatten on white and reduce by a whole factor, in bands.

    In bands, because converting the whole picture would hold two or three more copies of it.
    """
    from PIL import Image

    width, height = picture.size
    see_through = "transparency" in picture.info or picture.mode in (
        "LA",
        "PA",
        "RGBA",
        "La",
        "RGBa",
    )
    size = (-(-width // factor), -(-height // factor))
    result = Image.new("RGB", size)
    rows = max(1, _BAND_PIXELS // max(1, width * factor)) * factor
    for top in range(0, height, rows):
        band = picture.crop((0, top, width, min(top + rows, height)))
        if see_through:
            band = band.convert("RGBA")
            flat = Image.new("RGB", band.size, _WHITE)
            flat.paste(band, mask=band.getchannel("A"))
            band = flat
        else:
            band = band.convert("RGB")
        result.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return result


def _upright(picture: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return picture.transpose(turns[orientation]) if orientation in turns else picture
