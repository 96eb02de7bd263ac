"""The embedded refiner's network: a small conditional U-Net that works on 4x4 blocks of pixels, and its export to ONNX.

In: guide channels (B, C, H, W), the noisy residual (B, 3, H, W), the time t (B). Out: the clean residual (B, 3, H, W) in
deviations of the training residual. H and W are multiples of 16. The last layer starts at zero: an untrained network leaves
the raster as it is. The state enters times 1 - t: at t = 1 it holds nothing about the picture, so the first answer is the
conditional mean without a trace of the noise drawn. Feature norms are per pixel over channels (Karras et al. 2024, EDM2):
group norms and global pooling would make one corner's answer depend on another's and pump with the exposure. Normalising of
the guides is part of the network. torch only.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

BLOCK = 4  # pixels to a side folded into channels
WIDTHS = (48, 64, 96)
STATE = 3


def pixel_norm(x: torch.Tensor) -> torch.Tensor:
    """x over its root mean square across channels."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)


class TimeEmbedding(nn.Module):
    """t in 0..1 to features: 16 sines and cosines, one hidden layer."""

    frequency: torch.Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("frequency", math.pi * 2.0 ** torch.linspace(-1, 5, 16))
        self.layers = nn.Sequential(nn.Linear(32, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU())

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        angle = t[:, None] * self.frequency
        return self.layers(torch.cat([angle.sin(), angle.cos()], 1))


class ResidualBlock(nn.Module):
    """norm, SiLU, conv 3x3, scale and shift by time, SiLU, conv 3x3 that starts at zero, plus the input."""

    def __init__(self, inner: int, outer: int, features: int):
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, padding=1)
        self.second = nn.Conv2d(outer, outer, 3, padding=1)
        self.time = nn.Linear(features, 2 * outer)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()
        for value in (*self.second.parameters(), *self.time.parameters()):
            nn.init.zeros_(value)

    def forward(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        h = self.first(functional.silu(pixel_norm(x)))
        gain, offset = self.time(features)[:, :, None, None].chunk(2, 1)
        h = functional.silu(pixel_norm(h) * (1 + gain) + offset)
        return self.skip(x) + self.second(h)


class RefinerNetwork(nn.Module):
    """See the file's head. `mean` and `deviation` (C) are those of the training guides."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, channels: int, widths: tuple[int, int, int] = WIDTHS):
        super().__init__()
        a, b, c = widths
        f = 64
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.time = TimeEmbedding(f)
        self.enter = nn.Conv2d((channels + STATE) * BLOCK**2, a, 1)
        self.fine_in = ResidualBlock(a, a, f)
        self.shrink_fine = nn.Conv2d(a, b, 2, stride=2)
        self.middle_in = ResidualBlock(b, b, f)
        self.shrink_middle = nn.Conv2d(b, c, 2, stride=2)
        self.coarse = nn.ModuleList([ResidualBlock(c, c, f), ResidualBlock(c, c, f)])
        self.middle_out = ResidualBlock(b + c, b, f)
        self.fine_out = ResidualBlock(a + b, a, f)
        self.leave = nn.Conv2d(a, 3 * BLOCK**2, 3, padding=1)
        for value in self.leave.parameters():
            nn.init.zeros_(value)

    def forward(self, guides: torch.Tensor, state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        features = self.time(time)
        guides = (guides - self.mean[:, None, None]) / self.deviation[:, None, None]
        state = state * (1 - time)[:, None, None, None]
        x = functional.pixel_unshuffle(torch.cat([guides, state], 1), BLOCK)  # [b, 16 (C + 3), h/4, w/4]
        fine = self.fine_in(self.enter(x), features)
        middle = self.middle_in(self.shrink_fine(fine), features)
        x = self.shrink_middle(middle)
        for block in self.coarse:
            x = block(x, features)
        x = self.middle_out(torch.cat([functional.interpolate(x, scale_factor=2.0, mode="nearest"), middle], 1), features)
        x = self.fine_out(torch.cat([functional.interpolate(x, scale_factor=2.0, mode="nearest"), fine], 1), features)
        return functional.pixel_shuffle(self.leave(functional.silu(pixel_norm(x))), BLOCK)


def parameter_count(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in network.parameters())


def onnx_export(network: RefinerNetwork, path: Path) -> None:
    """Write the network with free height and width; inputs guides, state, time; output residual."""
    network = network.eval()
    channels = network.mean.numel()
    sample = (torch.zeros(1, channels, 32, 32), torch.zeros(1, STATE, 32, 32), torch.ones(1))
    free = {2: "height", 3: "width"}
    torch.onnx.export(
        network, sample, str(path), dynamo=False, opset_version=17, input_names=["guides", "state", "time"],
        output_names=["residual"], dynamic_axes={"guides": free, "state": free, "residual": free},
    )
