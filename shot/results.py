"""What flows between the stages: typed results, and the conventions all of them keep.

Conventions, once for the whole project:
  units        SI: metres, kilograms, seconds, pascals, radians (degrees only in shot files)
  axes         right-handed, Y up; the ground is the plane y = 0
  quaternions  (w, x, y, z), body to world; rest orientation is the identity for every fragment
  pose         centre of mass; a point p of a fragment at rest is at position + rotate(rotation, p - rest position)
  frames       start at 1001; 24 fps unless said; steps_per_frame = ceil(60 / fps)
  images       row 0 at the top; linear Rec.709 until a display transform; sky depth = +inf
  motion       in arrays: here minus previous (motion_backward) and next minus here (motion_forward), pixels, x right, y down
               in EXR: forward = next minus here, backward = previous minus here, v up
  ids          0 background; fragment f has id f + 1; the ground has id F + 1; debris piece p has id F + 2 + p; stable over the shot
  dust         density in kg/m3 of open air; grids indexed [x, y, z]; cell (0, 0, 0) has its lower corner at `origin`
  compositing  beauty = solid * (1 - dust alpha) + dust, exactly, dust premultiplied

A static result is one dataclass of arrays with save(folder) and load(folder). A streamed result is a folder of frames
(`shot/frames.py`) plus a static part; the frame's arrays are listed in the class docstring. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np

from shot.frames import Arrays, DamagedFile, FrameFolder

MEMBER_KINDS = ("column", "beam", "slab", "wall", "core", "facade", "infill", "mesh", "body")  # body: no part of the building
BOND_INTACT, BOND_HINGED, BOND_BROKEN = 0, 1, 2
GROUND = -1  # fragment index of the ground in bonds and contacts
PARKED = -1000.0  # [m] height at which bodies wait that events have not brought in yet: out of sight and reach, `shot/entering.py`

Progress = Callable[[int], None]
"""Called by a stage with each finished frame number (or unit of work)."""


def progress_silent(_frame: int) -> None:
    """A Progress that shows nothing."""


@dataclass(frozen=True)
class Static:
    """Base of results that are a handful of arrays and name lists."""

    ARRAYS: ClassVar[str] = "arrays"

    def save(self, folder: FrameFolder) -> None:
        """Write every field: arrays into one npz, tuples of strings and dicts into JSON."""
        arrays, plain = {}, {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value
            else:
                plain[field.name] = value
        folder.put_json(f"{self.ARRAYS}_plain", plain)
        folder.put(self.ARRAYS, arrays)

    @classmethod
    def load(cls, folder: FrameFolder) -> Self:
        """Read back what `save` wrote. Raises DamagedFile if a field is missing."""
        values = {**folder.get_json(f"{cls.ARRAYS}_plain"), **folder.get(cls.ARRAYS)}
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise DamagedFile(f"{folder.path}: {cls.__name__} has fields {sorted(values)}, want {sorted(names)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class Building(Static):
    """Solid members at rest. Member m owns vertices vertex_start[m]:vertex_start[m+1], faces likewise."""

    ARRAYS: ClassVar[str] = "building"
    vertex: np.ndarray  # (V, 3) f64 [m] world
    vertex_start: np.ndarray  # (M + 1) i32
    face: np.ndarray  # (T, 3) i32, local to the member, counter-clockwise from outside, closed
    face_start: np.ndarray  # (M + 1) i32
    member_kind: np.ndarray  # (M) i8, index into MEMBER_KINDS
    member_material: np.ndarray  # (M) i16, index into material_name
    member_element: np.ndarray  # (M) i32, index into element_name: building elements may span members
    member_convex: np.ndarray  # (M) bool
    member_grounded: np.ndarray  # (M) bool: its lower face stands on the foundation (bonded to the ground)
    material_name: tuple[str, ...]  # keys of Shot.materials
    element_name: tuple[str, ...]  # e.g. "floor03/column_x1_z2", stable
    report: dict  # repairs and measurements of an imported mesh; {} for a parametric building


@dataclass(frozen=True)
class Fragments(Static):
    """Pieces at rest: render meshes, convex hulls, mass properties. Local coordinates are rest world minus centre of mass."""

    ARRAYS: ClassVar[str] = "fragments"
    position: np.ndarray  # (F, 3) f64 [m] centre of mass at rest
    volume: np.ndarray  # (F) f64 [m3]
    mass: np.ndarray  # (F) f64 [kg]
    inertia: np.ndarray  # (F, 3, 3) f64 [kg m2] about the centre of mass, rest axes
    size: np.ndarray  # (F) f32 [m] cube root of the volume
    member: np.ndarray  # (F) i32
    kind: np.ndarray  # (F) i8, index into MEMBER_KINDS
    element: np.ndarray  # (F) i32
    material: np.ndarray  # (F) i16
    vertex: np.ndarray  # (V, 3) f32 [m] local
    vertex_start: np.ndarray  # (F + 1) i32
    face: np.ndarray  # (T, 3) i32 local to the fragment, counter-clockwise from outside
    face_start: np.ndarray  # (F + 1) i32
    face_interior: np.ndarray  # (T) bool: made by the cut, not a surface of the member
    hull_vertex: np.ndarray  # (H, 3) f32 [m] local, unshrunk convex hulls
    hull_vertex_start: np.ndarray  # (C + 1) i32, C hulls
    hull_fragment: np.ndarray  # (C) i32 ascending: the fragment of each hull
    material_name: tuple[str, ...]
    element_name: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of fragments."""
        return len(self.mass)

    @property
    def built(self) -> np.ndarray:
        """(F) bool: part of the building, not a body that an event brings in."""
        return self.kind != MEMBER_KINDS.index("body")


