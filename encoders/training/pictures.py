"""Views of pictures: crops, scaling, rotation, flips and colour, drawn for each picture alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

_LEAST_AREA = 0.35
_MOST_STRETCH = 4 / 3
_MOST_DEGREES = 15.0
_BRIGHTNESS = _CONTRAST = 0.3
_SATURATION = 0.4
_HUE_DEGREES = 20.0
_GREY = 0.1


def picture_views(pictures: Tensor, draw: Generator) -> Tensor:
    """One view of each picture.

    The augmentations of SimCLR (Chen et al. 2020, arXiv:2002.05709), without its blur, weaker in
    colour, which tells much of catalog pictures, and with a rotation. All of a picture's geometry
    is one affine map, so that its pixels are resampled once; what lies outside continues the edge.

    Args:
        pictures: float32 (n, 3, side, side) in [0, 1], on any device.
        draw: a generator of the CPU: the same draws make the same views on every device.

    Returns:
        float32 (n, 3, side, side) in [0, 1].
    """
    from torch.nn.functional import affine_grid, grid_sample

    n = len(pictures)
    maps = _maps(n, draw).to(pictures.device)
    grid = affine_grid(maps, list(pictures.shape), align_corners=False)
    moved = grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _coloured(moved, draw)


def _maps(n: int, draw: Generator) -> Tensor:
    """Affine maps (n, 2, 3) from a view's coordinates to the picture's, both in [-1, 1]."""
    import torch

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=draw) * (high - low) + low

    area = uniform(_LEAST_AREA, 1.0)
    stretch = uniform(-math.log(_MOST_STRETCH), math.log(_MOST_STRETCH)).exp()
    width, height = (area * stretch).sqrt().clamp(max=1), (area / stretch).sqrt().clamp(max=1)
    x, y = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    flip = (torch.rand(n, generator=draw) < 0.5).float() * -2 + 1
    angle = uniform(-_MOST_DEGREES, _MOST_DEGREES) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    rows = [width * cos * flip, -height * sin, x, width * sin * flip, height * cos, y]
    return torch.stack(rows, dim=1).view(n, 2, 3)


def _coloured(pictures: Tensor, draw: Generator) -> Tensor:
    """Brightness and contrast by a factor, saturation and hue by a matrix."""
    import torch

    n = len(pictures)

    def factors(spread: float) -> Tensor:
        return 1 + (torch.rand(n, generator=draw) * 2 - 1) * spread

    brightness, contrast = factors(_BRIGHTNESS), factors(_CONTRAST)
    saturation = factors(_SATURATION) * (torch.rand(n, generator=draw) >= _GREY)
    hue = (torch.rand(n, generator=draw) * 2 - 1) * math.radians(_HUE_DEGREES)
    matrix = _colour_matrix(saturation, hue).to(pictures.device)
    scale, gain = (x.to(pictures.device).view(n, 1, 1, 1) for x in (brightness, contrast))
    mixed = torch.einsum("nij,njhw->nihw", matrix, pictures) * scale
    mean = mixed.mean(dim=(1, 2, 3), keepdim=True)
    return ((mixed - mean) * gain + mean).clamp(0, 1)


def _colour_matrix(saturation: Tensor, hue: Tensor) -> Tensor:
    """RGB to RGB (n, 3, 3): chroma of YIQ scaled by `saturation` and turned by `hue`."""
    import torch

    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    cos, sin = saturation * hue.cos(), saturation * hue.sin()
    one, zero = torch.ones_like(hue), torch.zeros_like(hue)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    matrix: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return matrix
