"""The energy ledger of a shot as a picture: where the potential energy went, and what the books do not close by.

In: Motion's ledger rows. Out: a PNG, times in seconds and frames, energies in megajoules.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from shot.frames import DamagedFile, file_publish
from shot.params import Shot
from shot.results import Motion

LOSSES = ("friction", "contact", "fracture", "crushing", "integrator")


def energy_plot(motion: Motion, path: Path, shot: Shot) -> Path:
    """Plot every frame of the shot whose ledger is there. Raises DamagedFile if there is none."""
    frames, rows = [], []
    for frame in shot.frame_range:
        try:
            rows.append(motion.frame(frame)["ledger"])
        except DamagedFile:
            continue
        frames.append(frame)
    if not rows:
        raise DamagedFile(f"{motion.folder.path}: no frame of {shot.name} has a ledger")
    return ledger_plot(np.array(frames), np.array(rows, float), shot.fps, path, shot.name)


def ledger_plot(frames: np.ndarray, ledger: np.ndarray, fps: float, path: Path, title: str) -> Path:
    """Plot ledger rows (N, len(Motion.LEDGER)) [J] of frames (N)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    row = {name: ledger[:, k] / 1e6 for k, name in enumerate(Motion.LEDGER)}
    time = (frames - frames[0]) / fps
    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    spent = np.sum([np.maximum(row[name], 0) for name in LOSSES], axis=0)
    axes.stackplot(time, *[np.maximum(row[name], 0) for name in LOSSES], labels=LOSSES, alpha=0.55)
    axes.plot(time, row["kinetic"], color="black", lw=1.6, label="kinetic")
    axes.plot(time, row["potential"][0] - row["potential"] + row["work"], color="tab:red", lw=1.6, label="released (potential + work)")
    gap = row["kinetic"] + row["potential"] + row["elastic"] + sum(row[name] for name in LOSSES) - row["work"]
    axes.plot(time, gap - gap[0], color="tab:red", lw=1.0, ls=":", label="not closed")
    axes.set_xlabel("time [s]")
    axes.set_ylabel("energy [MJ]")
    axes.set_title(title)
    axes.set_xlim(0, max(float(time[-1]), 1 / fps))
    axes.set_ylim(bottom=min(0.0, float((gap - gap[0]).min())), top=1.05 * max(float(spent.max()), float(row["kinetic"].max()), 1e-6))
    above = axes.secondary_xaxis("top", functions=(lambda t: np.asarray(t) * fps + frames[0], lambda f: (np.asarray(f) - frames[0]) / fps))
    above.set_xlabel("frame")
    axes.legend(loc="upper left", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    file_publish(path, buffer.getvalue())
    return path
