"""Projection heads against their formula in torch, and against weights that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch.nn.functional import normalize, relu

from encoders import Head, HeadError

D_IN, K, HIDDEN, D_OUT = 12, 7, 20, 30


def tensors(*, hidden: bool = True, lift: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    made = {"mean_in": draw(D_IN) / 10, "linear": draw(D_IN, K), "bias": draw(K) / 10}
    if hidden:
        made |= {"up": draw(D_IN, HIDDEN), "up_bias": draw(HIDDEN), "down": draw(HIDDEN, K)}
    if lift:
        made["lift"] = np.ascontiguousarray(np.linalg.qr(draw(D_OUT, K))[0].T)
    return made


def units(n: int, d: int = D_IN) -> np.ndarray:
    x = np.random.default_rng(5).standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("lift", [False, True])
def test_formula(hidden: bool, lift: bool) -> None:
    made = tensors(hidden=hidden, lift=lift)
    head, x = Head.from_tensors(made), units(50)
    w = {name: torch.from_numpy(t).double() for name, t in made.items()}
    z = normalize(torch.from_numpy(x).double() - w["mean_in"], dim=1)
    y = z @ w["linear"] + w["bias"]
    if hidden:
        y = y + relu(z @ w["up"] + w["up_bias"]) @ w["down"]
    y = normalize(y, dim=1)
    if lift:
        y = normalize(y @ w["lift"], dim=1)
    out = head(x)
    assert out.dtype == np.float32 and out.shape == (50, head.dimension)
    assert head.dimension == (D_OUT if lift else K)
    np.testing.assert_allclose(out, y.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)


def test_rows_stand_alone_and_may_be_none() -> None:
    head, x = Head.from_tensors(tensors()), units(9)
    one_by_one = np.concatenate([head(row[None]) for row in x])
    np.testing.assert_allclose(head(x), one_by_one, atol=1e-6)
    assert head(x[:0]).shape == (0, D_OUT)


def test_rows_that_come_out_zero_stay_zero() -> None:
    made = tensors()
    made |= {name: np.zeros_like(made[name]) for name in ("linear", "bias", "down")}
    assert not Head.from_tensors(made)(units(4)).any()
    # A vector that is the mean itself has no direction.
    plain = tensors(hidden=False)
    plain["bias"] = np.zeros_like(plain["bias"])
    assert not Head.from_tensors(plain)(plain["mean_in"][None]).any()


def test_lift_keeps_inner_products() -> None:
    made, x = tensors(), units(40)
    lifted = Head.from_tensors(made)(x)
    reduced = Head.from_tensors({k: v for k, v in made.items() if k != "lift"})(x)
    np.testing.assert_allclose(lifted @ lifted.T, reduced @ reduced.T, atol=1e-5)


@pytest.mark.parametrize("hidden", [False, True])
def test_tensors_come_back(hidden: bool) -> None:
    head = Head.from_tensors(tensors(hidden=hidden))
    again = Head.from_tensors(load(save(head.tensors())))
    assert set(again.tensors()) == set(head.tensors())
    assert again.fingerprint() == head.fingerprint()
    assert again(units(5)).tobytes() == head(units(5)).tobytes()


def test_fingerprint_is_of_every_weight() -> None:
    made = tensors()
    seen = {Head.from_tensors(made).fingerprint()}
    for name in set(made) - {"lift"}:
        changed = made[name].copy()
        changed.flat[0] += 1
        seen.add(Head.from_tensors(made | {name: changed}).fingerprint())
    seen.add(Head.from_tensors(made | {"lift": -made["lift"]}).fingerprint())
    assert len(seen) == 1 + len(made)
    assert all(len(f) == 32 and set(f) <= set("0123456789abcdef") for f in seen)
    assert Head.from_tensors(tensors()).fingerprint() in seen


def damaged(name: str, value: float) -> dict[str, np.ndarray]:
    made = tensors()
    made[name] = made[name].copy()
    made[name].flat[1] = value
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({}, "expected tensors bias, linear, mean_in"),
        ({k: v for k, v in tensors().items() if k != "linear"}, "expected tensors linear"),
        ({k: v for k, v in tensors().items() if k != "up"}, "expected tensors up;"),
        (tensors() | {"extra": units(2)}, r"got \['extra'\]"),
        (tensors() | {"bias": np.zeros(K + 1, np.float32)}, r"shape \(7,\); got shape \(8,\)"),
        (tensors() | {"mean_in": np.zeros(5, np.float32)}, r"shape \(12,\); got shape \(5,\)"),
        (tensors() | {"up": units(3, HIDDEN)}, r"shape \(12, 20\); got shape \(3, 20\)"),
        (tensors() | {"down": units(3, K)}, r"shape \(20, 7\); got shape \(3, 7\)"),
        (tensors() | {"lift": units(3, D_OUT)}, r"shape \(7, 30\); got shape \(3, 30\)"),
        (tensors() | {"lift": units(K, D_OUT)}, "expected orthonormal rows in lift"),
        (tensors() | {"linear": np.zeros(D_IN, np.float32)}, r"2 axes.*got float32 of shape \(12,"),
        (tensors() | {"linear": np.zeros((D_IN, 0), np.float32)}, r"got float32 of shape \(12, 0"),
        (tensors() | {"bias": np.zeros(K)}, "got float64"),
        (damaged("up", np.nan), "finite values up to 1e\\+06 in up; got nan"),
        (damaged("linear", np.inf), "in linear; got inf"),
        (damaged("down", 1e30), "in down; got 1.0"),
    ],
)
def test_weights_that_are_none(made: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        Head.from_tensors(made)


def test_largest_weights_give_numbers() -> None:
    made = {
        name: t if name == "lift" else np.full_like(t, 1e6, dtype=np.float32)
        for name, t in tensors().items()
    }
    assert np.isfinite(Head.from_tensors(made)(units(3))).all()


@pytest.mark.parametrize("shape", [(D_IN,), (2, D_IN + 1), (2, 2, D_IN)])
def test_input_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(HeadError, match=r"expected shape \(n, 12\)"):
        Head.from_tensors(tensors())(np.ones(shape, np.float32))
