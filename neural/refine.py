"""The stage `refine`: guides in, a refined layer out, frame by frame, any frame range alike.

In: Guides, the shot's [refine] table, a weights file. Out: Refined: scene-linear picture, mask, mix. A backend answers one
question: which residual, in the log code of `neural/colour.py`, turns the raster into the refined picture? The embedded
backend asks it of the solids alone (its references hold no dust) and dust is laid over afterwards; the diffusers backend
asks it of the finished picture. What a backend draws by itself (`detail`: relief too fine for the raster) is multiplied on
before it is asked, and is never carried. The residual is carried from frame to frame as `neural/temporal.py` says. A pixel whose
residual is not finite or beyond CAP stays raster. Coverage, ids and depth are never touched.

Without history (refine.history = 0) a frame needs its own guides only. With it, it needs those of `shot/chunks.py`: `x2`
thins what is delivered, not what is computed. Guides that are missing are an error that says so; a frame never looks
different because a neighbour was not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from neural.colour import shift
from neural.guide_tensor import Lens, guides_static, lens_of
from neural.temporal import carry, history_blend
from shot.chunks import chunk_start, chunk_weights, guide_frames
from shot.errors import MissingResource
from shot.frames import DamagedFile, FrameFolder
from shot.params import Shot
from shot.results import Guides, Progress, Refined

CAP = 0.5  # code units: 16 times brighter or darker; beyond it an answer is not trusted
ONE = np.ones(3, np.float32)
DUST_CLEAR, DUST_THICK = 0.5, 0.95  # dust alpha between which the mask falls from 1 to 0


class Backend(Protocol):
    """What a refiner is: `layer` names what it refines."""

    layer: str  # "solid" or "beauty"

    def detail(self, arrays: Mapping[str, np.ndarray], lens: Lens) -> np.ndarray:
        """Factor (H, W, 3), or one that broadcasts to it, on the picture: a function of this frame alone."""
        ...

    def residual(
        self, picture: np.ndarray, arrays: Mapping[str, np.ndarray], lens: Lens, frame: int, carried: np.ndarray, valid: np.ndarray
    ) -> np.ndarray:
        """(3, H, W) float32 code residual of `picture` (H, W, 3), which is the layer with its detail, times the exposure.

        `carried` is the residual of the frame before, seen from here; zero where not `valid`."""
        ...


def refine(
    shot: Shot, guides: Guides, folder: FrameFolder, frames: Sequence[int], progress: Progress, weights: Path | None
) -> Refined:
    """Write one refined frame per wanted frame. Raises MissingResource for weights, libraries or guides that are not there."""
    pending = [frame for frame in sorted(frames) if not folder.has_frame(frame)]
    if not pending:
        return Refined(folder)
    if shot.refine.backend == "none":
        for frame in pending:
            folder.put_frame(frame, untouched(guides.frame(frame)))
            progress(frame)
        return Refined(folder)
    backend = backend_open(shot, weights)
    source = _Source(guides, shot, backend, set(guide_frames(pending, shot.first, shot.refine.history)))
    live: dict[int, _Recurrence] = {}
    for frame in pending:
        shares = chunk_weights(frame, shot.first) if shot.refine.history > 0 else [(frame, 1.0)]
        live = {chunk: live.get(chunk) or _Recurrence(chunk) for chunk, _ in shares}
        residual = sum(share * live[chunk].residual_at(frame, backend, source, shot) for chunk, share in shares)
        folder.put_frame(frame, composited(
            source.arrays(frame), np.asarray(residual), source.lens(frame), backend.layer, shot.refine.mix, source.detail(frame)))
        progress(frame)
    return Refined(folder)


def backend_open(shot: Shot, weights: Path | None) -> Backend:
    """The backend that the shot names, loaded."""
    if shot.refine.backend == "diffusers":
        from neural.diffusers_backend import DiffusersBackend

        return DiffusersBackend(shot, weights)
    if weights is None or not Path(weights).is_file():
        raise MissingResource(f"refiner weights {weights or ''} are missing: `make train`, or refine.backend = \"none\"")
    from neural.embedded_backend import EmbeddedBackend

    return EmbeddedBackend(shot, Path(weights))


def untouched(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A refined frame that changes nothing."""
    beauty = _over(arrays["solid"].astype(np.float32), arrays["dust"])
    return _frame(beauty, np.zeros(beauty.shape[:2]), 0.0)


