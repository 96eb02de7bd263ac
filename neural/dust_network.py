"""The network of the dust upsampler: how each coarse cell's dust is shared among its 64 fine cells.

In: coarse mass, velocity and solid share, what carrying alone gave (S), the carried and projected fine state. Out: fine mass.
Reference: sub-pixel convolution (Shi et al. 2016) in three dimensions: every convolution runs at coarse resolution and the head
writes 64 channels; a softmax over them times the cell's mass is non-negative and exact by construction. Without its last layer's
weights the network is the identity on a blend of carried and interpolated dust: it starts as the method it has to beat.

    base = g carried + (1 - g) smooth      both as ratios to the cell's mean, g = sigmoid(gate), one gate per fine cell
    share = softmax64(log(base + EPSILON) + delta)
    y = c share

Runs with ONNX Runtime; torch only for training and export, inside functions. The .json beside the weights holds their sha256, order
and normalisers of the features, training configuration and metrics; a mismatch is an error. Not handled: factors other than 4.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neural.advect import active_cells, refill
from shot.errors import MissingResource, ShotError

FACTOR = 4
CHILDREN = FACTOR**3
EPSILON = 1e-3  # of a cell's mean: keeps the logarithm finite in clean fine cells
HALO = 4  # coarse cells of context around the dust; the network sees 1 + 2 (1 + 2 blocks + 1) of them
COARSE_FEATURES = ("sqrt mass", "log mass", "velocity x", "velocity y", "velocity z", "solid", "fresh")
SPEED_UNIT = 2.0  # [cells per frame] that a velocity feature of 1 stands for; clipped at +-2


@dataclass(frozen=True)
class DustNetwork:
    """Loaded weights."""

    session: Any  # onnxruntime.InferenceSession
    record: dict

    def reshape(self, c: np.ndarray, velocity: np.ndarray, solid: np.ndarray, carried: np.ndarray, fine: np.ndarray) -> np.ndarray:
        """New fine mass (4 nx, 4 ny, 4 nz) from the projected carried state `fine`; velocity in cells per frame."""
        cells = active_cells(c)
        if not len(cells):
            return fine
        box = crop(cells, c.shape)
        coarse, near, smooth = features(c, velocity, solid, carried, fine, box)
        share = self.session.run(None, {"coarse": coarse[None], "carried": near[None], "smooth": smooth[None]})[0][0]
        out = np.zeros_like(fine)
        inside = np.where(active_mask(c, cells)[box], c[box], 0.0)
        out[tuple(slice(FACTOR * s.start, FACTOR * s.stop) for s in box)] = depth_to_space(share * inside)
        return out


def network_load(path: Path, factor: int) -> DustNetwork:
    """Open the weights, checked against the record beside them."""
    import onnxruntime

    if factor != FACTOR:
        raise ShotError(f'dust.upsample = {factor}: dust.upsampler = "network" works at {FACTOR} only; use "advect"')
    try:
        data, record = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    except OSError as error:
        raise MissingResource(f"{path}: {error.strerror}; run neural/train_upsample.py, or use dust.upsampler = \"advect\"") from error
    if hashlib.sha256(data).hexdigest() != record["sha256"] or record["features"] != list(COARSE_FEATURES):
        raise MissingResource(f"{path}: the weights do not match {path.with_suffix('.json').name}; train them again")
    options = onnxruntime.SessionOptions()
    # three threads gave other last bits than one, two and four on a 20 x 13 x 17 box; one costs no more CPU time
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return DustNetwork(onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]), record)


# ---------------------------------------------------------------- features


def active_mask(c: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Bool array of the active cells."""
    mask = np.zeros(c.shape, bool)
    mask[tuple(cells.T)] = True
    return mask


