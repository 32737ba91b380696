"""Text by the words that it has, counted and reduced to the axes along which texts vary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .errors import EmptyVocabularyError
from .fitting import FitTask, FittedEncoder, State, decoded
from .limits import Limits
from .terms import Analyzer, analyzer_of, terms
from .text import decode_text

Floats = NDArray[np.float32]


class BagOfWordsOptions(BaseModel):
    """Options of the kinds `bow` and `tfidf`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: int = Field(default=256, ge=2, le=4096)
    """Of the vectors; small catalogs get fewer."""
    analyzer: Analyzer = "word"
    """`word`, or `char` for runs of characters inside words."""
    vocabulary: int = Field(default=30_000, ge=1, le=1_000_000)
    """Terms kept, the most frequent ones."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the randomised reduction."""


class _Counted(NamedTuple):
    """Columns int64 (t,) and weights float32 (t,) of the terms of a text that are known."""

    columns: NDArray[np.int64]
    weights: Floats


class BowEncoder(FittedEncoder):
    """Counts of terms, scaled to unit length and reduced by truncated singular value decomposition
    (latent semantic analysis, Deerwester et al. 1990), both as scikit-learn does it.

    The vocabulary is that of the catalog. A text without any term of it points along an axis of its
    own, the last: it is like no other text.
    """

    kind: ClassVar[str] = "bow"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = BagOfWordsOptions
    modalities = ("text",)
    sample = 50_000
    batch_size = 1024
    is_weighted: ClassVar[bool] = False
    """Whether terms weigh by how few texts have them."""

    def __init__(
        self, options: BagOfWordsOptions, device: str, limits: Limits, state: State
    ) -> None:
        self.options: BagOfWordsOptions = options
        self.state = state
        self._columns = state.numbered("vocabulary")
        size = len(self._columns)
        self._components: Floats = state.tensor("components", np.float32, size, None)
        self._idf: Floats = np.ones(size, dtype=np.float32)
        if self.is_weighted:
            self._idf = state.tensor("idf", np.float32, size)
        self.dimension = self._components.shape[1] + 1

    @classmethod
    def fit(
        cls, options: BagOfWordsOptions, modality: str, inputs: Sequence[bytes], task: FitTask
    ) -> State:
        """Learn vocabulary, weights and axes.

        Raises:
            EmptyVocabularyError: no text has a term.
        """
        from sklearn.decomposition import TruncatedSVD

        task.progress.start(f"fit {cls.kind}: count terms", None)
        vectorizer = cls.vectorizer(options)
        try:
            counted = vectorizer.fit_transform(decoded(inputs, decode_text))
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            raise EmptyVocabularyError(
                f"encoder {cls.kind!r}",
                expected="a text with a word in it",
                got=f"none among {len(inputs):,} ({error})",
                remedy="Map the columns that hold text, or choose another preset.",
            ) from error
        task.progress.finish()
        task.progress.start(f"fit {cls.kind}: reduce", None)
        kept = min(options.dimension - 1, *counted.shape)
        if counted.shape[1] <= kept:
            components = np.eye(kept, dtype=np.float32)
        else:
            # Of a single text no variance is explained, and a share of it is 0 / 0.
            with np.errstate(invalid="ignore"):
                reduction = TruncatedSVD(kept, random_state=options.seed).fit(counted)
            components = reduction.components_.T.astype(np.float32)
        task.progress.finish()
        tensors = {"components": components}
        if cls.is_weighted:
            tensors["idf"] = vectorizer.idf_.astype(np.float32)
        return State(tensors, {"vocabulary": vectorizer.get_feature_names_out().tolist()})

    @classmethod
    def vectorizer(cls, options: BagOfWordsOptions) -> Any:
        """Scikit-learn's own, which the vectors here agree with."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Without idf these are plain counts, scaled to unit length.
        return TfidfVectorizer(
            analyzer=analyzer_of(options.analyzer),
            max_features=options.vocabulary,
            use_idf=cls.is_weighted,
            sublinear_tf=cls.is_weighted,
        )

    def prepare(self, modality: str, content: bytes) -> _Counted:
        """Return the terms of a text that the vocabulary has, with their weights.

        Raises:
            UndecodableMediaError: not UTF-8.
            EmptyMediaError: blank.
        """
        self.check_modality(modality)
        found = Counter(
            column
            for term in terms(decode_text(content), self.options.analyzer)
            if (column := self._columns.get(term)) is not None
        )
        columns = np.fromiter(found.keys(), np.int64, len(found))
        counts = np.fromiter(found.values(), np.float32, len(found))
        if self.is_weighted:
            counts = 1 + np.log(counts)
        weights = counts * self._idf[columns]
        return _Counted(columns, weights / max(float(np.linalg.norm(weights)), 1e-12))

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        vectors = np.zeros((len(prepared), self.dimension), dtype=np.float32)
        for vector, one in zip(vectors, prepared, strict=True):
            vector[:-1] = one.weights @ self._components[one.columns]
        vectors[:, -1] = ~vectors.any(axis=1)
        return vectors

    def length(self, prepared: Any) -> int:
        """Terms that are known."""
        return len(prepared.columns)


class TfidfEncoder(BowEncoder):
    """As `bow`, but a term weighs by how few texts have it, and by the logarithm of how often this
    one has it."""

    kind: ClassVar[str] = "tfidf"
    is_weighted = True
