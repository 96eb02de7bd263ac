# pyright: basic, reportInvalidTypeForm=false, reportOptionalCall=false
"""Where two hulls, or a hull and the ground, touch: candidates for contact points over a face, and the four of them that are kept.

In: turned hulls, a face, the axis. Out: candidates in a lane's scratch: point midway between the surfaces, separation, feature. Edges are
clipped by the prism over the face as lines by a convex polygon (Cyrus & Beck 1978). Not handled: more candidates than `CANDIDATES`, which
are dropped in order.
"""

import taichi as ti

from sim.layout import EDGES, POINTS

LOADED = 16.0  # what a point that bore a load outweighs: another that is four times as far, or widens the area as much
CANDIDATES = 64  # clip points of one pair at most; more sides than that are thinned by order


@ti.func
def keep_candidate(S: ti.template(), lane, count, point, separation, feature, merge):
    """Append a clip point unless an equal one is there; the number of points."""
    fresh = count < CANDIDATES
    for k in range(count):
        if (S.clip_point[lane * CANDIDATES + k] - point).norm_sqr() < merge * merge:
            fresh = False
            if separation < S.clip_separation[lane * CANDIDATES + k] - 0.1 * merge:
                S.clip_separation[lane * CANDIDATES + k] = separation
                S.clip_point[lane * CANDIDATES + k] = point
                S.clip_feature[lane * CANDIDATES + k] = feature
    if fresh:
        S.clip_point[lane * CANDIDATES + count] = point
        S.clip_separation[lane * CANDIDATES + count] = separation
        S.clip_feature[lane * CANDIDATES + count] = feature
    return count + ti.cast(fresh, ti.i32)


@ti.func
def clip_hull(S: ti.template(), lane, ref, ref_at, other, other_at, box, only, n, margin, deep, merge):
    """Points where the hull `other` comes within the margin of face `ref` (at the given offsets) along n, over that face.

    Vertices over the face, edges where they leave the prism over it, and the face's corners under the hull. Not one face of it alone: the
    face most opposed need not hold the deepest vertex, nor stay the lowest when the hull turns. `only`: that face after all, or -1.
    box: from world axes to the frame of the points; deep: an overlap that is known."""
    m = S.hull_normal_now[ref]
    scale = 1.0 / m.dot(n)
    offset = S.hull_offset[ref] + m.dot(ref_at)
    r0, r1 = S.hull_loop_start[ref], S.hull_loop_start[ref + 1]
    v0, e0 = S.hull_span[other][0], S.hull_span[other][2]
    base = lane * EDGES
    for r in range(r0, r1):
        after = r + 1
        if after == r1:
            after = r0
        corner = S.hull_vertex_now[S.hull_loop[r]] + ref_at
        side = (S.hull_vertex_now[S.hull_loop[after]] + ref_at - corner).cross(n)
        S.clip_corner[base + r - r0] = corner
        S.clip_side[base + r - r0] = side / ti.max(side.norm(), 1e-12)
    count = 0
    for k in range(v0, S.hull_span[other + 1][0]):
        p = S.hull_vertex_now[k] + other_at
        s = (m.dot(p) - offset) * scale
        S.clip_height[base + k - v0] = s
        inside = s <= margin
        if only >= 0:
            inside = inside and S.hull_offset[only] - S.hull_normal_now[only].dot(p - other_at) < 0.1 * merge
        r = base
        while inside and r < base + r1 - r0:
            inside = S.clip_side[r].dot(p - S.clip_corner[r]) <= 1e-5 * merge
            r += 1
        if inside:
            count = keep_candidate(S, lane, count, p - 0.5 * s * n, s, k - v0, merge)
    for k in range(e0, S.hull_span[other + 1][2]):
        edge = S.hull_edge[k]
        low = S.clip_height[base + edge[0] - v0]
        rise = S.clip_height[base + edge[1] - v0] - low
        if (low <= margin or low + rise <= margin) and (only < 0 or edge[2] == only or edge[3] == only):
            p = S.hull_vertex_now[edge[0]] + other_at
            e = S.hull_vertex_now[edge[1]] + other_at - p
            enter = ti.f32(0.0)
            leave = ti.f32(1.0)
            side_in = 0
            side_out = 0
            r = 0
            while r < r1 - r0 and enter <= leave:
                side = S.clip_side[base + r]  # points out of the prism
                distance = side.dot(p - S.clip_corner[base + r])
                slope = side.dot(e)
                r += 1
                if ti.abs(slope) < 1e-9:
                    if distance > 1e-5 * merge:
                        leave = -1.0
                else:
                    t = -distance / slope
                    if slope < 0.0:
                        if t > enter:
                            enter = t
                            side_in = r
                    elif t < leave:
                        leave = t
                        side_out = r
            if enter <= leave:
                feature = 65536 + (k - e0) * 256
                if side_in > 0:
                    at = p + enter * e
                    s = low + enter * rise
                    if s <= margin:
                        count = keep_candidate(S, lane, count, at - 0.5 * s * n, s, feature + side_in, merge)
                if side_out > 0:
                    at = p + leave * e
                    s = low + leave * rise
                    if s <= margin:
                        count = keep_candidate(S, lane, count, at - 0.5 * s * n, s, feature + 128 + side_out, merge)
    for r in range(r0, r1):
        corner = S.hull_vertex_now[S.hull_loop[r]] + ref_at
        near = ti.f32(-1e6)
        far = ti.f32(1e6)
        face = -1
        q = S.hull_span[other][1]
        outside = ti.max(S.hull_lower[other] + box - corner, corner - S.hull_upper[other] - box).max()
        if outside > ti.max(margin, deep):
            far = -1e6
        while q < S.hull_span[other + 1][1] and near <= far and near <= margin:
            slope = S.hull_normal_now[q].dot(n)
            height = S.hull_offset[q] + S.hull_normal_now[q].dot(other_at - corner)  # of the face above the corner
            if ti.abs(slope) < 1e-6:
                if height < 0.0:
                    far = -1e9
            elif slope < 0.0:
                if height / slope > near:
                    near = height / slope
                    face = q
            else:
                far = ti.min(far, height / slope)
            q += 1
        if near <= far and near <= margin and (only < 0 or face == only):
            count = keep_candidate(S, lane, count, corner + 0.5 * near * n, near, 131072 + r - r0, merge)
    return count


