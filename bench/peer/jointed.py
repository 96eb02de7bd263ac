"""A bonded building in one engine, its bonds breakable fixed joints. Run by `bench.bonded` with the peers' own Python.

    python jointed.py ENGINE SCENE.npz OUT.npz FRAMES WHOLE

In: the arrays of `PeerScene`, and of every bond: bond_a, bond_b (-1 the ground), bond_point (B, 3), bond_force [N] and bond_torque [N m] at
which it breaks; iterations of the solver (0: the engine's own default); for the first WHOLE frames the host breaks nothing. Out: ms
(frames) of process CPU time of the step alone; position, rotation (w x y z) at the end; force, torque (B) [N, N m] after the last step
that had all bonds, nan where the engine does not tell; broken, the bonds that broke (frames), -1 where it does not tell; version.

Rapier and Bullet tell the forces of their joints, and the host removes those beyond their limit, outside the clock. PhysX breaks joints
by itself. Bullet's joints want multibodies (its maximal coordinates have none).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from engines import GRAVITY, GROUND, H, Pose, Step, hull_of, physx, rapier_pose, rapier_world  # pyright: ignore[reportMissingImports]

Forces = Callable[[], tuple[np.ndarray, np.ndarray] | None]  # [N], [N m] of all joints, nan of those that are gone
Remove = Callable[[np.ndarray], None]


def rapier(scene: dict[str, np.ndarray]) -> tuple[Step, Pose, Forces, Remove, str]:
    """Impulse joints."""
    import rapier3d as r  # pyright: ignore[reportMissingImports]

    world, handle, ground = rapier_world(scene, 1)
    rounds = int(scene["iterations"]) or world.integration_parameters.num_solver_iterations
    world.integration_parameters.num_solver_iterations = rounds
    joint: list[Any] = []
    for a, b, point in zip(scene["bond_a"], scene["bond_b"], scene["bond_point"], strict=True):
        second = point - (scene["position"][b] if b >= 0 else np.array([0.0, -GROUND[1], 0.0]))
        made = r.FixedJointBuilder().local_anchor1(tuple(point - scene["position"][a])).local_anchor2(tuple(second))
        joint.append(world.impulse_joints.insert(handle[a], handle[b] if b >= 0 else ground, made.contacts_enabled(False).build(), True))

    def forces() -> tuple[np.ndarray, np.ndarray]:
        gone = [np.nan] * 6
        row = np.array([gone if j is None else world.impulse_joints.get(j).impulses for j in joint])
        row *= rounds / H  # impulses are those of the last of the solver's rounds, each a part of the step
        return np.linalg.norm(row[:, :3], axis=1), np.linalg.norm(row[:, 3:], axis=1)

    def remove(which: np.ndarray) -> None:
        for k in which:
            world.impulse_joints.remove(joint[k], True)
            joint[k] = None

    return world.step, lambda: rapier_pose(world, handle), forces, remove, "rapier3d " + version("rapier3d")


def pybullet(scene: dict[str, np.ndarray]) -> tuple[Step, Pose, Forces, Remove, str]:
    """Fixed constraints of multibodies."""
    import pybullet as p  # pyright: ignore[reportMissingImports]

    p.connect(p.DIRECT)
    p.setGravity(0, -GRAVITY, 0)
    p.setPhysicsEngineParameter(fixedTimeStep=H, numSolverIterations=int(scene["iterations"]) or 50, numSubSteps=0)
    friction = float(scene["friction"]) ** 0.5  # Bullet multiplies the two
    ground = p.createMultiBody(0, p.createCollisionShape(p.GEOM_BOX, halfExtents=GROUND), basePosition=[0, -GROUND[1], 0])
    p.changeDynamics(ground, -1, lateralFriction=friction, restitution=0)
    body = []
    for i, half in enumerate(scene["half"]):
        box = half[0] > 0
        shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=half.tolist()) if box else p.createCollisionShape(
            p.GEOM_MESH, vertices=hull_of(scene, i).tolist())
        body.append(p.createMultiBody(float(scene["mass"][i]), shape, basePosition=scene["position"][i].tolist()))
        p.changeDynamics(body[-1], -1, lateralFriction=friction, restitution=0, rollingFriction=0, spinningFriction=0)
    joint: list[Any] = []
    for a, b, point in zip(scene["bond_a"], scene["bond_b"], scene["bond_point"], strict=True):
        second = point - (scene["position"][b] if b >= 0 else np.array([0.0, -GROUND[1], 0.0]))
        other = body[b] if b >= 0 else ground
        joint.append(p.createConstraint(
            body[a], -1, other, -1, p.JOINT_FIXED, [0, 0, 0], (point - scene["position"][a]).tolist(), second.tolist()))
        p.setCollisionFilterPair(body[a], other, -1, -1, 0)

    def pose() -> tuple[np.ndarray, np.ndarray]:
        both = [p.getBasePositionAndOrientation(b) for b in body]
        return np.array([x for x, _ in both]), np.array([[q[3], *q[:3]] for _, q in both])

    def forces() -> tuple[np.ndarray, np.ndarray]:
        row = np.array([[np.nan] * 6 if j is None else p.getConstraintState(j) for j in joint])
        return np.linalg.norm(row[:, :3], axis=1), np.linalg.norm(row[:, 3:], axis=1)

    def remove(which: np.ndarray) -> None:
        for k in which:
            p.removeConstraint(joint[k])
            joint[k] = None
            b = scene["bond_b"][k]
            p.setCollisionFilterPair(body[scene["bond_a"][k]], body[b] if b >= 0 else ground, -1, -1, 1)

    return p.stepSimulation, pose, forces, remove, "pybullet " + version("pybullet")


def physx_jointed(scene: dict[str, np.ndarray]) -> tuple[Step, Pose, Forces, Remove, str]:
    """Joints of the USD scene."""
    step, pose, name = physx(scene, 1)
    return step, pose, lambda: None, lambda which: None, name


ENGINES = {"rapier": rapier, "physx": physx_jointed, "pybullet": pybullet}


def main() -> None:
    """Run one engine on one scene."""
    engine, source, out, frames, whole = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    with np.load(source) as data:
        scene = {k: data[k] for k in data.files}
    step, pose, forces, remove, name = ENGINES[engine](scene)
    limit, turning = scene["bond_force"], scene["bond_torque"]
    ms, broken = np.zeros(frames), np.full(frames, -1)
    kept = np.full((2, len(limit)), np.nan)
    for frame in range(frames):
        clock = time.process_time_ns()
        step()
        ms[frame] = (time.process_time_ns() - clock) / 1e6
        told = forces()
        if told is not None:
            if not np.isnan(told[0]).any():
                kept[:] = told
            over = np.flatnonzero((told[0] > limit) | (told[1] > turning)) if frame >= whole else np.zeros(0, int)
            remove(over)
            broken[frame] = len(over)
        if frame % 10 == 9:
            print(f"    frame {frame + 1} of {frames}: {ms[frame]:.0f} CPU ms", file=sys.stderr, flush=True)
    position, rotation = pose()
    np.savez(out, version=name, ms=ms, position=position, rotation=rotation, force=kept[0], torque=kept[1], broken=broken)


if __name__ == "__main__":
    main()
