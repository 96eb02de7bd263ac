"""Delivery: what is in the files, bit for bit, and that other people's readers find it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenImageIO as oiio
import pytest
from PIL import Image

from render.cryptomatte import MANIFEST_LIMIT, crypto_attributes, crypto_channels, layer_key, matte, mattes_of, murmur3, name_hash
from render.deliver import composite, deliver
from render.display import BRIGHTEST, GREY, displayed, filmic
from render.energy_plot import ledger_plot
from render.exr import CHROMATICITIES, colour_matrix, exr_read, exr_write
from render.motion_blur import motion_blurred
from render.movie import movie_write, rate_of
from render.sheet import GAP, LABEL, TILE_WIDTH, sheet_write, spread
from shot.errors import FramesFailed
from shot.frames import DamagedFile, FrameFolder
from shot.params import Camera, Output, Shot
from shot.results import Fragments, Guides, Motion, Refined, progress_silent

H, W, PIECES = 24, 40, 6
FACTS = {
    "version": "0.1.0", "shot": "t", "shot_hash": "abc", "seed": "1", "device": "cpu", "models": "{}", "keys": "k",
    "command": "demolish run t",
}  # fmt: skip


def fragments_made(count: int = PIECES) -> Fragments:
    """Unit pieces of two elements and two materials."""
    one, none = np.ones(count), np.zeros((0, 3), np.float32)
    start = np.zeros(count + 1, np.int32)
    index = np.arange(count, dtype=np.int32)
    return Fragments(
        position=np.zeros((count, 3)), volume=one, mass=one, inertia=np.tile(np.eye(3), (count, 1, 1)), size=one.astype(np.float32),
        member=index, kind=np.zeros(count, np.int8), element=index % 2, material=(index % 2).astype(np.int16),
        vertex=none, vertex_start=start, face=none.astype(np.int32), face_start=start, face_interior=np.zeros(0, bool),
        hull_vertex=none, hull_vertex_start=start[:1], hull_fragment=np.zeros(0, np.int32),
        material_name=("concrete", "brick"), element_name=("floor00/column_x0_z0", "floor00/infill_left_z0"),
    )  # fmt: skip


def guide_made(frame: int, moving: float = 0.0) -> dict[str, np.ndarray]:
    """Random guides of a frame, all arrays of the Guides docstring."""
    r = np.random.default_rng(frame)
    ids = r.integers(0, PIECES + 4, (H, W, 4)).astype(np.int32)
    depth = r.uniform(5, 50, (H, W)).astype(np.float32)
    depth[:4] = np.inf
    half = np.float16
    return {
        "solid": r.uniform(0, 2, (H, W, 3)).astype(half), "albedo": r.integers(0, 256, (H, W, 3)).astype(np.uint8),
        "normal": r.normal(size=(H, W, 3)).astype(half), "sun": r.uniform(size=(H, W)).astype(half), "depth": depth,
        "ids": ids, "id": ids[..., 0], "motion_backward": (moving * r.normal(size=(H, W, 2))).astype(np.float32),
        "motion_forward": (moving * r.normal(size=(H, W, 2))).astype(np.float32), "rest": r.normal(size=(H, W, 3)).astype(np.float32),
        "interior": r.uniform(size=(H, W)).astype(half), "age": r.uniform(0, 60, (H, W)).astype(half),
        "occlusion": r.uniform(size=(H, W)).astype(half), "edge": r.uniform(size=(H, W)).astype(half),
        "dust": r.uniform(0, 1, (H, W, 4)).astype(half), "dust_depth": depth, "dust_motion": np.zeros((H, W, 2), half),
        "alpha": r.uniform(size=(H, W)).astype(half),
    }  # fmt: skip


def guides_made(folder: Path, frames, moving: float = 0.0) -> Guides:
    """A Guides folder."""
    store = FrameFolder(folder)
    store.put("static", {"version": np.array(Guides.VERSION), "exposure": np.array(0.5)})
    for frame in frames:
        store.put_frame(frame, guide_made(frame, moving))
    return Guides(store)


def shot_made(**output) -> Shot:
    """A four-frame shot of the test size."""
    return Shot(name="t", frames=4, camera=Camera(width=W, height=H), output=Output.model_validate({"motion_blur": 0.0} | output))


def delivered(tmp_path: Path, frames=(1001,), refined=None, moving: float = 0.0, **output):
    """Deliver random guides; the result and the first frame's EXR."""
    guides = guides_made(tmp_path / "guides", frames, moving)
    out = tmp_path / "take"
    result = deliver(shot_made(**output), fragments_made(), guides, refined, out, frames, progress_silent, FACTS)
    return result, exr_read(out / "exr" / f"t.{frames[0]}.exr")


