"""Which results a run needs: the key of every stage and the frames it must hold.

In: a loaded shot, wanted frames, the last stage. Out: one `Step` per stage, with its store entry. Nothing is computed and
nothing heavy imported, so this is also the dry run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.digest import digest, library_versions, processor, shot_part, shot_trimmed, sources_digest
from pipeline.stages import STAGES, Stage, asset_digests
from pipeline.store import Entry
from shot.chunks import guide_frames
from shot.load import Loaded
from shot.params import Shot


@dataclass(frozen=True)
class Step:
    """A stage of a run, ready to be looked up or made."""

    stage: Stage
    entry: Entry
    shot: Shot  # trimmed
    frames: list[int]
    made_from: dict[str, Any]  # what the key hashes


def shot_hash(shot: Shot) -> str:
    """Digest of every value of a shot but its name."""
    return digest({k: v for k, v in shot.model_dump(mode="json").items() if k not in ("name", "extends")})


def plan(loaded: Loaded, frames: Sequence[int], last: str, root: Path) -> list[Step]:
    """Steps up to the stage `last` for the wanted frames."""
    shot, steps, keys = loaded.shot, [], {}
    needed = frames_needed(shot, frames)
    for stage in STAGES:
        stage_frames = needed.get(stage.name, needed[stage.span])
        made_from = {
            "stage": stage.name,
            "sources": sources_digest(stage.module),
            "libraries": library_versions(stage.libraries),
            "device": device_of(stage.name, shot),
            "shot": shot_part(shot, stage.reads),
            "assets": asset_digests(stage.assets(shot, loaded.base)) if _wanted(stage.name, last, shot) else {},
            "inputs": {name: keys[name] for name in stage.inputs},
        }
        keys[stage.name] = digest(made_from)
        if _wanted(stage.name, last, shot):
            entry = Entry(stage.name, keys[stage.name], root)
            steps.append(Step(stage, entry, shot_trimmed(shot, stage.reads), stage_frames, made_from))
        if stage.name == last:
            break
    return steps


def frames_needed(shot: Shot, frames: Sequence[int]) -> dict[str, list[int]]:
    """Frames that each span, and `draw`, must hold so that the wanted ones come out as in the whole shot.

    Motion needs the frame after the last; a recurrent refiner needs every frame from its chunk's warm-up on."""
    first, end = shot.first, shot.first + shot.frames - 1
    history = list(range(first, min(frames[-1] + 1, end) + 1))
    drawn = guide_frames(frames, first, shot.refine.history if shot.refine.backend != "none" else 0.0)
    return {"static": [], "history": history, "frames": list(frames), "draw": drawn}


def _wanted(name: str, last: str, shot: Shot) -> bool:
    return name != "refine" or shot.refine.backend != "none" or last == "refine"


def device_of(stage: str, shot: Shot) -> str:
    """What the bytes of a stage depend on besides code: the processor, the GL stack, or CUDA."""
    if stage == "draw":
        return f"{processor()}/{gl_stack()}"
    if stage in ("refine", "upsample") and shot.refine.device != "cpu" and cuda_present():
        return f"cuda/{digest(sorted(os.listdir('/proc/driver/nvidia/gpus')) if os.path.isdir('/proc/driver/nvidia/gpus') else [])}"
    return processor()


@cache
def cuda_present() -> bool:
    """True if an NVIDIA device node is here; asks no library, so a dry run stays fast."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


@cache
def gl_stack() -> str:
    """Digest of the GL libraries that draw: names and sizes of Mesa's and NVIDIA's."""
    names = ("libEGL_mesa.so*", "libgallium*.so*", "dri/swrast_dri.so", "libEGL_nvidia.so*", "libLLVM*.so*")
    found = sorted({p.resolve() for name in names for p in Path("/usr/lib/x86_64-linux-gnu").glob(name)})
    return digest([[p.name, p.stat().st_size] for p in found] + [cuda_present()])