def crop(cells: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Box of the active cells and their halo, inside the grid."""
    low, high = np.maximum(cells.min(0) - HALO, 0), np.minimum(cells.max(0) + 1 + HALO, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def features(c: np.ndarray, velocity: np.ndarray, solid: np.ndarray, carried: np.ndarray, fine: np.ndarray,
             box: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """coarse (7, box), carried (64, box) and smooth (64, box) f32. The masses enter as ratios, so their unit does not matter."""
    cells = active_cells(c)
    mask = active_mask(c, cells)[box]
    mean = max(float(c.mean(where=c > 0)), 1e-30)
    m, s = np.where(mask, c[box] / mean, 0.0), carried[box] / mean
    v = np.clip(np.moveaxis(velocity[box], -1, 0) / SPEED_UNIT, -2.0, 2.0)
    fresh = np.clip((m - s) / np.maximum(np.maximum(m, s), 1e-6), -1.0, 1.0) * mask
    coarse = np.stack([np.sqrt(m), np.log(m + 1e-3) / 4.0, *v, solid[box], fresh]).astype(np.float32)
    smooth = np.zeros_like(fine)
    refill(cells, FACTOR, c, np.zeros_like(c), c, smooth)
    per = np.where(mask, CHILDREN / np.maximum(c[box], 1e-30), 0.0).astype(np.float32)
    inside = tuple(slice(FACTOR * s.start, FACTOR * s.stop) for s in box)
    return coarse, space_to_depth(fine[inside]) * per, space_to_depth(smooth[inside]) * per


def space_to_depth(fine: np.ndarray) -> np.ndarray:
    """(4 nx, 4 ny, 4 nz) -> (64, nx, ny, nz), children in memory order."""
    x, y, z = (n // FACTOR for n in fine.shape)
    split = fine.reshape(x, FACTOR, y, FACTOR, z, FACTOR)
    return np.ascontiguousarray(split.transpose(1, 3, 5, 0, 2, 4).reshape(CHILDREN, x, y, z))


def depth_to_space(deep: np.ndarray) -> np.ndarray:
    """Inverse of space_to_depth."""
    _, x, y, z = deep.shape
    split = deep.reshape(FACTOR, FACTOR, FACTOR, x, y, z)
    return np.ascontiguousarray(split.transpose(3, 0, 4, 1, 5, 2).reshape(FACTOR * x, FACTOR * y, FACTOR * z))


# ---------------------------------------------------------------- torch


def network_make(width: int, blocks: int, gate: float):
    """The torch module: forward(coarse (b, 7, ...), carried (b, 64, ...), smooth (b, 64, ...)) -> share (b, 64, ...)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv3d(width, width, 3, padding=1)
            self.second = nn.Conv3d(width, width, 3, padding=1)

        def forward(self, x):
            return x + self.second(nn.functional.silu(self.first(x)))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv3d(len(COARSE_FEATURES) + CHILDREN, width, 3, padding=1)
            self.body = nn.Sequential(*(Block() for _ in range(blocks)))
            self.head = nn.Conv3d(width, 2 * CHILDREN, 3, padding=1)
            nn.init.zeros_(self.head.weight)
            gates = torch.full((CHILDREN,), float(np.log(gate / (1.0 - gate))))
            self.head.bias = nn.Parameter(torch.cat([torch.zeros(CHILDREN), gates]))

        def forward(self, coarse, carried, smooth):
            x = torch.cat([coarse, 0.3 * torch.log(carried + EPSILON)], 1)  # 0.3: about unit variance
            delta, g = self.head(self.body(self.stem(x))).split(CHILDREN, 1)
            g = torch.sigmoid(g)
            return torch.softmax(torch.log(g * carried + (1.0 - g) * smooth + EPSILON) + delta, 1)

    return Network()


def network_export(network, path: Path, record: dict) -> None:
    """Write the ONNX file and the record beside it."""
    import torch

    network = network.eval()
    example = tuple(torch.zeros(1, n, 8, 8, 8) for n in (len(COARSE_FEATURES), CHILDREN, CHILDREN))
    names, axes = ["coarse", "carried", "smooth"], {2: "x", 3: "y", 4: "z"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs onnxscript, one more package for one file
        torch.onnx.export(network, example, str(path), input_names=names, output_names=["share"], opset_version=17, dynamo=False,
                          dynamic_axes=dict.fromkeys([*names, "share"], axes))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    head = {"sha256": digest, "features": list(COARSE_FEATURES), "speed_unit": SPEED_UNIT, "epsilon": EPSILON, "factor": FACTOR}
    path.with_suffix(".json").write_text(json.dumps({**head, **record}, indent=1, sort_keys=True) + "\n")
