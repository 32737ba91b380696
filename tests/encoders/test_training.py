"""The training loop: reproducible, stopped early, and killed without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders.training import Plan, shared_cross_entropy, train
from encoders.training.contrast import nt_xent
from encoders.training.pictures import picture_views
from encoders.training.sounds import sound_views
from indexer.progress import Silent
from tests.encoders.learning_task import PLAN, Line, Steps, line_weights


def test_the_loss_is_torchs_cross_entropy() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=draw)
    target = torch.tensor([0, 3, 6, 2, 2])
    shares = torch.nn.functional.one_hot(target, 7).float()
    expected = torch.nn.functional.cross_entropy(logits, target)
    assert shared_cross_entropy(logits, shares).item() == pytest.approx(expected.item())


def test_nt_xent_is_the_definition() -> None:
    draw = torch.Generator().manual_seed(1)
    first, second = torch.randn(4, 6, generator=draw), torch.randn(4, 6, generator=draw)
    z = torch.cat([first, second]).double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    terms = []
    for i in range(8):
        others = [np.exp(z[i] @ z[k] / 0.2) for k in range(8) if k != i]
        terms.append(-np.log(np.exp(z[i] @ z[(i + 4) % 8] / 0.2) / sum(others)))
    assert nt_xent(first, second, 0.2).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_training_learns_and_repeats_itself(tmp_path: Path) -> None:
    task = Line(100)
    trained = train(task, PLAN, Silent(), tmp_path)
    assert trained.learned_from + trained.held_out == 100
    assert trained.losses[trained.best_epoch] < trained.losses[0] / 10
    again = Line(100)
    (tmp_path / "again").mkdir()
    assert train(again, PLAN, Silent(), tmp_path / "again") == trained
    assert torch.equal(line_weights(task), line_weights(again))
    other = Line(100)
    (tmp_path / "other").mkdir()
    train(other, replace(PLAN, seed=1), Silent(), tmp_path / "other")
    assert not torch.equal(line_weights(task), line_weights(other))


def test_no_global_generator_is_moved(tmp_path: Path) -> None:
    task = Line(40)
    before = torch.get_rng_state()
    train(task, PLAN, Silent(), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_stops_where_it_gets_no_better(tmp_path: Path) -> None:
    task = Line(100, hopeless=True)
    plan = Plan(epochs=50, batch=8, rate=0.5, patience=3)
    steps = Steps()
    trained = train(task, plan, steps, tmp_path)
    assert trained.epochs == trained.best_epoch + 3 < 50
    assert trained.losses[trained.best_epoch] == min(trained.losses)
    assert steps.total == 50 * (steps.done // trained.epochs)


def test_no_epochs_leave_the_network_as_it_was_drawn(tmp_path: Path) -> None:
    task = Line(40)
    before = line_weights(task).clone()
    trained = train(task, Plan(epochs=0, batch=8, rate=0.1), Silent(), tmp_path)
    assert trained.epochs == trained.best_epoch == 0
    assert torch.equal(line_weights(task), before)


def test_a_killed_training_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole = Line(100)
    (tmp_path / "whole").mkdir()
    expected = train(whole, PLAN, Silent(), tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    for after in (20, 45):  # in the second epoch, and in a later one of the second try
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.encoders.learning_task", str(folder), str(after)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None and child.stdout.readline() == "there\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
    steps = Steps()
    resumed = Line(100)
    assert train(resumed, PLAN, steps, folder) == expected
    assert steps.first > 0  # what was done is not done again
    assert torch.equal(line_weights(resumed), line_weights(whole))


def test_a_checkpoint_of_something_else_is_not_used(tmp_path: Path) -> None:
    train(Line(100), PLAN, Silent(), tmp_path)
    fresh, beside = Line(60), Line(60)
    (tmp_path / "fresh").mkdir()
    train(fresh, PLAN, Silent(), tmp_path / "fresh")
    train(beside, PLAN, Silent(), tmp_path)
    assert torch.equal(line_weights(fresh), line_weights(beside))


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, None])
def test_a_damaged_checkpoint_is_not_used(tmp_path: Path, damage: bytes | None) -> None:
    expected, again = Line(60), Line(60)
    train(expected, PLAN, Silent(), tmp_path)
    file = tmp_path / "training.safetensors"
    file.write_bytes(file.read_bytes()[:200] if damage is None else damage)
    train(again, PLAN, Silent(), tmp_path)
    assert torch.equal(line_weights(expected), line_weights(again))


def test_a_checkpoint_is_tensors_and_json(tmp_path: Path) -> None:
    train(Line(60), PLAN, Silent(), tmp_path)
    data = (tmp_path / "training.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert "losses" in json.loads(header["__metadata__"]["training"])


# --- views ---


def pictures(n: int) -> Any:
    return torch.rand((n, 3, 32, 32), generator=torch.Generator().manual_seed(0))


def test_views_of_pictures_are_drawn_for_each_alone() -> None:
    same = pictures(1).expand(16, -1, -1, -1)
    views = picture_views(same, torch.Generator().manual_seed(0))
    assert views.shape == same.shape and views.min() >= 0 and views.max() <= 1
    apart = (views[:, None] - views[None]).abs().mean(dim=(2, 3, 4))
    assert (apart + torch.eye(16) > 0.01).all()
    again = picture_views(same, torch.Generator().manual_seed(0))
    assert torch.equal(views, again)


def test_views_of_pictures_keep_what_is_in_them() -> None:
    flat = torch.ones(8, 3, 32, 32) * torch.tensor([0.8, 0.3, 0.3])[None, :, None, None]
    views = picture_views(flat, torch.Generator().manual_seed(3))
    # One colour stays one colour, and mostly a red one.
    assert (views.amax(dim=(2, 3)) - views.amin(dim=(2, 3)) < 1e-4).all()
    assert (views[:, 0, 0, 0] >= views[:, 1, 0, 0] - 1e-4).all()


def test_views_of_sounds_keep_to_the_clip() -> None:
    draw = torch.Generator().manual_seed(0)
    frames = torch.randn((6, 50, 64), generator=draw)
    lengths = torch.tensor([50, 40, 30, 20, 10, 3])
    views, left = sound_views(frames, lengths, torch.Generator().manual_seed(1))
    assert views.shape == frames.shape and torch.isfinite(views).all()
    assert (left <= lengths).all() and (left >= lengths * 0.7 - 1).all() and (left >= 1).all()
    # What is beyond a clip's end is not looked at.
    other = frames.clone()
    other[3, 20:] = 99.0
    changed, _ = sound_views(other, lengths, torch.Generator().manual_seed(1))
    assert torch.equal(changed[3, : left[3]], views[3, : left[3]])
    apart, _ = sound_views(frames, lengths, torch.Generator().manual_seed(2))
    assert not torch.equal(apart, views)
