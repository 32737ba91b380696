"""Sound by a small recurrent network over its mel spectrogram, trained on the catalog itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .audio import audio_blocks
from .device import inference, resolve_device
from .fitting import FitTask, FittedEncoder, State
from .limits import Limits
from .mel import HOP, MELS, SAMPLE_RATE, MelFrames
from .memory import device_memory
from .training import Plan, train
from .training.inputs import arrays_of, decode_sample, load_arrays
from .training.sounds import sound_views
from .training.two_views import TwoViews
from .windows import WINDOWS, spread, windows_of

if TYPE_CHECKING:
    from torch import Generator, Tensor

LEAST_CLIPS = 16
SECONDS = 4
TOGETHER = 2
"""Frames of 10 ms that are averaged to one."""
STACKED = 2
"""Of those, that the network sees at once: it steps by 40 ms."""
LONGEST = SECONDS * SAMPLE_RATE // HOP // TOGETHER
_HIDDEN = 128
_TEMPERATURE = 0.1
_BATCH = 128
_RATE = 2e-3
_STEADY = 0.1
"""Added to the spread of levels, in log power: what changes less is not blown up."""

Frames = NDArray[np.float16]


class MelLstmOptions(BaseModel):
    """Options of the kind `mel-lstm`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=8, ge=0, le=1000)
    """Times that it learns from each clip, at most; 0 leaves the network as it was drawn."""
    seed: int = 0
    """The same seed trains the same network on the same machine."""


class MelLstmEncoder(FittedEncoder):
    """Learns to tell the clips of this catalog apart, whatever is done to them, without labels.

    Two views of each clip (shifted in time, with noise, with bands and moments masked) must find
    each other among those of all others: the loss of SimCLR (Chen et al. 2020, arXiv:2002.05709),
    on an LSTM (Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735) over the log-mel
    spectrogram. The mean of each band is taken off (voice, channel and volume), as `mel-course`
    does. A vector is the mean and the largest of the LSTM's outputs over time; of a clip longer
    than 4 seconds, the mean of up to four windows spread over it. It learns from the first window.
    """

    kind: ClassVar[str] = "mel-lstm"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = MelLstmOptions
    modalities = ("audio",)
    dimension = 2 * _HIDDEN
    sample: ClassVar[int] = 10_000

    def __init__(self, options: MelLstmOptions, device: str, limits: Limits, state: State) -> None:
        self.options = options
        self.state = state
        self.limits = limits
        self.device = resolve_device(device)
        self.batch_size = 64 if self.device == "cpu" else 512
        self._frames = _MelWindows()
        self._network = load_arrays(make_network(options.seed), state).eval().to(self.device)

    @classmethod
    def fit(
        cls, options: MelLstmOptions, modality: str, inputs: Sequence[bytes], task: FitTask
    ) -> State:
        """Train on clips.

        Raises:
            FitError: fewer than 16 that can be decoded.
            OutOfMemoryError: a batch does not fit on the device.
        """
        mel = _MelWindows()
        clips = decode_sample(
            inputs,
            lambda content: mel.of(content, task.limits)[0],
            task.progress,
            kind=cls.kind,
            least=LEAST_CLIPS,
            what="clips",
        )
        network = make_network(options.seed)
        learned = _two_views(clips, network, options, resolve_device(task.device))
        plan = Plan(epochs=options.epochs, batch=_BATCH, rate=_RATE, seed=options.seed)
        trained = train(learned, plan, task.progress, task.folder)
        return State(arrays_of(network), trained.told())

    def prepare(self, modality: str, content: bytes) -> list[Frames]:
        """Return up to four windows of a clip: float16 (n, 64) each, n at most 200, natural
        logarithms of power each 20 ms.

        Raises:
            MediaError: as `mel.MelFrames.of`.
        """
        self.check_modality(modality)
        return self._frames.of(content, self.limits)

    def length(self, prepared: Any) -> int:
        """Frames of the longest window."""
        return max(len(window) for window in prepared)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        import torch

        windows = [window for clip in prepared for window in clip]
        parts = []
        for start in range(0, len(windows), self.batch_size):
            frames, lengths = _padded(windows[start : start + self.batch_size])
            with inference(self.kind, len(prepared), self.device):
                inputs = torch.from_numpy(frames).to(self.device)
                found = self._network(inputs, torch.from_numpy(lengths).to(self.device))
                parts.append(found.float().cpu().numpy())
        starts = np.cumsum([0, *(len(clip) for clip in prepared)])[:-1]
        return np.add.reduceat(np.concatenate(parts), starts, axis=0)


