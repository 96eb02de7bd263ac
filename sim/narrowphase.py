# pyright: basic, reportInvalidTypeForm=false, reportOptionalCall=false, reportIndexIssue=false
"""Contact points of two convex hulls, or of a hull and the ground: separating axes, then clipping (sim/clip.py), at most four points.

In: pairs, turned hulls. Out: rows of the contact table: normal, points, separations, features. Reference: separating-axis
test with the Gauss-map edge criterion (Gregorius, "The Separating Axis Test", GDC 2013). Points carry last step's multipliers by
feature, else by nearest place on the hull.

All geometry is relative to the centre of fragment a, in f32: no scene coordinate enters. Speculative: points up to `slack` plus the
relative motion of the step away are kept, so that what flies fast is stopped at the surface. Not handled: hulls that start
a step wholly inside one another are pushed out along the nearest face, which need not be where they came in.
"""

import taichi as ti

from sim.broadphase import fragment_centre, fragment_sweep, turn, turn_back
from sim.clip import CANDIDATES, clip_hull, keep_candidate, thin
from sim.crush import strength_left
from sim.joint import quaternion_product
from sim.launch import compiled_lightly
from sim.layout import AWAKE, EDGES, POINTS, Tuning, pack_type

TASK = 512  # iterations that Taichi hands to a thread at once on a CPU, whatever block_dim says: a loop over the lanes alone had one thread
LANES = 64  # pairs are dealt to this many loops, each with its own scratch
ADVANCES = 3  # separating-axis tests of a pair that closes in, at most
SATURATED = 1e-3  # share by which a friction force that slides may miss its bound
QUIET = 0.25  # of the slack in a step: what moves by more is met by another manifold in the next
ADVANCE = 0.5  # of the slack: shorter ways are not worth another test
ARCS = 9 * ((EDGES + 3) // 4)  # normals of an edge's two faces and their product, of four edges side by side
ManifoldPack = pack_type(
    body="x q v w mass state", fragment="body offset friction crush",
    hull="fragment span vertex_now normal_now offset loop_start loop edge lower upper",
    grid="source keep", clip="point separation feature edge beyond arc corner side height",
    last="count normal friction gap crush crushed yields axis arm_a arm_b separation feature local slip force_n force_t penalty "
    "facing between twist apart",
    contact="pair body count normal friction gap crush crushed crushing yields axis arm_a arm_b separation feature local slip force_n "
    "force_t penalty approach facing between twist apart",
)


@ti.func
def support_below(S: ti.template(), c, n):
    """Vertex of hull c with the least n . p."""
    best = ti.f32(1e30)
    at = -1
    for k in range(S.hull_span[c][0], S.hull_span[c + 1][0]):
        s = n.dot(S.hull_vertex_now[k])
        if s < best:
            best = s
            at = k
    return at


@ti.func
def face_separation(S: ti.template(), p, c, d, floor):
    """Distance of hull c (its fragment at d from that of face p) in front of face p; some value below `floor` if it is below."""
    n = S.hull_normal_now[p]
    shift = n.dot(d) - S.hull_offset[p]
    s = ti.f32(1e30)
    k = S.hull_span[c][0]
    end = S.hull_span[c + 1][0]
    while k < end:
        s = ti.min(s, n.dot(S.hull_vertex_now[k]) + shift)
        k += 1
        if s < floor:
            k = end
    return s


@ti.func
def face_holds(S: ti.template(), p, own, c, d, margin, bias):
    """Separation of hull c in front of face p of `own`, and whether no axis at all has one larger by more than `bias`.

    A point of c that lies t deep in `own` bounds every axis: sep(m) <= m . q - h(m) <= -dist(q, surface) = -t. And one that is t above the
    face, over it, has the distance t from all of `own`. So a corner of c that is no deeper under any other face than c is under p, or
    that stands over p, settles the matter with one look at each face; where none does (crossing beams, edge on edge), nothing is said."""
    n = S.hull_normal_now[p]
    shift = n.dot(d) - S.hull_offset[p]
    first, end = S.hull_span[c][0], S.hull_span[c + 1][0]
    s = ti.f32(1e30)
    for k in range(first, end):
        s = ti.min(s, n.dot(S.hull_vertex_now[k]) + shift)
    holds = False
    if s <= margin:
        k = first
        while k < end and not holds:
            height = n.dot(S.hull_vertex_now[k]) + shift
            if height <= s + bias:
                q = S.hull_vertex_now[k] + d - ti.max(height, 0.0) * n
                f, last = S.hull_span[own][1], S.hull_span[own + 1][1]
                while f < last and (f == p or S.hull_normal_now[f].dot(q) - S.hull_offset[f] <= ti.min(s + bias, 0.0)):
                    f += 1
                holds = f == last
            k += 1
    return s, holds


@ti.func
def best_face(S: ti.template(), own, other, d, first, stop):
    """Face of `own` with the largest separation from `other`, `first` tried first; the search ends beyond `stop`."""
    best = ti.f32(-1e30)
    face = first
    if first >= 0:
        best = face_separation(S, first, other, d, best)
    p = S.hull_span[own][1]
    end = S.hull_span[own + 1][1]
    while p < end and best <= stop:
        s = face_separation(S, p, other, d, best)
        if s > best or (s == best and p < face):
            best = s
            face = p
        p += 1
    return best, face


@ti.func
def beyond(p, lower, upper, n, least):
    """Bits of what a point lies outside of: a box, and the half-space from `least` on along n. A segment with a common bit is as well."""
    bits = ti.cast(n.dot(p) < least, ti.i32)
    for i in ti.static(range(3)):
        bits |= (ti.cast(p[i] < lower[i], ti.i32) << (2 * i + 1)) | (ti.cast(p[i] > upper[i], ti.i32) << (2 * i + 2))
    return bits


@ti.func
def along(S: ti.template(), at, n):
    """n . p of four vectors whose components lie at `at`."""
    return S.clip_arc[at] * n[0] + S.clip_arc[at + 1] * n[1] + S.clip_arc[at + 2] * n[2]


@ti.func
def best_edges(S: ti.template(), lane, a, b, d, shift, centre, floor, wide, n_f, far_a, near_b):
    """Pair of edges with the largest separation above `floor`: separation, axis, edges. Frame: centre of a's fragment.

    Touching points lie where both boxes, widened, overlap, and between the two along the best face's axis n_f, where a ends at far_a and
    b begins at near_b; only pairs whose Gauss arcs cross are faces of the Minkowski sum.
    """
    best = floor
    axis = ti.Vector([0.0, 0.0, 0.0])
    edge_a = -1
    edge_b = -1
    lower = ti.max(S.hull_lower[a], S.hull_lower[b] + shift) - centre - wide
    upper = ti.min(S.hull_upper[a], S.hull_upper[b] + shift) - centre + wide
    base = lane * EDGES
    first = S.hull_span[b][0]
    for k in range(first, S.hull_span[b + 1][0]):
        S.clip_beyond[base + k - first] = beyond(S.hull_vertex_now[k] + d, lower, upper, -n_f, -far_a - wide)
    near = 0
    for j in range(S.hull_span[b][2], S.hull_span[b + 1][2]):
        e = S.hull_edge[j]
        if S.clip_beyond[base + e[0] - first] & S.clip_beyond[base + e[1] - first] == 0:
            at = lane * ARCS + near // 4 * 9
            if near % 4 == 0:
                for i in ti.static(range(9)):
                    S.clip_arc[at + i] = ti.Vector([0.0, 0.0, 0.0, 0.0])
            nb, mb = -S.hull_normal_now[e[2]], -S.hull_normal_now[e[3]]
            arc_b = mb.cross(nb)
            for i in ti.static(range(3)):
                S.clip_arc[at + i][near % 4] = nb[i]
                S.clip_arc[at + 3 + i][near % 4] = mb[i]
                S.clip_arc[at + 6 + i][near % 4] = arc_b[i]
            S.clip_edge[base + near] = j
            near += 1
    first = S.hull_span[a][0]
    for k in range(first, S.hull_span[a + 1][0]):
        S.clip_beyond[base + k - first] = beyond(S.hull_vertex_now[k], lower, upper, n_f, near_b - wide)
    for i in range(S.hull_span[a][2], S.hull_span[a + 1][2]):
        ea = S.hull_edge[i]
        if near > 0 and S.clip_beyond[base + ea[0] - first] & S.clip_beyond[base + ea[1] - first] == 0:
            pa = S.hull_vertex_now[ea[0]]
            qa = S.hull_vertex_now[ea[1]]
            ua = qa - pa
            na, ma = S.hull_normal_now[ea[2]], S.hull_normal_now[ea[3]]
            arc_a = ma.cross(na)
            for g in range((near + 3) // 4):
                at = lane * ARCS + 9 * g
                cba = along(S, at, arc_a)
                bdc = along(S, at + 6, ma)
                crossing = ti.max(cba * along(S, at + 3, arc_a), along(S, at + 6, na) * bdc, -cba * bdc)  # negative where two arcs cross
                if crossing.min() < 0.0:
                    for k in ti.static(range(4)):
                        if crossing[k] < 0.0:
                            j = S.clip_edge[base + 4 * g + k]
                            eb = S.hull_edge[j]
                            pb = S.hull_vertex_now[eb[0]] + d
                            ub = S.hull_vertex_now[eb[1]] + d - pb
                            n = ua.cross(ub)
                            length = n.norm()
                            if length > 1e-3 * ua.norm() * ub.norm():
                                n = n / length
                                if n.dot(na + ma) < 0.0:  # outward of a
                                    n = -n
                                s = n.dot(pb - pa)
                                if s > best:
                                    best = s
                                    axis = n
                                    edge_a = i
                                    edge_b = j
    return best, axis, edge_a, edge_b


@ti.func
def facing(S: ti.template(), c, n):
    """Face of hull c most opposed to n."""
    best = ti.f32(1e30)
    face = -1
    for p in range(S.hull_span[c][1], S.hull_span[c + 1][1]):
        s = n.dot(S.hull_normal_now[p])
        if s < best - 1e-4:
            best = s
            face = p
    return face


@ti.func
def edge_point(S: ti.template(), i, j, d):
    """Midpoint between the nearest points of edge i (of a) and edge j (of b, at d)."""
    pa = S.hull_vertex_now[S.hull_edge[i][0]]
    ua = S.hull_vertex_now[S.hull_edge[i][1]] - pa
    pb = S.hull_vertex_now[S.hull_edge[j][0]] + d
    ub = S.hull_vertex_now[S.hull_edge[j][1]] + d - pb
    r = pb - pa
    aa, ab, bb = ua.dot(ua), ua.dot(ub), ub.dot(ub)
    det = ti.max(aa * bb - ab * ab, 1e-20)
    s = ti.min(ti.max((r.dot(ua) * bb - r.dot(ub) * ab) / det, 0.0), 1.0)
    t = ti.min(ti.max((s * ab - r.dot(ub)) / bb, 0.0), 1.0)
    return 0.5 * (pa + s * ua + pb + t * ub)


@ti.func
def axis_normal(S: ti.template(), axis, ia, ne):
    """Normal from a to b."""
    n = ne
    if ia < 0:
        n = S.hull_normal_now[axis // 2]
        if axis % 2 == 1:
            n = -n
    return n


@ti.func
def separate(S: ti.template(), lane, a, b, d, shift, centre, margin, tried, tune: ti.template()):
    """Separating axes of two hulls, b's fragment at d from a's, `shift` of that since its box was made.

    Apart by more than the margin, separation, axis to try next time (2 face of a, 2 face of b + 1), edges (-1: that face), their axis."""
    axis = tried
    first_a = -1
    first_b = -1
    other, at = b, d
    if tried >= 0:
        if tried % 2 == 1:
            other, at = a, -d
            first_b = tried // 2
        else:
            first_a = tried // 2
    apart = False
    holds = False
    s = ti.f32(0.0)
    ne = ti.Vector([0.0, 1.0, 0.0])
    ia = -1
    ib = -1
    if tried >= 0:
        own = a + b - other
        s, holds = face_holds(S, tried // 2, own, other, at, margin, tune.face_bias)
        apart = s > margin
    if not apart and not holds:
        sa, fa = best_face(S, a, b, d, first_a, margin)
        axis = 2 * fa
        apart = sa > margin
        if not apart:
            sb, fb = best_face(S, b, a, -d, first_b, margin)
            apart = sb > margin
            s = sa
            if apart or sb > sa + tune.face_bias:
                axis = 2 * fb + 1
                s = sb
            if not apart:
                n_f = axis_normal(S, axis, -1, ne)
                far_a = S.hull_offset[fa]
                if axis % 2 == 0:
                    _, holds = face_holds(S, fa, a, b, d, margin, tune.face_bias)
                else:
                    _, holds = face_holds(S, fb, b, a, -d, margin, tune.face_bias)
                    far_a = n_f.dot(d) - S.hull_offset[fb] - s
                if not holds:
                    se, ne, ia, ib = best_edges(
                        S, lane, a, b, d, shift, centre, s + 2.0 * tune.face_bias, margin + ti.max(-s, 0.0), n_f, far_a, far_a + s
                    )
                    if ia >= 0:
                        apart = se > margin
                        s = se
    return apart, s, axis, ia, ib, ne


@ti.func
def hull_hull(S: ti.template(), lane, a, b, d, centre, motion, reach, tried, before, given, tune: ti.template()):
    """Manifold of two hulls, b's fragment at d from a's: candidates kept, normal from a to b, axis to try next time, shift of b,
    distance if they are apart for sure, else -1.

    What flies in is moved to where it touches first (conservative advancement): the features that face each other at the start of
    the step need not be those that meet, and where they do not overlap they give no point at all. Separations are those at the start."""
    count = 0
    clear = ti.f32(-1.0)
    normal = ti.Vector([0.0, 1.0, 0.0])
    shift = ti.Vector([0.0, 0.0, 0.0])
    size = motion.norm()
    passed = ti.f32(0.0)  # share of the step
    apart, s, axis, ia, ib, ne = False, ti.f32(0.0), tried, -1, -1, normal
    tries = 0
    while tries < ADVANCES:
        apart, s, axis, ia, ib, ne = separate(
            S, lane, a, b, d + shift, shift, centre, tune.slack + reach - passed * size, axis, tune
        )
        tries += 1
        if apart and tries == 1:
            clear = s
        on = ti.f32(0.0)
        if not apart and s > 0.0:
            closing = -motion.dot(axis_normal(S, axis, ia, ne))
            if closing > 0.0:
                on = ti.min(s / closing, 1.0 - passed)
        if tries < ADVANCES and on * size > ADVANCE * tune.slack:
            passed += on
            shift = passed * motion
        else:
            tries = ADVANCES
    normal = axis_normal(S, axis, ia, ne)
    if not apart and shift.dot(normal) < tune.slack:  # else they slide past each other
        margin = tune.slack + reach - passed * size
        count = points_make(
            S, lane, a, b, d + shift, shift - centre, -centre, s, axis, ia, ib, normal, margin, reach > ADVANCE * tune.slack, tune
        )
        count = thin(S, lane, count, normal, 0.1 * tune.face_bias, tune.slack, before, given)
        back = shift.dot(normal)
        for k in range(count):
            S.clip_separation[lane * CANDIDATES + k] -= back
    return count, normal, axis, shift, clear


@ti.func
def points_make(S: ti.template(), lane, a, b, at, box_b, box_a, s, axis, ia, ib, normal, margin, fast, tune: ti.template()):
    """Candidates of two hulls, b's fragment at `at` from a's, along an axis of `separate` with separation s; their number.

    box_a, box_b: from the boxes of a and b to that frame. fast: points of all of the other hull; at rest those of one face suffice, and
    stay the same."""
    count = 0
    zero = ti.Vector([0.0, 0.0, 0.0])
    ref = axis // 2
    n = normal
    other = b
    ref_at = zero
    inc_at = at
    box = box_b
    if ia >= 0:  # the face along this axis, of the two that meet at a's edge
        e = S.hull_edge[ia]
        ref = e[2]
        if n.dot(S.hull_normal_now[e[3]]) > n.dot(S.hull_normal_now[e[2]]):
            ref = e[3]
    elif axis % 2 == 1:
        n = -normal
        other = a
        ref_at = at
        inc_at = zero
        box = box_a
    if fast or ia < 0:
        only = -1
        if not fast:
            only = facing(S, other, n)
        count = clip_hull(S, lane, ref, ref_at, other, inc_at, box, only, n, margin, -s, tune.merge)
    if ia >= 0:
        feature = 262144 + (ia - S.hull_span[a][2]) * EDGES + ib - S.hull_span[b][2]
        count = keep_candidate(S, lane, count, edge_point(S, ia, ib, at), s, feature, tune.merge)
    elif s < 0.0:  # an overlap needs a point: the deepest vertex, though it be beside the face
        deepest = ti.f32(1e30)
        for k in range(count):
            deepest = ti.min(deepest, S.clip_separation[lane * CANDIDATES + k])
        if count == 0 or (fast and deepest > s + 0.5 * tune.slack):
            k = support_below(S, other, n)
            p = S.hull_vertex_now[k] + inc_at
            count = keep_candidate(S, lane, count, p - 0.5 * s * n, s, k - S.hull_span[other][0], tune.merge)
    return count


@ti.func
def hull_ground(S: ti.template(), lane, a, height, margin, before, given, tune: ti.template()):
    """Points of hull a at or below the plane y = 0, its fragment's centre at this height. The normal is from the hull into the ground."""
    count = 0
    for k in range(S.hull_span[a][0], S.hull_span[a + 1][0]):
        p = S.hull_vertex_now[k]
        s = p[1] + height
        if s <= margin:
            count = keep_candidate(S, lane, count, p - ti.Vector([0.0, 0.5 * s, 0.0]), s, k - S.hull_span[a][0], 0.1 * tune.merge)
    return thin(S, lane, count, ti.Vector([0.0, -1.0, 0.0]), 0.1 * tune.face_bias, tune.slack, before, given)


@compiled_lightly
@ti.kernel
def manifolds_make(S: ManifoldPack, pairs: ti.i32, tune: Tuning):
    """Fill one contact row per pair; rows between sleepers are copied, apart ones keep count 0 and their separating face."""
    lanes = ti.min(pairs, LANES)
    for i in range(lanes * TASK):
        lane = i // TASK
        if i == lane * TASK:
            for step in range((pairs - lane + lanes - 1) // lanes):
                manifold_make(S, tune, lane, lane + step * lanes)


@ti.func
def manifold_make(S: ti.template(), tune: ti.template(), lane, m):
    """One row."""
    before = S.grid_source[m]
    if S.grid_keep[m] == 1:
        row_copy(S, before, m)
    else:
        a, b = S.contact_pair[m][0], S.contact_pair[m][1]
        fa = S.hull_fragment[a]
        ba, bb = S.contact_body[m][0], S.contact_body[m][1]
        centre = fragment_centre(S, fa)
        d = ti.Vector([0.0, 0.0, 0.0])
        motion = -fragment_sweep(S, fa, tune.h)
        spread = tune.h * S.body_w[ba].norm() * 0.5 * (S.hull_upper[a] - S.hull_lower[a]).norm()
        mu = ti.f32(0.0)
        reach = ti.f32(0.0)
        tried = -1
        given = ti.f32(0.0)
        if before >= 0:
            tried = S.last_axis[before]
            if S.last_count[before] > 0:
                given = S.last_gap[before] + S.last_crushed[before]
        if b >= 0:
            fb = S.hull_fragment[b]
            d = ti.cast(fragment_centre(S, fb) - centre, ti.f32)
            follows = fragment_sweep(S, fb, tune.h)
            if S.grid_keep[m] & 4 != 0:
                reach = ti.max(reach, motion.norm())
            motion += follows
            reach = ti.max(reach, motion.norm())
            if S.grid_keep[m] & 2 != 0:
                reach = ti.max(reach, follows.norm())
            spread += tune.h * S.body_w[bb].norm() * 0.5 * (S.hull_upper[b] - S.hull_lower[b]).norm()
            mu = ti.sqrt(S.fragment_friction[fa] * S.fragment_friction[fb])
        else:
            mu = ti.sqrt(S.fragment_friction[fa] * tune.friction_ground)
        count = 0
        normal = ti.Vector([0.0, -1.0, 0.0])
        axis = -1
        shift = ti.Vector([0.0, 0.0, 0.0])
        again = False  # as it was made, moved with the hulls
        clear = ti.f32(-1.0)  # distance of what is apart
        slow = False
        between, twist = d, ti.Vector([0.0, 0.0, 0.0, 0.0])
        if b >= 0:
            fb = S.hull_fragment[b]
            q_a, q_b = S.body_q[ba], S.body_q[bb]
            between, twist = turn_back(q_a, d), quaternion_product(ti.Vector([q_a[0], -q_a[1], -q_a[2], -q_a[3]]), q_b)
            slow = reach + spread < QUIET * tune.slack
            if before >= 0:
                moved = moved_since(S, before, b, fb, between, twist)
                if S.last_count[before] > 0:
                    again = slow and moved < tune.keep
                elif moved < S.last_apart[before * POINTS] - tune.slack - reach - spread:
                    clear = S.last_apart[before * POINTS]
            if again:
                count, normal, axis = manifold_again(S, lane, before, d, q_a, q_b)
            elif clear > 0.0:
                again = True
                axis = tried
            else:
                count, normal, axis, shift, clear = hull_hull(
                    S, lane, a, b, d, ti.cast(centre, ti.f32), motion, reach + spread, tried, before, given, tune
                )
        else:
            count = hull_ground(S, lane, a, ti.cast(centre[1], ti.f32), tune.slack + motion.norm() + spread, before, given, tune)
        manifold_remember(S, lane, before, m, count, again, slow, clear, between, twist, turn_back(S.body_q[ba], normal))
        S.contact_count[m] = count
        S.contact_axis[m] = axis
        if count > 0:
            row_fill(S, lane, before, m, fa, b, count, normal, mu, centre, shift, motion, tune)


@ti.func
def moved_since(S: ti.template(), before, b, fb, between, twist):
    """[m] by how much hull b moved against a, anywhere at most, since this row of the last step was made; much if that is not known."""
    moved = ti.f32(1e30)
    r = S.last_twist[before]
    if r.norm_sqr() > 0.0:
        v = quaternion_product(ti.Vector([r[0], -r[1], -r[2], -r[3]]), twist)  # its vector part is the sine of half the angle
        centre = ti.cast(fragment_centre(S, fb), ti.f32)
        reach = ti.max(S.hull_upper[b] - centre, centre - S.hull_lower[b]).norm()
        moved = (between - S.last_between[before]).norm() + 2.0 * reach * ti.Vector([v[1], v[2], v[3]]).norm()
    return moved


@ti.func
def manifold_again(S: ti.template(), lane, before, d, q_a, q_b):
    """The manifold of this row of the last step where its two hulls are now: points on a, the way they went apart along the normal."""
    normal = turn(q_a, S.last_facing[before])
    r = S.last_twist[before]
    for k in range(S.last_count[before]):
        local = S.last_local[before * POINTS + k]
        p = turn(q_a, local)
        followed = d + turn(q_b, turn_back(r, local - S.last_between[before]))
        S.clip_point[lane * CANDIDATES + k] = p
        S.clip_separation[lane * CANDIDATES + k] = S.last_apart[before * POINTS + k] + normal.dot(followed - p)
        S.clip_feature[lane * CANDIDATES + k] = S.last_feature[before * POINTS + k]
    return S.last_count[before], normal, S.last_axis[before]


@ti.func
def manifold_remember(S: ti.template(), lane, before, m, count, again, slow, clear, between, twist, facing):
    """Keep where the hulls were when this row was made, and how far apart; nothing where points were made for where they will be."""
    if again:
        between, twist, facing = S.last_between[before], S.last_twist[before], S.last_facing[before]
    elif (count > 0 and not slow) or (count == 0 and clear < 0.0):
        twist = ti.Vector([0.0, 0.0, 0.0, 0.0])
    S.contact_between[m] = between
    S.contact_twist[m] = twist
    S.contact_facing[m] = facing
    S.contact_apart[m * POINTS] = clear
    for k in range(count):
        apart = S.clip_separation[lane * CANDIDATES + k]
        if again:
            apart = S.last_apart[before * POINTS + k]
        S.contact_apart[m * POINTS + k] = apart


@ti.func
def row_fill(S: ti.template(), lane, before, m, fa, b, count, normal, mu, centre, shift, motion, tune: ti.template()):
    """Write a manifold and carry over what its points had: multipliers, penalties, slip and the overlap allowed at birth."""
    ba, bb = S.contact_body[m][0], S.contact_body[m][1]
    S.contact_normal[m] = normal
    from_a = ti.cast(centre - S.body_x[ba], ti.f32)
    from_b = ti.Vector([0.0, 0.0, 0.0])
    if b >= 0:
        from_b = ti.cast(centre - S.body_x[bb], ti.f32)
        # the place of the touch on a, and `shift` from it that on b: one point in space for both, or the two would turn for nothing;
        # nearer that of the lighter
        share = S.body_mass[ba] / (S.body_mass[ba] + S.body_mass[bb])
        if S.body_state[ba] != AWAKE:
            share = 1.0
        elif S.body_state[bb] != AWAKE:
            share = 0.0
        from_a -= share * shift
        from_b -= share * shift
    deepest = ti.f32(1e30)
    for k in range(count):
        deepest = ti.min(deepest, S.clip_separation[lane * CANDIDATES + k])
    approach = ti.max(-motion.dot(normal), 0.0)
    gap = ti.max(-deepest - approach - tune.slack, 0.0)  # born deep inside: cracked apart there, not flown in
    crushed = ti.f32(0.0)
    if before >= 0:
        gap = 0.0
        if S.last_count[before] > 0:
            crushed = ti.max(ti.min(S.last_crushed[before], -deepest), 0.0)
            gap = ti.max(ti.min(S.last_gap[before] - tune.relax, -deepest - crushed), 0.0)
    S.contact_gap[m] = gap
    S.contact_crushed[m] = crushed
    law_fill(S, m, fa, b, tune)
    slips = ti.f32(0.0)  # [m/s] mean over the points: what spins on its place slides at its rim
    taken = 0  # bits of last step's points already handed on
    for k in range(count):
        at = m * POINTS + k
        p = S.clip_point[lane * CANDIDATES + k]
        local = turn_back(S.body_q[ba], p)
        feature = S.clip_feature[lane * CANDIDATES + k]
        S.contact_arm_a[at] = p + from_a
        S.contact_arm_b[at] = p + from_b
        S.contact_separation[at] = S.clip_separation[lane * CANDIDATES + k] + gap + crushed
        S.contact_feature[at] = feature
        S.contact_local[at] = local
        velocity = -(S.body_v[ba] + S.body_w[ba].cross(p + from_a))
        if b >= 0:
            velocity += S.body_v[bb] + S.body_w[bb].cross(p + from_b)
        S.contact_approach[at] = velocity
        slips += (velocity - velocity.dot(normal) * normal).norm() / count
        match = -1
        if before >= 0:
            nearest = 4.0 * tune.merge * tune.merge
            for o in range(S.last_count[before]):
                if (taken >> o) & 1 == 0:
                    distance = (S.last_local[before * POINTS + o] - local).norm_sqr()
                    if S.last_feature[before * POINTS + o] == feature:
                        distance *= 1e-3  # the same features, or the nearest
                    if distance < nearest:
                        nearest = distance
                        match = o
        if match >= 0:
            taken |= 1 << match
            o = before * POINTS + match
            force, slip = S.last_force_t[o], S.last_slip[o]
            S.contact_force_n[at] = tune.force_decay * S.last_force_n[o]
            S.contact_force_t[at] = tune.force_decay * (force - force.dot(normal) * normal)
            S.contact_slip[at] = slip - slip.dot(normal) * normal
            S.contact_penalty[at] = ti.min(ti.max(tune.gamma * S.last_penalty[o], tune.penalty_min), tune.penalty_max)
        else:
            point_fresh(S, at, ba, bb, count, normal.dot(velocity), tune)
    if held(S, before) or slips < tune.hold_speed:
        mu *= tune.stiction
    S.contact_friction[m] = mu


@ti.func
def law_fill(S: ti.template(), m, fa, b, tune: ti.template()):
    """What a pair bears that crushes, and which of the two yields."""
    law, yields = S.fragment_crush[fa], 0
    if b >= 0:
        other = S.fragment_crush[S.hull_fragment[b]]
        if other[0] * strength_left(other[1], 0.0, tune) < law[0] * strength_left(law[1], 0.0, tune):
            law, yields = other, 1
    S.contact_crush[m] = ti.Vector([law[0] / POINTS, law[1]])
    S.contact_yields[m] = yields
    S.contact_crushing[m] = 0.0


@ti.func
def held(S: ti.template(), before):
    """Whether a point of this row of the last step was pressed and did not use up its friction: it rolled, rocked or rested."""
    holds = False
    if before >= 0:
        for k in range(S.last_count[before]):
            o = before * POINTS + k
            holds |= S.last_force_t[o].norm() < -(1.0 - SATURATED) * S.last_friction[before] * S.last_force_n[o]
    return holds


@ti.func
def point_fresh(S: ti.template(), at, a, b, count, opening, tune: ti.template()):
    """A point that bore nothing before; its separation is there."""
    S.contact_force_n[at] = 0.0
    S.contact_force_t[at] = ti.Vector([0.0, 0.0, 0.0])
    S.contact_slip[at] = ti.Vector([0.0, 0.0, 0.0])
    stiff = penalty_first(S, a, b, count, opening, S.contact_separation[at], tune)
    S.contact_penalty[at] = ti.Vector([stiff, stiff])


@ti.func
def penalty_first(S: ti.template(), a, b, count, opening, separation, tune: ti.template()):
    """Penalty of a new point: the least, or the reduced mass over h^2, shared by the points, where bodies close in."""
    k = tune.penalty_min
    if -opening * tune.h > separation + 0.1 * tune.slack:
        inverse = ti.f32(0.0)
        if S.body_state[a] == AWAKE:
            inverse += 1.0 / S.body_mass[a]
        if b >= 0 and S.body_state[ti.max(b, 0)] == AWAKE:
            inverse += 1.0 / S.body_mass[ti.max(b, 0)]
        if inverse > 0.0:  # else driven against fixed: what breaks is found out from the force, which grows up to what crushes
            k = ti.max(k, 1.0 / (inverse * tune.h * tune.h * count))
    return k


@ti.func
def row_copy(S: ti.template(), before, m):
    """Take a row as it was: the bodies of both sides sleep."""
    S.contact_count[m] = S.last_count[before]
    S.contact_normal[m] = S.last_normal[before]
    S.contact_friction[m] = S.last_friction[before]
    S.contact_gap[m] = S.last_gap[before]
    S.contact_crush[m] = S.last_crush[before]
    S.contact_crushed[m] = S.last_crushed[before]
    S.contact_yields[m] = S.last_yields[before]
    S.contact_crushing[m] = 0.0
    S.contact_axis[m] = S.last_axis[before]
    S.contact_facing[m] = S.last_facing[before]
    S.contact_between[m] = S.last_between[before]
    S.contact_twist[m] = S.last_twist[before]
    for k in range(S.last_count[before]):
        at, o = m * POINTS + k, before * POINTS + k
        S.contact_arm_a[at] = S.last_arm_a[o]
        S.contact_arm_b[at] = S.last_arm_b[o]
        S.contact_separation[at] = S.last_separation[o]
        S.contact_feature[at] = S.last_feature[o]
        S.contact_local[at] = S.last_local[o]
        S.contact_slip[at] = S.last_slip[o]
        S.contact_apart[at] = S.last_apart[o]
        S.contact_force_n[at] = S.last_force_n[o]
        S.contact_force_t[at] = S.last_force_t[o]
        S.contact_penalty[at] = S.last_penalty[o]
        S.contact_approach[at] = ti.Vector([0.0, 0.0, 0.0])
