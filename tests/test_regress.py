"""Regression: what must fail fails, what must pass passes, the report says which; planted faults in the real pipeline are slow tests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import pipeline.regress as regress
from pipeline.digest import ROOT
from pipeline.measure import metrics, pictures
from pipeline.regress import Observed, Row, compare, observe, reference_read, reference_write, suite_judge, suite_read
from pipeline.report import report_write
from shot.errors import RegressionFailed, ShotError
from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import Motion

SUITE = ROOT / "tests" / "regression"


def guides(shot: Shot, frame: int) -> dict[str, np.ndarray]:
    """A lit floor and a box that falls, as arrays of one Guides frame: shading turns with the sun, dust scales with its amount."""
    h, w = 36, 64
    rows, columns = np.mgrid[0:h, 0:w]
    fall = 0.5 * shot.sim.gravity * ((frame - 1001) / 24) ** 2
    box = (np.abs(columns - 32) < 24) & (np.abs(rows - 12 - 4 * fall) < 12)
    angle = np.radians(shot.light.azimuth - 90)
    light = np.where(box, np.cos(angle), np.sin(np.radians(shot.light.elevation)))
    dust = np.exp(-(((columns - 40) / 12) ** 2) - ((rows - 24) / 8) ** 2) * 0.4 * shot.dust.amount
    dust = np.repeat(dust[..., None], 4, axis=-1)
    solid = (0.4 * (3.0 * light + 0.5))[..., None] * np.ones(3)
    return {
        "solid": solid.astype(np.float16), "dust": dust.astype(np.float16), "depth": np.where(box, 10, 20).astype(np.float32),
        "normal": np.where(box[..., None], [0, 0, 1], [0, 1, 0]).astype(np.float16), "sun": np.ones((h, w, 1), np.float16),
        "motion_backward": np.zeros((h, w, 2), np.float32), "occlusion": np.ones((h, w), np.float16),
        "id": np.where(box, 1, 7).astype(np.int32),
    }  # fmt: skip


def fake_run(loaded, frames, last, out, root=None, reporter=None, take=""):
    """Results of a falling box in closed form, standing in for the pipeline."""
    shot: Shot = loaded.shot
    folder = FrameFolder(Path(root or out) / "made")
    masses = np.array([1000.0, 500.0])
    fragments = SimpleNamespace(
        count=2, mass=masses, volume=masses / 2400, size=np.ones(2), position=np.array([[0.0, 8.0, 0.0], [1.0, 0.5, 0.0]])
    )
    seeds = SimpleNamespace(
        time=np.array([0.1, 0.2]), radius=np.array([0.02, 0.03], np.float32), weight=np.ones(2, np.float32), source=np.zeros(2, int),
        dust_time=np.array([0.1]), dust_mass=np.array([2.0]), event_mass=np.array([5.0]),
    )  # fmt: skip
    motion = Motion(FrameFolder(folder.path / "motion"))
    drawn = Motion(FrameFolder(folder.path / "draw"))
    dust = Motion(FrameFolder(folder.path / "dust"))
    for frame in range(shot.first, max(frames) + 1):
        t = (frame - shot.first) / shot.fps
        drop = 0.5 * shot.sim.gravity * t * t
        position = fragments.position - [[0, drop, 0], [0, 0, 0]]
        ledger = np.zeros(len(Motion.LEDGER))
        ledger[:2] = [1000.0 * shot.sim.gravity * drop, -1000.0 * shot.sim.gravity * drop]
        content = np.frombuffer(position.tobytes(), np.uint64).sum(dtype=np.uint64)
        motion.folder.put_frame(frame, {
            "position": position.astype(np.float32), "cluster": np.arange(2, dtype=np.int32), "bond_state": np.array([0, 2], np.uint8),
            "ledger": ledger, "hash": np.array(content),
        })  # fmt: skip
        dust.folder.put_frame(frame, {"emitted": np.array(2.0 * shot.dust.amount)})
        drawn.folder.put_frame(frame, guides(shot, frame))
    drawn.folder.put("static", {"exposure": np.array(1.0)})
    shed = SimpleNamespace(until=lambda first, last: seeds)
    made = {"shatter": (fragments, SimpleNamespace(count=2)), "simulate": motion, "shed": shed, "dust": dust, "draw": drawn}
    return SimpleNamespace(results=made, frames=sorted(frames), shot=shot, folder=out)


@pytest.fixture
def suite(tmp_path, monkeypatch) -> Path:
    """Two shots of the stand-in pipeline with their references written."""
    monkeypatch.setattr(regress, "run", fake_run)
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\nframes = 12\n')
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "suite.toml").write_text(
        'last = "draw"\n' + "".join(f'[[shot]]\nfile = "../{name}.toml"\nframes = [1001, 1008]\n' for name in ("one", "two"))
    )
    for row in suite_read(folder):
        reference_write(folder / row.path.stem, observe(row))
    return folder


def shifted_ids(seen: Observed) -> Observed:
    """The fault of an id table that starts one too high."""
    return dataclasses.replace(seen, pictures={k: v + np.uint8(k.endswith("/id")) for k, v in seen.pictures.items()})


def test_unchanged_passes(suite):
    """The same shots give equal hashes, figures and pictures."""
    judged = suite_judge(suite)
    assert [j.failed for j in judged] == [[], []] and {j.grade for j in judged} == {"same bits"}
    assert {c.name.split("[")[0] for c in judged[0].checks} >= {"state hash", "kinetic", "broken", "1008/beauty", "1001/id"}


FAULTS = [
    ("light.azimuth=127", None, "beauty"),
    ("", shifted_ids, "id"),
    ("dust.amount=1.05", None, "dust_emitted"),
    ("sim.gravity=9.9081", None, "state hash"),
]


@pytest.mark.parametrize(("override", "see", "caught_by"), FAULTS, ids=["sun", "id", "dust", "gravity"])
def test_planted_faults_fail(suite, override, see, caught_by):
    """Sun 2 degrees on, ids one up, dust +5 %, gravity +1 %: every shot fails, by the check that should see it."""
    judged = suite_judge(suite, [override] if override else [], see=see or (lambda seen: seen))
    for one in judged:
        assert any(caught_by in check.name for check in one.failed), [c.name for c in one.checks]


@pytest.mark.parametrize(("override", "see", "caught_by"), FAULTS[:3], ids=["sun", "id", "dust"])
def test_faults_show_on_another_machine(suite, override, see, caught_by, monkeypatch):
    """With another instruction set, bands and the first frame still see the sun, the ids and the dust, and pass what is unchanged."""
    monkeypatch.setattr(regress, "processor", lambda: "other")
    assert not any(j.failed for j in suite_judge(suite))
    judged = suite_judge(suite, [override] if override else [], see=see or (lambda seen: seen))
    assert judged[0].grade.startswith("other machine")
    by = "dust_per_shed" if caught_by == "dust_emitted" else caught_by
    assert all(any(by in check.name for check in one.failed) for one in judged)
    assert not any(check.judged for check in judged[0].checks if check.name == "1008/beauty")


def test_command_reports_and_exits(suite, tmp_path, capsys):
    """A difference raises RegressionFailed (exit 6), the JSON says what, and the HTML lists the failed shot first, with its pictures."""
    metrics_file = suite / "two" / "metrics.json"
    metrics_file.write_text(metrics_file.read_text().replace('"broken": 1', '"broken": 3'))
    with pytest.raises(RegressionFailed, match=r"two \(1 of") as failure:
        regress.regress_run(suite, tmp_path / "report", as_json=True)
    assert failure.value.exit_code == 6
    said = json.loads(capsys.readouterr().out)
    assert not said["passed"] and [s["passed"] for s in said["shots"]] == [True, False]
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.index("<h2>two") < page.index("<h2>one") and "1 of 2 shots differ" in page
    assert page.count("data:image/png;base64") == 3 * len(suite_read(suite)) * 20
    assert "http" not in page and "<script" not in page


def test_broken_shot_does_not_stop_the_others(suite):
    """A shot that cannot run is a failure with its reason; the rest is still compared."""
    (suite.parent / "one.toml").write_text('name = "one"\n[sim]\ngravty = 3\n')
    first, second = suite_judge(suite)
    assert first.grade == "not run" and "did you mean sim.gravity" in first.failed[0].value
    assert not second.failed


def test_missing_reference_and_bad_suite(suite, tmp_path):
    """No reference is a failure that says how to make one; a suite without shots is a bad shot (exit 3)."""
    for file in (suite / "one").iterdir():
        file.unlink()
    assert "regress update" in suite_judge(suite)[0].failed[0].value
    (suite / "suite.toml").write_text("[[shot]]\nfile = 3\n")
    with pytest.raises(ShotError, match=r"suite\.toml"):
        suite_read(suite)


def test_update_replaces_pictures(suite):
    """An update writes what was seen, bit for bit, and removes frames that are no longer kept."""
    stray = suite / "one" / "0999.beauty.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(stray)
    regress.regress_update(suite)
    assert not stray.exists()
    row = suite_read(suite)[0]
    seen, kept = observe(row), reference_read(suite / "one")
    assert seen.metrics == kept.metrics
    assert all(np.array_equal(seen.pictures[k], kept.pictures[k]) for k in kept.pictures) and len(kept.pictures) == 20


def test_pictures_encode_ids_and_motion(tmp_path):
    """Ids survive in 24 bits; motion of m pixels is grey + m / 32; infinite depth is black."""
    shot = Shot()
    arrays = guides(shot, 1001)
    arrays["id"] = arrays["id"] * 0 + 70001
    arrays["motion_backward"] = arrays["motion_backward"] + np.float32(4.0)
    arrays["depth"] = arrays["depth"] * np.float32(np.inf)
    drawn = Motion(FrameFolder(tmp_path))
    drawn.folder.put_frame(1001, arrays)
    shown = pictures(SimpleNamespace(results={"draw": drawn}), [1001])  # pyright: ignore[reportArgumentType]
    assert (shown["1001/id"].astype(int) @ [1, 256, 65536] == 70001).all()
    assert (shown["1001/motion"][..., 0] == round(255 * (0.5 + 4 / 32))).all() and (shown["1001/depth"] == 0).all()


def test_bands_judge_a_curve_by_its_peak():
    """A curve passes where it is off by less than the band of its peak, and fails beyond it or at another length."""
    row = Row(Path("x"), (1001,), "draw")

    def judged(curve, here):
        sign = {"processor": here, "libraries": {}, "drawing": []}
        new, old = Observed(sign, {"kinetic": curve}, {}), Observed({**sign, "processor": "b"}, {"kinetic": [0.0, 1e6, 2e5]}, {})
        return not compare("x", new, old, row).failed

    assert judged([1e5, 9e5, 2e5], "a") and not judged([1e5, 6e5, 2e5], "a") and not judged([0.0, 1e6], "a")
    assert not judged([0.0, 1e6, 2e5 + 10], "b") and judged([0.0, 1e6, 2e5], "b") and not judged([0.0, np.nan, 2e5], "b")


def test_metrics_of_a_run(tmp_path):
    """Fall, extent, debris and dust figures follow from the results in closed form."""
    done = fake_run(SimpleNamespace(shot=Shot(frames=12)), [1001, 1012], "draw", tmp_path)
    found = metrics(done)  # pyright: ignore[reportArgumentType]
    drop = 0.5 * 9.81 * (11 / 24) ** 2
    assert found["fall"] == pytest.approx(1000 * 9.81 * drop) and found["kinetic_peak"] == pytest.approx(1000 * 9.81 * drop)
    assert found["debris_mass"] == pytest.approx(2400 * 4 / 3 * np.pi * (0.02**3 + 0.03**3), rel=1e-6)
    assert (found["broken"], found["clusters"], len(found["hash"]), found["dust_per_shed"]) == (1, 2, 12, 1.0)


@pytest.mark.slow
def test_bundled_suite_passes(taichi, tmp_path):
    """The shipped references hold: on this machine or in their bands. Under 2 MB of them."""
    assert sum(p.stat().st_size for p in SUITE.rglob("*") if p.is_file()) < 2_000_000
    judged = suite_judge(SUITE)
    report_write(tmp_path, "regression", judged)
    assert not any(j.failed for j in judged), [(j.shot, c.name, c.value) for j in judged for c in j.failed]


WALL = Row(ROOT / "tests" / "shots" / "tiny_wall.toml", (1001, 1006), "draw")


@pytest.fixture(scope="module")
def unchanged(taichi) -> Observed:
    """A tiny shot through the real stages."""
    return observe(WALL)


@pytest.mark.parametrize(
    ("override", "see", "fails", "holds"),
    [
        ("light.azimuth=127", None, "1001/beauty", "state hash"),
        pytest.param("", shifted_ids, "1001/id", "1006/beauty", marks=pytest.mark.slow),
        pytest.param("dust.amount=1.05", None, "dust_emitted", "state hash", marks=pytest.mark.slow),
        pytest.param("sim.gravity=9.9081", None, "state hash", "1001/beauty", marks=pytest.mark.slow),
        pytest.param("fracture.strength_scale=0.9", None, "state hash", "1001/beauty", marks=pytest.mark.slow),
    ],
    ids=["sun", "id", "dust", "gravity", "strength"],
)
def test_planted_faults_fail_for_real(unchanged, override, see, fails, holds):
    """Each fault in the real stages is caught where it acts, and what it does not touch is equal to the bit."""
    new = (see or (lambda seen: seen))(observe(WALL, overrides=[override] if override else []))
    failed = {check.name.split("[")[0] for check in compare("wall", new, unchanged, WALL).failed}
    assert fails in failed and holds not in failed
