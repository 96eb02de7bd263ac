# pyright: basic, reportInvalidTypeForm=false
"""Every array of the contact solver: name, element type, length, unit. The names are those that kernels use.

A kernel takes one argument pack S of the columns that it needs (`pack_type`), so `S.body_v[b]` is the same array everywhere:
table name, underscore, column. `last_*` is the contact table of the step before. Packs hold ti.ndarrays: no size is compiled in.
Taichi 1.7 allows 64 elements per kernel, hence packs list their columns instead of handing over whole tables.
"""

import taichi as ti

EMPTY, FIXED, AWAKE, ASLEEP = 0, 1, 2, 3
POINTS = 4  # contact points of one hull pair
EDGES = 512  # of one hull at most: those near the other are listed, and features count up to here

_f3, _f4, _d3, _m3 = ti.types.vector(3, ti.f32), ti.types.vector(4, ti.f32), ti.types.vector(3, ti.f64), ti.types.matrix(3, 3, ti.f32)
_f6 = ti.types.vector(6, ti.f32)
_i2, _i3, _i4, _f2 = ti.types.vector(2, ti.i32), ti.types.vector(3, ti.i32), ti.types.vector(4, ti.i32), ti.types.vector(2, ti.f32)

BODY = {
    "x": _d3,  # [m] centre of mass, world
    "q": _f4,  # rotation (w, x, y, z), body to world
    "v": _f3,  # [m/s]
    "w": _f3,  # [rad/s] world
    "spin": _f3,  # [kg m2/s] angular momentum about the centre of mass, world: what a free body keeps exactly
    "v_before": _f3,  # [m/s] v one step earlier, for the first guess of the sweep
    "mass": ti.f32,  # [kg]
    "inertia": _m3,  # [kg m2] about the centre of mass, rest axes
    "inertia_inverse": _m3,
    "radius": ti.f32,  # [m] farthest hull vertex from the centre of mass
    "state": ti.i32,  # EMPTY, FIXED, AWAKE, ASLEEP
    "calm": ti.f32,  # [s] slow for so long
    "peak": _f2,  # [m/s] highest speed in the first and the second half of that time
    "load": _f3,  # [N] contact and joint force when it fell asleep: a change wakes it
    "load_moment": _f3,  # [N m]
    "load_size": ti.f32,  # [N] sum of |force| over its points then
}
FRAGMENT = {
    "body": ti.i32,
    "offset": _f3,  # [m] from the body's centre of mass, rest axes
    "friction": ti.f32,
    "crush": _f2,  # [N] that crushes it; [m] how far it was crushed, at all its contacts together
    "mass": ti.f32,  # [kg]
    "force": _f3,  # [N] contact and joints, mean of the last step
    "moment": _f3,  # [N m] about the fragment's centre
}
CONTACT = {
    "pair": _i2,  # hulls a < b; b = -1 is the ground; sorted by (a, b)
    "body": _i2,  # of a and b; -1 the ground
    "count": ti.i32,  # points, 0..POINTS
    "normal": _f3,  # unit, from a to b
    "friction": ti.f32,
    "gap": ti.f32,  # [m] overlap at birth that is still allowed
    "crush": _f2,  # [N] a point of the fragment that yields bears unworn; [m] how far that fragment was crushed before
    "yields": ti.i32,  # 0 that of a, 1 that of b
    "crushing": ti.f32,  # [m] overlap that this step crushed away
    "crushed": ti.f32,  # [m] overlap that was crushed away, for as long as the two touch
    "axis": ti.i32,  # the face that separated or met last, tried first: 2 face of a, 2 face of b + 1, -1 none
    "arm_a": _f3,  # [m] per point: from the body's centre of mass, world axes
    "arm_b": _f3,
    "separation": ti.f32,  # [m] per point at the start of the step, gap included
    "feature": ti.i32,  # per point: which features of the two hulls met
    "local": _f3,  # [m] per point: on a, from the centre of its fragment, rest axes
    "facing": _f3,  # what the manifold was made for: its normal in the frame of a's fragment,
    "between": _f3,  # [m] b's centre there, and
    "twist": _f4,  # b's rotation against a's; 0: not to be used again
    "apart": ti.f32,  # [m] per point: separation when it was made
    "slip": _f3,  # [m] per point: tangential offset carried while sticking
    "force_n": ti.f32,  # [N] per point, <= 0: the multiplier of the normal row
    "force_t": _f3,  # [N] per point: friction on b is -force_t
    "penalty": _f2,  # [N/m] per point: normal, tangential
    "approach": _f3,  # [m/s] per point: velocity of b minus a before the step
}
JOINT = {
    "fragment": _i2,  # a, b; b = -1 is the ground
    "bond": ti.i32,  # whose bars these are: multipliers and plastic flow follow it when joints are set anew
    "anchor_a": _f3,  # [m] from the centre of fragment a at rest
    "anchor_b": _f3,
    "normal": _f3,  # at rest, from a to b; rows are N, V1, V2 along and T, M1, M2 about (normal, axis, normal x axis) turning with a
    "axis": _f3,
    "stiffness": _f6,  # [N/m], [N m/rad]
    "limit": _f6,  # [N], [N m] yield
    "plastic": _f6,  # [m], [rad] permanent
    "flowed": _f6,  # [m], [rad] sum of |increments of plastic|
    "force": _f6,  # [N], [N m] carried in the rows' frame
}
PER_POINT = frozenset({"apart", "arm_a", "arm_b", "separation", "feature", "local", "slip", "force_n", "force_t", "penalty", "approach"})
TUNING = {  # scalars of one step; see sim/solve.py for how they follow from the scene
    "h": ti.f32,  # [s]
    "gravity": ti.f32,  # [m/s2]
    "friction_ground": ti.f32,
    "stiction": ti.f32,  # static over sliding friction
    "hold_speed": ti.f32,  # [m/s] what slips by less is held
    "slack": ti.f32,  # [m] contacts are made at this distance before motion is added
    "stick": ti.f32,  # [m] tangential offset beyond which a sticking point lets go
    "keep": ti.f32,  # [m] relative motion up to which a manifold is used again
    "merge": ti.f32,  # [m] points nearer than this are one
    "face_bias": ti.f32,  # [m] an edge axis must beat the faces by twice, b's face that of a by once this
    "relax": ti.f32,  # [m] of birth overlap given up in a step
    "alpha": ti.f32,
    "gamma": ti.f32,
    "force_decay": ti.f32,
    "beta": ti.f32,  # [N/m per m]
    "force_scale": ti.f32,  # [N]
    "penalty_min": ti.f32,  # [N/m]
    "penalty_max": ti.f32,  # [N/m]
    "length": ti.f32,  # [m]
    "turn_max": ti.f32,  # [rad] in a step
    "sleep_speed": ti.f32,  # [m/s]
    "sleep_time": ti.f32,  # [s]
    "rolling": ti.f32,  # [m] lever of the rolling resistance
    "crush_residual": ti.f32,
    "crush_packed": ti.f32,  # [m] of overlap at which crushed material bears any force
    "crush_depth": ti.f32,  # [m] over which strength falls to nothing, but for the residual
}
Tuning = ti.types.struct(**TUNING)
HULL = {
    "fragment": ti.i32,  # (C)
    "span": _i4,  # (C) first vertex, face and edge of the hull, 0; row C closes the ranges
    "vertex": _f3,  # (V) [m] rest
    "normal": _f3,  # (P) outward, rest
    "offset": ti.f32,  # (P) [m] normal . p <= offset inside
    "loop_start": ti.i32,  # (P + 1)
    "loop": ti.i32,  # (L) vertex index, counter-clockwise from outside
    "edge": _i4,  # (E) vertex, vertex, face, face
    "vertex_now": _f3,  # (V) [m] turned with the body, from the fragment's centre
    "normal_now": _f3,  # (P)
    "turned": _f4,  # (C) rotation and centre that vertex_now, normal_now and the box were made for
    "centre": _d3,  # (C) [m]
    "lower": _f3,  # (C) [m] box around the hull, from the scene's origin
    "upper": _f3,  # (C)
}
JOINT_ROW = {
    "body": _i2,  # -1 the ground
    "arm_a": _f3,  # [m] from the bodies' centres of mass, world axes
    "arm_b": _f3,
    "frame": _m3,  # rows: u_0, u_1, u_2
    "error": _f6,  # e at the start of the step
    "penalty": _f2,  # [N/m] of translation, [N m/rad] of rotation
}
GRID = {
    "start": ti.i32,  # (T + 2) bucket b holds entries start[b + 1] to start[b + 2]
    "hull": ti.i32,  # (E) entries by bucket, hulls ascending
    "cell": _i3,  # (E) the cell of the entry
    "still": ti.i32,  # (C) 1: a hull that does not move, in the grid of those
    "still_start": ti.i32,  # the same as start, hull and cell for that grid
    "still_hull": ti.i32,
    "still_cell": _i3,
    "sweep": _f3,  # (C) [m] displacement of a hull in the step if nothing stops it
    "out": ti.f32,  # (C) [m] how far around its swept box it looks
    "ahead": ti.i32,  # (C) 1: a hull that is to be turned to where the sweeps have moved it
    "low": _i3,  # (C) lowest and highest cell
    "high": _i3,
    "pair": _i2,  # (P) as found
    "first": ti.i32,  # (C + 1) counting sort by a
    "source": ti.i32,  # (P) row in the last contact list, -1 new; sorted like the contact table
    "keep": ti.i32,  # (P) 1: neither body is awake, copy the row; else 2 + 4: the body of a, of b may be stopped in this step
    "need": ti.i32,  # (2) entries and pairs wanted; more than there is room for: grow and repeat
}
REST = {  # sim/rest.py
    "owner": ti.i32,  # (F)
    "start": ti.i32,  # (F + 1)
    "key": _i2,  # (E)
    "source": ti.i32,  # (E)
    "live": ti.i32,  # (R)
    "load": ti.types.vector(10, ti.f32),  # (E) [N], [N m], [N m], [N]
    "fragment": ti.i32,  # (E)
    "force": _f3,  # (F) [N]
    "moment": _f3,  # (F) [N m]
    "pressing": ti.types.vector(7, ti.f32),  # (F) [N], [N m], [N]
}
CLIP = {
    "point": _f3,  # (LANES * CANDIDATES) [m] midway between the surfaces
    "separation": ti.f32,
    "feature": ti.i32,
    "edge": ti.i32,  # (LANES * EDGES) edges near the other hull
    "corner": _f3,  # (LANES * EDGES) [m] of the prism over a face
    "side": _f3,  # (LANES * EDGES) outward normals of its sides
    "height": ti.f32,  # (LANES * EDGES) [m] of the other hull's vertices over the face
    "arc": _f4,  # (LANES * ARCS) their Gauss arcs, four side by side
    "beyond": ti.i32,  # (LANES * EDGES) per vertex of a hull: what it is outside of
}
WORK = {
    "dx": _f3,  # (F) [m] displacement since the start of the step
    "dth": _f3,  # (F) [rad]
    "y": _f3,  # (F) [m] inertial target
    "yth": _f3,  # (F) [rad]
    "inertia": _m3,  # (F) [kg m2] world axes at the start of the step
    "acceleration": _f3,  # (F) [m/s2] of the body beside gravity
    "twist": _f3,  # (F) [N m] moment of that push about the centre of mass
    "load": _f3,  # (F) [N] contact and joint force
    "load_moment": _f3,  # (F) [N m]
    "load_size": ti.f32,  # (F) [N] sum of |force|
    "pressed": ti.f32,  # (F) [N] sum of the contacts' normal forces
    "budget": ti.f32,  # (F) scratch of sim/sleep.py
    "touching": ti.i32,  # (F) sleepers that a sleeper touches
    "next": ti.i32,  # (F) first point laid aside of an owner that is still to be summed; -1: all are, in its sums
    "struck": ti.i32,  # (F) 1: something may stop it in this step
    "start": ti.i32,  # (F + 1) contact rows of a body: side[start[b]:start[b + 1]]
    "joint_start": ti.i32,  # (F + 1)
    "colour": ti.i32,  # (F) -1 not awake
    "order": ti.i32,  # (F) awake bodies by colour, then index
    "colour_start": ti.i32,  # (COLOURS + 1) in order
    "count": ti.i32,  # (7) awake bodies, colours, contact points, active rows, 1 if a body with rows laid aside is hit, pairs in look,
    # those of them that wait
    "term": ti.f64,  # (len(ENERGY)) [J]
    "side": ti.i32,  # 2 row + (1 if the body is b)
    "joint_side": ti.i32,
    "active": ti.i32,  # rows with an awake body
    "row": ti.i32,  # (P) place in active, -1 none
    "look": ti.i32,  # pairs to be looked at once more within the step
    "found": ti.i32,  # per one of those: NOTHING, RENEWED or WAITS of sim/renew.py
    "quad": _f4,  # (QUADS active) what sweeps read and write of a row, sim/quad.py
    "plane": _f4,  # (active) normal, friction
    "law": _f4,  # (active) [N] F / 4, [m] w, [m] c, [N] force of a point from which on it may crush
    "pair": _i2,  # (active) bodies
    "sum": _f4,  # (SUMS F) sums of a body's rows, point by point
}
TABLES = {
    "body": BODY, "fragment": FRAGMENT, "hull": HULL, "contact": CONTACT, "last": CONTACT,
    "joint": JOINT, "row": JOINT_ROW, "grid": GRID, "clip": CLIP, "rest": REST, "work": WORK,
}


def pack_type(**columns: str):
    """Argument pack of the columns named per table, e.g. pack_type(body="x q", hull="vertex")."""
    members = {f"{table}_{name}": TABLES[table][name] for table, names in columns.items() for name in names.split()}
    return ti.types.argpack(**{name: ti.types.ndarray(dtype=element, ndim=1) for name, element in members.items()})
