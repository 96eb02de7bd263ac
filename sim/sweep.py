# pyright: basic, reportInvalidTypeForm=false
"""The kernels of a contact step behind the manifolds: targets and colours, sweeps, velocities and energy.

In: bodies, contact rows, joints, scalars of the step. Out: the same, one step later. Equations and symbols: sim/solve.py.
"""

import taichi as ti

from sim.broadphase import driven, moves, turn, turn_back
from sim.colour import sides_order
from sim.crush import crush_share, crush_yields
from sim.joint import joint_begin, joint_error, joint_force, joint_return, quaternion_product
from sim.layout import AWAKE, FIXED, POINTS, Tuning, pack_type
from sim.quad import LEVER, PULL, SHEAR, SPIN, SUMS, TURN, motion, row_closes, row_dual, row_gather, row_pack, row_unpack, total
from sim.sleep import calm_count, sleepers_choose, wake_hit

ROLL_STUCK = 1e-5  # [rad] in a step: what turns by less is held by the rolling resistance
NOISE = 1e-18  # [m], [rad]: in a mirror-symmetric scene what is below decays into denormal numbers, and a sweep takes four times as long
BeginPack = pack_type(
    body="x q v w spin v_before mass inertia inertia_inverse state calm peak", fragment="body offset",
    contact="body count normal friction crush crushed arm_a arm_b separation slip force_n force_t penalty approach",
    joint="fragment anchor_a anchor_b normal axis plastic",
    row="body arm_a arm_b frame error penalty",
    rest="owner",
    work="dx dth y yth inertia acceleration twist start joint_start colour order colour_start count side joint_side active row budget "
    "quad plane law pair touching pressed",
)
SolvePack = pack_type(
    body="mass",
    joint="stiffness limit force", row="body arm_a arm_b frame error penalty",
    work="dx dth y yth inertia start joint_start side joint_side order quad plane law pair sum pressed",
)
ForcePack = pack_type(
    body="q state", fragment="body offset force moment", hull="fragment",
    contact="pair body count normal arm_a arm_b force_n force_t penalty",
    rest="owner start key source live load fragment force moment pressing", work="load load_moment load_size next active quad",
)
EndPack = pack_type(
    body="x q v w spin v_before mass inertia_inverse radius state calm peak load load_moment load_size",
    fragment="offset crush force moment", hull="fragment",
    contact="pair body count normal friction crush crushed crushing yields arm_a arm_b separation slip force_n force_t approach",
    joint="fragment force stiffness limit plastic flowed",
    row="body arm_a arm_b frame error", work="dx dth yth inertia acceleration twist load load_moment load_size pressed budget term",
)


@ti.func
def spin_inverse(inverse, q, p):
    """World inverse inertia applied to p."""
    return turn(q, inverse @ turn_back(q, p))


@ti.func
def turned(th, q):
    """q turned by the rotation vector th, normalised."""
    angle = th.norm()
    s = ti.f32(0.5)
    if angle > 1e-6:
        s = ti.sin(0.5 * angle) / angle
    p = quaternion_product(ti.Vector([ti.cos(0.5 * angle), s * th[0], s * th[1], s * th[2]]), q)
    return p / p.norm()


