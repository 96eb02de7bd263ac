"""Train the embedded refiner and the regression network of equal size that it is compared with.

    python -m neural.train_refine --pairs train/refine --out assets/weights [--steps 4000]

In: the pairs of `pipeline/train_pairs.py`, held-out buildings left out. Out: refiner.onnx with refiner.json in --out,
regression.onnx with its json beside the data. One trunk learns the conditional mean of the residual r = encode(reference) -
encode(raster); then two branches of equal length start from it: `regression` goes on as it is, `refiner` learns the flow
z_t = (1 - t) r + t s n for all t, with s the deviation of what the trunk leaves unexplained (after CorrDiff, Mardani et al.
2025: the mean by regression, the rest by diffusion). Loss: squared error of the clean residual over t^2 + 0.1, plus a tenth
of the absolute error of its gradients. Light and paint of every crop are scaled at random. Run again it resumes at its last
checkpoint; every draw is hashed from the step, so the result does not depend on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neural.colour import decode, encode
from neural.guide_tensor import CHANNELS, guide_channels, lens_of
from neural.refiner_network import RefinerNetwork, onnx_export, parameter_count
from neural.relief import relief_factor
from neural.training_shots import Take, takes
from shot.frames import FrameFolder
from shot.hashing import hashed, normal, stream_key
from shot.results import Guides

CROP, BATCH = 96, 8
RATE, WARM_UP = 1.5e-3, 200
AVERAGE = 0.999  # of the weights that are kept
TIME_LOW, TIME_ONE = 0.2, 0.25  # lowest t, and share of samples at t = 1 exactly
CHECKPOINT = 500
SEED = 7
ALBEDO = slice(CHANNELS.index("albedo_r"), CHANNELS.index("albedo_b") + 1)


def main() -> None:
    """Trunk, two branches, two exports."""
    parser = argparse.ArgumentParser(description="Train the embedded refiner.")
    parser.add_argument("--pairs", type=Path, default=Path("train/refine"))
    parser.add_argument("--out", type=Path, default=Path("assets/weights"))
    parser.add_argument("--steps", type=int, default=4000, help="of the trunk, and of each branch")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures = pictures_read(options.pairs, [take for take in takes() if not take.held_out])
    print(f"{len(pictures)} pictures", flush=True)
    deviation = residual_deviation(pictures)
    trunk = network_new(pictures)
    network_train(trunk, pictures, deviation, None, "trunk", options)
    spread = unexplained(trunk, pictures, deviation)
    print(f"residual deviation {deviation}, unexplained {spread:.3f}", flush=True)
    for name, scale, folder in (("regression", None, options.pairs), ("refiner", spread, options.out)):
        network = network_new(pictures)
        network.load_state_dict(trunk.state_dict())
        seconds, loss = network_train(network, pictures, deviation, scale, name, options)
        about = {"pictures": len(pictures), "steps": 2 * options.steps, "crop": CROP, "batch": BATCH,
                 "cpu_seconds_of_branch": round(seconds), "loss": loss}
        weights_write(network, folder / f"{name}.onnx", deviation, scale or 0.0, about)


@dataclass(frozen=True)
class Picture:
    """One training frame in memory."""

    channels: np.ndarray  # (C, H, W) f16
    identity: np.ndarray  # (H, W) i32
    reference: np.ndarray  # (3, H, W) f16 log code
    coverage: np.ndarray  # (H, W) f16
    spots: np.ndarray  # (N) flat indices of pixels of the building


def pictures_read(data: Path, chosen: list[Take]) -> list[Picture]:
    """All frames of the takes that have a reference."""
    found = []
    for take in chosen:
        references = FrameFolder(data / take.name / "reference")
        for frame in take.frames:
            if references.has_frame(frame):
                found.append(picture_read(data, take, frame))
    if not found:
        raise SystemExit(f"{data} holds no pairs: python -m pipeline.train_pairs --out {data}")
    return found


def picture_read(data: Path, take: Take, frame: int) -> Picture:
    """One pair."""
    guides = Guides(FrameFolder(data / take.name / "guides"))
    arrays = guides.frame(frame)
    lens = lens_of(guides.folder.get("static"), frame - take.shot.first, arrays["id"].shape[0])
    wanted = FrameFolder(data / take.name / "reference").get_frame(frame)["reference"]
    ground = arrays["id"].max()
    spots = np.flatnonzero((arrays["id"] > 0) & (arrays["id"] < ground))
    picture = arrays["solid"].astype(np.float32) * lens.exposure * relief_factor(arrays, lens, take.shot.light, take.shot.seed)
    return Picture(
        guide_channels(picture, arrays, lens).astype(np.float16), arrays["id"],
        encode(wanted * lens.exposure).transpose(2, 0, 1).astype(np.float16),
        (arrays["alpha"] > 0).astype(np.float16), spots,
    )


def residual_deviation(pictures: list[Picture]) -> np.ndarray:
    """(3) root mean square of the residual where solids are."""
    square = sum((np.square(p.reference.astype(np.float32) - p.channels[:3]) * p.coverage).sum((1, 2)) for p in pictures)
    return np.sqrt(square / sum(p.coverage.sum(dtype=np.float64) for p in pictures)).astype(np.float32)


def network_new(pictures: list[Picture]) -> RefinerNetwork:
    """A network at its start, with the guides' mean and deviation."""
    torch.manual_seed(SEED)
    network = RefinerNetwork(len(CHANNELS))
    sample = np.stack([p.channels[:, 1::7, 3::7].astype(np.float32) for p in pictures])
    network.mean.copy_(torch.from_numpy(sample.mean((0, 2, 3))))
    network.deviation.copy_(torch.from_numpy(np.maximum(sample.std((0, 2, 3)), 0.05)))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def batch_of(pictures: list[Picture], deviation: np.ndarray, step: int, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Guides (B, C, n, n), residual in deviations (B, 3, n, n) and coverage (B, 1, n, n) of one step; a function of the step."""
    guides, residuals, covers = [], [], []
    for lane in range(BATCH):
        draw = hashed(SEED, f"crop/{name}/{step}", np.arange(6), lane)
        picture = pictures[int(draw[0] % len(pictures))]
        height, width = picture.identity.shape
        y, x = int(draw[1] % height), int(draw[2] % width)
        if draw[3] % 4 and len(picture.spots):
            y, x = divmod(int(picture.spots[int(draw[3] // 4 % len(picture.spots))]), width)
        y, x = min(max(y - CROP // 2, 0), height - CROP), min(max(x - CROP // 2, 0), width - CROP)
        box = (slice(y, y + CROP), slice(x, x + CROP))
        planes = picture.channels[(slice(None), *box)].astype(np.float32)
        for side, channel in enumerate(("id_a", "id_b")):
            value = hashed(int(draw[4] >> 33), "refine/id", picture.identity[box], side) >> np.uint64(11)
            planes[CHANNELS.index(channel)] = np.where(picture.identity[box] > 0, value * 2.0**-52 - 1, 0)
        reference = picture.reference[(slice(None), *box)].astype(np.float32)
        planes, reference = relit(planes, reference, normal(SEED, f"light/{name}/{step}", np.arange(8), lane))
        residual = (reference - planes[:3]) / deviation[:, None, None]
        cover = picture.coverage[box].astype(np.float32)[None]
        if draw[5] & 1:
            planes, residual, cover = (np.ascontiguousarray(a[..., ::-1]) for a in (planes, residual, cover))
            planes[CHANNELS.index("normal_x")] *= -1
        guides.append(planes)
        residuals.append(residual)
        covers.append(cover)
    return tuple(torch.from_numpy(np.stack(a)).contiguous(memory_format=torch.channels_last) for a in (guides, residuals, covers))  # type: ignore[return-value]


def relit(planes: np.ndarray, reference: np.ndarray, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same crop in other light and of another colour: light scales raster and reference alike, paint scales them and the albedo.

    Exact for light; for paint but for what bounced twice. Six buildings have few colours: without this they are learnt by heart."""
    light = np.exp(0.35 * draw[0] + 0.15 * draw[1:4])[:, None, None]
    paint = np.exp(0.2 * draw[4] + 0.15 * draw[5:8])[:, None, None]
    paint = np.minimum(paint, 0.95 / max(float(decode(planes[ALBEDO]).max()), 1e-3))
    planes = planes.copy()
    planes[:3] = encode(decode(planes[:3]) * light * paint)
    planes[ALBEDO] = encode(decode(planes[ALBEDO]) * paint)
    return planes, encode(decode(reference) * light * paint)


def loss_of(network: RefinerNetwork, batch: tuple[torch.Tensor, ...], scale: float | None, draw: torch.Generator) -> torch.Tensor:
    """Weighted error of the clean residual; scale None trains the mean alone."""
    guides, residual, cover = batch
    count = len(guides)
    time_ = torch.ones(count)
    state = torch.zeros_like(residual)
    if scale is not None:
        time_ = TIME_LOW + (1 - TIME_LOW) * torch.rand(count, generator=draw)
        time_ = torch.where(torch.rand(count, generator=draw) < TIME_ONE, torch.ones(count), time_)
        t = time_[:, None, None, None]
        state = (1 - t) * residual + t * scale * torch.randn(residual.shape, generator=draw)
    error = (network(guides, state, time_) - residual) * cover
    square = error.square().mean((1, 2, 3))
    slope = (error[..., 1:] - error[..., :-1]).abs().mean((1, 2, 3)) + (error[..., 1:, :] - error[..., :-1, :]).abs().mean((1, 2, 3))
    return ((square + 0.1 * slope) / (time_.square() + 0.1)).mean()


def network_train(
    network: RefinerNetwork, pictures: list[Picture], deviation: np.ndarray, scale: float | None, name: str, options: argparse.Namespace
) -> tuple[float, float]:
    """Train for options.steps, from the last checkpoint if there is one; leaves averaged weights in `network`. CPU seconds, last loss."""
    checkpoint = options.pairs / f"{name}.checkpoint"
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    average = {k: v.clone() for k, v in network.state_dict().items()}
    begin, spent, smooth = 0, 0.0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        average, begin, spent, smooth = saved["average"], saved["step"], saved["spent"], saved["loss"]
    clock = time.process_time()
    for step in range(begin, options.steps):
        rate = RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * step / options.steps))
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        draw = torch.Generator().manual_seed(stream_key(SEED, f"train/{name}/{step}") >> 1)
        loss = loss_of(network, batch_of(pictures, deviation, step, name), scale, draw)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        keep = min(AVERAGE, (step + 1) / (step + 10))
        for k, v in network.state_dict().items():
            average[k].lerp_(v, 1 - keep)
        smooth += (float(loss.detach()) - smooth) * max(0.01, 1 / (step + 1))
        if (step + 1) % CHECKPOINT == 0 or step + 1 == options.steps:
            used = spent + time.process_time() - clock
            print(f"{name} {step + 1}: loss {smooth:.4f}, {used:.0f} CPU s", flush=True)
            partial = checkpoint.with_suffix(".partial")
            torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step + 1,
                        "spent": used, "loss": smooth}, partial)
            partial.replace(checkpoint)
    network.load_state_dict(average)
    return spent + time.process_time() - clock, round(smooth, 4)


def unexplained(trunk: RefinerNetwork, pictures: list[Picture], deviation: np.ndarray) -> float:
    """Root mean square of residual minus the trunk's mean, in deviations, where solids are."""
    total, area = 0.0, 0.0
    with torch.no_grad():
        for step in range(12):
            guides, residual, cover = batch_of(pictures, deviation, step, "unexplained")
            mean = trunk(guides, torch.zeros_like(residual), torch.ones(len(guides)))
            total += float(((residual - mean).square() * cover).sum()) / 3
            area += float(cover.sum())
    return float(np.sqrt(total / area))


def weights_write(network: RefinerNetwork, path: Path, deviation: np.ndarray, scale: float, about: dict) -> None:
    """ONNX file and the JSON that says what it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_export(network.to(memory_format=torch.contiguous_format), path)  # type: ignore[call-overload]
    document = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "guides_version": Guides.VERSION,
        "channels": list(CHANNELS),
        "mean": [round(float(v), 6) for v in network.mean],
        "deviation": [round(float(v), 6) for v in network.deviation],
        "residual_deviation": [float(v) for v in deviation],
        "noise_scale": scale,
        "parameters": parameter_count(network),
        "training": about,
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
