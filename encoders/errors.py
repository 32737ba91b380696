"""The root of every error Catalens raises, and the errors of this room.

CatalensError
├── EncoderError                 an encoder cannot be named, loaded or used
│   ├── InvalidPresetError       a preset or an encoder's options do not read
│   ├── UnknownPresetError
│   ├── UnknownEncoderKindError
│   ├── UnsupportedModalityError the encoder does not reach that modality
│   ├── ModelLoadError           weights missing, broken, or of another architecture
│   │   └── WordFileError        a file of word vectors is broken, or of no form that is known
│   ├── DeviceError              the device asked for is not there
│   ├── OutOfMemoryError         even a batch of one does not fit
│   ├── FitError                 nothing can be learned from the inputs that an encoder is fitted on
│   │   └── EmptyVocabularyError no text of them has a word that can be used
│   ├── NotFittedError           an encoder that has to be fitted on a catalog first
│   ├── EncoderStateError        what an encoder has learned is damaged, or another encoder's
│   └── HeadError                a projection head's weights, or its input, do not fit
└── MediaError                   one input is bad; it costs the item that modality and no more
    ├── UndecodableMediaError    not what its name says, truncated, not UTF-8
    ├── MediaTooLargeError       more pixels or bytes than allowed (bombs)
    ├── MediaTooLongError        more seconds than allowed
    ├── EmptyMediaError          0 samples, blank text
    ├── AbsentTrackError         a video without what a space takes of it, good for others
    │   ├── NoFramesError
    │   └── NoSoundError
    ├── MissingMediaError        no such file
    ├── UnsafePathError          the path leaves the allowed root
    └── InvalidVectorError       wrong dimension, NaN or infinite, or all zero

The rooms above add their own branches under `CatalensError`.
"""

from __future__ import annotations


class CatalensError(Exception):
    """Every error says what was expected, what came, and what to do.

    The command line prints the message on one line and exits with `exit_code`:
    2 for a user's mistake, 1 for damage or lack of resources.
    """

    exit_code = 2

    def __init__(self, what: str, *, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"{what}: expected {expected}; got {got}. {remedy}")
        self.what = what
        self.expected = expected
        self.got = got
        self.remedy = remedy


class EncoderError(CatalensError):
    """An encoder cannot be named, loaded or used."""


class InvalidPresetError(EncoderError):
    """A preset, or the options of an encoder in it, do not read."""


class UnknownPresetError(EncoderError):
    """No preset of that name, and no file of that path."""


class UnknownEncoderKindError(EncoderError):
    """No encoder kind of that name is registered."""


class UnsupportedModalityError(EncoderError):
    """The encoder does not reach the modality asked of it."""


class ModelLoadError(EncoderError):
    """Weights are missing, broken, or of another architecture."""


class WordFileError(ModelLoadError):
    """A file of word vectors has a broken line, mixed dimensions, or is of no form we know."""


class DeviceError(EncoderError):
    """The device asked for is not on this machine."""


class OutOfMemoryError(EncoderError):
    """Even a batch of one does not fit on the device."""

    exit_code = 1


class FitError(EncoderError):
    """Nothing can be learned from the inputs that an encoder is to be fitted on."""


class EmptyVocabularyError(FitError):
    """No text that an encoder is to be fitted on has a word that it can use."""


class NotFittedError(EncoderError):
    """The encoder has to be fitted on a catalog before it can encode."""


class EncoderStateError(EncoderError):
    """What an encoder has learned is damaged, or is of another encoder."""

    exit_code = 1


class HeadError(EncoderError):
    """The weights of a projection head, or the vectors given to it, do not fit."""

    exit_code = 1


class MediaError(CatalensError):
    """One input is bad. In a build it costs the item that modality and no more."""


class UndecodableMediaError(MediaError):
    """The bytes are not what they claim to be: broken, truncated, or not UTF-8."""


class MediaTooLargeError(MediaError):
    """More pixels or bytes than the limits allow."""


class MediaTooLongError(MediaError):
    """More seconds of sound than the limits allow."""


class EmptyMediaError(MediaError):
    """There is nothing in it: blank text, a clip of 0 samples."""


class AbsentTrackError(MediaError):
    """A video lacks what one encoder takes of it. It costs the item that space and no more."""


class NoFramesError(AbsentTrackError):
    """A video without a picture."""


class NoSoundError(AbsentTrackError):
    """A video without a sound."""


class MissingMediaError(MediaError):
    """There is no such file."""


class UnsafePathError(MediaError):
    """The path leaves the root that media may be read from."""


class InvalidVectorError(MediaError):
    """A vector of the wrong dimension, with NaN or infinite values, or all zero."""
