"""Text by the vectors of its words: trained on the catalog, or taken from a file."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .errors import EmptyVocabularyError, ModelLoadError
from .fingerprint import file_sha256
from .fitting import FitProgress, FitTask, FittedEncoder, State, decoded
from .limits import Limits
from .terms import words
from .text import decode_text
from .word_files import read_word_vectors

Floats = NDArray[np.float32]

_COMMON = 1e-3
"""Words that make up so much of all text count half: the a of smooth inverse frequency."""


class WordVectorsOptions(BaseModel):
    """Options of the kind `word-vectors`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = None
    """Word vectors in the form of GloVe, word2vec or fastText; None trains them on the catalog."""
    vocabulary: int = Field(default=50_000, ge=1, le=5_000_000)
    """Words kept: those of the catalog first, then those that the file has first."""
    dimension: int = Field(default=100, ge=2, le=1000)
    """Of the vectors, where they are trained."""
    epochs: int = Field(default=20, ge=1, le=1000)
    """Times that the texts are gone through, where they are trained."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the training."""


class WordVectorsEncoder(FittedEncoder):
    """The sum of the vectors of a text's words, each weighed by a / (a + p), where p is how much of
    the catalog's text the word makes up and a is .001: smooth inverse frequency (Arora, Liang, Ma
    2017, "A simple but tough-to-beat baseline for sentence embeddings"). Their second step, taking
    off what all texts have in common, is done by the centring of the space.

    Vectors are trained by Word2Vec (skip-gram; Mikolov et al. 2013, arXiv:1301.3781), or come from
    a file, which is needed for the fit alone: what it says of the words kept is in the state, in
    half precision. A text without any of these words points along an axis of its own, the last.
    """

    kind: ClassVar[str] = "word-vectors"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = WordVectorsOptions
    modalities = ("text",)
    sample = 50_000
    batch_size = 1024

    def __init__(
        self, options: WordVectorsOptions, device: str, limits: Limits, state: State
    ) -> None:
        self.options: WordVectorsOptions = options
        self.state = state
        self._rows = state.numbered("vocabulary")
        vectors = state.tensor("vectors", np.float16, len(self._rows), None)
        weights = state.tensor("weights", np.float32, len(self._rows))
        self._vectors: Floats = vectors.astype(np.float32) * weights[:, None]
        self.dimension = vectors.shape[1] + 1

    @classmethod
    def fit(
        cls, options: WordVectorsOptions, modality: str, inputs: Sequence[bytes], task: FitTask
    ) -> State:
        """Count words, and train vectors or read those of the file.

        Raises:
            EmptyVocabularyError: no text has a word, or none that the file has.
            WordFileError: the file is broken.
            ModelLoadError: gensim is not installed.
        """
        task.progress.start("fit word-vectors: count words", len(inputs))
        texts = []
        for text in decoded(inputs, decode_text):
            texts.append(words(text))
            task.progress.advance(1)
        task.progress.finish()
        counts = Counter(word for text in texts for word in text)
        if not counts:
            raise _empty("a text with a word in it", f"none among {len(inputs):,}")
        if options.file is None:
            vocabulary, vectors = _trained(texts, options, task.progress)
        else:
            vocabulary, vectors = _from_file(Path(options.file), counts, options, task.progress)
        share = np.array([counts[word] for word in vocabulary], dtype=np.float64)
        weights = _COMMON / (_COMMON + share / counts.total())
        tensors: dict[str, NDArray[Any]] = {
            "vectors": vectors.astype(np.float16),
            "weights": weights.astype(np.float32),
        }
        source = {} if options.file is None else {"file_sha256": file_sha256(Path(options.file))}
        return State(tensors, {"vocabulary": vocabulary, **source})

    def prepare(self, modality: str, content: bytes) -> NDArray[np.int64]:
        """Return the rows of the words that are known, int64 (w,), in order.

        Raises:
            UndecodableMediaError: not UTF-8.
            EmptyMediaError: blank.
        """
        self.check_modality(modality)
        known = (self._rows.get(word) for word in words(decode_text(content)))
        return np.array([row for row in known if row is not None], dtype=np.int64)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        sums = np.zeros((len(prepared), self.dimension), dtype=np.float32)
        for one, rows in zip(sums, prepared, strict=True):
            one[:-1] = self._vectors[rows].sum(axis=0)
        sums[:, -1] = ~sums.any(axis=1)
        return sums

    def length(self, prepared: Any) -> int:
        """Words that are known."""
        return len(prepared)


def _trained(
    texts: list[list[str]], options: WordVectorsOptions, progress: FitProgress
) -> tuple[list[str], Floats]:
    """Words, the most frequent first, and their vectors (n, d)."""
    try:
        from gensim.models import Word2Vec
        from gensim.models.callbacks import CallbackAny2Vec
    except ImportError as error:
        raise ModelLoadError(
            "encoder kind 'word-vectors'",
            expected="gensim, to train word vectors",
            got=str(error),
            remedy="Install it: pip install 'catalens[words]'.",
        ) from error

    class Told(CallbackAny2Vec):  # type: ignore[misc]
        def on_epoch_end(self, model: Any) -> None:
            progress.advance(1)

    progress.start("fit word-vectors: train", options.epochs)
    # One thread: with more, the order of updates and so the vectors differ from run to run.
    model = Word2Vec(
        texts,
        vector_size=options.dimension,
        sg=1,
        min_count=1,
        max_final_vocab=options.vocabulary,
        epochs=options.epochs,
        seed=options.seed,
        workers=1,
        callbacks=[Told()],
    )
    progress.finish()
    return list(model.wv.index_to_key), np.asarray(model.wv.vectors, dtype=np.float32)


def _from_file(
    path: Path, counts: Counter[str], options: WordVectorsOptions, progress: FitProgress
) -> tuple[list[str], Floats]:
    """Words of the catalog, then others in the order of the file, and their vectors (n, d)."""
    ours = {word for word, _ in counts.most_common(options.vocabulary)}
    room = options.vocabulary - len(ours)
    found: dict[str, Floats] = {}
    others: dict[str, Floats] = {}

    def wanted(word: str) -> bool:
        progress.advance(1)
        key = _key(word)
        if key in ours:
            return key not in found
        return len(others) < room and key not in others

    progress.start("fit word-vectors: read the file", None)
    for word, vector in read_word_vectors(path, wanted, lambda: sorted(ours - found.keys())):
        key = _key(word)
        (found if key in ours else others)[key] = vector
    progress.finish()
    if not found:
        raise _empty(f"a word that {path} has", f"none among {len(counts):,} of the catalog")
    kept = {**found, **others}
    return list(kept), np.stack(list(kept.values()))


def _key(word: str) -> str:
    """A word of a file as texts have it."""
    return unicodedata.normalize("NFKC", word).lower()


def _empty(expected: str, got: str) -> EmptyVocabularyError:
    return EmptyVocabularyError(
        "encoder 'word-vectors'",
        expected=expected,
        got=got,
        remedy="Map the columns that hold text, or choose another preset or file.",
    )
