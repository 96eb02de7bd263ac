# pyright: basic, reportInvalidTypeForm=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalCall=false
"""Which hulls may touch in this step: boxes swept by the motion, in a hashed uniform grid.

In: bodies, fragments, hulls, the last step's contacts. Out: hull pairs sorted by (a, b), each with the row of the same pair
in the last step's list (or -1), written into the next contact table. Pairs of which neither body is awake or driven are not
searched: their contacts are kept as they are, so that sleeping rubble still presses and wakes without a jolt.

What does not move is in a grid of its own, made anew when some of it has moved or enough has come to rest. Every other hull enters all
cells that its swept box overlaps; a pair is taken in the one cell that holds the larger of the two
lower corners, so none comes twice, whatever the hash. Boxes are tested with the relative sweep: pieces
that fall side by side do not see each other's speed. All lists are filled serially in index order (a parallel loop costs more than 20 000
hulls here). Not handled: hulls larger than about 10^4 cells become slow, not wrong.
"""

import taichi as ti

from sim.layout import ASLEEP, AWAKE, FIXED, Tuning, pack_type

TurnPack = pack_type(
    body="x q", fragment="body offset", hull="fragment span vertex normal vertex_now normal_now turned centre lower upper", grid="still",
)
PairPack = pack_type(
    body="x q v w state", fragment="body offset", hull="fragment span lower upper", last="pair count", contact="pair body",
    grid="sweep out low high start hull cell still still_start still_hull still_cell pair first source keep need", work="struck",
)


@ti.func
def turn(q, p):
    """p rotated by the quaternion q = (w, x, y, z)."""
    u = ti.Vector([q[1], q[2], q[3]])
    t = 2.0 * u.cross(p)
    return p + q[0] * t + u.cross(t)


@ti.func
def turn_back(q, p):
    """p rotated by the inverse of q."""
    u = ti.Vector([-q[1], -q[2], -q[3]])
    t = 2.0 * u.cross(p)
    return p + q[0] * t + u.cross(t)


@ti.func
def fragment_centre(S: ti.template(), f):
    """Centre of mass of fragment f, world, f64."""
    b = S.fragment_body[f]
    return S.body_x[b] + ti.cast(turn(S.body_q[b], S.fragment_offset[f]), ti.f64)


@ti.func
def fragment_sweep(S: ti.template(), f, h):
    """Displacement of a fragment's centre over a step if nothing stops it."""
    b = S.fragment_body[f]
    return h * (S.body_v[b] + S.body_w[b].cross(turn(S.body_q[b], S.fragment_offset[f])))


@ti.kernel
def hulls_turn(S: TurnPack, hulls: ti.i32):
    """Vertices and normals in world axes, and boxes, of every hull that has moved since."""
    for c in range(hulls):
        f = S.hull_fragment[c]
        centre, q = fragment_centre(S, f), S.body_q[S.fragment_body[f]]
        if (S.hull_turned[c] != q).any() or (S.hull_centre[c] != centre).any():
            S.hull_turned[c] = q
            S.hull_centre[c] = centre
            S.grid_still[c] = 0
            hull_turn(S, c, q, ti.cast(centre, ti.f32))


@ti.func
def hull_turn(S: ti.template(), c, q, centre):
    """One hull."""
    lower = ti.Vector([1e30, 1e30, 1e30])
    upper = -lower
    first, after = S.hull_span[c], S.hull_span[c + 1]
    for k in range(first[0], after[0]):
        p = turn(q, S.hull_vertex[k])
        S.hull_vertex_now[k] = p
        lower = ti.min(lower, p)
        upper = ti.max(upper, p)
    for k in range(first[1], after[1]):
        S.hull_normal_now[k] = turn(q, S.hull_normal[k])
    S.hull_lower[c] = centre + lower
    S.hull_upper[c] = centre + upper


@ti.func
def moves(S: ti.template(), b):
    """True if body b is awake, or driven: fixed, with a velocity of its own."""
    return S.body_state[b] == AWAKE or driven(S, b)


@ti.func
def driven(S: ti.template(), b):
    """True if body b moves whatever is in its way."""
    return S.body_state[b] == FIXED and S.body_v[b].norm_sqr() + S.body_w[b].norm_sqr() > 0.0


@ti.func
def bucket(cell, mask):
    """Bucket of a grid cell (Teschner et al. 2003)."""
    return ((cell[0] * 73856093) ^ (cell[1] * 19349663) ^ (cell[2] * 83492791)) & mask


