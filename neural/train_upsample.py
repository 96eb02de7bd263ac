"""Train the dust upsampler's network, measure it against its baselines on held-out shots, and ship the weights.

    python -m sim.dust_pairs train/dust 1 2 3 4 5 6 7 8 9 10 11 12 101 201 202
    python -m neural.train_upsample [--data train/dust] [--steps 5000] [--width 16] [--blocks 2] [--measure-only]

In: pairs by seed, below 100 to train on, 101..199 to watch, from 201 to test. Out: assets/weights/dust_upsampler.onnx and .json, and the
table in docs/upsampling.md. The network sees the carried state it will see at run time: each training shot keeps a roll-out
of the current network, one shot is rolled anew every REROLL steps, and a quarter of the crops carry the truth instead.
Loss, all relative to the dust in the crop: |y - g|; half of its gradients'; the deviation within coarse cells (an absolute error
alone prefers blur); and |(y - W y') - (g - W g')|, the change that carrying W the frame before does not explain. Draws are
hashed from the step. Run again it resumes at its last checkpoint, with roll-outs made anew, so weights depend slightly on where
it stopped.
Gate (DESIGN section 5): relative L1 5 % below `advect`, spectrum and temporal difference no worse; else `advect` stays the default.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from neural.advect import FineState, active_cells, carry, fine_carry, fine_start, noise_tile
from neural.dust_network import (
    CHILDREN,
    FACTOR,
    DustNetwork,
    active_mask,
    depth_to_space,
    features,
    network_export,
    network_load,
    network_make,
    space_to_depth,
)
from shot.device import taichi_open
from shot.errors import MissingResource
from shot.frames import FrameFolder
from shot.hashing import uniform

CROP, BATCH = 8, 4  # coarse cells; crops
RATE, RATE_LAST, WARM_UP = 2e-3, 1e-4, 40
REROLL, CHECKPOINT = 120, 100  # steps
TRUTH = 0.25  # share of crops whose carried state is the truth's
TEMPORAL = 0.5  # weight of the change between frames
GATE = 0.9  # carried share of the blend before training
FPS, SINK, SEED = 24.0, 0.08, 5
SEEDS = (*range(1, 13), 101, 201, 202)  # of the shipped weights


@dataclass
class Clip:
    """One shot of pairs; carried states in half precision as (frames, 64, n, n, n) ratios to the cell's mean."""

    cell: float
    first: int
    mass: np.ndarray  # (T, n, n, n) f32
    velocity: np.ndarray  # (T, n, n, n, 3) f32 of the way to each frame
    solid: np.ndarray
    fine: np.ndarray  # (T, 4n, 4n, 4n) f32
    coarse: np.ndarray | None = None  # (T, 7, n, n, n) f16; the feature `fresh` belongs to the roll-out
    smooth: np.ndarray | None = None  # (T, 64, n, n, n) f16
    rolled: np.ndarray | None = None  # f16, carried from the roll-out
    truth: np.ndarray | None = None  # f16, carried from the truth


def main() -> None:
    """Train, export, measure, write the table."""
    parser = argparse.ArgumentParser(description="Train the dust upsampler.")
    parser.add_argument("--data", type=Path, default=Path("train/dust"))
    parser.add_argument("--out", type=Path, default=Path("assets/weights/dust_upsampler.onnx"))
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="small convolutions: more threads wait more than they work")
    parser.add_argument("--measure-only", action="store_true", help="measure the weights in --out")
    options = parser.parse_args()
    taichi_open("cpu", threads=options.threads)
    torch.set_num_threads(options.threads)
    seeds = sorted(int(p.name) for p in options.data.glob("[0-9]*"))
    if not any(s > 200 for s in seeds) or not any(s < 100 for s in seeds):
        wanted = " ".join(map(str, SEEDS))
        raise MissingResource(f"{options.data}: no pairs; make them with python -m sim.dust_pairs {options.data} {wanted}")
    config = {
        "width": options.width, "blocks": options.blocks, "steps": options.steps, "crop": CROP, "batch": BATCH, "rate": RATE,
        "temporal": TEMPORAL, "train": [s for s in seeds if s < 100], "watch": [s for s in seeds if 100 < s < 200],
        "test": [s for s in seeds if s > 200]}
    if not options.measure_only:
        network = train(options, config)
        network_export(network, options.out, {"config": config})
    rows = measure([clip_read(options.data, seed) for seed in config["test"]], network_load(options.out, FACTOR))
    table = table_text(rows)
    print(table)
    record = json.loads(options.out.with_suffix(".json").read_text())
    record["metrics"] = rows
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    page = Path("docs/upsampling.md")
    page.write_text(re.sub(r"(?s)(<!-- table -->\n).*?(<!-- end -->)", lambda m: m[1] + table + m[2], page.read_text()))


