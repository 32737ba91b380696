"""The default encoders against the same weights run by torch, eagerly in float32: inputs encoded
per second, and the cosine between the vectors.

Both sides have the same inputs, in batches of the encoder's own size, and all cores. Texts are
given as strings, so that each side makes its own tokens; pictures as the arrays that `prepare`
made, so that no decoding is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import encode_all
from encoders.efficientnet import load_features

from .encoding_inputs import Inputs, batches, prepare_all
from .harness import Target, interleave_whole, median, rounded, say, timed

COSINE = 0.999

Vectors = NDArray[np.float32]
Run = Callable[[], Vectors]
"""Encodes all inputs to unit vectors, (n, D) float32."""


@dataclass(frozen=True)
class Sides:
    """The encoder and torch on the same inputs, and by how much the encoder is to be faster."""

    ours: Run
    torch: Run
    speed_up: float


def text_sides(encoder: Any, inputs: Inputs) -> Sides:
    """Torch by sentence-transformers, which sorts texts by length as we do."""
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(
        str(encoder.folder.path), device="cpu", local_files_only=True, trust_remote_code=False
    )
    texts = list(inputs.values)
    return Sides(
        lambda: encode_all(encoder, "text", prepare_all(encoder, "text", texts)),
        lambda: model.encode(
            texts,
            batch_size=encoder.batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        ),
        speed_up=3.0,
    )


def image_sides(encoder: Any, inputs: Inputs) -> Sides:
    """Torch by the network that our export was made from."""
    import torch

    pictures = prepare_all(encoder, "image", inputs.values)
    network = load_features(encoder.weights)

    def run() -> Vectors:
        with torch.inference_mode():
            features = torch.cat(
                [
                    network(torch.from_numpy(np.stack(batch)))
                    for batch in batches(pictures, encoder.batch_size)
                ]
            )
            vectors: Vectors = torch.nn.functional.normalize(features).numpy()
        return vectors

    return Sides(lambda: encode_all(encoder, "image", pictures), run, speed_up=4.0)


SIDES: Mapping[str, Callable[[Any, Inputs], Sides]] = {"text": text_sides, "image": image_sides}


def compare(encoder: Any, inputs: Inputs, rounds: int) -> tuple[dict[str, Any], list[Target]]:
    """Rates of both sides by turns, and how alike their vectors are."""
    count = len(inputs.values)
    say(f"{inputs.name}: the encoder and torch by turns")
    sides = SIDES[inputs.modality](encoder, inputs)
    # These calls warm up as well.
    cosines = np.vecdot(sides.ours(), sides.torch())
    seconds = interleave_whole(
        {"ours": timed(sides.ours), "torch": timed(sides.torch)}, rounds=rounds
    )
    rates = {name: median([count / s for s in took]) for name, took in seconds.items()}
    # Each round's ratio is of neighbours in time, which a median of rates is not.
    pairs = zip(seconds["torch"], seconds["ours"], strict=True)
    speed_up = median([torch / ours for torch, ours in pairs])
    mean, least = float(cosines.mean()), float(cosines.min())
    figures = {
        "per_second": rates,
        "speed_up": speed_up,
        "mean_cosine": rounded(mean, 6),
        "least_cosine": rounded(least, 6),
    }
    targets = [
        Target(
            f"{inputs.name}: rate of the encoder to torch's, eager in float32",
            f">= {sides.speed_up:g}x",
            f"{speed_up:.2f}x ({rates['ours']:,.0f}/s against {rates['torch']:,.0f}/s)",
            speed_up >= sides.speed_up,
        ),
        Target(
            f"{inputs.name}: mean cosine to torch's vectors",
            f">= {COSINE}",
            f"{mean:.5f} (least {least:.5f})",
            mean >= COSINE,
        ),
    ]
    return figures, targets
