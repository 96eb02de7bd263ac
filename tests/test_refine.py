"""The refine stage: history that any frame range agrees on, layers that composite exactly, weights that are what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_guides import BOXES, GROUND_ID, Lens, box_frame, box_guides

import neural.refine as stage
from neural.colour import encode, shift
from neural.guide_tensor import CHANNELS, guide_channels, lens_of, padded
from neural.temporal import carry, history_blend
from shot.chunks import CHUNK, WARM_UP, chunk_weights, guide_frames
from shot.errors import MissingResource, ShotError
from shot.frames import FrameFolder
from shot.params import Light, Shot
from shot.results import Guides, progress_silent

WEIGHTS = Path(__file__).resolve().parent.parent / "assets" / "weights" / "refiner.onnx"
WIDTH, HEIGHT = 64, 48


def shot_of(**refine) -> Shot:
    """A shot with some of [refine] set."""
    return Shot.model_validate({"frames": 96, "refine": {"device": "cpu"} | refine})


class Leaning:
    """A backend that leans on the past as hard as it can: noise of the frame plus nine tenths of what was carried."""

    layer = "solid"

    def detail(self, arrays, lens):
        """See Backend."""
        return stage.ONE

    def residual(self, picture, arrays, lens, frame, carried, valid):
        """See Backend."""
        fresh = np.random.default_rng(frame).standard_normal((3, *arrays["id"].shape)).astype(np.float32)
        return 0.02 * fresh + 0.9 * carried


class Constant:
    """A backend that always answers the same."""

    def __init__(self, value, layer="solid", factor=stage.ONE):
        self.value, self.layer, self.factor = value, layer, factor

    def detail(self, arrays, lens):
        """See Backend."""
        return self.factor

    def residual(self, picture, arrays, lens, frame, carried, valid):
        """See Backend."""
        return np.full((3, *arrays["id"].shape), self.value, np.float32)


def run(monkeypatch, backend, shot: Shot, guides: Guides, folder: Path, frames) -> dict[int, Mapping[str, np.ndarray]]:
    """Refine with a given backend; all frames asked for."""
    monkeypatch.setattr(stage, "backend_open", lambda *_: backend)
    done = stage.refine(shot, guides, FrameFolder(folder), frames, progress_silent, None)
    return {frame: done.frame(frame) for frame in frames}


def same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    """Bit for bit."""
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def guides(tmp_path_factory) -> Guides:
    """48 frames of boxes under a drifting camera."""
    return box_guides(tmp_path_factory.mktemp("guides"), range(1001, 1049), WIDTH, HEIGHT)


# ---- any frame range gives the same frames ----


def test_a_range_alone_is_the_whole_shot(monkeypatch, guides, tmp_path, taichi):
    """Frames 1030-1040 alone equal those of 1001-1048, to the bit, though every frame leans on the one before."""
    shot = shot_of(history=0.6)
    whole = run(monkeypatch, Leaning(), shot, guides, tmp_path / "whole", range(1001, 1049))
    alone = run(monkeypatch, Leaning(), shot, guides, tmp_path / "alone", range(1030, 1041))
    thinned = run(monkeypatch, Leaning(), shot, guides, tmp_path / "thinned", range(1002, 1049, 5))
    assert all(same(whole[f], alone[f]) for f in alone) and all(same(whole[f], thinned[f]) for f in thinned)
    memoryless = run(monkeypatch, Leaning(), shot_of(history=0.0), guides, tmp_path / "none", [1030])
    assert not same(whole[1030], memoryless[1030])


def test_a_killed_run_goes_on_bit_identical(monkeypatch, guides, tmp_path, taichi):
    """Resumed in the middle of a chunk, with one finished frame damaged, the folder ends as if never stopped."""
    shot = shot_of(history=0.6)
    whole = run(monkeypatch, Leaning(), shot, guides, tmp_path / "whole", range(1001, 1031))
    run(monkeypatch, Leaning(), shot, guides, tmp_path / "cut", range(1001, 1018))
    (tmp_path / "cut" / "frame.1009.npz").write_bytes(b"damaged")
    resumed = run(monkeypatch, Leaning(), shot, guides, tmp_path / "cut", range(1001, 1031))
    assert all(same(whole[f], resumed[f]) for f in whole)


def test_restarts_are_faded_over(monkeypatch, guides, tmp_path, taichi):
    """What a chunk has gathered is handed over in WARM_UP + 1 even steps, not in one."""

    class Gathering(Leaning):
        def residual(self, picture, arrays, lens, frame, carried, valid):
            return carried + np.float32(0.01)

    got = run(monkeypatch, Gathering(), shot_of(history=1e-6), guides, tmp_path, range(1018, 1029))
    still = {f: guides.frame(f)["id"] == GROUND_ID for f in got}
    gain = [float(np.median(encode(got[f]["refined"][still[f]]) - encode(beauty_of(guides.frame(f))[still[f]]))) for f in got]
    steps = np.abs(np.diff(gain))
    assert gain[2] > 0.1 and gain[-1] < 0.1 and steps.max() < 0.35 * (gain[2] - min(gain))


def test_missing_guides_are_an_error(monkeypatch, guides, tmp_path, taichi):
    """With history, a frame whose forerunners were not drawn is refused in words; without, it needs its own guides only."""
    sparse = FrameFolder(tmp_path / "sparse")
    sparse.put("static", guides.folder.get("static"))
    for frame in (1001, 1003):
        sparse.put_frame(frame, guides.frame(frame))
    with pytest.raises(MissingResource, match="refine.history = 0.6 needs the guides of frames 1001 to 1003"):
        run(monkeypatch, Leaning(), shot_of(history=0.6), Guides(sparse), tmp_path / "a", [1001, 1003])
    run(monkeypatch, Leaning(), shot_of(history=0.0), Guides(sparse), tmp_path / "b", [1001, 1003])


def test_chunks_fade_and_list_their_guides():
    """Weights sum to 1, fade over WARM_UP frames, and guide_frames lists the span from warm-up to frame and no more."""
    for frame in range(1001, 1001 + 4 * CHUNK):
        weights = chunk_weights(frame, 1001)
        assert abs(sum(w for _, w in weights) - 1) < 1e-12 and all(0 < w <= 1 for _, w in weights)
    into = [dict(chunk_weights(1001 + CHUNK - WARM_UP - 1 + k, 1001)).get(1, 0.0) for k in range(WARM_UP + 2)]
    assert np.allclose(np.diff(into), 1 / (WARM_UP + 1)) and into[-1] == 1.0
    assert guide_frames([1030], 1001, 0.5) == list(range(1001 + CHUNK - WARM_UP, 1031))
    assert guide_frames([1030], 1001, 0.0) == [1030]
    assert guide_frames([1003], 1001, 0.5) == [1001, 1002, 1003]


# ---- carrying along the motion ----


def painted(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """A smooth pattern fixed to the surfaces: what a perfect carry must reproduce."""
    r = arrays["rest"].astype(float)
    return np.stack([np.sin(0.9 * r[..., 0] + r[..., 1]), np.cos(0.7 * r[..., 2] - r[..., 1]), 0.1 * arrays["id"]]).astype(np.float32)


def test_carry_follows_surfaces(taichi):
    """A pattern painted on rest positions arrives on them: error of cubic interpolation only; ids never mix; most pixels hold."""
    lens = Lens(move=(0.11, 0.02, -0.1))
    before, now = (box_frame(1001 + k, 320, 192, lens=lens) for k in range(2))
    carried, valid = carry(painted(before), before, now, 2 * np.tan(lens.fov / 2) / 192)
    solid = (now["id"] > 0) & (now["depth"] < 40)
    assert valid[solid].mean() > 0.95 and valid[now["id"] == 0].sum() == 0
    near = (valid > 0) & solid
    assert np.abs(carried - painted(now))[:2, near].mean() < 2e-3
    assert np.abs(carried - painted(now))[2, near].max() < 1e-5
    unmoved = dict(now, motion_backward=np.zeros_like(now["motion_backward"]))
    wrong, _ = carry(painted(before), before, unmoved, 0.004)
    assert np.abs(wrong - painted(now))[:2, near].mean() > 10 * np.abs(carried - painted(now))[:2, near].mean()


def test_uncovered_surface_has_no_history(taichi):
    """Ground that a moving box has just left is not valid; what was seen before is."""
    fast = (BOXES[0].__class__((2.0, 3.0, 2.0), (0.0, 3.0, 0.0), (0.6, 0.0, 0.0)),)
    still = Lens(move=(0.0, 0.0, 0.0))
    before, now = (box_frame(1001 + k, 160, 96, boxes=fast, lens=still) for k in range(2))
    _, valid = carry(np.zeros((3, 96, 160), np.float32), before, now, 0.008)
    bared = (before["id"] == 1) & (now["id"] == GROUND_ID)
    kept = (before["id"] == GROUND_ID) & (now["id"] == GROUND_ID) & (now["depth"] < 40)
    assert bared.sum() > 20 and valid[bared].mean() < 0.1 and valid[kept].mean() > 0.98


def test_a_face_that_turns_into_view_has_no_history(taichi):
    """Same fragment, other face: the id agrees, the rest position does not, so the pixel is not valid."""
    turning = (BOXES[0].__class__((2.0, 2.0, 2.0), (0.0, 3.0, 0.0), spin=0.5),)
    lens = Lens(move=(0.0, 0.0, 0.0), down=0.0)
    before, now = (box_frame(1001 + k, 160, 96, boxes=turning, lens=lens) for k in range(2))
    _, valid = carry(np.zeros((3, 96, 160), np.float32), before, now, 0.008)
    side = (now["id"] == 1) & (np.abs(now["rest"][..., 0]) > 1.99)
    front = (now["id"] == 1) & (np.abs(now["rest"][..., 2]) > 1.99)
    assert not ((before["id"] == 1) & (np.abs(before["rest"][..., 0]) > 1.99)).any()
    assert side.sum() > 50 and valid[side].mean() < 0.2 and valid[front].mean() > 0.9


def test_blend_clamps_ghosts():
    """The carried residual counts only inside the 3x3 range of the new one; weight 0 changes nothing."""
    fresh = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 20, 30)).astype(np.float32)
    ghost = np.full_like(fresh, 5.0)
    blended = history_blend(fresh, ghost, np.full((20, 30), 0.5, np.float32))
    assert blended.max() <= fresh.max() and (blended >= fresh).all()
    assert np.array_equal(history_blend(fresh, ghost, np.zeros((20, 30), np.float32)), fresh)
    flat = np.full_like(fresh, 0.05)
    assert np.allclose(history_blend(flat, ghost, np.ones((20, 30), np.float32)), 0.05)


# ---- layers ----


def beauty_of(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The raster as it is delivered without refinement."""
    dust = arrays["dust"].astype(np.float32)
    return arrays["solid"].astype(np.float32) * (1 - dust[..., 3:]) + dust[..., :3]