class _MelWindows:
    """Log-mel frames of windows that are spread over a clip; thread-safe."""

    def __init__(self) -> None:
        self._mel = MelFrames()

    def of(self, content: bytes, limits: Limits) -> list[Frames]:
        """Up to four windows, float16 (n, 64)."""
        size = SECONDS * SAMPLE_RATE
        windows = spread(windows_of(audio_blocks(content, limits, SAMPLE_RATE), size), WINDOWS)
        with device_memory(MelLstmEncoder.kind, 1):
            return [self._averaged(self._mel.of_samples(window)) for window in windows]

    def _averaged(self, frames: NDArray[np.float64]) -> Frames:
        least = STACKED * TOGETHER
        if len(frames) < least:
            frames = np.resize(frames, (least, MELS))
        whole = frames[: len(frames) // TOGETHER * TOGETHER]
        averaged: Frames = whole.reshape(-1, TOGETHER, MELS).mean(axis=1).astype(np.float16)
        return averaged


def _two_views(
    clips: Sequence[Frames], network: Any, options: MelLstmOptions, device: str
) -> TwoViews:
    import torch

    def views(rows: Tensor, draw: Generator) -> tuple[Tensor, Tensor]:
        padded, counts = _padded([clips[row] for row in rows.tolist()])
        frames = torch.from_numpy(padded).to(device)
        lengths = torch.from_numpy(counts).to(device)
        (first, left), (second, right) = (sound_views(frames, lengths, draw) for _ in range(2))
        return torch.cat([first, second]), torch.cat([left, right])

    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.shape[0].to_bytes(4, "big") + clip.tobytes())
    kind = MelLstmEncoder.kind
    return TwoViews(
        kind=kind,
        name=f"{kind} {MelLstmEncoder.revision} {options!r} {digest.hexdigest()}",
        network=network,
        width=MelLstmEncoder.dimension,
        count=len(clips),
        views=views,
        temperature=_TEMPERATURE,
        seed=options.seed,
        device=device,
    )


def _padded(windows: Sequence[Frames]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows in one array (n, time, 64), time a multiple of `STACKED`, and their lengths."""
    lengths = np.array([len(window) for window in windows])
    time = -(-int(lengths.max()) // STACKED) * STACKED
    frames = np.zeros((len(windows), time, MELS), dtype=np.float32)
    for row, window in zip(frames, windows, strict=True):
        row[: len(window)] = window
    return frames, lengths


def make_network(seed: int) -> Any:
    """The network, drawn at random: from frames (n, time, 64) and lengths (n,) to (n, 256)."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(MELS * STACKED, _HIDDEN, batch_first=True)

        def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
            n, time, _ = frames.shape
            steps = _normalised(frames, lengths).reshape(n, time // STACKED, MELS * STACKED)
            # The padding comes last, so that it changes nothing that came before.
            outputs, _ = self.lstm(steps)
            counts = -(-lengths // STACKED)
            own = (torch.arange(steps.shape[1], device=steps.device)[None] < counts[:, None])[
                ..., None
            ]
            mean = (outputs * own).sum(dim=1) / counts[:, None]
            largest = outputs.masked_fill(~own, -1).amax(dim=1)  # outputs lie in (-1, 1)
            return torch.cat([mean, largest], dim=1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network()


def _normalised(frames: Tensor, lengths: Tensor) -> Tensor:
    """Levels about the mean of their band, by the spread of all; zero in the padding."""
    import torch

    own = (torch.arange(frames.shape[1], device=frames.device)[None] < lengths[:, None])[..., None]
    counts = lengths[:, None, None]
    centred = (frames - (frames * own).sum(dim=1, keepdim=True) / counts) * own
    spread = ((centred**2).sum(dim=(1, 2), keepdim=True) / (counts * MELS)).sqrt()
    return centred / (spread + _STEADY)
