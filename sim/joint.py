# pyright: basic, reportInvalidTypeForm=false, reportOptionalCall=false
"""Elastoplastic six-row joints: bonds whose concrete is gone and whose bars are alive.

In: Joints (rest geometry, stiffness, yield). Out: forces on two bodies, plastic flow per row. Rows k = N, V1, V2 along and T, M1, M2
about the axes u of (normal, axis, normal x axis), turning with fragment a:

    e_k      = u_k . (p_b - p_a) - plastic_k          translation of the anchors [m]
    e_k+3    = u_k . phi - plastic_k+3                phi: rotation vector of q_b q_a^-1 (the identity at rest) [rad]
    F        = clamp(s (lambda + rho e), -limit, limit),  s = K / (K + rho)         force on b is -F u
    dual     lambda = F  =>  at the fixed point F = K e for every penalty rho (compliant multipliers, Newton's "rho" form)
    rho      2 / (h^2 sum 1/m), for rotation 2 / (h^2 sum 3/tr I), over the two bodies that are free. It does not grow as that of
             contacts does: webs of hinges freeze in the sweeps when rho is large, and then take nine times the momentum that they give
    end      |K e| > limit: plastic += e - sign(e) limit / K      return mapping, dissipates limit |increment|

Yield limits act row by row: no interaction of axial force and moment. Rotations beyond pi between two bodies are not followed.
"""

from dataclasses import dataclass

import numpy as np
import taichi as ti

from sim.broadphase import fragment_centre, turn
from sim.column import column_read, column_write
from sim.layout import AWAKE, JOINT
from sim.world import Table, World

CARRIED = ("bond", "plastic", "flowed", "force")
PENALTY = 2.0  # in reduced mass / h^2


@dataclass(frozen=True)
class Joints:
    """Hinges as set: rest geometry in world coordinates, from fragment a to b (or GROUND)."""

    bond: np.ndarray  # (J) i32 unique: state follows it
    fragment_a: np.ndarray  # (J) i32
    fragment_b: np.ndarray  # (J) i32, -1 the ground
    point: np.ndarray  # (J, 3) f64 [m] at rest
    normal: np.ndarray  # (J, 3) f64 unit, a to b
    axis: np.ndarray  # (J, 3) f64 unit, across the normal
    stiffness: np.ndarray  # (J, 6) f64 [N/m, N m/rad] rows N, V1, V2, T, M1, M2
    limit: np.ndarray  # (J, 6) f64 [N, N m]


@dataclass(frozen=True)
class JointState:
    """Hinges as they are."""

    bond: np.ndarray  # (J) i32
    force: np.ndarray  # (J, 6) f32 [N, N m]
    plastic: np.ndarray  # (J, 6) f32 [m, rad] signed, permanent
    flowed: np.ndarray  # (J, 6) f32 [m, rad] sum of |increments of plastic|


def joints_set(world: World, joints: Joints) -> None:
    """Replace the list of joints. Those with a bond that was there before keep forces and plastic flow.

    Raises ValueError if a bond comes twice or a stiffness is not positive.
    """
    count = len(joints.bond)
    if len(np.unique(joints.bond)) != count:
        raise ValueError("joints: a bond comes twice")
    if count and not (np.min(joints.stiffness) > 0):
        raise ValueError("joints: stiffness must be positive")
    old = {k: column_read(a, world.joint_count) for k, a in world.joint.array.items() if k in CARRIED}
    if count > world.joint.size:
        world.joint = Table(JOINT, max(count, 2 * world.joint.size))
        world.work = None
    fragment_b = np.asarray(joints.fragment_b)
    rest_b = np.where((fragment_b >= 0)[:, None], world.rest[fragment_b], 0.0)
    rows = {
        "fragment": np.stack([joints.fragment_a, fragment_b], axis=1),
        "bond": joints.bond,
        "anchor_a": joints.point - world.rest[joints.fragment_a],
        "anchor_b": joints.point - rest_b,
        "normal": joints.normal,
        "axis": joints.axis,
        "stiffness": joints.stiffness,
        "limit": joints.limit,
    }
    order = np.argsort(old["bond"], kind="stable")
    at = np.searchsorted(old["bond"][order], joints.bond)
    at = np.minimum(at, max(len(order) - 1, 0))
    known = old["bond"][order[at]] == joints.bond if len(order) else np.zeros(count, bool)
    for name in ("plastic", "flowed", "force"):
        value = np.zeros((count, 6), np.float32)
        if known.any():
            value[known] = old[name][order[at[known]]]
        rows[name] = value
    for name, value in rows.items():
        column_write(world.joint.array[name], value)
    world.joint_count = count
    world.still = None