def test_no_residual_is_the_raster(monkeypatch, guides, tmp_path, taichi):
    """A residual of zero gives the beauty back bit for bit, in both layers; so does backend `none`, with an empty mask."""
    want = beauty_of(guides.frame(1001)).astype(np.float16)
    for layer in ("solid", "beauty"):
        got = run(monkeypatch, Constant(0.0, layer), shot_of(history=0.0), guides, tmp_path / layer, [1001])[1001]
        assert np.array_equal(got["refined"], want)
    none = run(monkeypatch, None, shot_of(backend="none"), guides, tmp_path / "none", [1001])[1001]
    assert np.array_equal(none["refined"], want) and none["mask"].max() == 0 and none["mix"] == 0


def test_dust_lies_over_refined_solids(monkeypatch, guides, tmp_path, taichi):
    """refined = refined solid (1 - a) + dust; the mask is 0 in the sky, falls where dust hides the solids, and is 1 elsewhere."""
    got = run(monkeypatch, Constant(0.1), shot_of(history=0.0), guides, tmp_path, [1001])[1001]
    arrays = guides.frame(1001)
    solid, dust = arrays["solid"].astype(np.float32), arrays["dust"].astype(np.float32)
    bright = shift(solid, np.full_like(solid, 0.1))
    cover = (arrays["alpha"] > 0)[..., None]
    want = np.where(cover, bright, solid) * (1 - dust[..., 3:]) + dust[..., :3]
    assert np.allclose(got["refined"].astype(np.float32), want, rtol=2e-3)
    mask, thick = got["mask"].astype(float), dust[..., 3]
    assert (mask[arrays["id"] == 0] == 0).all()
    assert (mask[(arrays["id"] > 0) & (thick == 0)] == 1).all() and mask[(arrays["id"] > 0) & (thick > 0.8)].max() < 0.5