@cache
def _noise() -> np.ndarray:
    return noise_tile(SEED)


def clip_read(data: Path, seed: int) -> Clip:
    """One shot of pairs."""
    folder = FrameFolder(data / f"{seed:04d}")
    first = 1001
    frames = []
    while folder.has_frame(first + len(frames)):
        frames.append(folder.get_frame(first + len(frames)))
    speed = np.stack([f["velocity"] for f in frames])
    speed[1:] = 0.5 * (speed[1:] + speed[:-1])
    return Clip(float(folder.get("grid")["cell"]), first, *(np.stack([f[k] for f in frames]) if k != "velocity" else speed
                                                            for k in ("mass", "velocity", "solid", "fine")))


# ---------------------------------------------------------------- training


def train(options, config: dict):
    """Steps until options.steps, from the last checkpoint. Returns the network."""
    torch.manual_seed(SEED)
    network = network_make(options.width, options.blocks, GATE)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    saved, step = options.data / f"checkpoint_w{options.width}_b{options.blocks}.pt", 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    clips = [clip_read(options.data, seed) for seed in config["train"]]
    for clip in clips:
        truth_carry(clip)
        roll(clip, network if step else None)
    print(f"{len(clips)} shots, {sum(p.numel() for p in network.parameters())} weights, step {step}, "
          f"{time.process_time():.0f} CPU s", flush=True)
    total = 0.0
    while step < options.steps:
        warm = min(1.0, (step + 1) / WARM_UP)
        fall = 0.5 + 0.5 * np.cos(np.pi * step / options.steps)
        for group in optimiser.param_groups:
            group["lr"] = warm * (RATE_LAST + (RATE - RATE_LAST) * fall)
        coarse, carried, smooth, target, mass, truth = batch_draw(clips, step)
        loss = loss_of(network(coarse, carried, smooth), target, mass, (carried - truth) / CHILDREN)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        total += float(loss.detach())
        step += 1
        if step % REROLL == 0:
            roll(clips[step // REROLL % len(clips)], network)
        if step % CHECKPOINT == 0:
            torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, saved)
            print(f"step {step}: loss {total / CHECKPOINT:.4f}, {time.process_time():.0f} CPU s", flush=True)
            total = 0.0
    return network


def loss_of(share: torch.Tensor, target: torch.Tensor, mass: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """share, target (b, 64, n, n, n); mass (b, 1, n, n, n); apart = W y' - W g' as shares."""
    y, g = share * mass, target * mass
    dust = g.sum() + 1e-6
    a, b = _unfold(y), _unfold(g)
    edges = sum((torch.diff(a, dim=d) - torch.diff(b, dim=d)).abs().sum() for d in (1, 2, 3))
    spread = (y.std(1) - g.std(1)).abs().sum() * CHILDREN
    change = (y - g - apart * mass).abs().sum()
    return ((y - g).abs().sum() + 0.5 * edges / 3 + 0.25 * spread + TEMPORAL * change) / dust


def _unfold(deep: torch.Tensor) -> torch.Tensor:
    b, _, x, y, z = deep.shape
    split = deep.reshape(b, FACTOR, FACTOR, FACTOR, x, y, z).permute(0, 4, 1, 5, 2, 6, 3)
    return split.reshape(b, FACTOR * x, FACTOR * y, FACTOR * z)


def batch_draw(clips: list[Clip], step: int) -> tuple[torch.Tensor, ...]:
    """Crops around a random active cell, flipped along x and z and turned about y at random (gravity stays where it is)."""
    parts = []
    for item in range(BATCH):
        u = uniform(SEED, "crop", (step * BATCH + item) * 8 + np.arange(8))
        clip = clips[int(u[0] * len(clips))]
        frame = 1 + int(u[1] * (len(clip.mass) - 1))
        cells = active_cells(clip.mass[frame])
        while not len(cells):
            frame = (frame + 7) % len(clip.mass)
            cells = active_cells(clip.mass[frame])
        low = np.clip(cells[int(u[2] * len(cells))] - CROP // 2, 0, np.array(clip.mass.shape[1:]) - CROP)
        box = tuple(slice(a, a + CROP) for a in low)
        c = clip.mass[frame]
        near = clip.truth if u[3] < TRUTH else clip.rolled
        inside = np.where(active_mask(c, cells), c, 0.0)[box] / c.mean(where=c > 0)
        fine = clip.fine[frame][tuple(slice(FACTOR * a, FACTOR * (a + CROP)) for a in low)]
        target = space_to_depth(fine)
        target = target / np.maximum(target.sum(0), 1e-30)
        assert clip.coarse is not None and clip.smooth is not None and near is not None and clip.truth is not None
        deep = [a[frame][:, *box] for a in (near, clip.smooth, clip.truth)]
        tensors = [clip.coarse[frame][:, *box], deep[0], deep[1], target, inside[None], deep[2]]
        parts.append([_turn(torch.from_numpy(np.ascontiguousarray(t, np.float32)), k, u[4:7] < 0.5) for k, t in enumerate(tensors)])
    return tuple(torch.stack([p[k] for p in parts]) for k in range(6))


def _turn(t: torch.Tensor, kind: int, how: np.ndarray) -> torch.Tensor:
    """Flip x, flip z, exchange x and z of features (kind 0), mass (4) or children (the others)."""
    lead = t.shape[0]
    if kind not in (0, 4):
        t = t.reshape(FACTOR, FACTOR, FACTOR, *t.shape[1:])
        for axis, yes in ((0, how[0]), (2, how[1])):
            t = t.flip(axis, 3 + axis) if yes else t
        t = t.permute(2, 1, 0, 5, 4, 3) if how[2] else t
        return t.reshape(lead, *t.shape[3:])
    t = t.clone()
    for axis, yes in ((0, how[0]), (2, how[1])):
        if yes:
            t = t.flip(1 + axis)
            if kind == 0:
                t[2 + axis] *= -1.0
    if how[2]:
        t = t.permute(0, 3, 2, 1)
        if kind == 0:
            t = t[[0, 1, 4, 3, 2, 5, 6]]
    return t


def _step(clip: Clip, state: FineState, frame: int, detail: float, noise: np.ndarray) -> tuple[FineState, np.ndarray]:
    return fine_carry(state, clip.mass[frame], clip.velocity[frame], FACTOR, 1.0 / (FPS * clip.cell), SINK, detail, noise, clip.first, SEED)


def _whole(clip: Clip, frame: int, carried: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    box = tuple(slice(0, n) for n in clip.mass.shape[1:])
    return features(clip.mass[frame], clip.velocity[frame] / (FPS * clip.cell), clip.solid[frame], carried, fine, box)


def truth_carry(clip: Clip) -> None:
    """Fill clip.truth: what carrying the true fine dust from the frame before gives."""
    noise, T = _noise(), len(clip.mass)
    clip.truth = np.zeros((T, CHILDREN, *clip.mass.shape[1:]), np.float16)
    for frame in range(1, T):
        state = fine_start(clip.mass[frame - 1], FACTOR, clip.first + frame - 1)
        state.mass = clip.fine[frame - 1]
        if len(active_cells(clip.mass[frame])):
            after, carried = _step(clip, state, frame, 0.0, noise)
            clip.truth[frame] = np.minimum(_whole(clip, frame, carried, after.mass)[1], 6e4)


def roll(clip: Clip, network) -> None:
    """Fill coarse, smooth and rolled along a roll-out of the network, or of plain carrying where it is None."""
    noise, T, shape = _noise(), len(clip.mass), clip.mass.shape[1:]
    clip.coarse = np.zeros((T, 7, *shape), np.float16)
    clip.smooth = np.zeros((T, CHILDREN, *shape), np.float16) if clip.smooth is None else clip.smooth
    clip.rolled = np.zeros((T, CHILDREN, *shape), np.float16)
    state = fine_start(clip.mass[0], FACTOR, clip.first)
    for frame in range(1, T):
        state, carried = _step(clip, state, frame, 0.0, noise)
        if not len(active_cells(clip.mass[frame])):
            continue
        coarse, near, smooth = _whole(clip, frame, carried, state.mass)
        clip.coarse[frame], clip.rolled[frame], clip.smooth[frame] = coarse, np.minimum(near, 6e4), np.minimum(smooth, 6e4)
        if network is not None:
            with torch.no_grad():
                share = network(*(torch.from_numpy(t[None]) for t in (coarse, near, smooth)))[0].numpy()
            c = clip.mass[frame]
            state.mass = depth_to_space(share * np.where(active_mask(c, active_cells(c)), c, 0.0)).astype(np.float32)


# ---------------------------------------------------------------- measuring


METHODS = ("trilinear", "trilinear + projection", "advect + projection", "advect + projection, detail 1", "network, single frame",
           "network + advected")
COLUMNS = ("PSNR active", "rel L1", "spectrum", "temporal", "warp ratio", "seams", "conservation")


def measure(clips: list[Clip], network: DustNetwork) -> dict[str, dict[str, float]]:
    """Mean of every figure over all frames of all clips from the first that holds dust and its predecessor."""
    rows: dict[str, dict[str, float]] = {}
    for method in METHODS:
        figures = [f for clip in clips for f in measure_clip(clip, method, network)]
        rows[method] = {name: float(np.mean([f[k] for f in figures])) for k, name in enumerate(COLUMNS)}
    return rows


def measure_clip(clip: Clip, method: str, network: DustNetwork) -> list[tuple[float, ...]]:
    """Figures of one method on one clip, frame by frame."""
    noise, out = _noise(), []
    detail = 1.0 if method.endswith("detail 1") else 0.0
    state, last, peak = fine_start(clip.mass[0], FACTOR, clip.first), np.zeros_like(clip.fine[0]), float(clip.fine.max())
    for frame in range(1, len(clip.mass)):
        c, g = clip.mass[frame], clip.fine[frame]
        cells = active_cells(c)
        if not len(cells):
            state = fine_start(c, FACTOR, clip.first + frame)
            continue
        state, carried = _step(clip, state, frame, detail, noise)
        plain = fine_start(c, FACTOR, clip.first + frame).mass
        speed = clip.velocity[frame] / (FPS * clip.cell)
        if method == "trilinear":
            y = _interpolate(c)
        elif method == "trilinear + projection":
            y = plain
        elif method == "network, single frame":
            y = network.reshape(c, speed, clip.solid[frame], c, plain)
        elif method == "network + advected":
            y = state.mass = network.reshape(c, speed, clip.solid[frame], carried, state.mass)
        else:
            y = state.mass
        if active_cells(clip.mass[frame - 1]).size:
            where = np.repeat(np.repeat(np.repeat(active_mask(c, cells), FACTOR, 0), FACTOR, 1), FACTOR, 2)
            moved = [_warp(clip, frame, field) for field in (last, clip.fine[frame - 1])]
            change, truth = y - moved[0], g - moved[1]
            out.append((
                10.0 * np.log10(peak**2 / max(float(((y - g)[where] ** 2).mean()), 1e-30)),
                float(np.abs(y - g).sum() / g.sum()), _spectrum_error(y, g),
                float(np.abs(change - truth).sum() / g.sum()), float(np.abs(change).sum() / np.abs(truth).sum()),
                _seams(y) / _seams(g),
                float(np.abs(space_to_depth(y).sum(0) - c).max() / c.max())))
        last = y
    return out


def _interpolate(c: np.ndarray) -> np.ndarray:
    from scipy.ndimage import zoom

    return np.asarray(zoom(c, FACTOR, order=1, mode="nearest", grid_mode=True) / CHILDREN, np.float32)


def _warp(clip: Clip, frame: int, field: np.ndarray) -> np.ndarray:
    """A fine field of the frame before, carried with the coarse air everywhere, neither stirred nor projected."""
    shape = clip.mass.shape[1:]
    carrier = np.zeros((*shape, 10), np.float32)
    carrier[..., :3] = clip.velocity[frame]
    carrier[..., 1] -= SINK
    out, total, none = np.zeros_like(field), np.zeros(shape, np.float32), np.float32(0.0)
    cells = np.argwhere(np.ones(shape, bool)).astype(np.int32)
    carry(cells, FACTOR, carrier.reshape(-1), np.float32(1.0 / (FPS * clip.cell)), _noise().reshape(-1), none, none,
          np.zeros(6, np.float32), np.ascontiguousarray(field).reshape(-1), out, total)
    return out


def _spectrum_error(y: np.ndarray, g: np.ndarray) -> float:
    """Mean |log10(E_y / E_g)| over the shells above the coarse grid's Nyquist wave number."""
    n = y.shape[0]
    k = np.stack(np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), np.fft.rfftfreq(n), indexing="ij")) * n
    shell = np.sqrt((k**2).sum(0)).astype(int).ravel()
    E = [np.bincount(shell, (np.abs(np.fft.rfftn(f)) ** 2).ravel())[n // (2 * FACTOR):n // 2] for f in (y, g)]
    return float(np.abs(np.log10(np.maximum(E[0], 1e-30) / np.maximum(E[1], 1e-30))).mean())


def _seams(y: np.ndarray) -> float:
    """Jumps across borders of coarse cells over jumps inside them: shows a lattice that the other figures forgive."""
    border, inside = 0.0, 0.0
    for axis in range(3):
        jump = np.abs(np.diff(y, axis=axis)).sum(tuple(a for a in range(3) if a != axis))
        at = np.arange(len(jump)) % FACTOR == FACTOR - 1
        border, inside = border + float(jump[at].mean()), inside + float(jump[~at].mean())
    return border / max(inside, 1e-30)


def table_text(rows: dict[str, dict[str, float]]) -> str:
    """The table in Markdown."""
    lines = ["| method | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for method, row in rows.items():
        lines.append(f"| {method} | " + " | ".join(f"{row[c]:.1e}" if c == "conservation" else f"{row[c]:.3f}" for c in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
