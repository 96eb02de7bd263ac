# pyright: basic, reportInvalidTypeForm=false, reportOptionalCall=false
"""Contact rows as the sweeps read them: a number of each of the four points side by side, a quad.

In: the contact table. Out: what a row adds to the block of a body, multipliers and penalties after a sweep, and these in the table again.
Equations and symbols: sim/contact.py.

A row is `QUADS` quads; where it has fewer points, the rest are zeros, which neither press nor resist. Everything is done to a quad at
once and nothing asks what a point does, so that the compiler makes one vector instruction of four: one point after the other, a sweep took
1.7 times as long. What crushes is rare, and goes point by point. Sums of a body are quads too, added up at its end in a fixed order.
"""

import taichi as ti

from sim.contact import STALL, stiffness_free
from sim.crush import ROUNDING, crush_bears, crush_least, crush_share
from sim.layout import POINTS

ARM_A, ARM_B, GAP, SLIP, FORCE_N, FORCE_T, PENALTY_N, PENALTY_T, ERROR_N, ERROR_T, TRIAL, SHARE = 0, 3, 6, 7, 10, 11, 14, 15, 16, 17, 18, 19
QUADS = 20  # arms, c and (1 - alpha) slip, lambda, k, errors of the sweep before, k_n C_n + lambda_n of the last visit, e of sim/crush.py
PULL, TURN, LEVER, SHEAR, SPIN = 0, 3, 6, 9, 10
SUMS = 16  # sum F, sum r x F, sum k_t r, sum k_t, and of the rotation block xx yy zz xy xz yz
UNKNOWN = 1e30  # [m] error before the first sweep
UNBOUNDED = 1e30  # [N] what bears without crushing


@ti.func
def row_pack(S: ti.template(), tune: ti.template(), r, m):
    """Lay out row m of the table as row r of the sweeps."""
    law = S.contact_crush[m]
    n = S.contact_normal[m]
    S.work_plane[r] = ti.Vector([n[0], n[1], n[2], S.contact_friction[m]])
    S.work_law[r] = ti.Vector([law[0], law[1], S.contact_crushed[m], -(1.0 - ROUNDING) * crush_least(tune) * law[0]])
    S.work_pair[r] = S.contact_body[m]
    base = r * QUADS
    for g in range(QUADS):
        S.work_quad[base + g] = ti.Vector([0.0, 0.0, 0.0, 0.0])
    S.work_quad[base + ERROR_N] = ti.Vector([UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN])
    S.work_quad[base + ERROR_T] = ti.Vector([UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN])
    for k in range(S.contact_count[m]):
        at = m * POINTS + k
        for i in ti.static(range(3)):
            S.work_quad[base + ARM_A + i][k] = S.contact_arm_a[at][i]
            S.work_quad[base + ARM_B + i][k] = S.contact_arm_b[at][i]
            S.work_quad[base + SLIP + i][k] = (1.0 - tune.alpha) * S.contact_slip[at][i]
            S.work_quad[base + FORCE_T + i][k] = S.contact_force_t[at][i]
        c = S.contact_separation[at]
        if c < 0.0:
            c *= 1.0 - tune.alpha
        S.work_quad[base + GAP][k] = c
        S.work_quad[base + SHARE][k] = crush_share(c, n.dot(S.contact_approach[at]), tune)
        S.work_quad[base + FORCE_N][k] = S.contact_force_n[at]
        S.work_quad[base + PENALTY_N][k] = S.contact_penalty[at][0]
        S.work_quad[base + PENALTY_T][k] = S.contact_penalty[at][1]


@ti.func
def row_unpack(S: ti.template(), r, m):
    """Multipliers and penalties of row r back into row m of the table."""
    base = r * QUADS
    for k in range(S.contact_count[m]):
        at = m * POINTS + k
        S.contact_force_n[at] = S.work_quad[base + FORCE_N][k]
        for i in ti.static(range(3)):
            S.contact_force_t[at][i] = S.work_quad[base + FORCE_T + i][k]
        S.contact_penalty[at] = ti.Vector([S.work_quad[base + PENALTY_N][k], S.work_quad[base + PENALTY_T][k]])


