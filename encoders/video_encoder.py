"""Videos into the space of any encoder of pictures, or of any encoder of sound."""

from __future__ import annotations

from io import BytesIO
from typing import ClassVar

from pydantic import Field

from .limits import Limits
from .video import video_frames, video_sound
from .wrapping import WrappingEncoder, WrappingOptions


class VideoFramesOptions(WrappingOptions):
    """Options of the kind `video-frames`; its `encoder` is one of pictures."""

    frames: int = Field(default=8, ge=1, le=64)
    """Frames that a video is seen by, or all of a shorter one."""

    @property
    def pieces(self) -> int:
        """Frames."""
        return self.frames


class VideoFramesEncoder(WrappingEncoder):
    """The mean direction of frames that are spread over the video, each as a picture.

    Its vectors lie where the encoder's own do: a picture finds the video that shows it.
    """

    kind: ClassVar[str] = "video-frames"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[WrappingOptions]] = VideoFramesOptions
    wraps: ClassVar[str] = "image"
    modalities = ("video",)

    @classmethod
    def unwrap(cls, options: VideoFramesOptions, content: bytes, limits: Limits) -> list[bytes]:
        """Return frames as BMP files, of which no pixel changes; raises as `video_frames`."""
        files = []
        for frame in video_frames(content, options.frames, limits):
            file = BytesIO()
            frame.save(file, "BMP")
            files.append(file.getvalue())
        return files


class VideoSoundEncoder(WrappingEncoder):
    """The sound track of a video as a clip, in the space of the encoder's own vectors."""

    kind: ClassVar[str] = "video-sound"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[WrappingOptions]] = WrappingOptions
    wraps: ClassVar[str] = "audio"
    modalities = ("video",)

    @classmethod
    def unwrap(cls, options: WrappingOptions, content: bytes, limits: Limits) -> list[bytes]:
        """Return the sound track as one WAV file; raises as `video_sound`."""
        return [video_sound(content, limits)]