@ti.func
def thin(S: ti.template(), lane, count, n, tie, slack, before, given):
    """Reduce candidates to four: the deepest, the farthest from it, and the two that widen the area most on either side.

    What does not touch counts for less, or a hull on a uneven underside keeps points in the air, drops those it stands on, and rocks.
    What bore a load in the last step (row `before`) counts for more: five corners near the ground else take turns, and the piece rocks.
    given: overlap that no force brings back; a crushed piece has all its corners under the surface and touches with one or two of them."""
    base = lane * CANDIDATES
    if count > POINTS:
        deep = 0
        for k in range(1, count):
            if S.clip_separation[base + k] < S.clip_separation[base + deep] - tie:
                deep = k
        swap(S, base, base + deep)
        lift = ti.max(ti.min(given, -S.clip_separation[base]), 0.0)
        far = 1
        best = ti.f32(-1.0)
        for k in range(1, count):
            s = worth(S, base + k, before, lift, slack) * (S.clip_point[base + k] - S.clip_point[base]).norm_sqr()
            if s > 1.02 * best:
                best = s
                far = k
        swap(S, base + 1, base + far)
        along = (S.clip_point[base + 1] - S.clip_point[base]).cross(n)
        most = 2
        most_value = ti.f32(0.0)
        least = -1
        for k in range(2, count):
            s = worth(S, base + k, before, lift, slack) * along.dot(S.clip_point[base + k] - S.clip_point[base])
            if ti.abs(s) > 1.02 * ti.abs(most_value):
                most_value = s
                most = k
        swap(S, base + 2, base + most)
        least_value = ti.f32(0.0)
        for k in range(3, count):
            s = worth(S, base + k, before, lift, slack) * along.dot(S.clip_point[base + k] - S.clip_point[base])
            if most_value > 0.0:
                s = -s
            if least < 0 or s > least_value + 0.02 * ti.abs(least_value):
                least_value = s
                least = k
        swap(S, base + 3, base + least)
    return ti.min(count, POINTS)


@ti.func
def worth(S: ti.template(), k, before, lift, slack):
    """1 for a candidate that touches within the slack, less the farther it is from that; `LOADED` times that if it bore a load.

    A fifth of the slack makes walls simmer."""
    w = 1.0 / ti.max((S.clip_separation[k] + lift) / slack, 1.0)
    if before >= 0:
        for o in range(S.last_count[before]):
            if S.last_feature[before * POINTS + o] == S.clip_feature[k] and S.last_force_n[before * POINTS + o] < 0.0:
                w *= LOADED
    return w


@ti.func
def swap(S: ti.template(), i, j):
    """Exchange two candidates."""
    p, s, f = S.clip_point[i], S.clip_separation[i], S.clip_feature[i]
    S.clip_point[i], S.clip_separation[i], S.clip_feature[i] = S.clip_point[j], S.clip_separation[j], S.clip_feature[j]
    S.clip_point[j], S.clip_separation[j], S.clip_feature[j] = p, s, f