@dataclass(frozen=True)
class Bonds(Static):
    """Faces that fragments share (b may be GROUND). Strengths carry their hashed scatter; stress is theirs to compare with."""

    ARRAYS: ClassVar[str] = "bonds"
    fragment_a: np.ndarray  # (B) i32
    fragment_b: np.ndarray  # (B) i32, > fragment_a, or GROUND
    area: np.ndarray  # (B) f64 [m2] exact area of the shared polygon
    centroid: np.ndarray  # (B, 3) f64 [m] world at rest
    normal: np.ndarray  # (B, 3) f64 unit, from a to b
    axis: np.ndarray  # (B, 3) f64 unit, first principal axis in the face; the second is normal x axis
    second_moment: np.ndarray  # (B, 2) f64 [m4]: about axis, about normal x axis
    reach: np.ndarray  # (B, 2) f64 [m] farthest polygon point from axis 1, from axis 2 (section modulus = moment / reach)
    length: np.ndarray  # (B) f64 [m] distance between the fragments' centres along the load path
    young: np.ndarray  # (B) f64 [Pa]
    shear: np.ndarray  # (B) f64 [Pa] shear modulus
    tension: np.ndarray  # (B) f64 [Pa]
    compression: np.ndarray  # (B) f64 [Pa]
    cohesion: np.ndarray  # (B) f64 [Pa]
    friction: np.ndarray  # (B) f64 tangent of the Mohr-Coulomb angle
    fracture_energy: np.ndarray  # (B) f64 [J/m2]
    steel: np.ndarray  # (B) f64 share of bars in the section; 0 parts at once
    joint: np.ndarray  # (B) bool: between two members, not inside one

    @property
    def count(self) -> int:
        """Number of bonds."""
        return len(self.area)


class Motion:
    """Streamed. Per frame f (all at the end of that frame; the first frame is the rest state):

    position (F, 3) f32 [m], rotation (F, 4) f32, velocity (F, 3) f32 [m/s], angular_velocity (F, 3) f32 [rad/s],
    cluster (F) i32 (label = lowest fragment index in it; -1 - label while bonded to the ground), asleep (F) bool,
    bond_state (B) u8, bond_damage (B) f16,
    break_time (K) f64 [s since the first frame], break_bond (K) i32, break_energy (K) f32 [J] elastic energy released,
    break_position (K, 3) f32, break_normal (K, 3) f32, break_velocity (K, 3) f32 (opening velocity b minus a),
    impact_time (I) f64, impact_fragment (I, 2) i32 (b may be GROUND), impact_position (I, 3) f32, impact_normal (I, 3) f32,
    impact_impulse (I) f32 [N s], impact_energy (I) f32 [J dissipated], impact_velocity (I, 3) f32 (slip and approach, b minus a),
    crush_time (C) f64, crush_fragment (C) i32, crush_energy (C) f32 [J],
    ledger (len(LEDGER)) f64 [J] cumulative since the first frame, hash () u64: digest of the whole solver state.
    The folder also holds `static.npz`: time_first () f64, and whole solver states `state.<frame>.npz` for resuming.
    Where events bring in bodies, F counts them too, behind the building's fragments; `bodies` has their shapes, at rest where they start.
    Until they come in they are kept at the height PARKED.
    """

    LEDGER = ("kinetic", "potential", "elastic", "friction", "contact", "fracture", "crushing", "integrator", "work")

    def __init__(self, folder: FrameFolder):
        self.folder = folder

    @property
    def bodies(self) -> Fragments | None:
        """What events bring in, or None."""
        return Fragments.load(self.folder) if self.folder.has(Fragments.ARRAYS) else None

    def frame(self, frame: int) -> Arrays:
        """Arrays of one frame."""
        return self.folder.get_frame(frame)


@dataclass(frozen=True)
class Seeds:
    """Secondary pieces and airborne dust that some frames shed, sorted by time. Masses obey one size law per event."""

    time: np.ndarray  # (P) f64 [s since the first frame]
    position: np.ndarray  # (P, 3) f32 [m]
    velocity: np.ndarray  # (P, 3) f32 [m/s]
    spin: np.ndarray  # (P, 3) f32 [rad/s]
    radius: np.ndarray  # (P) f32 [m] of the equal-volume sphere
    weight: np.ndarray  # (P) f32 how many equal pieces this one stands for
    material: np.ndarray  # (P) i16
    source: np.ndarray  # (P) i32 fragment it came from
    dust_time: np.ndarray  # (D) f64 [s]
    dust_position: np.ndarray  # (D, 3) f32 [m]
    dust_velocity: np.ndarray  # (D, 3) f32 [m/s]
    dust_radius: np.ndarray  # (D) f32 [m] over which the mass is spread
    dust_mass: np.ndarray  # (D) f64 [kg]
    event_energy: np.ndarray  # (E) f64 [J] released by each event that shed
    event_mass: np.ndarray  # (E) f64 [kg] pieces and dust shed by it


