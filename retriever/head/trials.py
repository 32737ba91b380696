"""Hyper-parameters searched by optuna; each trial is a cross-validation by query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from indexer import Progress

from .examples import Examples, Ints
from .losses import LOSSES, Loss
from .training import MODELS, Model, Settings, Trained, train

# Epochs before a trial may be given up because others were further by then.
_WARM_UP = 5


@dataclass(frozen=True)
class Trial:
    """One cross-validation: settings, and mean NDCG@10 over the queries, each held out once; what
    it came to where it was given up."""

    settings: Settings
    ndcg: float
    given_up: bool

    def told(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.settings.told(), "ndcg_at_10": self.ndcg, "given_up": self.given_up}


def search(
    examples: Examples,
    folds: Ints,
    *,
    model: Model | None,
    loss: Loss | None,
    trials: int,
    seed: int,
    progress: Progress,
) -> tuple[Trained, list[Trial]]:
    """The committee of the best settings, and all trials.

    Args:
        model, loss: None to search these as well.
        trials: 1 to train by the defaults alone, more to search; the defaults are tried first.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=_WARM_UP),
    )
    for first in _first(model, loss)[:trials]:
        study.enqueue_trial(asdict(first))
    best: list[Trained] = []
    done: list[Trial] = []

    def objective(trial: optuna.Trial) -> float:
        settings = _drawn(trial, model, loss)
        seen = 0.0

        def report(epoch: int, ndcg: float) -> None:
            nonlocal seen
            seen = ndcg
            trial.report(ndcg, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            trained = train(examples, folds, settings, seed=seed, report=report)
        except optuna.TrialPruned:
            done.append(Trial(settings, seen, True))
            raise
        finally:
            progress.advance(1)
        done.append(Trial(settings, trained.ndcg, False))
        if not best or trained.ndcg > best[0].ndcg:
            best[:] = [trained]
        return trained.ndcg

    progress.start("train heads", trials)
    study.optimize(objective, n_trials=trials)
    progress.finish()
    return best[0], done


def _first(model: Model | None, loss: Loss | None) -> Sequence[Settings]:
    """What is tried before anything is searched: the defaults of each model that may be."""
    default = Settings()
    return [
        Settings(one, loss or default.loss)
        for one in (default.model, *(m for m in MODELS if m != default.model))
        if model in (None, one)
    ]


def _drawn(trial: Any, model: Model | None, loss: Loss | None) -> Settings:
    return Settings(
        model=trial.suggest_categorical("model", MODELS if model is None else [model]),
        loss=trial.suggest_categorical("loss", list(LOSSES) if loss is None else [loss]),
        rate=trial.suggest_float("rate", 5e-4, 5e-2, log=True),
        decay=trial.suggest_float("decay", 1e-4, 1.0, log=True),
        hidden=trial.suggest_categorical("hidden", [4, 8, 16, 32]),
    )
