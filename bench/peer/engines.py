"""One scene in one engine: CPU time of each frame and the last poses. Run by `bench.peers` with the peers' own Python.

    python engines.py ENGINE SCENE.npz OUT.npz FRAMES THREADS

In: the arrays of `PeerScene`. Out: ms (frames) of process CPU time of the step alone, all threads; position, rotation (w x y z) at the end;
speed (F), mean over the last half second; version. Needs numpy and the engine, nothing of ours, for it runs in another environment.

Engines step 1/60 s with their own defaults: rapier (4 solver iterations), rapier4 (four steps of 1/240 s), physx (through USD), pybullet
(maximal coordinates, 50 iterations). Boxes are the engine's box where it has one, all else is a convex hull; ground is a thick fixed box.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

H = 1 / 60
GRAVITY = 9.81
GROUND = (200.0, 5.0, 200.0)  # half-extents [m], top at y = 0
REST_FRAMES = 30  # over which the last speeds are taken

Step = Callable[[], Any]
Pose = Callable[[], tuple[np.ndarray, np.ndarray]]  # position (F, 3), rotation (F, 4) w x y z


def race(step: Step, pose: Pose, frames: int) -> dict[str, Any]:
    """Step `frames` times. Reading poses is not timed."""
    ms, last, speed = np.zeros(frames), None, []
    for frame in range(frames):
        clock = time.process_time_ns()
        step()
        ms[frame] = (time.process_time_ns() - clock) / 1e6
        if frame % 30 == 29:
            print(f"    frame {frame + 1} of {frames}: {ms[frame - 29 : frame + 1].mean():.1f} CPU ms a frame", file=sys.stderr, flush=True)
        if frame >= frames - REST_FRAMES - 1:
            now = pose()[0]
            if last is not None:
                speed.append(np.linalg.norm(now - last, axis=1) / H)
            last = now
    position, rotation = pose()
    mean = np.mean(speed, axis=0) if speed else np.zeros(len(position))
    return {"ms": ms, "position": position, "rotation": rotation, "speed": mean}


def hull_of(scene: dict[str, np.ndarray], body: int) -> np.ndarray:
    """(V, 3) corners about the centre of mass."""
    return scene["vertex"][scene["vertex_start"][body] : scene["vertex_start"][body + 1]].astype(float)


def rapier(scene: dict[str, np.ndarray], threads: int, substeps: int = 1) -> tuple[Step, Pose, str]:
    """Rapier (rapier3d on PyPI)."""
    world, handle, _ = rapier_world(scene, threads, substeps)

    def step() -> None:
        for _ in range(substeps):
            world.step()

    return step, lambda: rapier_pose(world, handle), "rapier3d " + version("rapier3d")


def rapier_world(scene: dict[str, np.ndarray], threads: int, substeps: int = 1) -> tuple[Any, list, Any]:
    """The world, the handles of its bodies, and that of the ground."""
    import rapier3d as r  # pyright: ignore[reportMissingImports]

    world = r.PhysicsWorld(gravity=(0.0, -GRAVITY, 0.0))
    world.set_num_threads(threads)
    world.integration_parameters.dt = H / substeps
    friction = float(scene["friction"])
    slab = r.Collider.cuboid(*GROUND).friction(friction).restitution(0.0)
    ground = world.add_body(r.RigidBody.fixed().translation((0.0, -GROUND[1], 0.0)), [slab])
    handle = []
    for i, half in enumerate(scene["half"]):
        shape = r.Collider.cuboid(*map(float, half)) if half[0] > 0 else r.Collider.convex_hull(hull_of(scene, i).astype(np.float32))
        shape = shape.mass(float(scene["mass"][i])).friction(friction).restitution(0.0)
        q = scene["rotation"][i]
        sine = np.linalg.norm(q[1:])
        turn = q[1:] / sine * 2 * np.arctan2(sine, q[0]) if sine > 0 else np.zeros(3)
        body = r.RigidBody.dynamic().translation(tuple(scene["position"][i])).rotation(tuple(turn)).linvel(tuple(scene["velocity"][i]))
        handle.append(world.add_body(body, [shape]))
    return world, handle, ground


def rapier_pose(world: Any, handle: list) -> tuple[np.ndarray, np.ndarray]:
    """Positions and rotations of the bodies."""
    bodies = [world.rigid_bodies[h] for h in handle]
    place = np.array([[b.translation.x, b.translation.y, b.translation.z] for b in bodies])
    return place, np.array([_wxyz(b.rotation) for b in bodies])


def _wxyz(q: Any) -> list[float]:
    """A Rapier rotation as w x y z."""
    return [q.w, q.i, q.j, q.k] if hasattr(q, "i") else [q.w, q.x, q.y, q.z]


def pybullet(scene: dict[str, np.ndarray], threads: int) -> tuple[Step, Pose, str]:
    """Bullet (pybullet on PyPI), which has one thread."""
    import pybullet as p  # pyright: ignore[reportMissingImports]

    del threads
    p.connect(p.DIRECT)
    p.setGravity(0, -GRAVITY, 0)
    p.setPhysicsEngineParameter(fixedTimeStep=H, numSolverIterations=50, numSubSteps=0)
    friction = float(scene["friction"]) ** 0.5  # Bullet multiplies the two
    p.createMultiBody(0, p.createCollisionShape(p.GEOM_BOX, halfExtents=GROUND), basePosition=[0, -GROUND[1], 0], useMaximalCoordinates=1)
    p.changeDynamics(0, -1, lateralFriction=friction, restitution=0)
    body = []
    for i, half in enumerate(scene["half"]):
        box = half[0] > 0
        shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=half.tolist()) if box else p.createCollisionShape(
            p.GEOM_MESH, vertices=hull_of(scene, i).tolist())
        q = np.roll(scene["rotation"][i], -1).tolist()
        b = p.createMultiBody(float(scene["mass"][i]), shape, basePosition=scene["position"][i].tolist(), baseOrientation=q,
                              useMaximalCoordinates=1)
        p.changeDynamics(b, -1, lateralFriction=friction, restitution=0, rollingFriction=0, spinningFriction=0)
        if scene["velocity"][i].any():
            p.resetBaseVelocity(b, scene["velocity"][i].tolist())
        body.append(b)

    def pose() -> tuple[np.ndarray, np.ndarray]:
        both = [p.getBasePositionAndOrientation(b) for b in body]
        return np.array([x for x, _ in both]), np.array([[q[3], *q[:3]] for _, q in both])

    return p.stepSimulation, pose, "pybullet " + version("pybullet")


def physx(scene: dict[str, np.ndarray], threads: int) -> tuple[Step, Pose, str]:
    """PhysX 5 on the CPU (ovphysx on PyPI), the scene handed over as a USD file."""
    import ovphysx  # pyright: ignore[reportMissingImports]
    from ovphysx import PhysX  # pyright: ignore[reportMissingImports]
    from ovphysx.types import GlobalConfigKey, TensorType  # pyright: ignore[reportMissingImports]

    ovphysx.set_global_config(GlobalConfigKey.CPU_ONLY, True)
    ovphysx.set_global_config(GlobalConfigKey.NUM_THREADS, threads if threads > 1 else 0)  # 0: in the calling thread
    import ovstage  # pyright: ignore[reportMissingImports]
    from ovphysx.samples.python_samples.schema_support import physx_schema_paths  # pyright: ignore[reportMissingImports]

    engine = PhysX()
    ovstage.population.register_usd_schemas([*map(str, physx_schema_paths()), str(ovphysx.newton_schema_root())])
    stage = ovstage.Stage("peers")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.usda"
        path.write_text(usd_of(scene))
        ovstage.population.open_usd(stage, str(path), ordinal=1, domains=ovstage.PopulationDomain.ALL)
        stage.advance_write_floor(ordinal=1).wait()
        engine.wait_task(engine.attach_ovstage(stage, read_ordinal=1))
    count = len(scene["position"])
    binding = engine.create_tensor_binding(
        prim_paths=[f"/World/b{i}" for i in range(count)], tensor_type=TensorType.RIGID_BODY_POSE, raise_if_empty=True)
    if binding.count != count:
        raise RuntimeError(f"PhysX took {binding.count} of {count} bodies")
    state = np.zeros((count, 7), np.float32)

    def step() -> None:
        _ = stage  # alive as long as the engine reads it
        engine.step_sync(H)

    def pose() -> tuple[np.ndarray, np.ndarray]:
        binding.read(state)
        return state[:, :3].astype(float), state[:, [6, 3, 4, 5]].astype(float)

    return step, pose, "ovphysx " + version("ovphysx").rsplit(".", 1)[0]


def usd_of(scene: dict[str, np.ndarray]) -> str:
    """The scene as USD text: Cube or Mesh prims /World/b0, b1, ... with mass, velocity and one physics material."""

    def tuples(rows: np.ndarray) -> str:
        return ", ".join("(" + ", ".join(f"{v:.9g}" for v in r) + ")" for r in rows)

    friction = float(scene["friction"])
    stuff = 'rel material:binding:physics = </World/stuff>'
    fine = f"uint physxScene:minPositionIterationCount = {int(scene['iterations'])}" if int(scene.get("iterations", 0)) else ""
    text = [f"""#usda 1.0
