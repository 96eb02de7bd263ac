# pyright: basic, reportInvalidTypeForm=false, reportOptionalCall=false, reportIndexIssue=false
"""Contact points chosen once more within a step, where the sweeps have moved two hulls into each other beside those they had.

In: contact rows, bodies after half of the sweeps. Out: new points in the rows of such pairs, for the sweeps that follow.

A hit turns what it stops: in the rest of the step another corner comes down, or a round piece rolls on to its next face, over which the
start of the step saw nothing. The sweeps alone know that turn. Every deep overlap of falling heaps was of this kind: the four points of
the row ended at the surface (or, as arms are frozen in the step, a little above it), others a quarter of a piece under it.

    x_0, x_1     poses at the start of the step, and after the sweeps so far
    C(x)         = C(x_1) + n . J (x - x_1): a point's separation at the start becomes C(x_1) - n . J (x_1 - x_0)
    r            arms of x_1, moved so that both bodies take their impulse at one point of x_0, or two free bodies would gain spin

Where that separation is a deeper overlap than the step began with, the axis is not that on which the two met (a corner that slides in over
an edge is nearer to a face it did not come through), and a row along it would hold the overlap: the pair is looked at half-way instead.
"""

import taichi as ti

from sim.broadphase import hull_turn, moves, turn, turn_back
from sim.clip import CANDIDATES, keep_candidate, thin
from sim.colour import sides_order
from sim.launch import compiled_lightly
from sim.layout import AWAKE, EDGES, POINTS, Tuning, pack_type
from sim.narrowphase import LANES, TASK, axis_normal, law_fill, point_fresh, points_make, separate
from sim.quad import FORCE_N, FORCE_T, PENALTY_N, PENALTY_T, QUADS, SLIP, row_pack
from sim.sweep import turned

MIDDLE = 0.5  # of the way so far: where a pair is looked at that did not meet on the axis found at the end of it
QUIET = 0.1  # of the slack: bodies that have moved by less are taken as they were
DEEP = 0.5  # of the slack: overlap that is worth new points
NOTHING, RENEWED, WAITS = 0, 1, 2  # what a look at a pair found
ChoosePack = pack_type(
    body="x q v w radius state", fragment="body offset", hull="fragment", contact="pair body count", grid="ahead",
    work="dx dth row look found count",
)
AheadPack = pack_type(
    body="x q v w radius state", fragment="body offset", hull="fragment span vertex normal vertex_now normal_now turned centre lower upper",
    grid="ahead", work="dx dth",
)
RenewPack = pack_type(
    body="x q v w mass radius state", fragment="body offset friction crush",
    hull="fragment span vertex_now normal_now offset loop_start loop edge lower upper",
    clip="point separation feature edge beyond arc corner side height",
    contact="pair body count normal friction gap crush crushed crushing yields axis arm_a arm_b separation feature local slip force_n "
    "force_t penalty approach twist apart",
    last="count feature force_n", work="dx dth quad row look found",
)
OrderPack = pack_type(
    body="state", contact="body count normal friction crush crushed arm_a arm_b separation slip force_n force_t penalty approach",
    row="body", work="start joint_start colour order colour_start count side joint_side active row look found quad plane law pair",
)


@ti.func
def ahead(S: ti.template(), b, part, tune: ti.template()):
    """`part` of the displacement and rotation of body b so far; none of what has hardly moved."""
    x, th = ti.Vector([0.0, 0.0, 0.0]), ti.Vector([0.0, 0.0, 0.0])
    if moves(S, b) and body_way(S, b) > QUIET * tune.slack:
        x, th = part * S.work_dx[b], part * S.work_dth[b]
    return x, th


@ti.func
def body_way(S: ti.template(), b):
    """[m] that no point of body b has moved beyond so far."""
    return S.work_dx[b].norm() + S.work_dth[b].norm() * S.body_radius[b]


@ti.func
def pair_ahead(S: ti.template(), a, b, ba, bb, part, tune: ti.template()):
    """Rotations of two bodies ahead, of fragment a from its body, of b from a, and how far [m] the two went against each other."""
    fa, fb = S.hull_fragment[a], S.hull_fragment[b]
    x_a, th_a = ahead(S, ba, part, tune)
    x_b, th_b = ahead(S, bb, part, tune)
    q_a, q_b = turned(th_a, S.body_q[ba]), turned(th_b, S.body_q[bb])
    from_a = turn(q_a, S.fragment_offset[fa])
    between = ti.cast(S.body_x[bb] - S.body_x[ba], ti.f32)
    d = between + x_b - x_a + turn(q_b, S.fragment_offset[fb]) - from_a
    d_0 = between + turn(S.body_q[bb], S.fragment_offset[fb]) - turn(S.body_q[ba], S.fragment_offset[fa])
    way = (turn_back(q_a, d) - turn_back(S.body_q[ba], d_0)).norm() + (th_a - th_b).norm() * tune.length
    return q_a, from_a, d, way