def test_detail_is_drawn_and_never_carried(monkeypatch, guides, tmp_path, taichi):
    """The layer is multiplied by the detail before the residual shifts it, in every frame alike: history carries none of it."""
    got = run(monkeypatch, Constant(0.1, factor=np.full(3, 1.5, np.float32)), shot_of(history=0.6), guides, tmp_path, [1001, 1003])
    for frame, layers in got.items():
        arrays = guides.frame(frame)
        clear = (arrays["alpha"] > 0) & (arrays["dust"][..., 3] == 0)
        solid = arrays["solid"].astype(np.float32)
        want = shift(1.5 * solid, np.full_like(solid, 0.1))
        assert clear.any() and np.allclose(layers["refined"][clear].astype(np.float32), want[clear], rtol=2e-3)


def test_what_cannot_be_trusted_stays_raster(monkeypatch, guides, tmp_path, taichi):
    """Non-finite and exorbitant residuals leave the raster pixel and an empty mask, never a NaN."""
    want = beauty_of(guides.frame(1001)).astype(np.float16)
    for name, value in (("nan", np.nan), ("inf", np.inf), ("far", 0.7)):
        got = run(monkeypatch, Constant(value), shot_of(history=0.5), guides, tmp_path / name, [1001])[1001]
        assert np.array_equal(got["refined"], want)
    assert got["mask"].max() == 0


