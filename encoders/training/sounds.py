"""Views of sounds: shifted in time, with noise, and with bands and moments masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

_SHIFT = 0.15
"""Of a clip's frames, the most that is moved out of it on one side."""
_LEAST_SNR, _MOST_SNR = -5.0, 20.0
_TILT = 12.0
"""Decibels that noise may rise or fall from the lowest band to the highest."""
_TIME_MASKS = _BAND_MASKS = 2
_MASKED_TIME, _MASKED_BANDS = 0.15, 0.15
_DB = 0.2302585  # natural logarithm of power per decibel


def sound_views(frames: Tensor, lengths: Tensor, draw: Generator) -> tuple[Tensor, Tensor]:
    """One view of each clip.

    Masks are those of SpecAugment (Park et al. 2019, arXiv:1904.08779): what they hide is the
    clip's mean. Noise is added where sounds add up, in power, and differs from band to band.

    Args:
        frames: float32 (n, time, bands), natural logarithms of power, on any device.
        lengths: int64 (n,): how many frames of each are its own; the others are not looked at.
        draw: a generator of the CPU: the same draws make the same views on every device.

    Returns:
        frames of the same shape, and lengths, shorter by what was moved out.
    """
    moved, left = _shifted(frames, lengths, draw)
    return _masked(_noisy(moved, left, draw), left, draw), left


def _shifted(frames: Tensor, lengths: Tensor, draw: Generator) -> tuple[Tensor, Tensor]:
    """Take away some frames at the beginning and some at the end."""
    import torch

    n, time, _ = frames.shape
    cut = (torch.rand((n, 2), generator=draw) * _SHIFT * lengths.cpu()[:, None]).long()
    starts = cut[:, 0].to(frames.device)
    left = lengths - cut.sum(dim=1).to(lengths.device)
    places = (torch.arange(time, device=frames.device)[None] + starts[:, None]).clamp(max=time - 1)
    return frames.gather(1, places[:, :, None].expand_as(frames)), left


def _noisy(frames: Tensor, lengths: Tensor, draw: Generator) -> Tensor:
    import torch

    n, time, bands = frames.shape
    own = _own(frames, lengths)
    level = (frames * own).sum(dim=(1, 2)) / (lengths * bands)
    snr = torch.rand(n, generator=draw) * (_MOST_SNR - _LEAST_SNR) + _LEAST_SNR
    slope = (torch.rand(n, generator=draw) - 0.5)[:, None] * torch.linspace(-1, 1, bands)
    # Power of noise in a band is exponentially distributed around its mean; of some periods
    # together it is less wild, and its square root's spread is told well enough by a normal.
    wild = torch.randn((n, time, bands), generator=draw) * 0.5
    offset = (slope * _TILT - snr[:, None]) * _DB
    noise = level[:, None, None] + (offset[:, None, :] + wild).to(frames.device)
    return torch.logaddexp(frames, noise)


def _masked(frames: Tensor, lengths: Tensor, draw: Generator) -> Tensor:
    import torch

    n, time, bands = frames.shape
    own = _own(frames, lengths)
    mean = (frames * own).sum(dim=(1, 2), keepdim=True) / (lengths[:, None, None] * bands)
    hidden = torch.zeros((n, time, bands), dtype=torch.bool)
    moments, all_bands = torch.arange(time)[None], torch.arange(bands)[None]
    for masks, share, length, places in (
        (_TIME_MASKS, _MASKED_TIME, lengths.cpu().float(), moments),
        (_BAND_MASKS, _MASKED_BANDS, torch.full((n,), float(bands)), all_bands),
    ):
        for _ in range(masks):
            width = torch.rand(n, generator=draw) * share * length
            start = torch.rand(n, generator=draw) * (length - width)
            inside = (places >= start[:, None]) & (places < (start + width)[:, None])
            hidden |= inside[:, :, None] if places is moments else inside[:, None, :]
    return torch.where(hidden.to(frames.device), mean, frames)


def _own(frames: Tensor, lengths: Tensor) -> Tensor:
    """Which frames are a clip's own: bool (n, time, 1)."""
    import torch

    return (torch.arange(frames.shape[1], device=frames.device)[None] < lengths[:, None])[..., None]
