"""Delivery: guides and refined layer to EXR, PNG, film and contact sheet in the take's folder.

In: Guides, perhaps Refined, the shot's output table, what every file must say about its making. Out, per frame, `exr/<shot>.1001.exr` and
`png/<shot>.1001.png`; for the shot `<shot>.mp4` and `<shot>_sheet.png`. Frames are independent and any process may make any of them;
one that is there, made from the same inputs and still whole, is kept. A frame that fails is reported at the end, the others are on disk.

The EXR, single part, ZIP. Half unless said, colours in output.colourspace:
    R G B A              the picture: beauty, refined where the mask allows, motion-blurred; A = 1 - (1 - coverage)(1 - dust.A), with ground
    solid.RGB dust.RGBA  the sharp layers: beauty = solid (1 - dust.A) + dust, dust premultiplied
    refine.RGB refine.A  the sharp refined layer, and how much of it the picture took: mask times mix
    albedo.RGB N.XYZ     surface colour, world normal
    Z dustdepth.Z        float [m] along the view axis; sky is inf
    forward.uv           float [px] next minus here, v up;   backward.uv  previous minus here, v up
    Prest.XYZ id.x       float: rest position [m]; picture id (fragment f is f + 1, then ground, then debris)
    sun.x ao.x edge.x interior.x age.x dustmotion.uv
    CryptoObject CryptoAsset CryptoMaterial 00, 01   float: fragment, building element, material

Not handled: deep data, stereo, other containers than MP4.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from render.cryptomatte import Matte, crypto_attributes, crypto_channels, mattes_of
from render.display import displayed, png_write
from render.exr import colour_matrix, exr_write, layer
from render.motion_blur import motion_blurred
from render.movie import movie_write
from render.sheet import sheet_write, spread
from shot.errors import FramesFailed
from shot.frames import DamagedFile, file_publish
from shot.params import Shot
from shot.results import Fragments, Guides, Progress, Refined

SOURCES = ("cryptomatte", "deliver", "display", "exr", "motion_blur", "movie", "sheet")
REC709 = "lin_rec709"
T = TypeVar("T")


def deliver(
    shot: Shot, fragments: Fragments, guides: Guides, refined: Refined | None, out: Path, frames: Sequence[int], progress: Progress,
    provenance: dict[str, str],
) -> dict:  # fmt: skip
    """Write what shot.output asks for and say where it lies.

    Raises FramesFailed, after all that could be made was made; where a damaged file is to blame, that DamagedFile is its cause."""
    places = Places(shot, out)
    mattes = mattes_of(fragments) if shot.output.exr else ()
    said = {name: text for matte in mattes for name, text in crypto_attributes(matte, places.exr_folder, shot.name).items()}
    gain = 2.0**shot.output.exposure * float(guides.folder.get("static")["exposure"])
    key = delivery_key(shot, provenance)
    failed: dict[int, Exception] = {}

    def tried(frame: int, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except (DamagedFile, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # no other frame would fit either
            failed[frame] = error
            return None

    kept = 0
    with ThreadPoolExecutor(1) as behind:  # a frame is compressed while the next is put together
        writing: list[tuple[int, Future[None]]] = []
        for frame in sorted(frames):
            if places.whole(f"{frame:04d}", key, places.files(frame)):
                kept += 1
            else:
                facts = {**provenance, "frame": str(frame)}
                made = tried(frame, lambda f=frame, facts=facts: frame_make(
                    shot, mattes, said, guides.frame(f), refined.frame(f) if refined else None, f, gain, facts))
                while writing:
                    tried(writing[0][0], writing.pop(0)[1].result)
                if made is not None:
                    writing.append((frame, behind.submit(frame_write, places, made, key, shot.output.colourspace)))
            progress(frame)
        while writing:
            tried(writing[0][0], writing.pop(0)[1].result)
    made = [frame for frame in sorted(frames) if frame not in failed]
    figures = {"frames": len(made), "kept": kept, "failed": len(failed), "bytes": places.size(made)}
    result = {**places.found(made), **shot_files(shot, places, made, key, provenance), "figures": figures}
    if failed:
        first = next(iter(failed))
        damaged = next((error for error in failed.values() if isinstance(error, DamagedFile)), None)
        raise FramesFailed(
            f"{len(failed)} of {len(frames)} frames failed ({', '.join(map(str, failed))}); frame {first}: {failed[first]}"
        ) from damaged
    return result


@dataclass(frozen=True)
class Made:
    """One frame, ready to be compressed."""

    frame: int
    display: np.ndarray  # (H, W, 3) u8
    facts: dict[str, str]
    channels: dict[str, np.ndarray]  # of the EXR; empty without one
    attributes: dict[str, str]


def frame_make(
    shot: Shot, mattes: Sequence[Matte], said: dict[str, str], guide: Mapping[str, np.ndarray], refined: Mapping[str, np.ndarray] | None,
    frame: int, gain: float, facts: dict[str, str],
) -> Made:  # fmt: skip
    """The display picture and the EXR's channels of one frame. `said` is the metadata of the mattes, `facts` the frame's provenance."""
    linear = layers(guide, refined, np.eye(3))
    picture = blurred(composite(linear), guide, shot.output.motion_blur)
    if not np.isfinite(picture).all():
        raise ValueError(f"frame {frame}: {int((~np.isfinite(picture)).any(axis=2).sum())} pixels of the picture are not finite")
    display = displayed(picture, shot.output.view, gain)
    if not shot.output.exr:
        return Made(frame, display, facts, {}, {})
    if shot.output.colourspace != REC709:
        linear = layers(guide, refined, colour_matrix(REC709, shot.output.colourspace))
        picture = blurred(composite(linear), guide, shot.output.motion_blur)
    attributes = {f"demolish/{name}": value for name, value in facts.items()} | {"software": f"demolish {facts.get('version', '')}".strip()}
    channels = layer("", half(picture), "RGB") | linear | data_layers(guide)
    for matte in mattes:
        channels |= crypto_channels(matte, guide["ids"])
    return Made(frame, display, facts, channels, attributes | said)


def frame_write(places: Places, made: Made, key: str, colourspace: str) -> None:
    """Publish the files of a frame and note what they were made from."""
    png_write(places.png(made.frame), made.display, made.facts)
    if made.channels:
        exr_write(places.exr(made.frame), made.channels, made.attributes, colourspace)
    places.record(f"{made.frame:04d}", key, places.files(made.frame))


def layers(guide: Mapping[str, np.ndarray], refined: Mapping[str, np.ndarray] | None, matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Colour layers in the EXR's space as they are stored (half), so that the file's own layers rebuild its picture exactly."""

    def colour(image: np.ndarray) -> np.ndarray:
        image = np.asarray(image, np.float32)
        return half(image if (matrix == np.eye(3)).all() else image @ matrix.T.astype(np.float32))

    code = np.arange(256, dtype=np.float32) / 255
    albedo = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)[guide["albedo"]]
    dust = guide["dust"]
    cover = 1.0 - (1.0 - guide["alpha"].astype(np.float32)) * (1.0 - dust[..., 3].astype(np.float32))
    found = {"A": cover.astype(np.float16)} | layer("solid", colour(guide["solid"]), "RGB") | layer("albedo", colour(albedo), "RGB")
    found |= layer("dust", colour(dust[..., :3]), "RGB") | {"dust.A": dust[..., 3]}
    if refined is not None:
        share = refined["mask"].astype(np.float32) * np.float32(refined["mix"])
        found |= layer("refine", colour(refined["refined"]), "RGB") | {"refine.A": share.astype(np.float16)}
    return found


