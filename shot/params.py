"""Every parameter of a shot: type, default, unit, range and what it does to the picture.

In: TOML tables (see `shot/load.py`). Out: a frozen `Shot`. Lengths are metres, masses kilograms, times seconds,
stresses pascals; angles are degrees here and radians everywhere behind this file. One class per stage: a stage reads
its own class (`pipeline/stages.py` lists which), so changing a value re-runs that stage and those behind it, no other.
This file does not read files, does not know the stages' order and imports nothing heavy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from shot.errors import nearest

Vec3 = tuple[float, float, float]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Size = Annotated[float, Field(ge=0.0, le=2.0)]
MEMBERS = ("column", "beam", "slab", "wall", "core", "facade", "infill", "mesh")  # what a building is made of: shot.results.MEMBER_KINDS
SPEED_MOST = 150.0  # [m/s] of what an event throws: two metres in a step of 1/72 s


def _material_named(name: str) -> str:
    """A key of [materials]."""
    if name not in Materials.model_fields:
        raise ValueError(f"want one of {', '.join(Materials.model_fields)}{nearest(name, Materials.model_fields)}")
    return name


MaterialName = Annotated[str, AfterValidator(_material_named)]


class Table(BaseModel):
    """A TOML table: unknown keys refused, values frozen after checking."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _rest_by_default(cls, values):
        """A table given in part keeps the rest of this place's default: brick with another friction stays brick."""
        if not isinstance(values, dict):
            return values
        own = {name: field.default for name, field in cls.model_fields.items() if isinstance(field.default, Table)}
        return {k: own[k].model_dump() | v if k in own and isinstance(v, dict) else v for k, v in values.items()}


def param(default, unit: str, text: str, **bounds):
    """A field with its unit and the sentence that `demolish params` prints."""
    return Field(default=default, description=text, json_schema_extra={"unit": unit}, **bounds)


class Building(Table):
    """What stands before anything happens: a parametric frame block, or a mesh file."""

    kind: Literal["frame", "mesh"] = param("frame", "", "a parametric reinforced-concrete frame block, or a mesh file")
    storeys: int = param(10, "", "number of storeys; taller falls longer", ge=1, le=60)
    storey_height: float = param(3.0, "m", "floor to floor", ge=2.0, le=8.0)
    bays_x: int = param(4, "", "column bays along the street", ge=1, le=30)
    bays_z: int = param(3, "", "column bays into the block", ge=1, le=30)
    bay: float = param(4.0, "m", "distance between column axes", ge=2.0, le=12.0)
    column: float = param(0.45, "m", "side of a square column; slender columns snap sooner", ge=0.15, le=2.0)
    beam_depth: float = param(0.45, "m", "depth of a beam below the slab", ge=0.15, le=2.0)
    beam_width: float = param(0.3, "m", "width of a beam", ge=0.1, le=2.0)
    slab: float = param(0.18, "m", "slab thickness", ge=0.08, le=1.0)
    core: bool = param(True, "", "a concrete lift and stair core; stiffens one bay and falls last; wants two bays each way")
    core_thickness: float = param(0.25, "m", "wall thickness of the core", ge=0.1, le=1.0)
    infill: Fraction = param(1.0, "", "share of outer bays on the blind sides filled with brick")
    infill_thickness: float = param(0.2, "m", "thickness of the brick infill", ge=0.05, le=0.6)
    facade: Fraction = param(1.0, "", "share of the bays on the street sides closed by facade panels with windows")
    facade_thickness: float = param(0.12, "m", "thickness of the facade panels", ge=0.04, le=0.5)
    window: Fraction = param(0.45, "", "share of the clear facade bay, floor to beam, that is window opening")
    sill: float = param(0.9, "m", "height of the window sills and of the balcony parapets", ge=0.0, le=2.0)
    door_width: float = param(1.2, "m", "width of the door openings of the core", ge=0.5, le=4.0)
    door_height: float = param(2.1, "m", "height of the door openings of the core", ge=1.5, le=4.0)
    balcony: float = param(1.1, "m", "depth of the balconies on the street side; 0 for none", ge=0.0, le=3.0)
    ground_floor_open: bool = param(True, "", "shops: no infill between the ground-floor columns on the street sides")
    parapet: float = param(1.0, "m", "height of the wall around the roof; 0 for none", ge=0.0, le=3.0)
    file: str = param("", "", "mesh file for kind = \"mesh\" (glTF/GLB, OBJ, STL, PLY), relative to the shot file")
    unit: Literal["m", "cm", "mm", "in", "ft"] = param("m", "", "length unit of the mesh file")
    up: Literal["y", "z", "x"] = param("y", "", "axis of the mesh file that points up")
    material: MaterialName = param("concrete", "", "material of an imported mesh, a key of [materials]")
    shell_thickness: float = param(0.15, "m", "wall thickness given to imported surfaces that enclose nothing", ge=0.02, le=2)
    hole_limit: Fraction = param(0.03, "", "holes up to this share of a shell's surface are closed; larger ones make it a sheet")