@ti.kernel
def rows_choose(S: ChoosePack, hulls: ti.i32, pairs: ti.i32, tune: Tuning):
    """List the pairs whose hulls have moved against each other by more than the slack, and mark the hulls."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        for c in range(hulls):
            S.grid_ahead[c] = 0
        looks = 0
        for m in range(pairs):
            a, b = S.contact_pair[m][0], S.contact_pair[m][1]
            ba, bb = S.contact_body[m][0], S.contact_body[m][1]
            look = b >= 0 and (S.work_row[m] >= 0 or (S.contact_count[m] == 0 and (moves(S, ba) or moves(S, bb))))
            if look and body_way(S, ba) + body_way(S, bb) > tune.slack:
                _q, _from, _d, way = pair_ahead(S, a, b, ba, bb, 1.0, tune)
                if way > tune.slack:
                    S.work_look[looks] = m
                    S.work_found[looks] = NOTHING
                    S.grid_ahead[a] = 1
                    S.grid_ahead[b] = 1
                    looks += 1
        S.work_count[5] = looks


@ti.kernel
def hulls_ahead(S: AheadPack, hulls: ti.i32, part: ti.f32, tune: Tuning):
    """Vertices, normals and boxes of marked hulls where the sweeps have moved them; `hulls_turn` finds them changed in the next step."""
    for c in range(hulls):
        if S.grid_ahead[c] == 1:
            f = S.hull_fragment[c]
            b = S.fragment_body[f]
            x, th = ahead(S, b, part, tune)
            q = turned(th, S.body_q[b])
            centre = S.body_x[b] + ti.cast(x, ti.f64) + ti.cast(turn(q, S.fragment_offset[f]), ti.f64)
            S.hull_turned[c] = q
            S.hull_centre[c] = centre
            hull_turn(S, c, q, ti.cast(centre, ti.f32))


@compiled_lightly
@ti.kernel
def rows_renew(S: RenewPack, looks: ti.i32, part: ti.f32, tune: Tuning):
    """Look at every pair of the list; with part < 1 at those that wait for it."""
    lanes = ti.min(looks, LANES)
    for i in range(lanes * TASK):
        lane = i // TASK
        if i == lane * TASK:
            for step in range((looks - lane + lanes - 1) // lanes):
                k = lane + step * lanes
                if part == 1.0 or S.work_found[k] == WAITS:
                    S.work_found[k] = pair_look(S, tune, lane, S.work_look[k], part)


@ti.kernel
def rows_order(S: OrderPack, looks: ti.i32, joints: ti.i32, count: ti.i32, tune: Tuning):
    """What the sweeps read of renewed rows; those of pairs that had none come behind the others, and give other colours."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        active = S.work_count[3]
        waiting = 0
        for k in range(looks):
            if S.work_found[k] == RENEWED:
                m = S.work_look[k]
                r = S.work_row[m]
                if r < 0:
                    r = active
                    S.work_row[m] = r
                    S.work_active[r] = m
                    S.work_count[2] += S.contact_count[m]
                    active += 1
                row_pack(S, tune, r, m)
                S.work_found[k] = NOTHING
            waiting += ti.cast(S.work_found[k] == WAITS, ti.i32)
        if active > S.work_count[3]:
            S.work_count[3] = active
            sides_order(S, joints, count, active, S.work_count[0])
        S.work_count[6] = waiting


@ti.func
def pair_look(S: ti.template(), tune: ti.template(), lane, m, part):
    """New points for row m if its hulls overlap, or, half-way, for the rest of the way; what was found."""
    found = NOTHING
    a, b = S.contact_pair[m][0], S.contact_pair[m][1]
    ba, bb = S.contact_body[m][0], S.contact_body[m][1]
    overlap = ti.min(S.hull_upper[a] - S.hull_lower[b], S.hull_upper[b] - S.hull_lower[a]).min()
    if part < 1.0 or overlap > DEEP * tune.slack:
        q_a, from_a, d, way = pair_ahead(S, a, b, ba, bb, part, tune)
        margin = tune.slack
        least = -DEEP * tune.slack
        if part < 1.0:
            margin += way
            least = margin
        centre = ti.cast(S.body_x[ba], ti.f32) + ahead(S, ba, part, tune)[0] + from_a
        apart, s, axis, ia, ib, ne = separate(S, lane, a, b, d, 0.0 * d, centre, least, S.contact_axis[m], tune)
        if not apart:
            normal = axis_normal(S, axis, ia, ne)
            count = points_make(S, lane, a, b, d, -centre, -centre, s, axis, ia, ib, normal, margin, True, tune)
            found = row_renew(S, tune, lane, m, count, normal, axis, q_a, from_a, part)
    return found