def joints_read(world: World) -> JointState:
    """Forces and plastic flow of all joints, in the order they were set."""
    n = world.joint_count
    return JointState(*(column_read(world.joint.array[k], n) for k in ("bond", "force", "plastic", "flowed")))


@ti.func
def rotation_vector(q):
    """Rotation vector of a unit quaternion, at most pi long."""
    s = ti.f32(1.0)
    if q[0] < 0.0:
        s = -1.0
    v = s * ti.Vector([q[1], q[2], q[3]])
    size = v.norm()
    scale = ti.f32(2.0)
    if size > 1e-6:
        scale = 2.0 * ti.atan2(size, s * q[0]) / size
    return scale * v


@ti.func
def quaternion_product(a, b):
    """Turn by b, then by a."""
    return ti.Vector([
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    ])


@ti.func
def joint_begin(S: ti.template(), j, tune: ti.template()):
    """Arms, frame and error of joint j at the start of the step."""
    fa, fb = S.joint_fragment[j][0], S.joint_fragment[j][1]
    ba = S.fragment_body[fa]
    qa = S.body_q[ba]
    arm_a = turn(qa, S.fragment_offset[fa] + S.joint_anchor_a[j])
    arm_b = S.joint_anchor_b[j]
    bb = -1
    between = ti.cast(arm_b, ti.f64) - S.body_x[ba] - ti.cast(arm_a, ti.f64)
    relative = ti.Vector([qa[0], -qa[1], -qa[2], -qa[3]])
    if fb >= 0:
        bb = S.fragment_body[fb]
        qb = S.body_q[bb]
        between = fragment_centre(S, fb) - fragment_centre(S, fa)
        arm_b = turn(qb, S.joint_anchor_b[j])
        between += ti.cast(arm_b - turn(qa, S.joint_anchor_a[j]), ti.f64)
        arm_b += turn(qb, S.fragment_offset[fb])
        relative = quaternion_product(qb, relative)
    d = ti.cast(between, ti.f32)
    phi = rotation_vector(relative)
    u0 = turn(qa, S.joint_normal[j])
    u1 = turn(qa, S.joint_axis[j])
    u2 = u0.cross(u1)
    p = S.joint_plastic[j]
    mobility = ti.Vector([0.0, 0.0])  # of translation and rotation
    for side in ti.static(range(2)):
        o = ba
        if ti.static(side == 1):
            o = bb
        if o >= 0 and S.body_state[ti.max(o, 0)] == AWAKE:
            k = ti.max(o, 0)
            mobility += ti.Vector([1.0 / S.body_mass[k], 3.0 / S.body_inertia[k].trace()])
    S.row_penalty[j] = PENALTY / (tune.h * tune.h * ti.max(mobility, 1e-30))
    S.row_body[j] = ti.Vector([ba, bb])
    S.row_arm_a[j] = arm_a
    S.row_arm_b[j] = arm_b
    S.row_frame[j] = ti.Matrix.rows([u0, u1, u2])
    S.row_error[j] = ti.Vector([u0.dot(d), u1.dot(d), u2.dot(d), u0.dot(phi), u1.dot(phi), u2.dot(phi)]) - p


@ti.func
def joint_error(S: ti.template(), j, d, turned):
    """e after relative displacement d of the anchors and relative rotation `turned`."""
    lin = S.row_frame[j] @ d
    ang = S.row_frame[j] @ turned
    return S.row_error[j] + ti.Vector([lin[0], lin[1], lin[2], ang[0], ang[1], ang[2]])


@ti.func
def joint_force(S: ti.template(), j, e):
    """F and the stiffness of each row."""
    K, limit = S.joint_stiffness[j], S.joint_limit[j]
    F = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    k = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for i in ti.static(range(6)):
        rho = S.row_penalty[j][i // 3]
        s = K[i] / (K[i] + rho)
        f = s * (S.joint_force[j][i] + rho * e[i])
        k[i] = s * rho
        if ti.abs(f) > limit[i]:
            k[i] *= limit[i] / ti.abs(f)
            f = ti.math.sign(f) * limit[i]
        F[i] = f
    return F, k


@ti.func
def joint_return(S: ti.template(), j, e):
    """Plastic return mapping at the end of the step."""
    K, limit = S.joint_stiffness[j], S.joint_limit[j]
    for i in ti.static(range(6)):
        over = ti.abs(e[i]) - limit[i] / K[i]
        if over > 0.0:
            S.joint_plastic[j][i] += ti.math.sign(e[i]) * over
            S.joint_flowed[j][i] += over
