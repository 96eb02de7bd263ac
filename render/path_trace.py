"""The Mitsuba side of the reference: run by an interpreter that has mitsuba and numpy, and nothing of ours.

In: `path_trace.py SCENE.npz OUT.npy`; the scene holds vertex (V, 3), face (T, 3), colour (T, 3), eye, target, up, fov [deg], width,
height, spp, seed, suns (S, 3) directions to the sun, sun (3) irradiance of each, sky (rows, columns, 3) radiance, near, far.
Out: (H, W, 3) float32 linear radiance, box filter, row 0 at the top. Diffuse surfaces, six path segments, scalar_rgb: needs no LLVM.
"""

from __future__ import annotations

import sys

import mitsuba as mi  # type: ignore[import-not-found]
import numpy as np

mi.set_variant("scalar_rgb")


def trace(scene_file: str, out_file: str) -> None:
    """Render the scene file."""
    data = np.load(scene_file)
    suns = {
        f"sun{i}": {"type": "directional", "direction": (-d).tolist(), "irradiance": {"type": "rgb", "value": data["sun"].tolist()}}
        for i, d in enumerate(data["suns"])
    }
    scene = mi.load_dict({
        "type": "scene",
        "integrator": {"type": "path", "max_depth": 7, "rr_depth": 7},
        "sensor": {
            "type": "perspective", "fov": float(data["fov"]), "fov_axis": "y",
            "near_clip": float(data["near"]), "far_clip": float(data["far"]),
            "to_world": mi.ScalarTransform4f().look_at(data["eye"].tolist(), data["target"].tolist(), data["up"].tolist()),
            "sampler": {"type": "independent", "sample_count": int(data["spp"])},
            "film": {"type": "hdrfilm", "width": int(data["width"]), "height": int(data["height"]), "pixel_format": "rgb",
                     "component_format": "float32", "rfilter": {"type": "box"}},
        },
        "sky": {"type": "envmap", "bitmap": mi.Bitmap(data["sky"].astype(np.float32))},
        "solids": solids(data["vertex"], data["face"], data["colour"]),
        **suns,
    })
    image = np.array(mi.render(scene, spp=int(data["spp"]), seed=int(data["seed"])))
    np.save(out_file, image[..., :3].astype(np.float32))


def solids(vertex: np.ndarray, face: np.ndarray, colour: np.ndarray) -> mi.Mesh:
    """One mesh with flat normals and a diffuse colour per face."""
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict({
        "type": "twosided", "bsdf": {"type": "diffuse", "reflectance": {"type": "mesh_attribute", "name": "face_colour"}}})
    mesh = mi.Mesh("solids", len(vertex), len(face), has_vertex_normals=False, has_vertex_texcoords=False, props=properties)
    mesh.add_attribute("face_colour", 3, colour.astype(np.float32).ravel())
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = vertex.astype(np.float32).ravel()
    parameters["faces"] = face.astype(np.uint32).ravel()
    parameters.update()
    return mesh


if __name__ == "__main__":
    trace(sys.argv[1], sys.argv[2])
