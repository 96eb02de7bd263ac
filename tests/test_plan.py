"""What a run plans to hold: the frames of each stage, and keys that follow every file a building is read from."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

import pipeline.plan
from pipeline.digest import ROOT
from pipeline.mesh_files import mesh_files
from pipeline.plan import Step, frames_needed, plan
from pipeline.stages import STAGES, Stage, asset_digests
from shot.chunks import CHUNK, WARM_UP, chunk_start, chunk_weights
from shot.load import shot_load
from shot.params import Shot

FIRST = 1001


def shot_with(history: float, backend: str = "embedded") -> Shot:
    """A shot of three chunks."""
    return Shot.model_validate({"frames": 3 * CHUNK, "refine": {"history": history, "backend": backend}})


@pytest.mark.parametrize("wanted", [[1001], [1030], [1044], [1045], [1047, 1048, 1049], [1003, 1060], [1072]])
def test_guides_reach_back_to_where_the_refiner_began(wanted: list[int]):
    """Every frame since the start of each chunk that a wanted frame belongs to is drawn, none before, and none at all without history."""
    needed = frames_needed(shot_with(0.6), wanted)
    starts = [chunk_start(chunk, FIRST) for frame in wanted for chunk, _ in chunk_weights(frame, FIRST)]
    assert needed["frames"] == wanted and set(wanted) <= set(needed["draw"]) and needed["draw"][0] == min(starts)
    for frame in wanted:
        for chunk, _ in chunk_weights(frame, FIRST):
            assert set(range(chunk_start(chunk, FIRST), frame + 1)) <= set(needed["draw"])
    assert max(needed["draw"]) == max(wanted) and needed["history"] == list(range(FIRST, min(max(wanted) + 1, 1072) + 1))
    for still in (shot_with(0.0), shot_with(0.6, "none")):
        assert frames_needed(still, wanted)["draw"] == wanted


def test_second_chunk_is_warmed_up():
    """The first frame after a border is drawn with the frames before it, in which the new recurrence fades in."""
    assert frames_needed(shot_with(0.6), [FIRST + CHUNK])["draw"] == list(range(FIRST + CHUNK - WARM_UP, FIRST + CHUNK + 1))


def test_keys_do_not_depend_on_the_frames_asked_for(tmp_path: Path):
    """Two ranges of one shot share every result; each stage goes no further than the frame after the last."""
    loaded = shot_load(ROOT / "tests" / "shots" / "tiny_wall.toml", ["frames=40"])

    def planned(frames: list[int], last: str = "refine") -> dict[str, Step]:
        return {step.stage.name: step for step in plan(loaded, frames, last, tmp_path)}

    early, late = planned([1005, 1006]), planned([1039])
    assert {name: step.entry.key for name, step in early.items()} == {name: step.entry.key for name, step in late.items()}
    for name in ("simulate", "shed", "scatter", "dust", "upsample"):
        assert early[name].frames == list(range(1001, 1008))
    assert planned([1001])["simulate"].frames == [1001, 1002]  # a picture at once


@pytest.mark.parametrize("edited", STAGES, ids=lambda stage: stage.name)
def test_key_follows_the_sources_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: Stage):
    """Another source of one stage is another key of that stage and of all that is made from it, and of no other."""
    loaded = shot_load(ROOT / "tests" / "shots" / "tiny_wall.toml")

    def keys() -> dict[str, str]:
        return {step.stage.name: step.entry.key for step in plan(loaded, [1005], "deliver", tmp_path)}

    before = keys()
    of = pipeline.plan.sources_digest
    monkeypatch.setattr(pipeline.plan, "sources_digest", lambda module: "edited" if module == edited.module else of(module))
    now, follows = keys(), {edited.name}
    for stage in STAGES:
        follows |= {stage.name} if follows & set(stage.inputs) else set()
    assert {name for name in before if before[name] != now[name]} == follows & set(before)


def glb_bytes(document: dict) -> bytes:
    """A binary glTF with nothing but its JSON chunk."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text), len(text), 0x4E4F534A) + text


@pytest.mark.parametrize(
    ("name", "content", "companion"),
    [
        ("house.gltf", json.dumps({"buffers": [{"uri": "my%20house.bin"}, {"uri": "data:,AAAA"}]}).encode(), "my house.bin"),
        ("house.glb", glb_bytes({"buffers": [{}, {"uri": "far/more.bin"}]}), "far/more.bin"),
        ("house.obj", b"# a house\nmtllib stone and mortar.mtl\nv 0 0 0\n", "stone and mortar.mtl"),
        ("house.obj", b"mtllib one.mtl two.mtl\n", "two.mtl"),
    ],
)
def test_companions_of_a_mesh_enter_the_key(tmp_path: Path, name: str, content: bytes, companion: str):
    """A changed buffer or material library is a changed mesh: the key of `build` follows it, and those behind it."""
    (tmp_path / name).write_bytes(content)
    (tmp_path / companion).parent.mkdir(exist_ok=True)
    (tmp_path / "mine.toml").write_text(f'[building]\nkind = "mesh"\nfile = "{name}"\n')

    def keys() -> dict[str, str]:
        steps = plan(shot_load(tmp_path / "mine.toml", ["refine.backend=none"]), [1001], "simulate", tmp_path)
        return {step.stage.name: step.entry.key for step in steps}

    seen = [keys()]
    for data in (b"one", b"two"):
        (tmp_path / companion).write_bytes(data)
        seen.append(keys())
    assert len({row["build"] for row in seen}) == 3 and len({row["simulate"] for row in seen}) == 3
    assert list(mesh_files(tmp_path / name)) == ["mesh", f"mesh/{companion}"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"buffers": 3}', b'{"buffers": [3]}', b"glTF\x02", glb_bytes({})[:22]])
def test_broken_mesh_has_no_companions(tmp_path: Path, content: bytes):
    """A file that is no glTF is itself alone: what is wrong with it is for the importer to say."""
    path = tmp_path / "broken.gltf"
    path.write_bytes(content)
    assert list(asset_digests(mesh_files(path))) == ["mesh"] and mesh_files(tmp_path / "none.obj") == {}


def test_stages_are_in_the_order_of_their_inputs():
    """A stage comes after every stage it takes from."""
    for k, stage in enumerate(STAGES):
        assert set(stage.inputs) <= {before.name for before in STAGES[:k]}