@ti.func
def relative(S: ti.template(), base, is_b, dx, dth, x_o, th_o):
    """d of the points of a row, b against a: its body a, or b, moved by dx and dth, the other by x_o and th_o."""
    at, at_o = base + ARM_A + is_b * 3, base + ARM_B - is_b * 3
    sign = ti.f32(2 * is_b - 1)
    a0, a1, a2 = S.work_quad[at], S.work_quad[at + 1], S.work_quad[at + 2]
    o0, o1, o2 = S.work_quad[at_o], S.work_quad[at_o + 1], S.work_quad[at_o + 2]
    d0 = sign * (dx[0] + (dth[1] * a2 - dth[2] * a1) - x_o[0] - (th_o[1] * o2 - th_o[2] * o1))
    d1 = sign * (dx[1] + (dth[2] * a0 - dth[0] * a2) - x_o[1] - (th_o[2] * o0 - th_o[0] * o2))
    d2 = sign * (dx[2] + (dth[0] * a1 - dth[1] * a0) - x_o[2] - (th_o[0] * o1 - th_o[1] * o0))
    return d0, d1, d2


@ti.func
def crushing(S: ti.template(), tune: ti.template(), r, trial, c_n):
    """Y of four points and how fast it grows."""
    law, share = S.work_law[r], S.work_quad[r * QUADS + SHARE]
    most, grows = ti.Vector([UNBOUNDED, UNBOUNDED, UNBOUNDED, UNBOUNDED]), ti.Vector([0.0, 0.0, 0.0, 0.0])
    for k in ti.static(range(POINTS)):
        most[k], grows[k] = crush_bears(trial[k], c_n[k], share[k], ti.Vector([law[0], law[1]]), law[2], tune)
    return most, grows


@ti.func
def row_gather(S: ti.template(), tune: ti.template(), r, is_b, slot, dx, dth, x_o, th_o):
    """Add row r to the sums of its body a, or b, which moved by dx and dth, while the other moved by x_o and th_o.

    What goes with the normal: sum k and sum k r x n, k = k_n - k_t."""
    base = r * QUADS
    at = base + ARM_A + is_b * 3
    sign = ti.f32(2 * is_b - 1)
    plane = S.work_plane[r]
    n0, n1, n2 = plane[0], plane[1], plane[2]
    a0, a1, a2 = S.work_quad[at], S.work_quad[at + 1], S.work_quad[at + 2]
    lam, k_n, k_t = S.work_quad[base + FORCE_N], S.work_quad[base + PENALTY_N], S.work_quad[base + PENALTY_T]
    d0, d1, d2 = relative(S, base, is_b, dx, dth, x_o, th_o)
    dn = n0 * d0 + n1 * d1 + n2 * d2
    c_n = S.work_quad[base + GAP] + dn
    trial = k_n * c_n + lam
    f_n = ti.min(trial, 0.0)
    k_n = ti.select(f_n == 0.0, stiffness_free(c_n, lam, k_n, tune.penalty_min), k_n)
    if trial.min() <= S.work_law[r][3]:
        most, grows = crushing(S, tune, r, trial, c_n)
        f_n = ti.max(f_n, -most)
        k_n = ti.select(f_n == -most, ti.min(ti.max(k_n * most / -trial, grows), k_n), k_n)
    t0 = k_t * (S.work_quad[base + SLIP] + (d0 - dn * n0)) + S.work_quad[base + FORCE_T]
    t1 = k_t * (S.work_quad[base + SLIP + 1] + (d1 - dn * n1)) + S.work_quad[base + FORCE_T + 1]
    t2 = k_t * (S.work_quad[base + SLIP + 2] + (d2 - dn * n2)) + S.work_quad[base + FORCE_T + 2]
    size = ti.sqrt(t0 * t0 + t1 * t1 + t2 * t2)
    limit = -plane[3] * f_n
    s = ti.select(size > limit, limit / size, 1.0)
    k_t = s * k_t
    f0, f1, f2 = sign * (f_n * n0 + s * t0), sign * (f_n * n1 + s * t1), sign * (f_n * n2 + s * t2)
    k = k_n - k_t
    q0, q1, q2 = a1 * n2 - a2 * n1, a2 * n0 - a0 * n2, a0 * n1 - a1 * n0
    m0, m1, m2 = k * q0, k * q1, k * q2
    b0, b1, b2 = k_t * a0, k_t * a1, k_t * a2
    S.work_quad[base + TRIAL] = trial
    for i, term in ti.static(enumerate((
        f0, f1, f2,
        a1 * f2 - a2 * f1, a2 * f0 - a0 * f2, a0 * f1 - a1 * f0,
        b0, b1, b2,
        k_t,
        b1 * a1 + b2 * a2 + m0 * q0, b0 * a0 + b2 * a2 + m1 * q1, b0 * a0 + b1 * a1 + m2 * q2,
        m0 * q1 - b0 * a1, m0 * q2 - b0 * a2, m1 * q2 - b1 * a2,
    ))):
        S.work_sum[slot + i] = S.work_sum[slot + i] + term
    return total(k), ti.Vector([total(m0), total(m1), total(m2)])


