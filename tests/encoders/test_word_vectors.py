"""`word-vectors` against gensim's vectors and files, and files that are broken."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models import FastText, KeyedVectors, Word2Vec
from gensim.models.fasttext import save_facebook_model

from encoders import Encoder, EncoderSpec, FitTask, State, encode_all, fit_encoder, load_encoder
from encoders.errors import EmptyVocabularyError, WordFileError
from encoders.terms import words
from indexer.progress import Silent

GLOSSES = (Path(__file__).parent / "glosses.txt").read_text("utf-8").splitlines()[:200]
TEXTS = ["the red shoe", "a blue hat and the red scarf", "红色的鞋"]


def fitted(texts: list[str], **options: Any) -> Encoder:
    spec = EncoderSpec.model_validate({"kind": "word-vectors", **options})
    inputs = [text.encode() for text in texts]
    state = fit_encoder(spec, "text", inputs, FitTask(Path(), Silent()))
    return load_encoder(spec, "cpu", state=State.load(state.dump()))


def encoded(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encode_all(encoder, "text", [encoder.prepare("text", t.encode()) for t in texts])


def expected(vectors: Any, corpus: list[str], texts: list[str]) -> np.ndarray:
    """Smooth inverse frequency, written out."""
    counts = Counter(word for text in corpus for word in words(text))
    total = sum(counts.values())
    rows = []
    for text in texts:
        row = np.zeros(vectors.vector_size)
        for word in words(text):
            if word in vectors:
                row += vectors[word] * 1e-3 / (1e-3 + counts[word] / total)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows)


def keyed(dimension: int = 5) -> KeyedVectors:
    names = ["the", "red", "shoe", "hat", "unsaid", "红色", "色的"]
    vectors = KeyedVectors(dimension)
    vectors.add_vectors(names, np.random.default_rng(0).standard_normal((7, dimension)))
    return vectors


def test_trained_vectors_are_those_of_gensim() -> None:
    encoder = fitted(GLOSSES, dimension=16, epochs=3, seed=4)
    assert encoder.dimension == 17
    model = Word2Vec(
        [words(text) for text in GLOSSES],
        vector_size=16,
        sg=1,
        min_count=1,
        epochs=3,
        seed=4,
        workers=1,
    )
    found = encoded(encoder, GLOSSES[:50])
    np.testing.assert_allclose(found[:, :-1], expected(model.wv, GLOSSES, GLOSSES[:50]), atol=2e-3)
    assert fitted(GLOSSES, dimension=16, epochs=3, seed=4).fingerprint("text") == (
        encoder.fingerprint("text")
    )
    assert (
        len(fitted(GLOSSES, dimension=4, epochs=1, vocabulary=20).state.settings["vocabulary"])
        <= 20
    )  # type: ignore[attr-defined]


def test_files_of_every_form_give_the_same(tmp_path: Path) -> None:
    vectors = keyed()
    text, binary, glove, crlf = (tmp_path / name for name in ("t.vec", "b.bin", "g.txt", "c.txt"))
    vectors.save_word2vec_format(str(text))
    vectors.save_word2vec_format(str(binary), binary=True)
    body = text.read_bytes().split(b"\n", 1)[1]
    glove.write_bytes(body)
    crlf.write_bytes(body.replace(b"\n", b"\r\n"))
    # As the first word2vec wrote it: a line feed behind each record.
    feeding = tmp_path / "f.bin"
    records = [
        word.encode() + b" " + vectors[word].astype("<f4").tobytes() + b"\n"
        for word in vectors.index_to_key
    ]
    feeding.write_bytes(b"7 5\n" + b"".join(records))
    wanted = expected(vectors, TEXTS, [*TEXTS, "unsaid"])
    for path in (text, binary, glove, crlf, feeding):
        found = encoded(fitted(TEXTS, file=str(path)), [*TEXTS, "unsaid"])
        np.testing.assert_allclose(found[:, :-1], wanted, atol=2e-3, err_msg=path.name)
    # Words of the catalog are kept before others of the file.
    few = fitted(TEXTS, file=str(glove), vocabulary=10_000)
    assert "unsaid" in few.state.settings["vocabulary"]  # type: ignore[attr-defined]
    for size in (3, 7, 11):
        kept = fitted(TEXTS, file=str(glove), vocabulary=size)
        assert "unsaid" not in kept.state.settings["vocabulary"]  # type: ignore[attr-defined]


def test_fasttext_gives_words_that_it_does_not_list(tmp_path: Path) -> None:
    model = FastText(
        [words(text) for text in GLOSSES], vector_size=8, min_count=1, epochs=1, seed=1, bucket=500
    )
    path = tmp_path / "model.bin"
    save_facebook_model(model, str(path))
    corpus = [*GLOSSES[:10], "shoemakers unheard"]
    assert "shoemakers" not in model.wv.key_to_index
    found = encoded(fitted(corpus, file=str(path)), corpus)
    np.testing.assert_allclose(found[:, :-1], expected(model.wv, corpus, corpus), atol=3e-3)
    whole = path.read_bytes()
    for damaged in (whole[:2000], whole[: len(whole) // 2], whole[:8] + b"\xff" * 64 + whole[72:]):
        path.write_bytes(damaged)
        with pytest.raises(WordFileError, match=r"model\.bin.*fastText"):
            fitted(corpus, file=str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0|-1"),
        (b"the\n", "0"),
        (b"the 1 2\nred 1\n", "2 numbers in line 2.*got 1"),
        (b"the 1 2\nred 1 2 3\n", "2 numbers in line 2.*got 3"),
        (b"the 1 2\n\nred 1 2\n", "line 2"),
        (b"the 1 2\nred x 2\n", "line 2.*x"),
        (b"the 1 2\nred 1 y\n", "line 2"),
        (b"the 1 2\nred nan 2\n", "line 2.*nan"),
        (b"the 1 2\nred 1e300 2\n", "line 2"),
        (b"2 3\nthe 1 2 3\nred 1 2\n", "3 numbers in line 3.*got 2"),
        (b"9999999999 300\n" + b"the " + b"\0" * 100, "9,999,999,999 records.*got 0"),
        (b"2 2\nthe " + struct.pack("<2f", 1, 2) + b"red \0\0", "2 records.*got 1"),
        (b"2 2\nthe " + struct.pack("<2f", 1, float("inf")), "record 1"),
        (b"1 99999999\nthe 1\n", "10,000"),
        (b"2 2\n" + b"\x80" * 5000, "space|numbers"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(WordFileError, match=message) as caught:
        fitted(["the red shoe"], file=str(path))
    assert "words.txt" in str(caught.value)
    assert "whole file" in caught.value.remedy


def test_a_word_with_a_space_in_it_is_no_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(b"the 1 2\n. . . 3 4\nat name@x.org 1 1\nred 2 1\n")
    assert fitted(["the red"], file=str(path)).dimension == 3


def test_nothing_in_common_says_so(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(b"other 1 2\n")
    with pytest.raises(EmptyVocabularyError, match=r"none among 2 of the catalog"):
        fitted(["the red"], file=str(path))
    with pytest.raises(EmptyVocabularyError, match="none among 1"):
        fitted(["..."])
    with pytest.raises(WordFileError, match="No such file"):
        fitted(["the"], file=str(tmp_path / "none.txt"))