@ti.func
def swept(S: ti.template(), c, cell_size, tune: ti.template()):
    """Displacement, reach, and lowest and highest cell of hull c, kept for this step."""
    sweep = fragment_sweep(S, S.hull_fragment[c], tune.h)
    b = S.fragment_body[S.hull_fragment[c]]
    out = tune.slack + tune.h * S.body_w[b].norm() * 0.5 * (S.hull_upper[c] - S.hull_lower[c]).norm()
    lo = ti.cast(ti.floor((S.hull_lower[c] + ti.min(sweep, 0.0) - out) / cell_size), ti.i32)
    hi = ti.cast(ti.floor((S.hull_upper[c] + ti.max(sweep, 0.0) + out) / cell_size), ti.i32)
    S.grid_sweep[c] = sweep
    S.grid_out[c] = out
    S.grid_low[c] = lo
    S.grid_high[c] = hi


@ti.kernel
def pairs_find(
    S: PairPack, hulls: ti.i32, last_count: ti.i32, behind: ti.i32, mask: ti.i32, room: ti.i32, pair_room: ti.i32, cell_size: ti.f32,
    tune: Tuning,
):
    """Pairs of the step into contact.pair and grid.source; or only grid.need, if they do not fit. `behind`: rows of the last list beyond
    its end, that had been laid aside."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        S.grid_need[0] = entries_fill(S, hulls, mask, room, cell_size, tune)
        S.grid_need[1] = 0
        if S.grid_need[0] <= room:
            S.grid_need[1] = pairs_search(S, hulls, last_count + behind, mask, pair_room, tune)
            if S.grid_need[1] <= pair_room:
                pairs_sort(S, hulls, S.grid_need[1])
                pairs_match(S, last_count, behind, S.grid_need[1])


@ti.func
def entries_fill(S: ti.template(), hulls, mask, room, cell_size, tune: ti.template()):
    """Every hull into the buckets of its cells, of either grid. The most entries that one of them has."""
    still = 0
    waiting = 0  # at rest, and not yet in the grid of what is
    for c in range(hulls):
        swept(S, c, cell_size, tune)
        if moves(S, S.fragment_body[S.hull_fragment[c]]):
            S.grid_still[c] = 0
        elif S.grid_still[c] == 1:
            still += 1
        else:
            waiting += 1
    laid = 0
    if waiting > 16 + still // 8:
        for c in range(hulls):
            S.grid_still[c] = ti.cast(not moves(S, S.fragment_body[S.hull_fragment[c]]), ti.i32)
        laid = grid_fill(S, 1, S.grid_still_start, S.grid_still_hull, S.grid_still_cell, hulls, mask, room)
        if laid > room:
            for c in range(hulls):
                S.grid_still[c] = 0
    return ti.max(laid, grid_fill(S, 0, S.grid_start, S.grid_hull, S.grid_cell, hulls, mask, room))


@ti.func
def grid_fill(S: ti.template(), still, start: ti.template(), hull: ti.template(), place: ti.template(), hulls, mask, room):
    """All hulls marked so into one grid: count, scan, fill from the end so that buckets ascend. The number of entries."""
    for k in range(mask + 3):
        start[k] = 0
    entries = 0
    for c in range(hulls):
        if S.grid_still[c] == still:
            lo, hi = S.grid_low[c], S.grid_high[c]
            for i in range(lo[0], hi[0] + 1):
                for j in range(lo[1], hi[1] + 1):
                    for k in range(lo[2], hi[2] + 1):
                        start[bucket(ti.Vector([i, j, k]), mask) + 1] += 1
                        entries += 1
    if entries > 0 and entries <= room:
        start[mask + 2] = entries
        for k in range(mask + 1):
            start[k + 1] += start[k]
        for back in range(hulls):
            c = hulls - 1 - back
            if S.grid_still[c] == still:
                lo, hi = S.grid_low[c], S.grid_high[c]
                for i in range(lo[0], hi[0] + 1):
                    for j in range(lo[1], hi[1] + 1):
                        for k in range(lo[2], hi[2] + 1):
                            cell = ti.Vector([i, j, k])
                            b = bucket(cell, mask) + 1
                            at = start[b] - 1
                            start[b] = at
                            hull[at] = c
                            place[at] = cell
    return entries


@ti.func
def pair_add(S: ti.template(), a, b, pairs, pair_room):
    """Append a pair if there is room; the number wanted so far."""
    if pairs < pair_room:
        S.grid_pair[pairs] = ti.Vector([a, b])
        S.grid_first[a] += 1
    return pairs + 1


@ti.func
def pairs_search(S: ti.template(), hulls, last_rows, mask, pair_room, tune: ti.template()):
    """Pairs around every awake hull, and the rows that sleepers keep; the number of pairs."""
    for c in range(hulls + 1):
        S.grid_first[c] = 0
        S.work_struck[S.fragment_body[S.hull_fragment[ti.min(c, hulls - 1)]]] = 0
    pairs = 0
    struck = 0
    for c in range(hulls):
        bc = S.fragment_body[S.hull_fragment[c]]
        if moves(S, bc):
            sweep, out, lo, hi = S.grid_sweep[c], S.grid_out[c], S.grid_low[c], S.grid_high[c]
            if S.hull_lower[c][1] + ti.min(sweep[1], 0.0) < out and S.body_state[bc] == AWAKE:
                pairs = pair_add(S, c, -1, pairs, pair_room)
                if -sweep[1] > tune.slack and S.hull_lower[c][1] + sweep[1] < 0.0:
                    S.work_struck[bc] = 1
                    struck = 1
            for i in range(lo[0], hi[0] + 1):
                for j in range(lo[1], hi[1] + 1):
                    for k in range(lo[2], hi[2] + 1):
                        at_cell = ti.Vector([i, j, k])
                        pairs, struck = cell_search(
                            S, 0, S.grid_start, S.grid_hull, S.grid_cell, at_cell, c, bc, sweep, out, lo, pairs, struck, mask, pair_room,
                            tune,
                        )
                        if S.grid_still_start[mask + 2] > 0:
                            pairs, struck = cell_search(
                                S, 1, S.grid_still_start, S.grid_still_hull, S.grid_still_cell, at_cell, c, bc, sweep, out, lo, pairs,
                                struck, mask, pair_room, tune,
                            )
    if struck == 1:
        pairs = pairs_behind(S, hulls, pairs, mask, pair_room)
    for m in range(last_rows):
        if S.last_count[m] > 0:
            pair = S.last_pair[m]
            ba = S.fragment_body[S.hull_fragment[pair[0]]]
            bb = -1
            asleep = S.body_state[ba] == ASLEEP
            awake = moves(S, ba)
            if pair[1] >= 0:
                bb = S.fragment_body[S.hull_fragment[pair[1]]]
                asleep = asleep or S.body_state[bb] == ASLEEP
                awake = awake or moves(S, bb)
            if asleep and not awake and ba != bb:
                pairs = pair_add(S, pair[0], pair[1], pairs, pair_room)
    return pairs


@ti.func
def cell_search(
    S: ti.template(), still, start: ti.template(), hull: ti.template(), place: ti.template(), cell, c, bc, sweep, out, lo, pairs, struck,
    mask, pair_room, tune: ti.template(),
):
    """Pairs of hull c of body bc with what one grid has in one cell (it may still hold what has moved since).

    The number of pairs, and 1 if a body may be stopped."""
    b = bucket(cell, mask)
    for at in range(start[b + 1], start[b + 2]):
        o = hull[at]
        bo = S.fragment_body[S.hull_fragment[o]]
        if S.grid_still[o] == still and (place[at] == cell).all() and bo != bc and (o > c or not moves(S, bo)):
            other, far, lower = S.grid_sweep[o], S.grid_out[o], S.grid_low[o]
            gap = box_gap(S, c, o, sweep - other)
            if (ti.max(lo, lower) == cell).all() and gap < out + far:
                pairs = pair_add(S, ti.min(c, o), ti.max(c, o), pairs, pair_room)
                if gap < 0.0 and (sweep - other).norm() > tune.slack:
                    S.work_struck[bc] = 1
                    S.work_struck[bo] = 1
                    struck = 1
    return pairs, struck


@ti.func
def box_gap(S: ti.template(), c, o, relative):
    """Distance of the boxes of hulls c and o when c moves by this against o; negative where they overlap on the way."""
    gap = ti.max(S.hull_lower[c] + ti.min(relative, 0.0) - S.hull_upper[o], S.hull_lower[o] - S.hull_upper[c] - ti.max(relative, 0.0))
    return gap.max()


@ti.func
def pairs_behind(S: ti.template(), hulls, pairs, mask, pair_room):
    """Pairs of a hull that may be stopped in this step and what follows it at its own speed; the number of pairs with them.

    Neither sees the other move until one is stopped, and then the other is a step's way inside it."""
    for c in range(hulls):
        bc = S.fragment_body[S.hull_fragment[c]]
        if S.body_state[bc] == AWAKE and S.work_struck[bc] == 1:
            sweep, out, lo, hi = S.grid_sweep[c], S.grid_out[c], S.grid_low[c], S.grid_high[c]
            for i in range(lo[0], hi[0] + 1):
                for j in range(lo[1], hi[1] + 1):
                    for k in range(lo[2], hi[2] + 1):
                        b = bucket(ti.Vector([i, j, k]), mask)
                        for at in range(S.grid_start[b + 1], S.grid_start[b + 2]):
                            o = S.grid_hull[at]
                            cell = S.grid_cell[at]
                            bo = S.fragment_body[S.hull_fragment[o]]
                            if (
                                cell[0] == i and cell[1] == j and cell[2] == k and bo != bc
                                and S.body_state[bo] == AWAKE and (o > c or S.work_struck[bo] == 0)
                            ):
                                other, far, lower = S.grid_sweep[o], S.grid_out[o], S.grid_low[o]
                                corner = ti.max(lo, lower)
                                if corner[0] == i and corner[1] == j and corner[2] == k and box_gap(S, c, o, sweep - other) >= out + far:
                                    gap = box_gap(S, c, o, -other)
                                    if S.work_struck[bo] == 1:
                                        gap = ti.min(gap, box_gap(S, c, o, sweep))
                                    if gap < out + far:
                                        pairs = pair_add(S, ti.min(c, o), ti.max(c, o), pairs, pair_room)
    return pairs


