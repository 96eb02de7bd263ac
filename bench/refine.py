"""What the refiner costs, and what it is worth on buildings it has never seen.

    python bench/refine.py cost [--width 960 --height 540]
    python bench/refine.py table [--pairs train/refine] [--out FOLDER]

`cost` prints processor seconds (over all threads) of each part of one frame. `table` compares, on the held-out takes, the
raster, the best colour fit (an affine map of log codes told the answer, one per frame), both again with the relief that the
refiner draws, the regression network of equal size, and the diffusion network at 1, 2 and 4 steps, with other noise and
without history; means over takes with a bootstrap interval of 95 %, then the gates of the design. Needs flip-evaluator
(extra `dev`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from neural.colour import decode, encode  # noqa: E402
from neural.guide_tensor import guide_channels, lens_of  # noqa: E402
from neural.picture_metrics import colour_fit, flip, psnr, ssim, temporal_difference, texture_distance, warp_error  # noqa: E402
from neural.refine import refine  # noqa: E402
from neural.relief import relief_factor  # noqa: E402
from neural.temporal import carry  # noqa: E402
from neural.training_shots import Take, takes  # noqa: E402
from shot.frames import FrameFolder  # noqa: E402
from shot.params import Shot  # noqa: E402
from shot.results import Guides, progress_silent  # noqa: E402

WEIGHTS = ROOT / "assets" / "weights" / "refiner.onnx"
OURS = {
    "ours, 1 step": {"steps": 1},
    "ours, 2 steps": {"steps": 2},
    "ours, 4 steps": {"steps": 4},
    "ours, 4 steps, no history": {"steps": 4, "history": 0.0},
    "ours, 4 steps, fixed noise": {"steps": 4, "noise": "fixed", "history": 0.0},
    "ours, 4 steps, fresh noise": {"steps": 4, "noise": "fresh", "history": 0.0},
}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description="Cost and worth of the refiner.")
    parser.add_argument("what", choices=("cost", "table"))
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--pairs", type=Path, default=ROOT / "train" / "refine")
    parser.add_argument("--out", type=Path, default=ROOT / "train" / "refine" / "table")
    options = parser.parse_args()
    if options.what == "cost":
        cost(options.width, options.height)
    else:
        table(options.pairs, options.out)


def cost(width: int, height: int) -> None:
    """Processor seconds of noise, carrying, channels and one network step."""
    from box_guides import Lens, box_frame  # pyright: ignore[reportMissingImports]

    from neural.embedded_backend import EmbeddedBackend, frame_noise

    frames = [box_frame(1001 + k, width, height) for k in range(2)]
    static = {"view": Lens().view(0)[None], "projection": Lens().projection(width, height), "sun": np.array([0, 1.0, 0]), "exposure": 1.0}
    lens = lens_of(static, 0, height)
    none = np.zeros((3, height, width), np.float32)

    def seconds(work, repeats: int = 5) -> float:
        work()
        begun = time.process_time()
        for _ in range(repeats):
            work()
        return (time.process_time() - begun) / repeats

    rows = {"surface noise": seconds(lambda: frame_noise(Shot(), frames[1], 1002)),
            "carry the last frame": seconds(lambda: carry(none, frames[0], frames[1], lens.pixel)),
            "relief": seconds(lambda: relief_factor(frames[1], lens, Shot().light, 0)),
            "channels": seconds(lambda: guide_channels(frames[1]["solid"], frames[1], lens))}
    whole = {}
    for steps in (1, 2, 4):
        backend = EmbeddedBackend(Shot.model_validate({"refine": {"steps": steps, "device": "cpu"}}), WEIGHTS)
        whole[steps] = seconds(lambda b=backend: b.residual(frames[1]["solid"], frames[1], lens, 1002, none, none[0]), 3)
    rows["one network step"] = (whole[4] - whole[2]) / 2
    for name, value in rows.items():
        print(f"{name:24} {value:.3f} CPU s")
    for steps, value in whole.items():
        print(f"residual of {steps} step(s)     {value:.3f} CPU s")


def table(data: Path, out: Path) -> None:
    """Measure every method on every held-out take that has its references; print and save the table."""
    held = [t for t in takes() if t.held_out and all(FrameFolder(data / t.name / "reference").has_frame(f) for f in t.frames)]
    scores: dict[str, list[list[float]]] = {}
    for take in held:
        for name, values in take_scores(take, data).items():
            scores.setdefault(name, []).append(values)
        print(take.name, flush=True)
    rows = {name: np.array(values) for name, values in scores.items()}
    out.mkdir(parents=True, exist_ok=True)
    text = table_text(rows, len(held))
    (out / "table.md").write_text(text)
    (out / "table.json").write_text(json.dumps({name: values.tolist() for name, values in rows.items()}, indent=1))
    print(text)


def take_scores(take: Take, data: Path) -> dict[str, list[float]]:
    """Mean of each measure over a take's frames, per method."""
    guides = Guides(FrameFolder(data / take.name / "guides"))
    static = guides.folder.get("static")
    exposure = float(static["exposure"])
    arrays = {f: guides.frame(f) for f in take.shot.frame_range}
    truth = {f: FrameFolder(data / take.name / "reference").get_frame(f)["reference"] * exposure for f in take.frames}
    pictures = {"reference": truth, "raster": {f: arrays[f]["solid"].astype(np.float32) * exposure for f in take.frames}}
    pictures["best colour fit"] = {f: fitted(pictures["raster"][f], truth[f]) for f in take.frames}
    pictures["raster, relief"] = {f: pictures["raster"][f] * relief_of(take, static, arrays[f], f) for f in take.frames}
    pictures["best colour fit, relief"] = {f: fitted(pictures["raster, relief"][f], truth[f]) for f in take.frames}
    pictures["regression, equal size"] = refined(take, guides, data / "regression.onnx", {"steps": 1}, exposure)
    for name, settings in OURS.items():
        pictures[name] = refined(take, guides, WEIGHTS, settings, exposure)
    pixel = 2.0 / (static["projection"][1, 1] * take.shot.camera.height)
    found = {}
    for name, frames in pictures.items():
        rows = []
        for f in take.frames:
            here, want = frames[f], truth[f]
            mask = arrays[f]["alpha"] > 0.99
            row = [psnr(here, want), ssim(here, want), flip(here, want), texture_distance(here, want, mask)]
            if f - 1 in truth:
                pair = [carry(encode(p).transpose(2, 0, 1), arrays[f - 1], arrays[f], pixel) for p in (frames[f - 1], truth[f - 1])]
                mine, theirs = (decode(p[0].transpose(1, 2, 0)) for p in pair)
                row += [1e3 * warp_error(here, mine, pair[0][1]), 1e3 * temporal_difference(here, mine, want, theirs, pair[0][1])]
            else:
                row += [np.nan, np.nan]
            rows.append(row)
        found[name] = [float(v) for v in np.nanmean(np.array(rows), axis=0)]
    return found


