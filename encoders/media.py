"""Media as every encoder reads it: one input's bytes in, a checked picture, clip or text out."""

from __future__ import annotations

from .audio import audio_blocks, decode_audio
from .files import read_bytes
from .image import decode_image
from .limits import Limits
from .text import decode_text

__all__ = ["Limits", "audio_blocks", "decode_audio", "decode_image", "decode_text", "read_bytes"]