def test_highlights_stay_linear(taichi):
    """Light of 50 brightened by half stays 75: no clipping at 1 on the way."""
    arrays = dict(box_frame(1001, WIDTH, HEIGHT))
    arrays["solid"] = np.full_like(arrays["solid"], 50)
    arrays["dust"] = np.zeros_like(arrays["dust"])
    step = encode(np.array(75.0)) - encode(np.array(50.0))
    static = {"view": np.eye(4)[None], "projection": np.eye(4), "sun": np.array([0, 1.0, 0]), "exposure": 0.4}
    lens = lens_of(static, 0, HEIGHT)
    frame = stage.composited(arrays, np.full((3, HEIGHT, WIDTH), encode(np.array(30.0)) - encode(np.array(20.0))), lens, "solid", 1.0)
    assert abs(step) > 0 and np.allclose(frame["refined"][arrays["id"] > 0].astype(float), 75, rtol=2e-3)


# ---- what the network sees ----


def test_channels_are_finite_and_in_order(taichi):
    """One plane per name, no infinities in the sky, ids told apart by a salt, normals turned into the camera."""
    arrays = box_frame(1001, WIDTH, HEIGHT)
    static = {"view": Lens().view(0)[None], "projection": Lens().projection(WIDTH, HEIGHT), "sun": np.array([0, 1.0, 0]), "exposure": 1.0}
    lens = lens_of(static, 0, HEIGHT)
    planes = guide_channels(arrays["solid"], arrays, lens)
    assert planes.shape == (len(CHANNELS), HEIGHT, WIDTH) and np.isfinite(planes).all()
    other = guide_channels(arrays["solid"], arrays, lens, salt=5)
    changed = [name for name, a, b in zip(CHANNELS, planes, other, strict=True) if not np.array_equal(a, b)]
    assert changed == ["id_a", "id_b"]
    ground = arrays["id"] == GROUND_ID
    assert np.allclose(planes[CHANNELS.index("normal_y")][ground], np.cos(Lens().down), atol=2e-3)
    assert padded(planes).shape == (len(CHANNELS), 48, 64) and padded(planes[:, :47, :50]).shape[1:] == (48, 64)


