"""Real encoders without weights: words hashed, colours averaged, and every call counted."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from encoders import (
    Encoder,
    FitTask,
    FittedEncoder,
    Limits,
    State,
    UndecodableMediaError,
    Vectors,
    decoded,
    register,
)
from encoders.media import decode_text


class ToyOptions(BaseModel):
    """Options of the toy kinds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: int = 32
    weights: str = "first"
    """Stands for the weights of a model: another value is another fingerprint."""
    delay: float = 0.0
    """Seconds per input, for builds that have to be caught in the middle."""


class ToyEncoder(Encoder):
    """What the toys share."""

    options_model: ClassVar[type[BaseModel]] = ToyOptions
    encoded: ClassVar[Counter[str]] = Counter()
    """Inputs encoded in this process, by kind."""
    batch_size = 32

    def __init__(self, options: ToyOptions, device: str, limits: Limits) -> None:
        self.options = options
        self.dimension = options.dimension
        self.limits = limits

    def fingerprint(self, modality: str) -> str:
        """Return the hash of kind, modality and options, the delay left out."""
        self.check_modality(modality)
        told = f"{self.kind}/{modality}/{self.dimension}/{self._weights()}"
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        """Return a row for each, and count them."""
        ToyEncoder.encoded[self.kind] += len(prepared)
        if self.options.delay:
            time.sleep(self.options.delay * len(prepared))
        return [self.vector(one) for one in prepared]

    def vector(self, prepared: Any) -> Vectors:
        """Return the vector of one prepared input."""
        raise NotImplementedError

    def _weights(self) -> str:
        # An index names its encoders by kind and options: weights that changed on this machine
        # behind the same options are what the variable plays.
        return os.environ.get("TOY_WEIGHTS", self.options.weights)


class ToyText(ToyEncoder):
    """A sum of one random direction per word."""

    kind = "toy-text"
    modalities = ("text",)

    def prepare(self, modality: str, content: bytes) -> str:
        """Return the text."""
        self.check_modality(modality)
        return decode_text(content)

    def vector(self, prepared: str) -> Vectors:
        """Return the sum of the words' directions."""
        return np.sum([word_vector(w, self.dimension) for w in prepared.lower().split()], axis=0)


class ToyFitted(FittedEncoder):
    """How often each word of the catalog that it was fitted on is there, and how many are not."""

    kind = "toy-fitted"
    revision = 1
    modalities = ("text",)
    options_model = ToyOptions
    sample = 500
    fits: ClassVar[list[int]] = []
    """Number of inputs of each fit in this process."""

    def __init__(self, options: ToyOptions, device: str, limits: Limits, state: State) -> None:
        self.options = options
        self.state = state
        self.words = state.setting("words", list)
        self.dimension = 1 + len(self.words)

    @classmethod
    def fit(
        cls, options: ToyOptions, modality: str, inputs: Sequence[bytes], task: FitTask
    ) -> State:
        """Learn the words there are, by number, largest first."""
        cls.fits.append(len(inputs))
        texts = list(decoded(inputs, decode_text))
        counts = Counter(word for text in texts for word in text.split())
        if options.delay:
            (task.folder / "checkpoint").touch()
            time.sleep(options.delay)
        words = [word for word, _ in counts.most_common(options.dimension)]
        total = np.array([counts[word] for word in words], dtype=np.int64)
        return State({"counts": total}, {"words": words})

    def prepare(self, modality: str, content: bytes) -> str:
        """Return the text."""
        self.check_modality(modality)
        return decode_text(content)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        ToyEncoder.encoded[self.kind] += len(prepared)
        rows = np.zeros((len(prepared), self.dimension))
        for row, text in zip(rows, prepared, strict=True):
            for word in text.split():
                row[1 + self.words.index(word) if word in self.words else 0] += 1
        return rows


class ToyImage(ToyEncoder):
    """The picture shrunk to 4 x 4 colours."""

    kind = "toy-image"
    modalities = ("image",)

    def __init__(self, options: ToyOptions, device: str, limits: Limits) -> None:
        super().__init__(options, device, limits)
        self.dimension = 48

    def prepare(self, modality: str, content: bytes) -> Vectors:
        """Return 48 values."""
        self.check_modality(modality)
        try:
            picture = Image.open(BytesIO(content)).convert("RGB").resize((4, 4))
        except Exception as error:
            raise UndecodableMediaError(
                "image", expected="a picture", got=str(error), remedy="Mend it."
            ) from error
        return np.asarray(picture, dtype=np.float32).reshape(-1) / 255 - 0.5 + 1e-3

    def vector(self, prepared: Vectors) -> Vectors:
        """Return what was prepared."""
        return prepared


def word_vector(word: str, dimension: int) -> Vectors:
    """Return the direction of a word: float32 (dimension,)."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)


def install() -> None:
    """Register the toy kinds; done again in every process that opens such an index."""
    for toy in (ToyText, ToyFitted, ToyImage):
        register(toy.kind, f"tests.toy_encoders:{toy.__name__}")


install()