class Material(Table):
    """One building material. Strengths are characteristic values of the intact body."""

    density: float = param(2400.0, "kg/m3", "mass per volume; heavier falls no faster but hits harder", ge=100, le=20000)
    young: float = param(30e9, "Pa", "elastic modulus; stiffer members draw more of the load", ge=1e6, le=1e12)
    poisson: float = param(0.2, "", "lateral contraction", ge=0.0, le=0.49)
    tension: float = param(3.0e6, "Pa", "tensile strength; lower cracks sooner", ge=1e3, le=1e10)
    compression: float = param(30e6, "Pa", "compressive strength; lower crushes column feet", ge=1e4, le=1e10)
    cohesion: float = param(4.7e6, "Pa", "shear strength without pressure; lower slides along the crack", ge=1e3, le=1e10)
    friction_angle: float = param(37.0, "deg", "Mohr-Coulomb angle: how much pressure holds a crack together", ge=0, le=60)
    fracture_energy: float = param(100.0, "J/m2", "energy to open a crack; feeds debris and dust", ge=0.1, le=1e6)
    weibull: float = param(10.0, "", "scatter of strength; lower is more ragged, 0 for none", ge=0, le=100)
    steel: float = param(0.0, "", "share of reinforcing steel in the section; bars hinge where plain concrete parts", ge=0, le=0.1)
    friction: float = param(0.6, "", "sliding friction of the pieces; higher piles steeper", ge=0, le=2)
    grain: float = param(0.1, "m", "largest secondary piece that a crack sheds", ge=0.001, le=1)
    unit: tuple[Size, Size] = param(
        (0.0, 0.0), "m", "length and height of a brick with its joints: walls of it crack along joints; 0 for a material without"
    )
    fractal: float = param(2.5, "", "size law N(>r) ~ r^-D of debris; higher means more dust", ge=1.8, le=2.9)
    albedo: Vec3 = param((0.42, 0.40, 0.37), "", "linear Rec.709 colour of the outer faces")
    albedo_inside: Vec3 = param((0.50, 0.48, 0.45), "", "linear Rec.709 colour of fresh fracture faces")


class Materials(Table):
    """The material table. Sources: Eurocode 2 and CEB-FIP MC90 for concrete, Eurocode 6 for masonry."""

    concrete: Material = Material(steel=0.015)
    plain: Material = Material(steel=0.0)
    brick: Material = Material(
        density=1600, young=4e9, poisson=0.15, tension=0.25e6, compression=6e6, cohesion=0.35e6, friction_angle=34,
        fracture_energy=20, weibull=8, friction=0.7, grain=0.12, unit=(0.25, 0.075), fractal=2.3,
        albedo=(0.36, 0.15, 0.09), albedo_inside=(0.42, 0.19, 0.11),
    )
    facade: Material = Material(
        density=2200, young=20e9, tension=2e6, compression=20e6, cohesion=3.2e6, fracture_energy=70, steel=0.003, grain=0.08,
        albedo=(0.58, 0.52, 0.42), albedo_inside=(0.47, 0.44, 0.40),
    )
    steel: Material = Material(
        density=7850, young=210e9, poisson=0.3, tension=355e6, compression=355e6, cohesion=205e6, friction_angle=0, fracture_energy=1e5,
        weibull=0, friction=0.4, grain=0.05, albedo=(0.13, 0.115, 0.10), albedo_inside=(0.30, 0.29, 0.28),
    )