def test_twice_the_pixels_at_twice_the_distance_look_alike():
    """The footprint channel depends on metres per pixel, not on distance or resolution alone."""
    near = box_frame(1001, 32, 24)
    far = dict(near, depth=2 * near["depth"])
    plane = CHANNELS.index("footprint")
    static = {"view": np.eye(4)[None], "projection": np.eye(4), "sun": np.array([0, 1.0, 0]), "exposure": 1.0}
    a, b = (guide_channels(g["solid"], g, lens_of(static, 0, rows))[plane] for g, rows in ((near, 24), (far, 48)))
    solid = near["id"] > 0
    assert np.allclose(a[solid], b[solid])


# ---- the shipped weights ----


def test_shipped_weights_refine_the_same_on_any_thread_count(guides, tmp_path, monkeypatch, taichi):
    """The embedded network on 1, 2 and 3 threads gives the same bits, finite, and changes the picture."""
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("DEMOLISH_THREADS", threads)
        done = stage.refine(shot_of(steps=2), guides, FrameFolder(tmp_path / threads), [1001, 1002], progress_silent, WEIGHTS)
        results.append(done.frame(1002))
    assert same(results[0], results[1]) and same(results[0], results[2])
    assert np.isfinite(results[0]["refined"]).all()
    assert np.abs(results[0]["refined"].astype(float) - beauty_of(guides.frame(1002))).mean() > 1e-3


def test_weights_say_what_they_are(tmp_path):
    """Size, digest, version and channels are in the JSON; the file stays small enough for git."""
    about = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert about["guides_version"] == Guides.VERSION and tuple(about["channels"]) == CHANNELS
    assert WEIGHTS.stat().st_size < 4.5e6 and about["parameters"] < 1.1e6


@pytest.mark.parametrize("change, error, words", [
    ({"guides_version": 99}, ShotError, "trained on guides of version 99"),
    ({"channels": ["solid_r"]}, ShotError, "trained on channels"),
    ({"sha256": "0" * 64}, MissingResource, "does not match the digest"),
])
def test_wrong_weights_are_refused(change, error, words, tmp_path):
    """Weights of another version, of other channels or changed on disk are an error that says which."""
    shutil.copy(WEIGHTS, tmp_path / "refiner.onnx")
    about = json.loads(WEIGHTS.with_suffix(".json").read_text())
    (tmp_path / "refiner.json").write_text(json.dumps(about | change))
    with pytest.raises(error, match=words):
        stage.backend_open(shot_of(), tmp_path / "refiner.onnx")


def test_missing_weights_and_devices(tmp_path, monkeypatch):
    """No weights, no CUDA: an error with the way out, never a quiet fallback."""
    import onnxruntime

    with pytest.raises(MissingResource, match="make train"):
        stage.backend_open(shot_of(), tmp_path / "nothing.onnx")
    with pytest.raises(MissingResource, match="make train"):
        stage.backend_open(shot_of(), None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingResource, match="onnxruntime-gpu"):
        stage.backend_open(shot_of(device="cuda"), WEIGHTS)


def test_guides_of_another_version_are_refused(monkeypatch, tmp_path, taichi):
    """Guides written by another version are not read as if they were ours."""
    old = box_guides(tmp_path / "old", [1001], WIDTH, HEIGHT, version=Guides.VERSION + 1)
    with pytest.raises(ShotError, match="draw them again"):
        run(monkeypatch, Constant(0.0), shot_of(), old, tmp_path / "out", [1001])


# ---- training data ----