(
  defaultPrim = "World"
  metersPerUnit = 1
  kilogramsPerUnit = 1
  upAxis = "Y"
)
def Xform "World"
{{
def PhysicsScene "scene" (
  prepend apiSchemas = ["PhysxSceneAPI"]
)
{{
  vector3f physics:gravityDirection = (0, -1, 0)
  float physics:gravityMagnitude = {GRAVITY}
  bool physxScene:enableGPUDynamics = false
  uniform token physxScene:broadphaseType = "ABP"
  {fine}
}}
def Material "stuff" (
  prepend apiSchemas = ["PhysicsMaterialAPI"]
)
{{
  float physics:staticFriction = {friction}
  float physics:dynamicFriction = {friction}
  float physics:restitution = 0
}}
def Cube "ground" (
  prepend apiSchemas = ["PhysicsCollisionAPI", "MaterialBindingAPI"]
)
{{
  double size = 2
  float3 xformOp:scale = {GROUND}
  double3 xformOp:translate = (0, {-GROUND[1]}, 0)
  uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]
  {stuff}
}}
"""]
    for i, half in enumerate(scene["half"]):
        box = half[0] > 0
        kinds = ["PhysicsRigidBodyAPI", "PhysicsMassAPI", "PhysicsCollisionAPI", "MaterialBindingAPI"]
        kinds += [] if box else ["PhysicsMeshCollisionAPI"]
        names = ", ".join(f'"{k}"' for k in kinds)
        if box:
            shape = "double size = 2"
        else:
            face = scene["face"][scene["face_start"][i] : scene["face_start"][i + 1]]
            shape = (f'uniform token physics:approximation = "convexHull"\n  uniform token subdivisionScheme = "none"\n'
                     f"  point3f[] points = [{tuples(hull_of(scene, i))}]\n  int[] faceVertexCounts = {[3] * len(face)}\n"
                     f"  int[] faceVertexIndices = {face.ravel().tolist()}")
        text.append(f"""def {"Cube" if box else "Mesh"} "b{i}" (
  prepend apiSchemas = [{names}]
)
{{
  {shape}
  float physics:mass = {float(scene["mass"][i]):.9g}
  vector3f physics:velocity = {tuples(scene["velocity"][i : i + 1])}
  double3 xformOp:translate = {tuples(scene["position"][i : i + 1])}
  quatf xformOp:orient = {tuples(scene["rotation"][i : i + 1])}
  float3 xformOp:scale = {tuples(half[None]) if box else (1, 1, 1)}
  uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:orient", "xformOp:scale"]
  {stuff}
}}
""")
    if "bond_a" in scene:
        text.extend(_usd_joints(scene, tuples))
    return "".join([*text, "}\n"])


def _usd_joints(scene: dict[str, np.ndarray], tuples: Callable[[np.ndarray], str]) -> list[str]:
    """Breakable fixed joints; anchors count in units of the prim, whose scale is a box's half-extents."""
    scale = np.where(np.isnan(scene["half"]), 1.0, scene["half"])
    text = []
    for k, (a, b) in enumerate(zip(scene["bond_a"], scene["bond_b"], strict=True)):
        at = [(scene["bond_point"][k] - scene["position"][i]) / scale[i] if i >= 0 else scene["bond_point"][k] for i in (a, b)]
        second = f"rel physics:body1 = </World/b{b}>" if b >= 0 else ""
        text.append(f"""def PhysicsFixedJoint "j{k}"
{{
  rel physics:body0 = </World/b{a}>
  {second}
  point3f physics:localPos0 = {tuples(at[0][None])}
  point3f physics:localPos1 = {tuples(at[1][None])}
  float physics:breakForce = {scene["bond_force"][k]:.9g}
  float physics:breakTorque = {scene["bond_torque"][k]:.9g}
  bool physics:collisionEnabled = 0
}}
""")
    return text


ENGINES: dict[str, Callable[[dict[str, np.ndarray], int], tuple[Step, Pose, str]]] = {
    "rapier": rapier, "rapier4": lambda scene, threads: rapier(scene, threads, 4), "physx": physx, "pybullet": pybullet,
}


def main() -> None:
    """Run one engine on one scene."""
    engine, source, out, frames, threads = sys.argv[1:6]
    with np.load(source) as data:
        scene = {k: data[k] for k in data.files}
    step, pose, name = ENGINES[engine](scene, int(threads))
    np.savez(out, version=name, **race(step, pose, int(frames)))


if __name__ == "__main__":
    main()