class Mortar(Table):
    """Bed joints between the bricks of a wall. Means of what van der Pluijm (1999) and EN 1052-3 tests find on general-purpose mortar."""

    tension: float = param(0.15e6, "Pa", "tensile strength of a bed joint; lower comes off course by course", ge=1e3, le=1e8)
    cohesion: float = param(0.25e6, "Pa", "shear strength of a bed joint without pressure; lower slides in steps", ge=1e3, le=1e8)
    friction_angle: float = param(36.0, "deg", "how much the weight above holds a bed joint together", ge=0, le=60)
    fracture_energy: float = param(5.0, "J/m2", "energy to open a joint; higher cracks more gently", ge=0.1, le=1e6)
    head: float = param(0.5, "", "strength of head joints, which are filled badly and shrink, against bed joints", gt=0, le=2)


class Fracture(Table):
    """How members are cut into pieces before the collapse, and how strong the cuts are."""

    piece: float = param(1.2, "m", "wanted piece size; smaller gives more, finer pieces and longer runs", ge=0.05, le=20)
    pieces_min: int = param(6, "", "least number of pieces of an infill or facade panel", ge=1, le=200)
    jitter: Fraction = param(0.8, "", "irregularity of the cuts: 0 a grid, 1 fully random")
    masonry: Literal["courses", "cells"] = param(
        "courses", "", "walls of bricks part along their joints, in steps, as blocks of bricks; or into irregular cells like concrete"
    )
    mortar: Mortar = Mortar()
    strength_scale: float = param(1.0, "", "multiplies every strength; below 1 the building is tired", gt=0, le=100)
    joint_scale: float = param(1.0, "", "strength of the joints between members against the material", gt=0, le=10)
    facade_fixing: float = param(0.5, "", "strength of panel fixings and mortar edges against the weaker material", gt=0, le=10)
    shrink: float = param(0.01, "", "hulls shrink by this share so that fresh cracks do not jam", ge=0, le=0.1)


class Sim(Table):
    """The solver: time step, stress, contact, rest."""

    gravity: float = param(9.81, "m/s2", "pull downwards", ge=0, le=100)
    steps_scale: int = param(1, "", "multiplies the ceil(60 / fps) steps of a frame; 2 halves the time step", ge=1, le=16)
    contact_iterations: int = param(20, "", "coloured sweeps of the contact solver; fewer is softer and breaks more", ge=1, le=100)
    break_rounds: int = param(
        8, "", "rounds of breaking within impact_time; limits how fast a crack runs, 0 lets nothing break", ge=0, le=256
    )
    stress_direct: int = param(
        2500, "", "pieces of a body up to which its stress is solved exactly; beyond, or with 0, by iteration", ge=0, le=100_000
    )
    stress_tolerance: float = param(1e-3, "", "relative residual at which the iterated stress solve stops", gt=0, le=0.1)
    stress_iterations: int = param(60, "", "most iterations of one stress solve", ge=1, le=2000)
    rest_load: float = param(
        0.5, "", "share of its strength that any bond carries at most while the building stands: what exceeds it was relieved "
        "when it was built", gt=0, le=1,
    )
    impact_time: float = param(1 / 72, "s", "time over which an impact presses; shorter shatters more", gt=0, le=1)
    dynamic: bool = param(True, "", "inertia in the stress of clusters that were hit, cut or split; off is quasi-static")
    buckling: bool = param(True, "", "slender members under pressure sway aside and buckle (P-delta); off is first order")
    friction_ground: float = param(0.7, "", "friction of the ground; lower lets rubble run out further", ge=0, le=2)
    stiction: float = param(
        1.6, "", "static over sliding friction: what broken edges hold before they slide; higher keeps pieces on slopes and stops the "
        "rubble sooner, 1 lets them creep on", ge=1, le=4,
    )
    rolling: float = param(0.05, "", "rolling resistance, lever over piece size; higher steepens heaps and stops stragglers", ge=0, le=1)
    sleep_speed: float = param(0.05, "m/s", "slower pieces fall asleep after sleep_time", ge=0, le=10)
    sleep_time: float = param(0.5, "s", "how long a piece must be slow before it sleeps", gt=0, le=10)
    hinge_rotation: float = param(0.12, "rad", "rotation at which the bars of a hinge rupture", gt=0, le=2)
    hinge_opening: float = param(0.06, "m", "opening at which the bars of a hinge rupture or pull out", gt=0, le=1)
    steel_yield: float = param(500e6, "Pa", "yield stress of the bars; lower hinges sooner", ge=1e6, le=2e9)
    steel_young: float = param(200e9, "Pa", "elastic modulus of the bars", ge=1e9, le=1e12)
    crush_ratio: float = param(250.0, "", "energy of crushing over that of cracking, per area (Nakamura and Higai 2001)", ge=0, le=1e5)
    crush_residual: float = param(
        0.05, "", "share of its strength that a crushed piece bears; up to 0.2 where stirrups hold the core (Kent and Park 1971); higher "
        "stops falls halfway", ge=0, le=1,
    )
    checkpoint: int = param(8, "frames", "full solver state is kept this often; a killed run resumes there", ge=1, le=1000)