@ti.func
def row_renew(S: ti.template(), tune: ti.template(), lane, m, count, normal, axis, q_a, from_a, part):
    """Row m with the lane's points and those that press; WAITS if the two did not meet along this axis."""
    a, b = S.contact_pair[m][0], S.contact_pair[m][1]
    ba, bb = S.contact_body[m][0], S.contact_body[m][1]
    r = S.work_row[m]
    x_a, th_a = ahead(S, ba, part, tune)
    x_b, th_b = ahead(S, bb, part, tune)
    if r < 0:
        fa = S.hull_fragment[a]
        law_fill(S, m, fa, b, tune)
        S.contact_gap[m] = 0.0
        S.contact_crushed[m] = 0.0
        S.contact_friction[m] = ti.sqrt(S.fragment_friction[fa] * S.fragment_friction[S.hull_fragment[b]])
    given = S.contact_gap[m] + S.contact_crushed[m]
    began = ti.f32(0.0)  # overlap at the start of the step
    for k in range(S.contact_count[m]):
        at = m * POINTS + k
        began = ti.max(began, given - S.contact_separation[at])
        if of_point(S, r * QUADS + FORCE_N, k) < 0.0:
            gone = x_b + th_b.cross(S.contact_arm_b[at]) - x_a - th_a.cross(S.contact_arm_a[at])
            s = S.contact_separation[at] - given + normal.dot(gone)
            count = keep_candidate(S, lane, count, turn(q_a, S.contact_local[at]), s, S.contact_feature[at], tune.merge)
    count = thin(S, lane, count, normal, 0.1 * tune.face_bias, tune.slack, -1, given)
    share = S.body_mass[ba] / (S.body_mass[ba] + S.body_mass[bb])  # as in row_fill of sim/narrowphase.py
    if S.body_state[ba] != AWAKE:
        share = 1.0
    elif S.body_state[bb] != AWAKE:
        share = 0.0
    arm = from_a - share * (x_b - x_a)
    between = ti.cast(S.body_x[bb] - S.body_x[ba], ti.f32)
    deepest = ti.f32(0.0)
    for k in range(count):
        at = lane * CANDIDATES + k
        p = S.clip_point[at] + arm
        S.clip_separation[at] -= normal.dot(x_b + th_b.cross(p - between) - x_a - th_a.cross(p))
        deepest = ti.max(deepest, -S.clip_separation[at])
    found = NOTHING
    if part == 1.0 and deepest > began + DEEP * tune.slack:
        found = WAITS
    elif count > 0:
        found = RENEWED
        row_write(S, tune, lane, r, m, count, normal, arm, between, q_a)
        S.contact_axis[m] = axis
    return found


@ti.func
def row_write(S: ti.template(), tune: ti.template(), lane, r, m, count, normal, arm, between, q_a):
    """The lane's points into row m, with what its old ones bear."""
    ba, bb = S.contact_body[m][0], S.contact_body[m][1]
    taken = 0  # bits of the old points already handed on
    for k in range(count):
        place = turn_back(q_a, S.clip_point[lane * CANDIDATES + k])
        match = -1
        nearest = 4.0 * tune.merge * tune.merge
        for o in range(S.contact_count[m]):
            if (taken >> o) & 1 == 0:
                distance = (S.contact_local[m * POINTS + o] - place).norm_sqr()
                if S.contact_feature[m * POINTS + o] == S.clip_feature[lane * CANDIDATES + k]:
                    distance *= 1e-3
                if distance < nearest:
                    nearest = distance
                    match = o
        if match >= 0:
            taken |= 1 << match
        S.clip_edge[lane * EDGES + k] = match
    base = r * QUADS  # still of the old points
    for k in range(count):
        at = m * POINTS + k
        p = S.clip_point[lane * CANDIDATES + k]
        arm_a, arm_b = p + arm, p + arm - between
        velocity = S.body_v[bb] + S.body_w[bb].cross(arm_b) - S.body_v[ba] - S.body_w[ba].cross(arm_a)
        S.contact_arm_a[at], S.contact_arm_b[at], S.contact_local[at] = arm_a, arm_b, turn_back(q_a, p)
        S.contact_approach[at] = velocity
        S.contact_apart[at] = 0.0
        S.contact_feature[at] = S.clip_feature[lane * CANDIDATES + k]
        S.contact_separation[at] = S.clip_separation[lane * CANDIDATES + k] + S.contact_gap[m] + S.contact_crushed[m]
        o = S.clip_edge[lane * EDGES + k]
        if o >= 0:
            force = ti.Vector([of_point(S, base + FORCE_T + i, o) for i in ti.static(range(3))])
            slip = ti.Vector([of_point(S, base + SLIP + i, o) for i in ti.static(range(3))]) / (1.0 - tune.alpha)
            S.contact_force_n[at] = of_point(S, base + FORCE_N, o)
            S.contact_force_t[at] = force - force.dot(normal) * normal
            S.contact_slip[at] = slip - slip.dot(normal) * normal
            S.contact_penalty[at] = ti.Vector([of_point(S, base + PENALTY_N, o), of_point(S, base + PENALTY_T, o)])
        else:
            point_fresh(S, at, ba, bb, count, normal.dot(velocity), tune)
    S.contact_count[m] = count
    S.contact_normal[m] = normal
    S.contact_twist[m] = ti.Vector([0.0, 0.0, 0.0, 0.0])  # not to be used again: made for where the hulls will not be


@ti.func
def of_point(S: ti.template(), quad, k):
    """What a quad has of point k. Read as a whole: Taichi 1.7 fails to compile indices into quads that another function writes."""
    v = S.work_quad[quad]
    out = v[0]
    for i in ti.static(range(1, POINTS)):
        if k == i:
            out = v[i]
    return out