@ti.func
def pairs_sort(S: ti.template(), hulls, pairs):
    """Counting sort by a, then insertion by b: runs are short."""
    total = 0
    for c in range(hulls):
        n = S.grid_first[c]
        S.grid_first[c] = total
        total += n
    for p in range(pairs):
        a = S.grid_pair[p][0]
        at = S.grid_first[a]
        S.grid_first[a] = at + 1
        S.contact_pair[at] = S.grid_pair[p]
    begin = 0
    for a in range(hulls):
        end = S.grid_first[a]
        for p in range(begin + 1, end):
            pair = S.contact_pair[p]
            at = p
            while at > begin and S.contact_pair[ti.max(at - 1, 0)][1] > pair[1]:
                S.contact_pair[at] = S.contact_pair[at - 1]
                at -= 1
            S.contact_pair[at] = pair
        begin = end


@ti.func
def row_reach(S: ti.template(), m, end, pair):
    """First of the sorted last rows m to end - 1 whose pair is not before this one, or end."""
    before = True
    while before and m < end:
        old = S.last_pair[m]
        before = old[0] < pair[0] or (old[0] == pair[0] and old[1] < pair[1])
        m += ti.cast(before, ti.i32)
    return m


@ti.func
def pairs_match(S: ti.template(), last_count, behind, pairs):
    """The same pair's row in the last list or behind it (all are sorted), its bodies, and whether the row is kept as it is."""
    end = last_count + behind
    m = 0
    n = last_count
    for p in range(pairs):
        pair = S.contact_pair[p]
        m = row_reach(S, m, last_count, pair)
        n = row_reach(S, n, end, pair)
        found = -1
        at = ti.min(m, ti.max(last_count - 1, 0))
        if m < last_count and S.last_pair[at][0] == pair[0] and S.last_pair[at][1] == pair[1] and S.last_count[at] >= 0:
            found = m
        at = ti.min(n, ti.max(end - 1, 0))
        if n < end and S.last_pair[at][0] == pair[0] and S.last_pair[at][1] == pair[1]:
            found = n
        ba = S.fragment_body[S.hull_fragment[pair[0]]]
        bb = -1
        awake = moves(S, ba)
        struck = 2 * S.work_struck[ba]
        if pair[1] >= 0:
            bb = S.fragment_body[S.hull_fragment[pair[1]]]
            awake = awake or moves(S, bb)
            struck += 4 * S.work_struck[bb]
        S.grid_source[p] = found
        S.contact_body[p] = ti.Vector([ba, bb])
        S.grid_keep[p] = struck if awake else 1