@ti.kernel
def solve_begin(S: BeginPack, pairs: ti.i32, joints: ti.i32, count: ti.i32, tune: Tuning):
    """Wake what is hit; inertial targets and first guesses; rows per body; colours. Only work.count[4] where sim/rest.py must act first."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        S.work_count[4] = wake_hit(S, pairs, count, tune)
        if S.work_count[4] == 0:
            begin(S, tune, pairs, joints, count)


@ti.func
def begin(S: ti.template(), tune: ti.template(), pairs, joints, count):
    """The rest of solve_begin."""
    zero = ti.Vector([0.0, 0.0, 0.0])
    awake = 0
    for b in range(count):
        S.work_dx[b] = zero
        S.work_dth[b] = zero
        S.work_pressed[b] = 0.0
        if S.body_state[b] == AWAKE:
            awake += 1
            body_begin(S, b, tune)
        elif driven(S, b):
            S.work_dx[b] = tune.h * S.body_v[b]
            S.work_dth[b] = tune.h * S.body_w[b]
    # rows of each body
    active = 0
    points = 0
    for m in range(pairs):
        S.work_row[m] = -1
        if S.contact_count[m] > 0:
            a, b = S.contact_body[m][0], S.contact_body[m][1]
            moves_a = S.body_state[a] == AWAKE
            moves_b = b >= 0 and S.body_state[ti.max(b, 0)] == AWAKE
            if moves_a or moves_b or driven(S, a) or (b >= 0 and driven(S, ti.max(b, 0))):
                S.work_active[active] = m
                S.work_row[m] = active
                row_pack(S, tune, active, m)
                for k in range(S.contact_count[m]):
                    force = -S.contact_force_n[m * POINTS + k] / tune.force_decay  # of the step before
                    S.work_pressed[a] += force
                    if b >= 0:
                        S.work_pressed[b] += force
                active += 1
                points += S.contact_count[m]
    for j in range(joints):
        joint_begin(S, j, tune)
    S.work_count[0] = awake
    S.work_count[2] = points
    S.work_count[3] = active
    sides_order(S, joints, count, active, awake)


@ti.func
def body_begin(S: ti.template(), b, tune: ti.template()):
    """Inertial target and first guess of an awake body (VBD's adaptive guess: only as much of gravity as it fell with last step)."""
    h = tune.h
    down = ti.Vector([0.0, -tune.gravity, 0.0])
    push = S.work_acceleration[b]
    v, q = S.body_v[b], S.body_q[b]
    inertia = S.body_inertia[b]
    R = ti.Matrix.cols([turn(q, ti.Vector([1.0, 0.0, 0.0])), turn(q, ti.Vector([0.0, 1.0, 0.0])), turn(q, ti.Vector([0.0, 0.0, 1.0]))])
    S.work_inertia[b] = R @ inertia @ R.transpose()
    L = S.body_spin[b] + h * S.work_twist[b]
    w = spin_inverse(S.body_inertia_inverse[b], q, L)
    for _ in range(3):  # implicit midpoint
        w = spin_inverse(S.body_inertia_inverse[b], turned(0.5 * h * w, q), L)
    S.work_y[b] = h * v + h * h * (down + push)
    S.work_yth[b] = noise_cut(h * w)
    fell = ti.f32(0.0)
    if tune.gravity > 0.0:
        fell = ti.min(ti.max((S.body_v_before[b][1] - v[1]) / (h * tune.gravity), 0.0), 1.0)
    S.work_dx[b] = h * v + h * h * (fell * down + push)
    S.work_dth[b] = S.work_yth[b]


@ti.func
def ldl(A):
    """LDL^T of a symmetric positive 3x3: (l10, l20, l21), (1/d0, 1/d1, 1/d2)."""
    i0 = 1.0 / A[0, 0]
    l10 = A[1, 0] * i0
    l20 = A[2, 0] * i0
    d1 = A[1, 1] - l10 * A[1, 0]
    i1 = 1.0 / d1
    e = A[2, 1] - l20 * A[1, 0]
    l21 = e * i1
    i2 = 1.0 / (A[2, 2] - l20 * A[2, 0] - l21 * e)
    return ti.Vector([l10, l20, l21]), ti.Vector([i0, i1, i2])


@ti.func
def ldl_solve(l, i, r):
    """Solution of the factored system."""
    y1 = r[1] - l[0] * r[0]
    y2 = r[2] - l[1] * r[0] - l[2] * y1
    x2 = y2 * i[2]
    x1 = y1 * i[1] - l[2] * x2
    return ti.Vector([r[0] * i[0] - l[0] * x1 - l[1] * x2, x1, x2])


@ti.func
def cross_matrix(r):
    """[r] with [r] p = r x p."""
    return ti.Matrix([[0.0, -r[2], r[1]], [r[2], 0.0, -r[0]], [-r[1], r[0], 0.0]])


@ti.func
def body_solve(S: ti.template(), tune: ti.template(), b, slot):
    """One block: move body b to the minimum of its own six unknowns. `slot`: where its sums are kept.

    A Newton step that closes a gap has not seen that contact's force; the dual update would then take twice the force needed, the next
    step open the gap again, and so on in turn, ending on a large force that nothing felt. Hence a second step."""
    closed = 1
    tries = 0
    while closed == 1 and tries < 2:
        body_newton(S, tune, b, slot)
        closed = 0
        if tries == 0:
            closed = gap_closed(S, b)
        tries += 1


@ti.func
def gap_closed(S: ti.template(), b):
    """1 if a point of body b that was free before its last step is pressed now."""
    closed = 0
    dx, dth = S.work_dx[b], S.work_dth[b]
    for s in range(S.work_start[b], S.work_start[b + 1]):
        r, is_b = S.work_side[s] >> 1, S.work_side[s] & 1
        x_o, th_o = motion(S, S.work_pair[r][1 - is_b])
        closed |= row_closes(S, r, is_b, dx, dth, x_o, th_o)
    return closed


@ti.func
def body_newton(S: ti.template(), tune: ti.template(), b, slot):
    """Gather the rows of body b and take one Newton step."""
    i2 = 1.0 / (tune.h * tune.h)
    m = S.body_mass[b] * i2
    dx, dth = S.work_dx[b], S.work_dth[b]
    g_x = m * (dx - S.work_y[b])
    g_a = i2 * (S.work_inertia[b] @ (dth - S.work_yth[b]))
    one = ti.Matrix.identity(ti.f32, 3)
    A = m * one  # translation
    B = ti.Matrix.zero(ti.f32, 3, 3)  # rotation by translation
    D = i2 * S.work_inertia[b]
    if S.work_start[b] < S.work_start[b + 1]:
        for i in ti.static(range(SUMS)):
            S.work_sum[slot + i] = ti.Vector([0.0, 0.0, 0.0, 0.0])
        for s in range(S.work_start[b], S.work_start[b + 1]):
            r, is_b = S.work_side[s] >> 1, S.work_side[s] & 1
            x_o, th_o = motion(S, S.work_pair[r][1 - is_b])
            sum_n, sum_m = row_gather(S, tune, r, is_b, slot, dx, dth, x_o, th_o)
            plane = S.work_plane[r]
            n = ti.Vector([plane[0], plane[1], plane[2]])
            A += sum_n * n.outer_product(n)
            B += sum_m.outer_product(n)
        g_x += sums(S, slot + PULL)
        g_a += sums(S, slot + TURN)
        A += total(S.work_sum[slot + SHEAR]) * one
        B += cross_matrix(sums(S, slot + LEVER))
        straight, mixed = sums(S, slot + SPIN), sums(S, slot + SPIN + 3)
        D += ti.Matrix([
            [straight[0], mixed[0], mixed[1]], [mixed[0], straight[1], mixed[2]], [mixed[1], mixed[2], straight[2]],
        ])
    k_r = rolling(S, tune, b, dth)
    g_a += k_r * dth
    D += k_r * one
    for s in range(S.work_joint_start[b], S.work_joint_start[b + 1]):
        side = S.work_joint_side[s]
        j = side >> 1
        is_b = side & 1
        sign = ti.f32(2 * is_b - 1)
        arm = S.row_arm_a[j]
        if is_b == 1:
            arm = S.row_arm_b[j]
        e = joint_now(S, j)
        F, K = joint_force(S, j, e)
        U = S.row_frame[j].transpose()
        f = sign * (U @ ti.Vector([F[0], F[1], F[2]]))
        g_x += f
        g_a += arm.cross(f) + sign * (U @ ti.Vector([F[3], F[4], F[5]]))
        for i in ti.static(range(3)):
            u = ti.Vector([U[0, i], U[1, i], U[2, i]])
            q = arm.cross(u)
            A += K[i] * u.outer_product(u)
            B += K[i] * q.outer_product(u)
            D += K[i] * q.outer_product(q) + K[i + 3] * u.outer_product(u)
    # eliminate the translation: C = D - B A^-1 B^T
    l, i = ldl(A)
    X = ti.Matrix.cols([ldl_solve(l, i, ti.Vector([B[k, 0], B[k, 1], B[k, 2]])) for k in ti.static(range(3))])
    C = D - B @ X
    g = ldl_solve(l, i, g_x)
    l_c, i_c = ldl(C)
    a = ldl_solve(l_c, i_c, g_a - B @ g)
    S.work_dth[b] = noise_cut(dth - a)
    S.work_dx[b] = noise_cut(dx - (g - X @ a))


@ti.func
def rolling(S: ti.template(), tune: ti.template(), b, dth):
    """[N m/rad] Secant of the rolling resistance: what presses on a rough piece holds it with a lever of tune.rolling against turning.

    In the sweeps and not on the velocity behind them: that stopped the spin that a step had gained, not the way it had gone, so that what
    should hold crept by h^2 times its angular acceleration in every step; of a heap of 4 000 hulls 3 to 6 % moved after 6 s."""
    return tune.rolling * S.work_pressed[b] / ti.max(dth.norm(), ROLL_STUCK)


@ti.func
def sums(S: ti.template(), at):
    """Three quads from `at` on, each added up."""
    return ti.Vector([total(S.work_sum[at]), total(S.work_sum[at + 1]), total(S.work_sum[at + 2])])


@ti.func
def noise_cut(p):
    """p without components below NOISE."""
    for i in ti.static(range(3)):
        if ti.abs(p[i]) < NOISE:
            p[i] = 0.0
    return p


@ti.func
def relative_motion(S: ti.template(), a, b, arm_a, arm_b):
    """d of sim/contact.py."""
    d = -(S.work_dx[a] + S.work_dth[a].cross(arm_a))
    if b >= 0:
        d += S.work_dx[b] + S.work_dth[b].cross(arm_b)
    return d


@ti.func
def joint_now(S: ti.template(), j):
    """e of joint j with the motion so far."""
    a, b = S.row_body[j][0], S.row_body[j][1]
    turned_by = -S.work_dth[a]
    if b >= 0:
        turned_by += S.work_dth[b]
    return joint_error(S, j, relative_motion(S, a, b, S.row_arm_a[j], S.row_arm_b[j]), turned_by)


@ti.func
def joint_dual(S: ti.template(), j):
    """Multipliers take the force."""
    e = joint_now(S, j)
    F, _ = joint_force(S, j, e)
    S.joint_force[j] = F


@ti.kernel
def solve_serial(S: SolvePack, iterations: ti.i32, awake: ti.i32, active: ti.i32, joints: ti.i32, tune: Tuning):
    """All sweeps in one task."""
    ti.loop_config(serialize=True)
    for _ in range(iterations):
        for k in range(awake):
            body_solve(S, tune, S.work_order[k], 0)
        for r in range(active):
            row_dual(S, tune, r)
        for j in range(joints):
            joint_dual(S, j)


@ti.kernel
def solve_colour(S: SolvePack, begin: ti.i32, end: ti.i32, tune: Tuning):
    """Bodies of one colour, in parallel."""
    for k in range(begin, end):
        b = S.work_order[k]
        body_solve(S, tune, b, b * SUMS)


@ti.kernel
def solve_dual(S: SolvePack, active: ti.i32, joints: ti.i32, tune: Tuning):
    """Dual update of all rows, in parallel."""
    for r in range(active):
        row_dual(S, tune, r)
    for j in range(joints):
        joint_dual(S, j)


@ti.kernel
def solve_forces(S: ForcePack, pairs: ti.i32, active: ti.i32, count: ti.i32):
    """What contacts do to fragments and bodies: rows in the order of their pairs, whether in the list or laid aside."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        for r in range(active):
            row_unpack(S, r, S.work_active[r])
        forces(S, pairs, count)


@ti.func
def forces(S: ti.template(), pairs, count):
    """The whole of solve_forces."""
    zero = ti.Vector([0.0, 0.0, 0.0])
    for o in range(count):
        S.work_next[o] = -1
        if S.rest_owner[o] == 2:
            S.work_next[o] = S.rest_start[o]
    for m in range(pairs):
        if S.contact_count[m] > 0:
            for side in ti.static(range(2)):
                if S.contact_pair[m][side] >= 0:
                    o = owner(S, S.hull_fragment[ti.max(S.contact_pair[m][side], 0)])
                    if S.rest_owner[o] > 0:
                        S.work_next[o] = S.rest_start[o]
    for f in range(count):
        S.fragment_force[f] = zero
        S.fragment_moment[f] = zero
        S.work_load[f] = zero
        S.work_load_moment[f] = zero
        S.work_load_size[f] = 0.0
    for f in range(count):
        o = owner(S, f)
        if S.rest_owner[o] > 0 and S.work_next[o] < 0:
            S.fragment_force[f] = S.rest_force[f]
            S.fragment_moment[f] = S.rest_moment[f]
            if o == S.fragment_body[f]:
                p = S.rest_pressing[o]
                S.work_load[o] = ti.Vector([p[0], p[1], p[2]])
                S.work_load_moment[o] = ti.Vector([p[3], p[4], p[5]])
                S.work_load_size[o] = p[6]
    for m in range(pairs):
        if S.contact_count[m] > 0:
            a, b = S.contact_body[m][0], S.contact_body[m][1]
            fa = S.hull_fragment[S.contact_pair[m][0]]
            fb = S.hull_fragment[ti.max(S.contact_pair[m][1], 0)]
            press_before(S, owner(S, fa), S.contact_pair[m])
            if b >= 0:
                press_before(S, owner(S, fb), S.contact_pair[m])
            for k in range(S.contact_count[m]):
                at = m * POINTS + k
                f_n = S.contact_force_n[at]
                on_b = -(f_n * S.contact_normal[m] + S.contact_force_t[at])
                push_fragment(S, fa, a, S.contact_arm_a[at], -on_b)
                if b >= 0:
                    push_fragment(S, fb, b, S.contact_arm_b[at], on_b)
    for o in range(count):
        press_before(S, o, ti.Vector([2147483647, 0]))


@ti.func
def owner(S: ti.template(), f):
    """That of sim/rest.py for a fragment."""
    o = S.fragment_body[f]
    if S.body_state[o] == FIXED:
        o = f
    return o


@ti.func
def press_before(S: ti.template(), o, pair):
    """Add the points laid aside of an owner whose pairs come before this one, if they are not all in its sums."""
    at = S.work_next[o]
    if S.rest_owner[o] > 0 and at >= 0:
        end = S.rest_start[o + 1]
        while at < end and (S.rest_key[at][0] < pair[0] or (S.rest_key[at][0] == pair[0] and S.rest_key[at][1] < pair[1])):
            if S.rest_live[S.rest_source[at]] == 1:
                f, p = S.rest_fragment[at], S.rest_load[at]
                b = S.fragment_body[f]
                force = ti.Vector([p[0], p[1], p[2]])
                S.fragment_force[f] += force
                S.fragment_moment[f] += ti.Vector([p[3], p[4], p[5]])
                S.work_load[b] += force
                S.work_load_moment[b] += ti.Vector([p[6], p[7], p[8]])
                S.work_load_size[b] += p[9]
            at += 1
        S.work_next[o] = at


@ti.kernel
def solve_end(S: EndPack, pairs: ti.i32, joints: ti.i32, count: ti.i32, tune: Tuning):
    """Slip, crushing, forces of joints, velocities and poses, energy, sleep. The forces of contacts are there (`solve_forces`)."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        finish(S, tune, pairs, joints, count)


@ti.func
def finish(S: ti.template(), tune: ti.template(), pairs, joints, count):
    """The whole of solve_end."""
    h = tune.h
    zero = ti.Vector([0.0, 0.0, 0.0])
    for m in range(pairs):
        crushed = ti.f32(0.0)
        for k in range(S.contact_count[m]):
            at = m * POINTS + k
            a, b = S.contact_body[m][0], S.contact_body[m][1]
            n = S.contact_normal[m]
            f_n, f_t = S.contact_force_n[at], S.contact_force_t[at]
            d = relative_motion(S, a, b, S.contact_arm_a[at], S.contact_arm_b[at])
            slip = S.contact_slip[at] + d - n.dot(d) * n
            held = f_t.norm() < 0.999 * S.contact_friction[m] * -f_n and slip.norm() < tune.stick
            S.contact_slip[at] = slip if held else zero
            c_n = S.contact_separation[at]
            if c_n < 0.0:
                c_n *= 1.0 - tune.alpha
            c_n += n.dot(d)
            share = crush_share(S.contact_separation[at], n.dot(S.contact_approach[at]), tune)
            yields = crush_yields(f_n, c_n, share, S.contact_crush[m], S.contact_crushed[m], tune)
            if yields and rests(S, a) + rests(S, b) < 2:  # what stays where it is crushes nothing further
                crushed = ti.max(crushed, -(S.contact_separation[at] + n.dot(d)))
        S.contact_crushing[m] = crushed
        if crushed > 0.0:
            S.contact_crushed[m] += crushed
            S.fragment_crush[S.hull_fragment[S.contact_pair[m][S.contact_yields[m]]]][1] += crushed
    taken = ti.f64(0.0)
    elastic = ti.f64(0.0)
    for j in range(joints):
        e = joint_now(S, j)
        F = S.joint_force[j]
        on_b, twist = joint_load(S, j)
        a, b = S.row_body[j][0], S.row_body[j][1]
        push_fragment(S, S.joint_fragment[j][0], a, S.row_arm_a[j], -on_b)
        S.fragment_moment[S.joint_fragment[j][0]] -= twist
        S.work_load_moment[a] -= twist
        if b >= 0:
            push_fragment(S, S.joint_fragment[j][1], b, S.row_arm_b[j], on_b)
            S.fragment_moment[S.joint_fragment[j][1]] += twist
            S.work_load_moment[b] += twist
        taken += joint_power(S, j, 0.5 * h)
        joint_return(S, j, e)
        for i in ti.static(range(6)):
            elastic += ti.cast(0.5 * F[i] * F[i] / S.joint_stiffness[j][i], ti.f64)
    integrator = ti.f64(0.0)
    kinetic = ti.f64(0.0)
    external = ti.f64(0.0)
    rolled = ti.f64(0.0)
    for b in range(count):
        if S.body_state[b] == AWAKE:
            dx, dth = S.work_dx[b], S.work_dth[b]
            angle = dth.norm()
            if angle > tune.turn_max:
                dth *= tune.turn_max / angle
            mass = S.body_mass[b]
            v0, v1 = S.body_v[b], dx / h
            push = ti.Vector([0.0, -tune.gravity, 0.0]) + S.work_acceleration[b]
            w0 = S.body_w[b]
            L0 = S.body_spin[b]
            L1 = L0 + S.work_inertia[b] @ ((dth - S.work_yth[b]) / h) + h * S.work_twist[b]
            q = turned(dth, S.body_q[b])
            w1 = spin_inverse(S.body_inertia_inverse[b], q, L1)
            integrator += ti.cast(0.5 * h * mass * push.dot(v1 - v0), ti.f64)
            kinetic += ti.cast(0.5 * mass * (v1 - v0).dot(v1 + v0) + 0.5 * (L1.dot(w1) - L0.dot(w0)), ti.f64)
            rolled += ti.cast(0.5 * h * rolling(S, tune, b, S.work_dth[b]) * S.work_dth[b].dot(w0 + w1), ti.f64)
            external += ti.cast(mass * S.work_acceleration[b].dot(dx) + S.work_twist[b].dot(dth), ti.f64)
            S.body_x[b] += ti.cast(dx, ti.f64)
            S.body_q[b] = q
            S.body_v_before[b] = v0
            S.body_v[b] = v1
            S.body_w[b] = w1
            S.body_spin[b] = L1
    for j in range(joints):
        taken += joint_power(S, j, 0.5 * h)
    friction = ti.f64(0.0)
    pressed = ti.f64(0.0)
    for m in range(pairs):
        a, b = S.contact_body[m][0], S.contact_body[m][1]
        n = S.contact_normal[m]
        for k in range(S.contact_count[m]):
            at = m * POINTS + k
            u = -(S.body_v[a] + S.body_w[a].cross(S.contact_arm_a[at]))
            if b >= 0:
                u += S.body_v[b] + S.body_w[b].cross(S.contact_arm_b[at])
            mean = 0.5 * h * (u + S.contact_approach[at])
            friction += ti.cast(S.contact_force_t[at].dot(mean), ti.f64)
            pressed += ti.cast(S.contact_force_n[at] * n.dot(mean), ti.f64)
    for b in range(count):
        if S.body_state[b] == AWAKE:
            calm_count(S, b, tune)
    sleepers_choose(S, pairs, joints, count, tune)
    S.work_term[0] = friction + rolled
    S.work_term[1] = pressed
    S.work_term[2] = integrator
    S.work_term[3] = taken
    S.work_term[4] = elastic
    S.work_term[5] = external
    S.work_term[6] = kinetic


@ti.func
def joint_load(S: ti.template(), j):
    """Force and moment of joint j on its b; on a they are the opposite."""
    U = S.row_frame[j].transpose()
    F = S.joint_force[j]
    return -(U @ ti.Vector([F[0], F[1], F[2]])), -(U @ ti.Vector([F[3], F[4], F[5]]))


@ti.func
def rests(S: ti.template(), b):
    """1 for the ground and for bodies that do not move in this step."""
    still = 1
    if b >= 0:
        still = ti.cast(not moves(S, ti.max(b, 0)), ti.i32)
    return still


@ti.func
def joint_power(S: ti.template(), j, h):
    """Energy that joint j takes from its bodies in h seconds at the velocities they have now."""
    a, b = S.row_body[j][0], S.row_body[j][1]
    u = -(S.body_v[a] + S.body_w[a].cross(S.row_arm_a[j]))
    w = -S.body_w[a]
    if b >= 0:
        u += S.body_v[b] + S.body_w[b].cross(S.row_arm_b[j])
        w += S.body_w[b]
    u = S.row_frame[j] @ u
    w = S.row_frame[j] @ w
    F = S.joint_force[j]
    return ti.cast(h * (F[0] * u[0] + F[1] * u[1] + F[2] * u[2] + F[3] * w[0] + F[4] * w[1] + F[5] * w[2]), ti.f64)


@ti.func
def push_fragment(S: ti.template(), f, b, arm, force):
    """Add a force at `arm` from body b's centre to fragment f and to b."""
    S.fragment_force[f] += force
    S.fragment_moment[f] += (arm - turn(S.body_q[b], S.fragment_offset[f])).cross(force)
    S.work_load[b] += force
    S.work_load_moment[b] += arm.cross(force)
    S.work_load_size[b] += force.norm()