@ti.func
def row_closes(S: ti.template(), r, is_b, dx, dth, x_o, th_o):
    """1 if a point of row r that was free when its body a, or b, was last moved is pressed now."""
    base = r * QUADS
    plane = S.work_plane[r]
    d0, d1, d2 = relative(S, base, is_b, dx, dth, x_o, th_o)
    c_n = S.work_quad[base + GAP] + (plane[0] * d0 + plane[1] * d1 + plane[2] * d2)
    now = S.work_quad[base + PENALTY_N] * c_n + S.work_quad[base + FORCE_N]
    pressed = ti.select(S.work_quad[base + TRIAL] >= 0.0, now, 0.0)
    return ti.cast(pressed.min() < 0.0, ti.i32)


@ti.func
def row_dual(S: ti.template(), tune: ti.template(), r):
    """Multipliers of row r take the force; its penalties grow."""
    base = r * QUADS
    a, b = S.work_pair[r][0], S.work_pair[r][1]
    plane, law = S.work_plane[r], S.work_law[r]
    n0, n1, n2 = plane[0], plane[1], plane[2]
    k_n, k_t = S.work_quad[base + PENALTY_N], S.work_quad[base + PENALTY_T]
    dx, dth = motion(S, b)
    d0, d1, d2 = relative(S, base, 1, dx, dth, S.work_dx[a], S.work_dth[a])
    dn = n0 * d0 + n1 * d1 + n2 * d2
    c_n = S.work_quad[base + GAP] + dn
    trial = k_n * c_n + S.work_quad[base + FORCE_N]
    f_n = ti.min(trial, 0.0)
    free = f_n == 0.0
    if trial.min() <= law[3]:
        most, _ = crushing(S, tune, r, trial, c_n)
        f_n = ti.max(f_n, -most)
        free = free | (f_n == -most)
    c0 = S.work_quad[base + SLIP] + (d0 - dn * n0)
    c1 = S.work_quad[base + SLIP + 1] + (d1 - dn * n1)
    c2 = S.work_quad[base + SLIP + 2] + (d2 - dn * n2)
    t0 = k_t * c0 + S.work_quad[base + FORCE_T]
    t1 = k_t * c1 + S.work_quad[base + FORCE_T + 1]
    t2 = k_t * c2 + S.work_quad[base + FORCE_T + 2]
    size = ti.sqrt(t0 * t0 + t1 * t1 + t2 * t2)
    limit = -plane[3] * f_n
    s = ti.select(size > limit, limit / size, 1.0)
    error_n, error_t = ti.abs(c_n), ti.sqrt(c0 * c0 + c1 * c1 + c2 * c2)
    grow = ti.select(f_n < 0.0, tune.beta * (1.0 - f_n / tune.force_scale), 0.0)
    grow_n = ti.select(free, 0.0, grow)
    grow_n = ti.select(error_n > STALL * S.work_quad[base + ERROR_N], grow_n, 0.0)
    grow_t = ti.select(s == 1.0, grow, 0.0)
    grow_t = ti.select(error_t > STALL * S.work_quad[base + ERROR_T], grow_t, 0.0)
    S.work_quad[base + FORCE_N] = f_n
    S.work_quad[base + FORCE_T] = s * t0
    S.work_quad[base + FORCE_T + 1] = s * t1
    S.work_quad[base + FORCE_T + 2] = s * t2
    S.work_quad[base + PENALTY_N] = ti.min(k_n + grow_n * error_n, tune.penalty_max)
    S.work_quad[base + PENALTY_T] = ti.min(k_t + grow_t * error_t, tune.penalty_max)
    S.work_quad[base + ERROR_N] = error_n
    S.work_quad[base + ERROR_T] = error_t


@ti.func
def motion(S: ti.template(), b):
    """Displacement and rotation of body b so far; none of the ground."""
    x, th = ti.Vector([0.0, 0.0, 0.0]), ti.Vector([0.0, 0.0, 0.0])
    if b >= 0:
        x, th = S.work_dx[b], S.work_dth[b]
    return x, th


@ti.func
def total(v):
    """Sum over a quad, in order."""
    return v[0] + v[1] + v[2] + v[3]