def half(image: np.ndarray) -> np.ndarray:
    """float16, what is too bright for it cut to its largest number."""
    return np.clip(image, -65504, 65504).astype(np.float16)


def composite(stored: Mapping[str, np.ndarray]) -> np.ndarray:
    """The sharp picture (H, W, 3) f32: beauty = solid (1 - dust.A) + dust, then the refined layer over it by its share."""

    def read(name: str) -> np.ndarray:
        return np.stack([stored[f"{name}.{c}"] for c in "RGB"], axis=-1).astype(np.float32)

    beauty = read("solid") * (1.0 - stored["dust.A"].astype(np.float32))[..., None] + read("dust")
    if "refine.A" not in stored:
        return beauty
    share = stored["refine.A"].astype(np.float32)[..., None]
    return beauty * (1.0 - share) + read("refine") * share


def blurred(picture: np.ndarray, guide: Mapping[str, np.ndarray], shutter: float) -> np.ndarray:
    """Motion blur along the mean of both motions; where dust hides the solids, along its own."""
    if shutter == 0.0:
        return picture
    motion = 0.5 * (guide["motion_backward"] + guide["motion_forward"])
    veil = guide["dust"][..., 3:].astype(np.float32)
    return motion_blurred(picture, motion * (1.0 - veil) + guide["dust_motion"].astype(np.float32) * veil, guide["depth"], shutter)