def composited(
    arrays: Mapping[str, np.ndarray], residual: np.ndarray, lens: Lens, layer: str, mix: float, detail: np.ndarray = ONE
) -> dict[str, np.ndarray]:
    """Refined frame: a layer times `detail`, shifted by a residual (3, H, W); raster where that cannot be trusted, dust over refined
    solids, mask low under dust and sky."""
    sound = np.isfinite(residual).all(0) & (np.abs(np.nan_to_num(residual)).max(0) <= CAP)
    cover = arrays["alpha"].astype(np.float32)
    usable = sound & ((cover > 0) | (layer == "beauty"))
    step = np.where(usable, np.nan_to_num(residual), 0).transpose(1, 2, 0)
    picture = layer_picture(arrays, layer)
    picture = np.where(usable[..., None], shift(picture * detail * lens.exposure, step) / np.float32(lens.exposure), picture)
    alpha = arrays["dust"][..., 3].astype(np.float32)
    if layer == "solid":
        picture = _over(picture, arrays["dust"])
        s = np.clip((alpha - DUST_CLEAR) / (DUST_THICK - DUST_CLEAR), 0, 1)
        mask = cover * (1 - s * s * (3 - 2 * s))
    else:
        mask = np.maximum(cover, alpha)
    return _frame(picture, mask * sound, mix)


def layer_picture(arrays: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
    """(H, W, 3) float32 scene-linear: solids without dust, or the finished raster."""
    solid = arrays["solid"].astype(np.float32)
    return solid if layer == "solid" else _over(solid, arrays["dust"])


def _over(solid: np.ndarray, dust: np.ndarray) -> np.ndarray:
    dust = dust.astype(np.float32)
    return solid * (1 - dust[..., 3:]) + dust[..., :3]


def _frame(picture: np.ndarray, mask: np.ndarray, mix: float) -> dict[str, np.ndarray]:
    return {"refined": np.clip(picture, 0, 65504).astype(np.float16), "mask": mask.astype(np.float16), "mix": np.array(mix, np.float32)}


@dataclass
class _Source:
    """Guides of the frames at hand, the last few kept."""

    guides: Guides
    shot: Shot
    backend: Backend
    needed: set[int]
    arrays: Callable[[int], Mapping[str, np.ndarray]] = field(init=False)
    detail: Callable[[int], np.ndarray] = field(init=False)
    static: Mapping[str, np.ndarray] = field(init=False)

    def __post_init__(self):
        self.arrays = lru_cache(maxsize=3)(self._read)
        self.detail = lru_cache(maxsize=3)(lambda frame: self.backend.detail(self.arrays(frame), self.lens(frame)))
        self.static = guides_static(self.guides)

    def _read(self, frame: int) -> Mapping[str, np.ndarray]:
        try:
            return self.guides.frame(frame)
        except DamagedFile as error:
            raise MissingResource(
                f"{error}: refine.history = {self.shot.refine.history:g} needs the guides of frames "
                f"{min(self.needed)} to {max(self.needed)}; draw them, or set refine.history = 0"
            ) from error

    def lens(self, frame: int) -> Lens:
        """Camera and light of a frame."""
        return lens_of(self.static, frame - self.shot.first, self.arrays(frame)["id"].shape[0])


@dataclass
class _Recurrence:
    """The chain of residuals of one chunk, advanced one frame at a time."""

    chunk: int
    frame: int | None = None
    last: np.ndarray | None = None

    def residual_at(self, frame: int, backend: Backend, source: _Source, shot: Shot) -> np.ndarray:
        """Residual of a frame, computing those between the chunk's start (or the last one asked for) and it."""
        history = shot.refine.history
        begin = frame if history == 0 else (self.frame + 1 if self.frame is not None else chunk_start(self.chunk, shot.first))
        for f in range(begin, frame + 1):
            arrays, lens = source.arrays(f), source.lens(f)
            carried, valid = np.zeros((3, *arrays["id"].shape), np.float32), np.zeros(arrays["id"].shape, np.float32)
            if self.last is not None:
                carried, valid = carry(self.last, source.arrays(f - 1), arrays, lens.pixel)
            picture = layer_picture(arrays, backend.layer) * source.detail(f) * lens.exposure
            fresh = backend.residual(picture, arrays, lens, f, carried, valid)
            fresh = np.where(np.isfinite(fresh).all(0), fresh, 0)
            self.last = history_blend(fresh, carried, history * valid) if history > 0 else fresh
            self.frame = f
        assert self.last is not None
        return self.last
