"""`bow` and `tfidf` against scikit-learn's own pipeline, in scripts with and without spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from encoders import (
    Encoder,
    EncoderSpec,
    EncoderStateError,
    FitTask,
    InvalidPresetError,
    State,
    UnsupportedModalityError,
    encode_all,
    fit_encoder,
    load_encoder,
)
from encoders.errors import EmptyVocabularyError, FitError
from encoders.terms import terms, words
from indexer.progress import Silent

GLOSSES = (Path(__file__).parent / "glosses.txt").read_text("utf-8").splitlines()
CHINESE = ["红色的皮鞋", "蓝色的帽子和红色的围巾", "一只猫坐在垫子上", "iPhone 手机壳 2024", "狗"]


def fitted(texts: list[str], kind: str = "tfidf", **options: Any) -> Encoder:
    spec = EncoderSpec.model_validate({"kind": kind, **options})
    inputs = [text.encode() for text in texts]
    state = fit_encoder(spec, "text", inputs, FitTask(Path(), Silent()))
    # As it comes out of a store.
    return load_encoder(spec, "cpu", state=State.load(state.dump()))


def encoded(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encode_all(encoder, "text", [encoder.prepare("text", t.encode()) for t in texts])


@pytest.mark.parametrize("analyzer", ["word", "char"])
@pytest.mark.parametrize("kind", ["bow", "tfidf"])
def test_vectors_are_those_of_scikit_learn(kind: str, analyzer: Any) -> None:
    texts = [*GLOSSES[:120], *CHINESE]
    encoder = fitted(texts, kind, dimension=33, vocabulary=900, analyzer=analyzer)

    def analyze(text: str) -> list[str]:
        return terms(text, analyzer)

    settings: dict[str, Any] = {"analyzer": analyze, "max_features": 900}
    counter = (
        CountVectorizer(**settings)
        if kind == "bow"
        else TfidfVectorizer(**settings, sublinear_tf=True)
    )
    counts = normalize(counter.fit_transform(texts).astype(float))
    svd = TruncatedSVD(32, random_state=0).fit(counts)
    asked = [*GLOSSES[120:], *CHINESE]
    expected = svd.transform(normalize(counter.transform(asked).astype(float)))
    known = np.linalg.norm(expected, axis=1) > 1e-3
    assert known.sum() > 50
    found = encoded(encoder, asked)
    assert found.shape == (len(asked), 33)
    np.testing.assert_allclose(found[known, :-1], normalize(expected[known]), atol=2e-4)
    np.testing.assert_array_equal(found[known, -1], 0)


def test_a_text_of_which_nothing_is_known_is_like_no_other() -> None:
    encoder = fitted(GLOSSES, dimension=16)
    found = encoded(encoder, ["zzzz qqqq", "!!!", GLOSSES[0]])
    np.testing.assert_array_equal(found[0], np.eye(encoder.dimension)[-1])
    np.testing.assert_array_equal(found[1], found[0])
    assert found[2] @ found[0] == 0


def test_words_of_scripts_with_and_without_spaces() -> None:
    assert words("The Cat's  naïve café, №5!") == ["the", "cat's", "naïve", "café", "no5"]
    assert words("Cafe\u0301") == ["café"]
    assert words("红色的皮鞋") == ["红色", "色的", "的皮", "皮鞋"]
    assert words("狗 dog2犬") == ["狗", "dog2", "犬"]
    assert words("รองเท้าสีแดง")[0] == "รอ"
    assert words("Красные туфли") == ["красные", "туфли"]
    assert words("حذاء أحمر") == ["حذاء", "أحمر"]
    assert words("赤い靴") == ["赤い", "い靴"]
    assert terms("cats 皮鞋", "char") == [
        *(" ca", "cat", "ats", "ts "),
        *(" cat", "cats", "ats ", " cats", "cats ", "皮鞋"),
    ]
    assert terms("a", "char") == [" a "]
    assert words("...") == []


def test_chinese_finds_chinese() -> None:
    encoder = fitted(CHINESE)
    items = encoded(encoder, CHINESE)
    for asked, item in (("红色皮鞋", 0), ("猫", 2), ("手机", 3), ("围巾", 1), ("狗", 4)):
        scores = items @ encoded(encoder, [asked])[0]
        if asked != "猫":  # alone it is a word of its own, and in a sentence part of two
            assert int(np.argmax(scores)) == item, asked


def test_small_catalogs_get_fewer_dimensions() -> None:
    one = fitted(["red shoe"])
    assert one.dimension == 2
    np.testing.assert_allclose(encoded(one, ["red shoe"])[0], [1, 0], atol=1e-6)
    assert fitted(["a b", "b c", "c d e"]).dimension == 4


def test_what_cannot_be_fitted_says_why() -> None:
    for kind in ("bow", "tfidf"):
        with pytest.raises(EmptyVocabularyError, match=r"none among 2.*columns"):
            fitted(["...", "!!"], kind)
    with pytest.raises(FitError, match="none"):
        fitted([])
    with pytest.raises(InvalidPresetError, match="analyzer"):
        fitted(["a"], analyzer="syllable")
    with pytest.raises(UnsupportedModalityError):
        spec = EncoderSpec.model_validate({"kind": "bow"})
        fit_encoder(spec, "image", [b"x"], FitTask(Path(), Silent()))


def test_the_same_seed_gives_the_same_fingerprint_and_options_another() -> None:
    first, again = fitted(GLOSSES, dimension=8), fitted(GLOSSES, dimension=8)
    assert first.fingerprint("text") == again.fingerprint("text")
    others = [fitted(GLOSSES, dimension=8, seed=1), fitted(GLOSSES[:-1], dimension=8)]
    others += [fitted(GLOSSES, dimension=9), fitted(GLOSSES, "bow", dimension=8)]
    assert len({e.fingerprint("text") for e in [first, *others]}) == 5


def test_a_state_of_another_encoder_is_refused() -> None:
    spec = EncoderSpec.model_validate({"kind": "tfidf"})
    good = {"components": np.ones((2, 3), np.float32), "idf": np.ones(2, np.float32)}
    load_encoder(spec, state=State(good, {"vocabulary": ["a", "b"]}))
    bad_states = [
        (good, {"vocabulary": ["a"]}),
        (good, {"vocabulary": ["a", "a"]}),
        (good, {"vocabulary": ["a", 1]}),
        (good, {}),
        ({**good, "idf": np.ones(3, np.float32)}, {"vocabulary": ["a", "b"]}),
        ({**good, "components": np.full((2, 3), np.nan, np.float32)}, {"vocabulary": ["a", "b"]}),
        ({"components": good["components"]}, {"vocabulary": ["a", "b"]}),
    ]
    for tensors, settings in bad_states:
        with pytest.raises(EncoderStateError):
            load_encoder(spec, state=State(tensors, settings))