# --- EXR -----------------------------------------------------------------------------------------------------------------------------


def test_exr_round_trip_is_bit_exact(tmp_path):
    """Every bit pattern of float32 and float16 survives, infinities included; the caller's arrays stay; writing repeats."""
    r = np.random.default_rng(1)
    single = r.integers(0, 2**32, (H, W), dtype=np.uint64).astype(np.uint32).view(np.float32)
    single = np.where(np.isnan(single), np.float32(np.inf), single)
    arrays = {"Z": single, "N.X": r.normal(size=(H, W)).astype(np.float16), "CryptoObject00.R": single[::-1]}
    exr_write(tmp_path / "a.exr", arrays, {"demolish/seed": "7"})
    back, attributes = exr_read(tmp_path / "a.exr")
    assert set(back) == set(arrays) and attributes["demolish/seed"] == "7"
    for name, array in arrays.items():
        assert isinstance(array, np.ndarray) and back[name].dtype == array.dtype
        assert back[name].tobytes() == np.ascontiguousarray(array).tobytes()
    exr_write(tmp_path / "b.exr", arrays, {"demolish/seed": "7"})
    assert (tmp_path / "a.exr").read_bytes() == (tmp_path / "b.exr").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.exr", "b.exr"]  # no temporary is left


def test_exr_refuses_what_it_cannot_hold(tmp_path):
    """float64 or unequal sizes raise, and leave no file; a truncated file is a DamagedFile."""
    with pytest.raises(ValueError):
        exr_write(tmp_path / "a.exr", {"Z": np.zeros((2, 2))}, {})
    with pytest.raises(ValueError):
        exr_write(tmp_path / "a.exr", {"Z": np.zeros((2, 2), np.float32), "Y": np.zeros((2, 3), np.float32)}, {})
    assert not list(tmp_path.iterdir())
    exr_write(tmp_path / "a.exr", {"Z": np.zeros((64, 64), np.float32)}, {})
    (tmp_path / "a.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:200])
    with pytest.raises(DamagedFile):
        exr_read(tmp_path / "a.exr")


def test_exr_that_does_not_fit_is_an_oserror(tmp_path):
    """What the system refuses keeps its errno, so that a full disk is told from a damaged frame; nothing is left behind."""
    import errno
    import resource
    import signal

    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(OSError, match="a.exr") as caught:
            exr_write(tmp_path / "a.exr", {"Z": np.random.default_rng(1).random((64, 64), np.float32)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG and not list(tmp_path.iterdir())


def test_data_layers_are_exact(tmp_path):
    """Z, rest positions and ids are the guides' floats; motion is turned: forward next minus here, backward previous minus here, v up."""
    _, (channels, _) = delivered(tmp_path, moving=3.0)
    guide = guide_made(1001, 3.0)
    assert channels["Z"].tobytes() == guide["depth"].tobytes()
    assert (channels["id.x"] == guide["id"]).all()
    for k, part in enumerate("XYZ"):
        assert (channels[f"Prest.{part}"] == guide["rest"][..., k]).all()
        assert (channels[f"N.{part}"] == guide["normal"][..., k]).all() and channels[f"N.{part}"].dtype == np.float16
    assert (channels["forward.u"] == guide["motion_forward"][..., 0]).all()
    assert (channels["forward.v"] == -guide["motion_forward"][..., 1]).all()
    assert (channels["backward.u"] == -guide["motion_backward"][..., 0]).all()
    assert (channels["backward.v"] == guide["motion_backward"][..., 1]).all()
    for name in ("Z", "forward.u", "backward.v", "Prest.X", "id.x", "CryptoObject00.R", "CryptoMaterial01.A"):
        assert channels[name].dtype == np.float32


def test_motion_points_where_things_go(tmp_path):
    """A thing moving right and up 3 and 2 px a frame (ours: +3, -2 both) has forward (3, 2) and backward (-3, -2) in the EXR."""
    store = FrameFolder(tmp_path / "g")
    store.put("static", {"exposure": np.array(1.0)})
    guide = guide_made(1001)
    guide["motion_backward"][:] = guide["motion_forward"][:] = (3, -2)
    store.put_frame(1001, guide)
    deliver(shot_made(), fragments_made(), Guides(store), None, tmp_path / "take", [1001], progress_silent, FACTS)
    channels, _ = exr_read(tmp_path / "take/exr/t.1001.exr")
    found = [channels[n].mean() for n in ("forward.u", "forward.v", "backward.u", "backward.v")]
    assert found == [3, 2, -3, -2]


def test_compositing_identity(tmp_path):
    """The file's own layers rebuild its picture: RGB = half(solid (1 - dust.A) + dust), with no tolerance."""
    for space in ("lin_rec709", "acescg"):
        _, (c, _) = delivered(tmp_path / space, colourspace=space)
        for part in "RGB":
            beauty = c[f"solid.{part}"].astype(np.float32) * (1 - c["dust.A"].astype(np.float32)) + c[f"dust.{part}"].astype(np.float32)
            assert (beauty.astype(np.float16) == c[part]).all()


def test_refined_layer_is_mixed_by_mask(tmp_path):
    """picture = beauty + mask mix (refined - beauty): untouched where the mask is 0, the refined layer where mask and mix are 1."""
    store = FrameFolder(tmp_path / "refined")
    refined = np.random.default_rng(5).uniform(0, 2, (H, W, 3)).astype(np.float16)
    mask = np.zeros((H, W), np.float16)
    mask[:, W // 2 :], mask[:, :4] = 1.0, 0.5
    store.put_frame(1001, {"refined": refined, "mask": mask, "mix": np.array(1.0, np.float32)})
    _, (c, _) = delivered(tmp_path, refined=Refined(store))
    _, (plain, _) = delivered(tmp_path / "plain")
    picture, beauty = (np.stack([d[p] for p in "RGB"], axis=-1).astype(np.float32) for d in (c, plain))
    assert (picture[:, 4 : W // 2] == beauty[:, 4 : W // 2]).all()
    assert (picture[:, W // 2 :] == refined[:, W // 2 :]).all()
    assert picture[:, :4] == pytest.approx((beauty + refined)[:, :4] / 2, abs=2e-3)
    assert (c["refine.A"] == mask).all()
    store.put_frame(1001, {"refined": refined, "mask": mask, "mix": np.array(0.25, np.float32)})
    _, (c, _) = delivered(tmp_path / "quarter", refined=Refined(store))
    assert (c["refine.A"] == mask * np.float16(0.25)).all()


def test_provenance_is_in_every_file(tmp_path):
    """EXR attributes, PNG text and the film's comment say version, shot hash, seed, device, models and command; frames say which."""
    result, (_, attributes) = delivered(tmp_path, frames=(1001, 1002))
    for key, value in FACTS.items():
        assert attributes[f"demolish/{key}"] == value
    assert attributes["demolish/frame"] == "1001"
    with Image.open(tmp_path / "take/png/t.1002.png") as image:
        assert image.info["shot_hash"] == "abc" and image.info["frame"] == "1002"  # type: ignore[index]
    with av.open(result["movie"], "r") as film:
        assert json.loads(film.metadata["comment"])["seed"] == "1"


def test_other_readers_open_the_exr(tmp_path):
    """OpenImageIO finds one part, ZIP, every channel with its type, the chromaticities, and the same pixels."""
    _, (channels, _) = delivered(tmp_path, colourspace="acescg")
    image: Any = oiio.ImageInput.open(str(tmp_path / "take/exr/t.1001.exr"))
    spec = image.spec()
    assert not image.seek_subimage(1, 0)
    image.seek_subimage(0, 0)
    assert set(spec.channelnames) == set(channels) and (spec.width, spec.height) == (W, H)
    assert spec.getattribute("compression") == "zip"
    assert spec.getattribute("chromaticities") == pytest.approx(CHROMATICITIES["acescg"])
    pixels = image.read_image(0, 0, 0, spec.nchannels, oiio.FLOAT)
    for k, name in enumerate(spec.channelnames):
        assert (pixels[..., k] == channels[name].astype(np.float32)).all(), name
        assert str(spec.channelformat(k)) == {"float16": "half", "float32": "float"}[str(channels[name].dtype)]


def test_colour_matrix_agrees_with_opencolorio():
    """Rec.709 to ACEScg as OpenColorIO does it; white stays white."""
    import PyOpenColorIO as ocio

    processor = ocio.Config.CreateFromFile("ocio://default").getProcessor("Linear Rec.709 (sRGB)", "ACEScg").getDefaultCPUProcessor()  # type: ignore
    matrix = colour_matrix("lin_rec709", "acescg")
    for k in range(3):
        assert matrix[:, k] == pytest.approx(processor.applyRGB(list(np.eye(3)[k])), abs=2e-4)
    assert matrix.sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-12)


# --- cryptomatte ---------------------------------------------------------------------------------------------------------------------


def test_murmur3():
    """Known values of MurmurHash3_x86_32, seed 0, for every tail length."""
    known = {b"": 0, b"hello": 0x248BFA47, b"hello, world": 0x149BBB7F, b"The quick brown fox jumps over the lazy dog": 0x2E4FF723}
    assert {text: murmur3(text) for text in known} == known
    assert murmur3(b"aaa", 0x9747B28C) == 0x283E0130 and murmur3(b"aa", 0x9747B28C) == 0x5D211726


def test_ids_are_ordinary_floats():
    """No exponent of 0 or 255 among many names: bit 23 is flipped where the hash has one; other hashes are untouched."""
    flipped = 0
    for k in range(3000):
        plain, fixed = murmur3(f"fragment_{k:05d}".encode()), name_hash(f"fragment_{k:05d}")
        assert 0 < (fixed >> 23) & 255 < 255
        flipped += plain != fixed
        assert plain == fixed or plain ^ fixed == 1 << 23
    assert flipped > 0


def test_ranks_against_brute_force():
    """Coverage descends, equals keep sample order, same names join, background takes none, coverage sums to what is covered."""
    layer = matte("CryptoAsset", ["a", "b", "a", "c", "d", "b"])
    ids = np.random.default_rng(3).integers(0, 14, (64, 64, 4)).astype(np.int32)  # beyond 7: debris
    ids[:8, :, 1:] = ids[:8, :, :1]
    channels = crypto_channels(layer, ids)
    assert sorted(channels) == sorted(f"CryptoAsset{level}.{part}" for level in ("00", "01") for part in "RGBA")
    names = [None, "a", "b", "a", "c", "d", "b", "ground"]
    for y in range(64):
        for x in range(64):
            seen = [names[i] if i < len(names) else "debris" for i in ids[y, x]]
            found = [name for name in dict.fromkeys(seen) if name is not None]
            ranked = sorted(found, key=lambda name: -seen.count(name))  # stable
            for rank in range(4):
                level, (i, c) = rank // 2, ("RG", "BA")[rank % 2]
                code, coverage = (channels[f"CryptoAsset0{level}.{part}"][y, x] for part in (i, c))
                if rank < len(ranked):
                    assert coverage == seen.count(ranked[rank]) / 4
                    assert f"{code.view(np.uint32):08x}" == layer.manifest[ranked[rank]]
                else:
                    assert code == 0 and coverage == 0


def test_manifest_and_metadata(tmp_path):
    """Keys, hash names and the manifest as the specification wants them; three layers in every EXR; large manifests beside the frames."""
    _, (channels, attributes) = delivered(tmp_path)
    for name in ("CryptoObject", "CryptoAsset", "CryptoMaterial"):
        key = f"cryptomatte/{layer_key(name)}/"
        assert layer_key(name) == f"{murmur3(name.encode()):08x}"[:7]
        assert attributes[key + "name"] == name and attributes[key + "hash"] == "MurmurHash3_32"
        assert attributes[key + "conversion"] == "uint32_to_float32"
        manifest = json.loads(attributes[key + "manifest"])
        assert all(value == f"{name_hash(text):08x}" for text, value in manifest.items())
        present = {f"{code:08x}" for code in np.unique(channels[f"{name}00.R"].view(np.uint32)) if code}
        assert present <= set(manifest.values())
    assert set(json.loads(attributes[f"cryptomatte/{layer_key('CryptoMaterial')}/manifest"])) == {"concrete", "brick", "ground", "debris"}
    many = mattes_of(fragments_made(MANIFEST_LIMIT + 5))[0]
    said = crypto_attributes(many, tmp_path, "t")
    side = said[f"cryptomatte/{layer_key('CryptoObject')}/manif_file"]
    assert json.loads((tmp_path / side).read_text()) == many.manifest and len(json.dumps(said)) < 500


# --- display -------------------------------------------------------------------------------------------------------------------------


def test_grey_card_is_exact():
    """18 % grey leaves the filmic and the sRGB view as sRGB 118 in every channel; two stops of exposure are a factor of four."""
    card = np.full((2, 2, 3), 0.18)
    assert (displayed(card, "filmic", 1.0) == 118).all() and (displayed(card, "srgb", 1.0) == 118).all()
    assert (displayed(card / 4, "srgb", 4.0) == 118).all()
    assert abs(int(displayed(card, "aces", 1.0)[0, 0, 0]) - round(0.349 * 255)) <= 1  # ACES 2.0 SDR maps 0.18 to 0.349


def test_filmic_curve():
    """0 to 0, GREY to GREY, BRIGHTEST to 1, rising throughout, and neutral stays neutral."""
    x = np.concatenate([[0.0], np.geomspace(1e-4, BRIGHTEST, 4000)])
    y = filmic(x)
    assert y[0] == 0 and (np.diff(y) > 0).all()
    assert filmic(np.array([GREY, BRIGHTEST, 1e4])) == pytest.approx([GREY, 1.0, 1.0], abs=1e-6)


def test_views_never_leave_their_range():
    """Negative, huge and ordinary light give codes 0..255 in every view, and black is black."""
    light = np.array([[[-1.0, 0, 0], [1e5, 1e5, 1e5], [0.3, 2, 40], [0, 0, 0]]])
    for view in ("filmic", "srgb", "aces"):
        code = displayed(light, view, 1.0)
        assert code.dtype == np.uint8 and (code[0, 3] == 0).all() and code[0, 1].min() >= 250


def test_png_is_the_displayed_picture(tmp_path):
    """The PNG holds the display transform of the picture with the guides' exposure and the shot's stops."""
    delivered(tmp_path, exposure=1.0, view="srgb")
    guide = guide_made(1001)
    dust = guide["dust"].astype(np.float32)
    beauty = guide["solid"].astype(np.float32) * (1 - dust[..., 3:]) + dust[..., :3]
    with Image.open(tmp_path / "take/png/t.1001.png") as image:
        assert (np.asarray(image) == displayed(beauty, "srgb", 2.0 * 0.5)).all()


# --- motion blur ---------------------------------------------------------------------------------------------------------------------


def scene_moving(speed: float):
    """A bright square in front of a dark ground; it moves right by `speed` px a frame."""
    picture, motion, depth = np.full((48, 96, 3), 0.1, np.float32), np.zeros((48, 96, 2), np.float32), np.full((48, 96), 50.0, np.float32)
    picture[16:32, 40:56], motion[16:32, 40:56, 0], depth[16:32, 40:56] = 1.0, speed, 10.0
    return picture, motion, depth


def test_still_pictures_stay_sharp(taichi):
    """Nothing moves: the very same bits. Something moves: bits beyond its reach are the same."""
    picture, motion, depth = scene_moving(0.0)
    assert motion_blurred(picture, motion, depth, 0.5) is picture
    picture = np.random.default_rng(1).uniform(size=picture.shape).astype(np.float32)
    _, motion, depth = scene_moving(16.0)
    out = motion_blurred(picture, motion, depth, 0.5)
    far = np.ones(picture.shape[:2], bool)
    far[16:32, 40 - 5 : 56 + 5] = False
    assert (out[far] == picture[far]).all() and not (out[~far] == picture[~far]).all()


def test_blur_has_the_length_of_the_shutter(taichi):
    """An edge moving 16 px a frame under a half-open shutter becomes a ramp of 8 px, half bright at the edge; no light is lost."""
    picture, motion, depth = scene_moving(16.0)
    out = motion_blurred(picture, motion, depth, 0.5)
    row = out[24, :, 0]
    assert (row[:35] == picture[24, :35, 0]).all() and (row[62:] == picture[24, 62:, 0]).all()
    assert row[46:50] == pytest.approx(1.0, abs=0.02)
    assert 0.3 < row[38:42].mean() < 0.8 and row[36] < row[40] < row[44]
    assert out.sum() == pytest.approx(picture.sum(), rel=0.02)


def test_near_still_things_cover_moving_ones(taichi):
    """A bright thing moving behind a near, still, dark one leaves no light on it."""
    picture, motion, depth = scene_moving(16.0)
    picture[:, 56:60], motion[:, 56:60], depth[:, 56:60] = 0.0, 0.0, 2.0
    out = motion_blurred(picture, motion, depth, 0.5)
    assert out[24, 56:60].max() < 1e-3


def test_delivered_blur_is_on_the_picture_only(tmp_path, taichi):
    """With a shutter, RGB differ from the composite of the layers, which stay sharp; without, they are equal."""
    _, (sharp, _) = delivered(tmp_path / "sharp", moving=8.0)
    _, (soft, _) = delivered(tmp_path / "soft", moving=8.0, motion_blur=0.5)
    for name in sharp:
        assert (sharp[name] == soft[name]).all() == (name not in "RGB"), name
    assert (composite(soft).astype(np.float16) == np.stack([sharp[c] for c in "RGB"], axis=-1)).all()


# --- film, sheet, plot ---------------------------------------------------------------------------------------------------------------


def test_film_decodes(tmp_path):
    """Frame count, rate, size, Rec.709 tags and colours within what 4:2:0 costs; the same pictures give the same file."""
    colours = [(200, 40, 30), (30, 180, 60), (20, 60, 210), (128, 128, 128)]
    pictures = [np.full((46, 81, 3), c, np.uint8) for c in colours]
    assert movie_write(tmp_path / "a.mp4", iter(pictures), 23.976, 10, "made here") == 4
    with av.open(str(tmp_path / "a.mp4"), "r") as film:
        stream = film.streams.video[0]
        assert stream.average_rate == Fraction(24000, 1001) and film.metadata["comment"] == "made here"
        context = stream.codec_context
        assert (context.width, context.height, context.pix_fmt) == (82, 46, "yuv420p")
        assert (int(context.color_primaries), int(context.color_trc), int(context.colorspace), int(context.color_range)) == (1, 1, 1, 1)
        frames = list(film.decode(video=0))
    assert len(frames) == 4
    for frame, colour in zip(frames, colours, strict=True):
        decoded = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
        assert np.abs(decoded[20, 40].astype(int) - colour).max() <= 4
    movie_write(tmp_path / "b.mp4", iter(pictures), 23.976, 10, "made here")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with pytest.raises(ValueError):
        movie_write(tmp_path / "c.mp4", iter([]), 24, 10, "")
    assert not (tmp_path / "c.mp4").exists()


def test_rates():
    """Whole rates are whole, the broadcast ones exact."""
    assert [rate_of(f) for f in (24, 25, 23.976, 29.97, 59.94, 12.5)] == [
        24, 25, Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001), Fraction(25, 2)]  # fmt: skip


def test_thinned_frames_keep_time(tmp_path):
    """Every second frame plays at half the rate, so that the fall lasts as long."""
    result, _ = delivered(tmp_path, frames=(1001, 1003))
    with av.open(result["movie"], mode="r") as film:
        assert film.streams.video[0].average_rate == 12 and film.streams.video[0].frames == 2


def test_sheet(tmp_path):
    """Tiles in reading order at the right places, at most 24 of a long shot, first and last among them."""
    assert spread(range(1001, 1145)) == sorted(set(spread(range(1001, 1145)))) and len(spread(range(1001, 1145))) == 24
    assert spread(range(1001, 1145))[0] == 1001 and spread(range(1001, 1145))[-1] == 1144
    assert spread([1003, 1001]) == [1001, 1003]
    tiles = [(f"take {k}, a label too long for its tile {'x' * 80}", np.full((90, 160, 3), 40 * k, np.uint8)) for k in range(5)]
    sheet_write(tmp_path / "s.png", tiles, 3)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    high = TILE_WIDTH * 90 // 160
    assert sheet.shape == (GAP + 2 * (high + LABEL + GAP), GAP + 3 * (TILE_WIDTH + GAP), 3)
    for k in range(5):
        y, x = GAP + k // 3 * (high + LABEL + GAP) + high // 2, GAP + k % 3 * (TILE_WIDTH + GAP) + TILE_WIDTH // 2
        assert (sheet[y, x] == 40 * k).all()


def test_energy_plot(tmp_path):
    """A falling body's ledger becomes a PNG; the same ledger the same bytes."""
    t = np.arange(10) / 24
    ledger = np.zeros((10, len(Motion.LEDGER)))
    ledger[:, 0], ledger[:, 1] = 1e6 * t**2, -1e6 * t**2
    for name in ("a.png", "b.png"):
        ledger_plot(np.arange(1001, 1011), ledger, 24.0, tmp_path / name, "fall")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").size == (960, 540)


# --- runs ----------------------------------------------------------------------------------------------------------------------------


def test_whole_files_are_kept_and_others_remade(tmp_path):
    """A second run keeps every frame; a missing, changed or outdated one is made again with the same bytes."""
    guides = guides_made(tmp_path / "guides", range(1001, 1005))

    def run(facts=FACTS, **output):
        frames = range(1001, 1005)
        return deliver(shot_made(**output), fragments_made(), guides, None, tmp_path / "take", frames, progress_silent, facts)["figures"]

    assert run()["kept"] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "take").rglob("*") if p.is_file()}
    assert run()["kept"] == 4
    (tmp_path / "take/png/t.1002.png").unlink()
    damaged = tmp_path / "take/exr/t.1003.exr"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert run()["kept"] == 2
    assert {p: p.read_bytes() for p in before} == before
    assert run({**FACTS, "shot_hash": "other"})["kept"] == 0
    assert run(exposure=1.0)["kept"] == 0


def test_frames_are_independent(tmp_path):
    """A frame made alone, or after others in reverse, has the bytes it has in the whole run."""
    guides = guides_made(tmp_path / "guides", range(1001, 1005), moving=4.0)
    shot = shot_made(motion_blur=0.5)
    deliver(shot, fragments_made(), guides, None, tmp_path / "all", range(1001, 1005), progress_silent, FACTS)
    for frame in (1004, 1002):
        deliver(shot, fragments_made(), guides, None, tmp_path / "alone", [frame], progress_silent, FACTS)
        for name in (f"exr/t.{frame}.exr", f"png/t.{frame}.png"):
            assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_failed_frames_are_named_and_the_others_made(tmp_path):
    """A damaged and a non-finite frame raise FramesFailed (exit code 4) at the end; the rest, film and sheet are on disk."""
    guides = guides_made(tmp_path / "guides", range(1001, 1005))
    (tmp_path / "guides/frame.1002.npz").write_bytes(b"x")
    bad = guide_made(1003)
    bad["solid"][3, 3] = np.nan
    guides.folder.put_frame(1003, bad)
    with pytest.raises(FramesFailed, match="2 of 4 frames failed .1002, 1003.") as caught:
        deliver(shot_made(), fragments_made(), guides, None, tmp_path / "take", range(1001, 1005), progress_silent, FACTS)
    assert caught.value.exit_code == 4
    assert sorted(p.name for p in (tmp_path / "take/exr").glob("*.exr")) == ["t.1001.exr", "t.1004.exr"]
    assert not (tmp_path / "take/png/t.1003.png").exists()
    assert (tmp_path / "take/t.mp4").is_file() and (tmp_path / "take/t_sheet.png").is_file()


def test_only_what_is_asked_for(tmp_path):
    """No EXR, no PNG folder, no film where the output table says so; the sheet is always made."""
    guides = guides_made(tmp_path / "guides", [1001])
    shot = shot_made(exr=False, png=False, movie=False)
    result = deliver(shot, fragments_made(), guides, None, tmp_path / "take", [1001], progress_silent, FACTS)
    assert set(result) == {"sheet", "figures"}
    assert sorted(p.name for p in (tmp_path / "take").iterdir() if not p.name.startswith(".")) == ["t_sheet.png"]