def data_layers(guide: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Everything that is not colour. Motion turns from ours (y down) to EXR's (v up): backward = previous minus here."""
    forward = guide["motion_forward"] * np.array([1, -1], np.float32)
    backward = guide["motion_backward"] * np.array([-1, 1], np.float32)
    found = {"Z": guide["depth"], "dustdepth.Z": guide["dust_depth"], "id.x": guide["id"].astype(np.float32)}
    found |= layer("forward", forward, "uv") | layer("backward", backward, "uv") | layer("Prest", guide["rest"], "XYZ")
    found |= layer("N", guide["normal"], "XYZ") | layer("dustmotion", guide["dust_motion"] * np.array([1, -1], np.float16), "uv")
    for name, source in (("sun", "sun"), ("ao", "occlusion"), ("edge", "edge"), ("interior", "interior"), ("age", "age")):
        found |= layer(name, guide[source], "x")
    return found


def shot_files(shot: Shot, places: Places, frames: list[int], key: str, provenance: dict[str, str]) -> dict[str, str]:
    """Film and contact sheet from the display pictures. Thinned frames play at a thinned rate, so the fall keeps its time."""
    if not frames:
        return {}
    files = {"sheet": places.sheet} | ({"movie": places.movie} if shot.output.movie else {})
    key = hashlib.blake2b(json.dumps([key, frames, places.noted(frames)]).encode(), digest_size=16).hexdigest()
    if not places.whole("shot", key, list(files.values())):
        tiles = [(f"{frame}   {(frame - shot.first) / shot.fps:.2f} s", places.png(frame)) for frame in spread(frames)]
        sheet_write(places.sheet, tiles, shot.output.sheet_columns, provenance)
        if shot.output.movie:
            step = max(1, (frames[-1] - frames[0]) // max(len(frames) - 1, 1))
            comment = json.dumps(provenance | {"frames": f"{frames[0]}-{frames[-1]}x{step}"}, sort_keys=True)
            movie_write(places.movie, pictures(places, frames), shot.fps / step, shot.output.crf, comment)
        places.record("shot", key, list(files.values()))
    return {name: str(path) for name, path in files.items()}


def pictures(places: Places, frames: Sequence[int]) -> Iterator[np.ndarray]:
    """Display pictures, one after the other."""
    for frame in frames:
        with Image.open(places.png(frame)) as image:
            yield np.asarray(image.convert("RGB"))


def delivery_key(shot: Shot, provenance: dict[str, str]) -> str:
    """What a delivered frame was made from: the inputs (by what the pipeline says of them), the output table, this code."""
    here = Path(__file__).parent
    code = [hashlib.blake2b((here / f"{name}.py").read_bytes(), digest_size=8).hexdigest() for name in SOURCES]
    text = json.dumps([shot.name, shot.output.model_dump(mode="json"), provenance, code], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Places:
    """Where a take's files lie. Display pictures that were not asked for, but that film and sheet need, lie in a hidden folder."""

    def __init__(self, shot: Shot, out: Path):
        self.name, self.wants_exr, self.wants_png = shot.name, shot.output.exr, shot.output.png
        self.exr_folder, self.png_folder = out / "exr", out / ("png" if shot.output.png else ".display")
        self.notes = out / ".delivered"
        self.movie, self.sheet = out / f"{shot.name}.mp4", out / f"{shot.name}_sheet.png"
        for folder in (self.png_folder, self.notes, *([self.exr_folder] if self.wants_exr else [])):
            folder.mkdir(parents=True, exist_ok=True)

    def exr(self, frame: int) -> Path:
        """EXR of a frame."""
        return self.exr_folder / f"{self.name}.{frame:04d}.exr"

    def png(self, frame: int) -> Path:
        """Display picture of a frame."""
        return self.png_folder / f"{self.name}.{frame:04d}.png"

    def files(self, frame: int) -> list[Path]:
        """Files of one frame."""
        return [self.png(frame), *([self.exr(frame)] if self.wants_exr else [])]

    def note(self, label: str) -> Path:
        """Where `record` writes."""
        return self.notes / f"{self.name}.{label}.json"

    def record(self, label: str, key: str, files: Sequence[Path]) -> None:
        """Note what files were made from and what is in them."""
        file_publish(self.note(label), json.dumps({"key": key, "files": digests(files)}, sort_keys=True).encode())

    def whole(self, label: str, key: str, files: Sequence[Path]) -> bool:
        """Whether the files are those that `record` noted for this key."""
        try:
            note = json.loads(self.note(label).read_text())
            return note["key"] == key and note["files"] == digests(files)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def noted(self, frames: Sequence[int]) -> list[str]:
        """Notes of frames: they change when a picture does."""
        return [self.note(f"{frame:04d}").read_text() for frame in frames]

    def found(self, frames: Sequence[int]) -> dict[str, str]:
        """Sequences as a pipeline names them."""
        made = {"exr": str(self.exr_folder / f"{self.name}.####.exr")} if self.wants_exr and frames else {}
        return made | ({"png": str(self.png_folder / f"{self.name}.####.png")} if self.wants_png and frames else {})

    def size(self, frames: Sequence[int]) -> int:
        """Bytes of the frames' files."""
        return sum(os.path.getsize(path) for frame in frames for path in self.files(frame))


def digests(files: Sequence[Path]) -> dict[str, str]:
    """Content of files by name. Raises OSError where one is missing."""
    found = {}
    for path in files:
        with open(path, "rb") as handle:
            found[path.name] = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return found