@pytest.fixture(scope="module")
def small_building(tmp_path_factory):
    """Fragments of a small frame block."""
    from assets.building import build
    from sim.fracture import shatter

    shot = Shot.model_validate({"building": {"storeys": 1, "bays_x": 1, "bays_z": 1, "core": False}, "fracture": {"piece": 1.0}})
    folder = FrameFolder(tmp_path_factory.mktemp("building"))
    return shatter(shot, build(shot, folder, Path("."), progress_silent), folder, progress_silent)[0]


def volumes(fragments) -> np.ndarray:
    """Volume inside each fragment's mesh, by the divergence theorem."""
    found = []
    for f in range(fragments.count):
        v = fragments.vertex[fragments.vertex_start[f] : fragments.vertex_start[f + 1]].astype(float)
        a, b, c = (v[fragments.face[fragments.face_start[f] : fragments.face_start[f + 1], k]] for k in range(3))
        found.append(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)
    return np.array(found)


def test_rough_pieces_still_fit(small_building):
    """Both sides of a crack move alike: pieces change their volume, the building keeps its own to 0.1 %; meshes stay closed."""
    from neural.rough_surface import roughen

    rough = roughen(small_building, np.full(small_building.count, 0.15), 3)
    before, after = volumes(small_building), volumes(rough)
    assert np.abs(after - before).max() > 1e-4 and abs(after.sum() - before.sum()) < 1e-3 * before.sum()
    assert len(rough.face) > 4 * len(small_building.face) and np.array_equal(rough.mass, small_building.mass)
    for f in range(0, rough.count, 7):
        face = rough.face[rough.face_start[f] : rough.face_start[f + 1]]
        sides = np.sort(face[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        assert (np.unique(sides, axis=0, return_counts=True)[1] % 2 == 0).all()
    untouched = roughen(small_building, np.full(small_building.count, np.inf), 3)
    assert np.array_equal(untouched.vertex, small_building.vertex)


def test_staged_collapse_falls(small_building):
    """Nothing has moved at time 0; later loose pieces lie lower, none below ground; the same call gives the same poses."""
    from neural.staged_collapse import staged_poses

    start, turn, _ = staged_poses(small_building, 0.0, 1)
    assert np.allclose(start, small_building.position) and np.allclose(turn, [1, 0, 0, 0])
    late, turn, loose = staged_poses(small_building, 6.0, 1)
    free = np.isfinite(loose)
    assert free.any() and late[free, 1].mean() < start[free, 1].mean() - 0.3 and late[:, 1].min() > 0
    assert np.allclose(late[~free], start[~free]) and np.allclose(np.linalg.norm(turn, axis=1), 1)
    assert np.array_equal(late, staged_poses(small_building, 6.0, 1)[0])


def relief_scene(frame: int, light: Light, size: int = 2, seed: int = 1, boxes=BOXES) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays of the box scene and their relief, under a light."""
    from box_guides import SUN

    from neural.relief import relief_factor

    arrays = box_frame(frame, size * 160, size * 96, boxes)
    step = frame - 1001
    static = {"view": Lens().view(step)[None], "projection": Lens().projection(160, 96), "sun": SUN, "exposure": 1.0}
    return arrays, relief_factor(arrays, lens_of(static, 0, size * 96), light, seed)


def test_turns_are_those_of_the_pieces(taichi):
    """The turn fitted to a piece's pixels is the turn of its pose, to the pixel's share of what is seen of it."""
    from neural.relief import turns
    from shot.rotation import matrix

    arrays = box_frame(1021, 320, 192)
    static = {"view": Lens().view(20)[None], "projection": Lens().projection(320, 192), "sun": np.array([0, 1.0, 0]), "exposure": 1.0}
    order, turn = turns(arrays, lens_of(static, 0, 192))
    for k, box in enumerate(BOXES):
        row = np.unique(order[arrays["id"] == k + 1])
        want = matrix(box.pose(20)[1][None])[0]
        assert len(row) == 1 and np.abs(turn[row[0]] - want).max() < 0.02
    assert (order[arrays["id"] == 0] == -1).all() and np.allclose(np.linalg.det(turn), 1, atol=1e-5)


def test_relief_shades_and_fades(taichi):
    """Relief leaves the sky alone and the mean light of the ground within 2 %; far away it is smooth; another seed is another
    pattern; in light from everywhere only hollows show, alike in all colours."""
    from neural.relief import CAVITY

    arrays, factor = relief_scene(1001, Light())
    ground = arrays["id"] == GROUND_ID
    near, far = ground & (arrays["depth"] < 15), ground & (arrays["depth"] > 400)
    assert (factor[arrays["id"] == 0] == 1).all() and (factor[far] == 1).all() and near.sum() > 500
    assert abs(factor[near].mean() - 1) < 0.02 and 0.05 < factor[near].std() < 0.4
    other = relief_scene(1001, Light(), seed=2)[1]
    assert np.corrcoef(factor[near][:, 0], other[near][:, 0])[0, 1] < 0.3
    flat = relief_scene(1001, Light(sun=(0, 0, 0), sky=(0.5, 0.5, 0.5), ground_bounce=(0.5, 0.5, 0.5)))[1]
    assert np.abs(flat[near] - 1).max() <= CAVITY + 1e-6 and np.ptp(flat[near], axis=1).max() < 1e-5


def test_relief_sticks_to_what_moves(taichi):
    """On a piece that only travels the relief of the next frame is that of this one, carried along the motion."""
    travel = (replace(BOXES[1], spin=0.0, centre=(-1.0, 3.0, 9.0)),)
    pair = [relief_scene(frame, Light(), boxes=travel, size=3) for frame in (1001, 1002)]
    carried, valid = carry(encode(pair[0][1]).transpose(2, 0, 1), pair[0][0], pair[1][0], 2 * np.tan(Lens().fov / 2) / 288)
    inside = (valid > 0) & (pair[1][0]["id"] == 1) & (pair[1][0]["edge"] == 0)
    now = encode(pair[1][1]).transpose(2, 0, 1)
    assert inside.sum() > 500 and now[0][inside].std() > 1e-3
    assert np.corrcoef(carried[0][inside], now[0][inside])[0, 1] > 0.8


def test_light_and_paint_keep_the_residual():
    """Scaled light changes raster and reference alike: the ratio of the two, and of raster to albedo under light alone, stays."""
    pytest.importorskip("torch")
    from neural.colour import decode
    from neural.train_refine import ALBEDO, relit

    planes = encode(np.random.default_rng(0).uniform(0.05, 0.5, (len(CHANNELS), 8, 8)))
    reference = encode(decode(planes[:3]) * 1.3)
    other, wanted = relit(planes, reference, np.random.default_rng(1).standard_normal(8))
    assert np.abs(other[:3] - planes[:3]).min() > 1e-3 and np.abs(other[ALBEDO] - planes[ALBEDO]).min() > 1e-4
    assert np.allclose(decode(wanted) / decode(other[:3]), 1.3, rtol=1e-3)
    gain = decode(other[ALBEDO]) / decode(planes[ALBEDO])
    assert np.allclose(gain, gain[:, :1, :1], rtol=1e-3) and decode(other[ALBEDO]).max() < 0.951


def test_takes_are_split_by_building():
    """No building is both trained on and held out, and every take is a valid shot of its own."""
    from neural.training_shots import HELD_OUT, takes

    every = takes()
    assert {t.building for t in every if t.held_out} == set(HELD_OUT) and len({t.name for t in every}) == len(every)
    assert not {t.building for t in every if not t.held_out} & set(HELD_OUT)
    assert min(len(t.frames) for t in every if t.held_out) >= 2


@pytest.mark.torch
def test_untrained_network_is_the_identity():
    """The last layer starts at zero: whatever goes in, the residual is zero; at t = 1 a trained one would not see the state either."""
    torch = pytest.importorskip("torch")
    from neural.refiner_network import RefinerNetwork

    torch.manual_seed(0)
    network = RefinerNetwork(len(CHANNELS))
    guides, state = torch.randn(1, len(CHANNELS), 32, 48), torch.randn(1, 3, 32, 48)
    assert network(guides, state, torch.tensor([0.4])).abs().max() == 0
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    at_one = [network(guides, s, torch.ones(1)) for s in (state, 2 * state)]
    assert torch.equal(*at_one) and at_one[0].abs().max() > 0


@pytest.mark.torch
def test_training_resumes_where_it_stopped(tmp_path, monkeypatch):
    """Killed after the second step and run again, training ends with the same weights as never stopped."""
    torch = pytest.importorskip("torch")
    from argparse import Namespace

    from neural import train_refine as training

    monkeypatch.setattr(training, "CROP", 32)
    monkeypatch.setattr(training, "BATCH", 2)
    monkeypatch.setattr(training, "CHECKPOINT", 2)
    torch.set_num_threads(1)
    arrays = box_frame(1001, WIDTH, HEIGHT)
    static = {"view": np.eye(4)[None], "projection": Lens().projection(WIDTH, HEIGHT), "sun": np.array([0, 1.0, 0]), "exposure": 1.0}
    planes = guide_channels(arrays["solid"], arrays, lens_of(static, 0, HEIGHT)).astype(np.float16)
    reference = (planes[:3] + np.random.default_rng(0).normal(0, 0.1, (3, HEIGHT, WIDTH))).astype(np.float16)
    spots = np.flatnonzero((arrays["id"] > 0) & (arrays["id"] < GROUND_ID))
    pictures = [training.Picture(planes, arrays["id"], reference, np.ones((HEIGHT, WIDTH), np.float16), spots)]
    deviation = np.full(3, 0.1, np.float32)
    ends = []
    for name, stop in (("straight", None), ("cut", 2)):
        (tmp_path / name).mkdir()
        options = Namespace(pairs=tmp_path / name, steps=4)
        network = training.network_new(pictures)
        plain, seen = training.loss_of, []

        def counted(*given, stop=stop, plain=plain, seen=seen):
            seen.append(1)
            if stop is not None and len(seen) > stop + 1:
                raise KeyboardInterrupt
            return plain(*given)

        if stop:
            monkeypatch.setattr(training, "loss_of", counted)
            with pytest.raises(KeyboardInterrupt):
                training.network_train(network, pictures, deviation, 0.5, "refiner", options)
            monkeypatch.setattr(training, "loss_of", plain)
            network = training.network_new(pictures)
        training.network_train(network, pictures, deviation, 0.5, "refiner", options)
        ends.append(network.state_dict())
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


# ---- measures ----


def test_measures_rank_as_they_should(taichi):
    """Equal pictures are perfect; blur has less texture, another place of the same texture has not; a sharp carry has no warp error."""
    from neural.picture_metrics import colour_fit, psnr, ssim, temporal_difference, texture_distance, warp_error

    rng = np.random.default_rng(0)
    picture = np.repeat(0.3 * np.exp(0.3 * rng.standard_normal((96, 128, 1))), 3, -1)
    blurred = picture.copy()
    blurred[1:-1] = (picture[:-2] + picture[1:-1] + picture[2:]) / 3
    everywhere = np.ones((96, 128))
    assert psnr(picture, picture) > 100 and ssim(picture, picture) > 0.9999 and texture_distance(picture, picture, everywhere) == 0
    elsewhere = np.roll(picture, (11, 17), (0, 1))
    assert texture_distance(elsewhere, picture, everywhere) < 0.2 * texture_distance(blurred, picture, everywhere)
    assert ssim(elsewhere, picture) < 0.2 and psnr(blurred, picture) > psnr(elsewhere, picture)
    assert warp_error(picture, picture, everywhere) == 0 and temporal_difference(blurred, blurred, picture, picture, everywhere) == 0
    assert temporal_difference(picture, elsewhere, picture, picture, everywhere) > 0.01
    graded = 2 * picture
    fit = colour_fit(picture, graded)
    assert fit.shape == (3, 4) and np.abs(encode(picture) @ fit[:, :3].T + fit[:, 3] - encode(graded)).mean() < 0.01