class Shed:
    """Streamed. Per frame: the arrays of the Seeds that came since the frame before, spent (F) f64 [kg] shed by each fragment so far,
    drawn () i64 pieces so far."""

    def __init__(self, folder: FrameFolder):
        self.folder = folder
        self._known: tuple[range, Seeds] | None = None

    def frame(self, frame: int) -> Seeds:
        """What the time since the frame before has shed."""
        arrays = self.folder.get_frame(frame)
        return Seeds(**{field.name: arrays[field.name] for field in fields(Seeds)})

    def until(self, first: int, last: int) -> Seeds:
        """All that the frames first..last have shed. Piece p keeps its place when `last` grows."""
        span, parts = range(first, last + 1), []
        if self._known is not None and self._known[0].start == first and self._known[0].stop <= span.stop:
            parts.append(self._known[1])
            span = range(self._known[0].stop, span.stop)
        parts += [self.frame(frame) for frame in span]
        seeds = parts[0] if len(parts) == 1 else seeds_joined(parts)
        self._known = range(first, last + 1), seeds
        return seeds


def seeds_joined(parts: Sequence[Seeds]) -> Seeds:
    """Seeds of consecutive frames as one."""
    return Seeds(**{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Seeds)})


class Debris:
    """Streamed. Per frame: position (P, 3) f32, rotation (P, 4) f32, velocity (P, 3) f32, alive (P) bool (not ground up since).

    P and order are those of all that was shed until the frame. One-way coupled: pieces feel ground and fragments, not the reverse."""

    def __init__(self, folder: FrameFolder):
        self.folder = folder

    def frame(self, frame: int) -> Arrays:
        """Arrays of one frame."""
        return self.folder.get_frame(frame)


class Dust:
    """Streamed, coarse and fine alike. Static `grid.npz`: origin (3) f64 [m], cell () f64 [m], shape (3) i32,
    settle () f64 [m/s] sinking speed of the dust.

    Per frame: mass (nx, ny, nz) f32 [kg per cell]; coarse frames also velocity (nx, ny, nz, 3) f32 [m/s] at cell centres,
    solid (nx, ny, nz) f32 share of the cell filled by pieces, emitted () f64 [kg so far], left () f64 [kg gone through open sides],
    settled () f64 [kg on the ground]; fine frames store the box lower (3) i32, mass (bx, by, bz) f32: zero outside the box."""

    def __init__(self, folder: FrameFolder):
        self.folder = folder

    @property
    def grid(self) -> Arrays:
        """Origin, cell and shape."""
        return self.folder.get("grid")

    def frame(self, frame: int) -> Arrays:
        """Arrays of one frame, as stored."""
        return self.folder.get_frame(frame)


class Guides:
    """Streamed, at output resolution, always sharp. Per frame, H x W, row 0 at the top:

    solid (3) f16 shaded solids without dust, linear; albedo (3) u8 sRGB-coded; normal (3) f16 world; sun (1) f16 sun visibility;
    depth f32 [m] along the view axis, +inf sky; ids (4) i32: the 2x2 samples of each pixel; id i32: the nearest sample;
    motion_backward (2) f32, motion_forward (2) f32 [px]; rest (3) f32 [m] rest position of the nearest sample (ground: world);
    interior f16: 1 on fracture faces; age f16 [s] since the fragment's youngest crack opened (60 if never); occlusion f16: share of the
    open sky's light that arrives, 1 open, 0 shut off; edge f16: 1 at silhouettes and creases; dust (4) f16
    premultiplied in-scattered light and alpha; dust_depth f32 [m]; dust_motion (2) f16 [px]; alpha f16 coverage of solids.
    beauty is solid * (1 - dust.A) + dust.RGB. Static `static.npz`: version () i32 = Guides.VERSION, view (N, 4, 4) f64 world to
    camera per frame, projection (4, 4) f64, sun (3) f64 direction to the sun, exposure () f64."""

    VERSION = 1  # raise when the meaning of a guide changes: weights trained on another version are refused

    def __init__(self, folder: FrameFolder):
        self.folder = folder

    def frame(self, frame: int) -> Arrays:
        """Arrays of one frame."""
        return self.folder.get_frame(frame)


class Refined:
    """Streamed. Per frame: refined (H, W, 3) f16 scene-linear, mask (H, W) f16 where it may replace the beauty, mix () f32."""

    def __init__(self, folder: FrameFolder):
        self.folder = folder

    def frame(self, frame: int) -> Arrays:
        """Arrays of one frame."""
        return self.folder.get_frame(frame)