def relief_of(take: Take, static: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], frame: int) -> np.ndarray:
    """The factor that the embedded backend draws."""
    return relief_factor(arrays, lens_of(static, frame - take.shot.first, take.shot.camera.height), take.shot.light, take.shot.seed)


def fitted(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The picture under its best affine colour map."""
    m = colour_fit(picture, reference)
    return decode(encode(picture) @ m[:, :3].T + m[:, 3])


def refined(take: Take, guides: Guides, weights: Path, settings: dict, exposure: float) -> dict[int, np.ndarray]:
    """The take refined with some settings, as the stage does it."""
    shot = take.shot.model_copy(update={"refine": take.shot.refine.model_copy(update={"backend": "embedded", "device": "cpu"} | settings)})
    with tempfile.TemporaryDirectory() as folder:
        done = refine(shot, guides, FrameFolder(Path(folder)), list(take.shot.frame_range), progress_silent, weights)
        return {f: done.frame(f)["refined"].astype(np.float32) * exposure for f in take.frames}


def table_text(rows: Mapping[str, np.ndarray], count: int) -> str:
    """Markdown table with intervals, and the gates."""
    draw = np.random.default_rng(0).integers(0, count, (1000, count))
    lines = ["| method | PSNR dB | SSIM | FLIP | texture e-3 | warp error e-3 | change e-3 |", "|---|---|---|---|---|---|---|"]
    for name, values in rows.items():
        scale = np.array([1, 1, 1, 1e3, 1, 1])
        mean, low, high = (scale * v for v in (values.mean(0), *np.percentile(values[draw].mean(1), [2.5, 97.5], axis=0)))
        cells = [f"{m:.{d}f} ±{(h - l) / 2:.{d}f}" for m, l, h, d in zip(mean, low, high, (2, 3, 4, 2, 2, 1), strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells if name != "reference" else ["-", "1", "0", "0", cells[4], "0"]) + " |")
    fit, plain, truth = rows["best colour fit"].mean(0), rows["regression, equal size"].mean(0), rows["reference"].mean(0)
    fit_relief, raster = rows["best colour fit, relief"].mean(0), rows["raster"].mean(0)
    lines += ["", f"{count} held-out takes. Gates of the design:", ""]
    for name in ("raster, relief", "regression, equal size", *OURS):
        mine = rows[name].mean(0)
        flips, texture, warp = mine[2] / fit[2], mine[3] / plain[3], mine[4] / truth[4]
        verdict = ["met" if passed else "not met" for passed in (flips <= 0.9, texture <= 0.5, abs(warp - 1) <= 0.2)]
        lines.append(
            f"* {name}: FLIP {flips:.2f} of the fit's ({verdict[0]}, want 0.90), {mine[2] / fit_relief[2]:.2f} of the fit's with relief, "
            f"texture distance {texture:.2f} of the regression's ({verdict[1]}, want 0.50) and {mine[3] / raster[3]:.2f} of the raster's, "
            f"warp error {warp:.2f} of the reference's ({verdict[2]}, want 0.8 to 1.2)")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