class Happening(Table):
    """What all events have."""

    frame: int = param(1009, "", "frame at which it starts", ge=-100000, le=1000000)


class Event(Happening):
    """Something that happens to the members in a box: they are cut, weakened or pushed."""

    kind: Literal["cut", "weaken", "push"] = param("cut", "", "cut: bonds in the box break; weaken: strengths fall; push: a force acts")
    frames: int = param(1, "frames", "how long weaken and push last", ge=1, le=10000)
    lower: Vec3 = param((-1e3, 0.0, -1e3), "m", "lower corner of the box")
    upper: Vec3 = param((1e3, 2.5, 1e3), "m", "upper corner of the box", validate_default=True)
    region: Literal["box", "ball"] = param("box", "", "the whole box, or the ball (or ellipsoid) that fills it")
    members: tuple[str, ...] = param(("column",), "", "kinds of member it acts on; empty for all")
    amount: Fraction = param(1.0, "", "share of strength removed by weaken")
    falloff: Fraction = param(0.0, "", "how much less of weaken and push arrives at the far end of the region; 1 is nothing")
    rubble: Fraction = param(0.65, "", "share of the length of each cut piece that turns to rubble and carries nothing; "
                             "0 leaves whole blocks, on which a building may go on standing")
    force: Vec3 = param((0.0, 0.0, 0.0), "N/kg", "acceleration given by push")
    delay: float = param(0.0, "s/m", "seconds later per metre from the box's lower corner or the ball's centre: a rolling sequence, a fire",
                         ge=0, le=10)

    @field_validator("upper")
    @classmethod
    def _is_above_the_lower(cls, upper: Vec3, info: ValidationInfo) -> Vec3:
        lower = info.data.get("lower", upper)
        if any(u < low for u, low in zip(upper, lower, strict=True)):
            raise ValueError(f"want no coordinate below that of the lower corner, {lower}")
        return upper

    @field_validator("members")
    @classmethod
    def _are_kinds_of_member(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        for name in members:
            if name not in MEMBERS:
                raise ValueError(f"{name!r} is no kind of member{nearest(name, MEMBERS)}; want some of {', '.join(MEMBERS)}")
        return members


class Charge(Happening):
    """An explosion beside the building: pressure on every face that sees it, and shattered bonds around it."""

    kind: Literal["charge"] = param("charge", "", "charge: an explosion")
    centre: Vec3 = param(..., "m", "where it goes off; on open ground, so not far above it")
    tnt: float = param(50.0, "kg", "weight of the charge as TNT; what it does at a distance goes with its cube root", gt=0, le=1e5)
    radius: float = param(1.5, "m", "how far the blast shatters bonds by itself; 0 leaves them to its pressure", ge=0, le=100)
    shatter: Fraction = param(1.0, "", "share of strength lost at the charge, none at the radius")
    pulse: float = param(0.01, "s", "how long the pressure lasts; the impulse stays", gt=0, le=1)
    front: float = param(340.0, "m/s", "speed at which the blast spreads", ge=10, le=10000)


class Shape(Table):
    """A body that is not part of the building."""

    shape: Literal["ball", "box"] = param("ball", "", "a box, or the ball (or ellipsoid) that fills it")
    size: Vec3 = param((1.5, 1.5, 1.5), "m", "edges of the box")
    heading: float = param(0.0, "deg", "turn about the vertical, against the clock seen from above", ge=-360, le=360)
    material: MaterialName = param("steel", "", "what it is made of, a key of [materials]")

    @field_validator("size")
    @classmethod
    def _has_a_size(cls, size: Vec3) -> Vec3:
        if not all(0.02 <= edge <= 100.0 for edge in size):
            raise ValueError("want three edges of 0.02 to 100 m")
        return size


class Projectile(Shape, Happening):
    """A body that is thrown or dropped: it hits, breaks and rebounds like any piece, and is not there before its frame."""

    kind: Literal["projectile"] = param("projectile", "", "projectile: a body that is thrown or dropped")
    position: Vec3 = param(..., "m", "where its centre starts")
    velocity: Vec3 = param(..., "m/s", "how it is thrown; all zero drops it")
    spin: Vec3 = param((0.0, 0.0, 0.0), "rad/s", "rotation it starts with")
    mass: float = param(0.0, "kg", "its mass; 0 for one solid piece of its material", ge=0, le=1e8)

    @field_validator("velocity")
    @classmethod
    def _can_be_followed(cls, velocity: Vec3) -> Vec3:
        if sum(v * v for v in velocity) > SPEED_MOST**2:
            raise ValueError(f"want at most {SPEED_MOST:.0f} m/s: a step of the solver cannot follow more")
        return velocity


class Collider(Shape):
    """A body that moves along a given path whatever is in its way: a shovel, a ship's bow."""

    kind: Literal["collider"] = param("collider", "", "collider: a body that moves along a path whatever is in its way")
    path: tuple[tuple[float, float, float, float], ...] = param(
        ..., "", "frame, x, y, z [m] of its centre: straight between them, at rest behind the last, not there before the first"
    )

    @property
    def frame(self) -> int:
        """Frame at which it starts."""
        return round(self.path[0][0])

    @field_validator("path")
    @classmethod
    def _goes_on(cls, path: tuple[tuple[float, float, float, float], ...]):
        if not path:
            raise ValueError("want at least one [frame, x, y, z]")
        if any(key[0] != round(key[0]) for key in path):
            raise ValueError("frames are whole numbers")
        if any(later[0] <= key[0] for key, later in zip(path, path[1:], strict=False)):
            raise ValueError("frames must ascend")
        return path


class Ground(Happening):
    """Ground motion: the foundation shakes, the building follows by its own inertia."""

    kind: Literal["ground"] = param("ground", "", "ground: the ground shakes")
    amplitude: float = param(3.0, "m/s2", "peak acceleration of the ground; 9.81 is one g", ge=0, le=100)
    frequency: float = param(2.0, "Hz", "of the shaking; near the building's own it builds up, 0 is a steady push", ge=0, le=20)
    duration: float = param(4.0, "s", "how long it shakes", gt=0, le=600)
    ramp: float = param(0.25, "", "share of the duration in which it grows, and again in which it dies down", ge=0, le=0.5)
    direction: Vec3 = param((1.0, 0.0, 0.0), "", "which way it shakes; its length does not matter")

    @field_validator("direction")
    @classmethod
    def _points_somewhere(cls, direction: Vec3) -> Vec3:
        if not any(direction):
            raise ValueError("want a direction that is not zero")
        return direction


def _kind_of(event) -> str:
    """Which table an event is; a cut if it does not say."""
    return event.get("kind", "cut") if isinstance(event, dict) else getattr(event, "kind", "cut")


AnyEvent = Annotated[
    Annotated[Event, Tag("cut")] | Annotated[Event, Tag("weaken")] | Annotated[Event, Tag("push")] | Annotated[Charge, Tag("charge")]
    | Annotated[Projectile, Tag("projectile")] | Annotated[Collider, Tag("collider")] | Annotated[Ground, Tag("ground")],
    Discriminator(_kind_of),
]  # fmt: skip
EVENT_KINDS = {"cut": Event, "weaken": Event, "push": Event, "charge": Charge, "projectile": Projectile, "collider": Collider,
               "ground": Ground}


class Debris(Table):
    """Secondary pieces between the fragments and the dust."""

    efficiency: float = param(1.0, "", "share of the fracture energy that goes into new surface", ge=0, le=10)
    visible: float = param(0.02, "m", "smallest piece that is drawn as a solid", ge=0.002, le=0.5)
    dust_below: float = param(1e-4, "m", "pieces smaller than this become airborne dust", ge=1e-6, le=1e-2)
    size_min: float = param(1e-5, "m", "finest size of the size law; smaller spends the energy on dust", ge=1e-7, le=1e-3)
    limit: int = param(20000, "", "most pieces in a shot, spent over some seconds; the rest is carried as weight", ge=0, le=1000000)
    spread: float = param(0.5, "", "random speed against the relative speed of the crack's faces", ge=0, le=5)
    kinetic_share: float = param(0.1, "", "most of an event's energy that flies away with its debris", ge=0, le=1)
    bounce: Fraction = param(0.25, "", "speed kept when a piece hits ground or rubble")
    friction: float = param(0.6, "", "friction of small pieces", ge=0, le=2)
    comminution: Fraction = param(0.02, "", "share of the energy lost in impacts and crushing that breaks material; more debris and dust")
    share: Fraction = param(0.25, "", "most of a fragment's mass that it sheds over the whole shot")
    falloff: float = param(0.2, "", "how much faster small pieces fly: speed ~ size^-falloff", ge=0, le=1)
    drag: float = param(0.8, "", "drag coefficient of angular pieces in air; higher stops grit sooner", ge=0, le=5)
    steps: int = param(4, "", "sub-steps of a frame in the motion of small pieces", ge=1, le=64)


class Dust(Table):
    """Airborne dust: emission, air, fine detail."""

    cell: float = param(1.0, "m", "coarse cell of the air solver; smaller is finer and slower", ge=0.1, le=8)
    margin: float = param(14.0, "m", "air around and above the building", ge=1, le=200)
    amount: float = param(1.0, "", "multiplies the airborne mass; more hides more", ge=0, le=100)
    settle: float = param(0.08, "m/s", "sinking speed of the dust", ge=0, le=5)
    buoyancy: float = param(0.15, "", "how much laden air sinks: 1 is physical for its load", ge=0, le=10)
    turbulence: float = param(1.0, "", "billows instead of blobs: share of the motion lost to the grid that eddies get back", ge=0, le=2)
    wind: Vec3 = param((0.6, 0.0, 0.2), "m/s", "wind that carries the cloud")
    iterations: int = param(60, "", "pressure iterations at most", ge=1, le=2000)
    upsample: int = param(4, "", "fine cells per coarse cell and axis; 1 keeps the coarse grid", ge=1, le=4)
    upsampler: Literal["advect", "network"] = param("advect", "", "advect-and-project, or the trained network on top of it")
    detail: float = param(1.0, "", "fine turbulence; 1 is as strong as what the coarse grid cannot show", ge=0, le=3)


class Camera(Table):
    """The camera and the frame it fills."""

    position: Vec3 = param((34.0, 4.0, 40.0), "m", "where the camera stands")
    target: Vec3 = param((0.0, 11.0, 0.0), "m", "what it looks at")
    move: Vec3 = param((0.0, 0.0, 0.0), "m/s", "constant drift of position and target")
    fov: float = param(42.0, "deg", "vertical field of view", ge=1, le=170)
    near: float = param(0.1, "m", "nearest drawn distance", gt=0, le=100)
    far: float = param(2000.0, "m", "farthest drawn distance", gt=0, le=1e6)
    width: int = param(960, "px", "width of the frame", ge=16, le=16384)
    height: int = param(540, "px", "height of the frame", ge=16, le=16384)


class Light(Table):
    """Sun and sky."""

    azimuth: float = param(125.0, "deg", "sun direction, clockwise from -Z seen from above", ge=-360, le=360)
    elevation: float = param(38.0, "deg", "sun height above the horizon", ge=1, le=90)
    sun: Vec3 = param((3.2, 2.95, 2.6), "", "sun irradiance / pi, linear Rec.709")
    sky: Vec3 = param((0.42, 0.55, 0.80), "", "sky radiance, linear Rec.709")
    ground_bounce: Vec3 = param((0.55, 0.53, 0.51), "", "radiance that the open ground sends up, linear Rec.709")


class Look(Table):
    """How the guides and the dust are drawn."""

    ground: Vec3 = param((0.24, 0.23, 0.22), "", "linear Rec.709 colour of the ground")
    occlusion: float = param(0.9, "", "strength of ambient occlusion", ge=0, le=3)
    occlusion_radius: float = param(1.2, "m", "reach of ambient occlusion", gt=0, le=50)
    ambient_cells: int = param(56, "", "cells of the light between the pieces along the longest side; more resolves smaller rooms",
                               ge=8, le=128)
    dust_albedo: Vec3 = param((0.82, 0.78, 0.72), "", "single-scattering albedo of the dust, linear Rec.709")
    dust_extinction: float = param(45.0, "m2/kg", "optical cross-section per kilogram; higher is more opaque", ge=0, le=10000)
    dust_phase: float = param(0.35, "", "Henyey-Greenstein g: forward scattering against the sun", ge=-0.95, le=0.95)
    dust_steps: int = param(64, "", "march steps through the dust; fewer shows bands", ge=4, le=1024)
    shadow_size: int = param(2048, "px", "side of the sun shadow map", ge=256, le=16384)
    haze: float = param(1500.0, "m", "distance at which the air hides most of the contrast", ge=10, le=1e6)
    weathering: Fraction = param(0.5, "", "stains and tone changes on outer faces, fixed to the rest position")


class Refine(Table):
    """The image diffusion pass."""

    backend: Literal["none", "embedded", "diffusers"] = param("embedded", "", "no refinement, our small network, or a diffusers folder")
    steps: int = param(2, "", "denoising steps; 1 is the mean, more invents texture", ge=1, le=200)
    mix: Fraction = param(1.0, "", "share of the refined picture over the raster")
    noise: Literal["surface", "fixed", "fresh"] = param("surface", "", "noise stuck to rest positions, to the screen, or new per frame")
    history: Fraction = param(0.6, "", "weight of the warped previous refined frame; steadier, more ghosting")
    strength: Fraction = param(0.4, "", "diffusers: how far a frame is re-imagined")
    prompt: str = param("photograph of a collapsing concrete apartment building, dust, daylight", "", "diffusers: text prompt")
    negative: str = param("", "", "diffusers: negative prompt")
    guidance: float = param(2.0, "", "diffusers: classifier-free guidance", ge=0, le=50)
    model: str = param("", "", "diffusers: local folder or hub id of the pipeline")
    controls: tuple[str, ...] = param(("depth", "normal"), "", "diffusers: guide for each control net, in order: depth, normal, edge, id")
    control_scale: tuple[float, ...] = param((0.8, 0.6), "", "diffusers: weight of each control net")
    device: Literal["auto", "cpu", "cuda"] = param("auto", "", "where networks run")


class Output(Table):
    """What is delivered."""

    exr: bool = param(True, "", "multichannel EXR per frame")
    png: bool = param(True, "", "display-referred PNG per frame")
    movie: bool = param(True, "", "H.264 MP4 of the shot")
    exposure: float = param(0.0, "stops", "exposure of PNG and film", ge=-20, le=20)
    view: Literal["filmic", "srgb", "aces"] = param("filmic", "", "display transform of PNG and film")
    colourspace: Literal["lin_rec709", "acescg"] = param("lin_rec709", "", "scene-linear space of the EXR")
    motion_blur: float = param(0.5, "frames", "shutter laid on at delivery; 0 is sharp", ge=0, le=2)
    sheet_columns: int = param(6, "", "columns of the contact sheet", ge=1, le=40)
    crf: int = param(16, "", "H.264 quality; lower is better and larger", ge=0, le=51)


class Shot(Table):
    """One shot, whole."""

    name: str = param("shot", "", "name of the run folder", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    extends: str = param("", "", "shot file or bundled shot this one starts from")
    seed: int = param(1, "", "one number behind every random choice", ge=0, le=2**31 - 1)
    first: int = param(1001, "", "first frame", ge=-100000, le=1000000)
    frames: int = param(144, "frames", "length of the shot", ge=1, le=100000)
    fps: float = param(24.0, "1/s", "frame rate", ge=1, le=240)
    building: Building = Building()
    materials: Materials = Materials()
    fracture: Fracture = Fracture()
    sim: Sim = Sim()
    events: tuple[AnyEvent, ...] = ()
    debris: Debris = Debris()
    dust: Dust = Dust()
    camera: Camera = Camera()
    light: Light = Light()
    look: Look = Look()
    refine: Refine = Refine()
    output: Output = Output()

    @model_validator(mode="after")
    def _mesh_needs_a_file(self):
        if self.building.kind == "mesh" and not self.building.file:
            raise ValueError("building.file is empty: building.kind = \"mesh\" needs a mesh file")
        return self

    @property
    def steps_per_frame(self) -> int:
        """Simulation steps of one frame, ceil(60 / fps) times sim.steps_scale."""
        return -int(-60 // self.fps) * self.sim.steps_scale

    @property
    def frame_range(self) -> range:
        """All frames of the shot, first to last."""
        return range(self.first, self.first + self.frames)
