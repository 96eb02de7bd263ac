# pyright: basic, reportInvalidTypeForm=false
"""Which rows a body has, and in which order the sweeps take the bodies: colours, so that no two that touch are moved at once.

In: active rows, joints, body states. Out: sides of every body (2 row + 1 if it is the row's b), bodies by colour, then index. Greedy in
index order: a function of the state alone.
"""

import taichi as ti

from sim.layout import AWAKE

COLOURS = 62  # bits of a mask; touching bodies need about a dozen


@ti.func
def count_side(S: ti.template(), start: ti.template(), pair):
    """One more for each body of a row that moves."""
    for side in ti.static(range(2)):
        b = pair[side]
        if b >= 0 and S.body_state[ti.max(b, 0)] == AWAKE:
            start[b + 1] += 1


@ti.func
def lay_side(S: ti.template(), start: ti.template(), sides: ti.template(), pair, row):
    """This row before those of its bodies that are there."""
    for side in ti.static(range(2)):
        b = pair[side]
        if b >= 0 and S.body_state[ti.max(b, 0)] == AWAKE:
            start[b + 1] -= 1
            sides[start[b + 1]] = 2 * row + side


@ti.func
def sides_order(S: ti.template(), joints, count, active, awake):
    """Rows of each body, then colours; work.count[1] the number of those."""
    for b in range(count + 1):
        S.work_start[b] = 0
        S.work_joint_start[b] = 0
    for r in range(active):
        count_side(S, S.work_start, S.work_pair[r])
    for j in range(joints):
        count_side(S, S.work_joint_start, S.row_body[j])
    for b in range(count):
        S.work_start[b + 1] += S.work_start[b]
        S.work_joint_start[b + 1] += S.work_joint_start[b]
    sides, joint_sides = S.work_start[count], S.work_joint_start[count]
    for back in range(active):
        r = active - 1 - back
        lay_side(S, S.work_start, S.work_side, S.work_pair[r], r)
    for back in range(joints):
        j = joints - 1 - back
        lay_side(S, S.work_joint_start, S.work_joint_side, S.row_body[j], j)
    # start[b + 1] has come down to the beginning of b's rows: shift, and close the end
    for b in range(count):
        S.work_start[b] = S.work_start[b + 1]
        S.work_joint_start[b] = S.work_joint_start[b + 1]
    S.work_start[count] = sides
    S.work_joint_start[count] = joint_sides
    colour_bodies(S, count, awake)


@ti.func
def colour_bodies(S: ti.template(), count, awake):
    """Greedy colours in index order, and the bodies of each."""
    colours = 0
    for b in range(count):
        S.work_colour[b] = -1
    for c in range(COLOURS + 2):
        S.work_colour_start[c] = 0
    for b in range(count):
        if S.body_state[b] == AWAKE:
            used = ti.i64(0)
            for s in range(S.work_start[b], S.work_start[b + 1]):
                pair = S.work_pair[S.work_side[s] >> 1]
                o = pair[0] + pair[1] - b
                if o >= 0 and S.work_colour[ti.max(o, 0)] >= 0:
                    used |= ti.i64(1) << S.work_colour[o]
            for s in range(S.work_joint_start[b], S.work_joint_start[b + 1]):
                pair = S.row_body[S.work_joint_side[s] >> 1]
                o = pair[0] + pair[1] - b
                if o >= 0 and S.work_colour[ti.max(o, 0)] >= 0:
                    used |= ti.i64(1) << S.work_colour[o]
            c = 0
            while c < COLOURS and (used >> c) & 1 == 1:
                c += 1
            S.work_colour[b] = c
            colours = ti.max(colours, c + 1)
            S.work_colour_start[c + 1] += 1
    for c in range(COLOURS + 1):
        S.work_colour_start[c + 1] += S.work_colour_start[c]
    for back in range(count):
        b = count - 1 - back
        if S.body_state[b] == AWAKE:
            c = S.work_colour[b] + 1
            S.work_colour_start[c] -= 1
            S.work_order[S.work_colour_start[c]] = b
    for c in range(COLOURS + 1):
        S.work_colour_start[c] = S.work_colour_start[c + 1]
    S.work_colour_start[COLOURS + 1] = awake
    for c in range(COLOURS + 1):
        if c >= colours:
            S.work_colour_start[c] = awake
    S.work_count[1] = colours
