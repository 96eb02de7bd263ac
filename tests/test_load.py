"""Shot files: layering, overrides, and one clear sentence for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from shot.errors import ShotError
from shot.load import param_rows, shot_load
from shot.params import MEMBERS, Shot
from shot.results import MEMBER_KINDS


def write(folder: Path, name: str, text: str) -> Path:
    """A shot file."""
    path = folder / name
    path.write_text(text)
    return path


def test_layers_in_order(tmp_path: Path):
    """Defaults, then extends, then the file, then -s; tables merge, lists are replaced."""
    write(tmp_path, "base.toml", "[sim]\ngravity = 1.5\nsteps_scale = 3\n[[events]]\nframe = 1003\n[[events]]\nframe = 1004\n")
    path = write(tmp_path, "child.toml", 'extends = "base"\n[sim]\nsteps_scale = 2\n[[events]]\nframe = 1010\n')
    shot = shot_load(path, ["camera.width=128", "events.0.frame=1012", "refine.backend=none"]).shot
    assert (shot.sim.gravity, shot.sim.steps_scale, shot.sim.break_rounds) == (1.5, 2, Shot().sim.break_rounds)
    assert [event.frame for event in shot.events] == [1012]
    assert (shot.camera.width, shot.refine.backend, shot.name) == (128, "none", "child")


def test_mesh_path_of_a_parent_stays_beside_the_parent(tmp_path: Path):
    """A relative mesh file inherited through `extends` is read beside the file that named it."""
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", "house.glb", "")
    write(tmp_path / "lib", "house.toml", '[building]\nkind = "mesh"\nfile = "house.glb"\n')
    path = write(tmp_path, "mine.toml", 'extends = "lib/house"\n')
    assert shot_load(path).shot.building.file == str((tmp_path / "lib" / "house.glb").resolve())


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("[sim]\ngravty = 3\n", [], ("sim.gravty", "no such parameter", "sim.gravity", "bad.toml")),
        ("[simm]\ngravity = 3\n", [], ("simm", "did you mean sim")),
        ("[materials.bric]\nfriction = 1\n", [], ("materials.bric", "did you mean materials.brick?")),
        ("gravity = 3\n", [], ("gravity", "did you mean sim.gravity?")),
        ("[sim]\nsteps_scale = 0\n", [], ("sim.steps_scale = 0", "greater than or equal to 1", "bad.toml")),
        ("", ["materials.bric.friction=1"], ("-s materials.bric.friction=1: ", "did you mean materials.brick?")),
        ("", ["dust.cell=wide"], ("-s dust.cell=wide", "'wide'", "[m]")),
        ("", ["dust.cell"], ("want key=value",)),
        ("[sim\n", [], ("not TOML", "bad.toml")),
        ('extends = "bad"\n', [], ("extends itself",)),
        ('extends = "nowhere"\n', [], ("no such shot file",)),
        ('[building]\nkind = "mesh"\n', [], ("building.file is empty",)),
        ('[refine]\nbackend = "magic"\n', [], ("refine.backend = 'magic'", "'embedded'")),
        ("[sim]\ngravity = nan\n", [], ("sim.gravity", "finite")),
        ("", ["events.0.frame=3"], ("events",)),
        ("frames = 12\n[[events]]\nframe = 1400\n", [], ("bad.toml: events.0.frame = 1400", "after the last frame", "1001 to 1012")),
        ("[[events]]\nframe = 101\n", [], ("events.0.frame = 101", "before the first frame", "1001 to 1144")),
        ("[[events]]\n", ["frames=12", "events.0.frame=1013"], ("-s events.0.frame=1013: ", "after the last frame")),
        ("[[events]]\nkind = 'collider'\npath = [[1400, 0, 3, 0]]\n", [], ("events.0.path.0.0 = 1400", "after the last frame")),
        ("[[events]]\ntnt = 5\n", [], ("events.0.tnt: a cut has none, charge has",)),
        ("[[events]]\nspin = [0, 0, 0]\nkind = 'charge'\ncentre = [0, 0, 0]\n", [], ("a charge has none, projectile has",)),
        ("[[events]]\nmembers = ['colum']\n", [], ("events.0.members", "'colum' is no kind of member, did you mean column?", "slab")),
        ("[[events]]\nlower = [1, 0, 1]\nupper = [-1, 3, 3]\n", [], ("events.0.upper = [-1, 3, 3]", "lower corner, (1.0, 0.0, 1.0)")),
        ("[[events]]\nforce = [0, 9]\n", [], ("events.0.force.2 is missing: [0, 9] has too few values",)),
        ("[[events]]\nkind = 'projectil'\n", [], ("events.0.kind = 'projectil'", "did you mean projectile?")),
        ("events = 3\n", [], ("events = 3: should be a list",)),
        ("events = [3]\n", [], ("events.0 = 3: should be a table",)),
        ("building = 3\n", [], ("building = 3: should be a table",)),
        ("[[events]]\nlower = [0, 0, 0, 0]\n", [], ("events.0.lower = [0, 0, 0, 0]: should have at most 3 items, not 4 [m]",)),
        ("[[events]]\nlower = [0, 9, 0]\n", [], ("events.0.upper = (1000.0, 2.5, 1000.0)", "lower corner, (0.0, 9.0, 0.0)")),
        ("[building]\nkind = 'mesh'\nfile = 'bad.tml'\n", [], ("bad.toml: building.file = 'bad.tml'", "no such file in /", "bad.toml?")),
        ("[building]\nmaterial = 'concret'\n", [], ("bad.toml: building.material = 'concret'", "did you mean concrete?", "brick")),
        ("frames = '12'\n", [], ("bad.toml: frames = '12': should be a number",)),
        ("", ["sim.dynamic=yes"], ("-s sim.dynamic=yes: ", "should be true or false")),
        ("[sim]\ngravity = true\n", [], ("bad.toml: sim.gravity = True: should be a number",)),
        ("[[events]]\nlower = [0, '0', 0]\n", [], ("events.0.lower.1 = '0': should be a number",)),
        ("[fracture]\nmasonry = 'corses'\n", [], ("fracture.masonry = 'corses'", "'cells'", "did you mean courses?")),
    ],
)
def test_mistakes_say_where_what_and_what_is_allowed(tmp_path: Path, text: str, overrides: list[str], words: tuple[str, ...]):
    """Each mistake is a ShotError naming file or override, key, value and what is allowed."""
    path = write(tmp_path, "bad.toml", text)
    with pytest.raises(ShotError) as error:
        shot_load(path, overrides)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3


def test_mistake_is_named_in_the_file_that_has_it(tmp_path: Path):
    """What a parent says wrong is told of the parent, in tables and in events; what the child says of the child."""
    write(tmp_path, "base.toml", "[sim]\ngravty = 1\n")
    path = write(tmp_path, "child.toml", 'extends = "base"\n[dust]\ncell = 1.0\n')
    with pytest.raises(ShotError, match=r"base\.toml: sim\.gravty"):
        shot_load(path)
    write(tmp_path, "base.toml", "[[events]]\nframe = 'soon'\n")
    with pytest.raises(ShotError, match=r"base\.toml: events\.0\.frame = 'soon'"):
        shot_load(path)
    path = write(tmp_path, "child.toml", 'extends = "base"\n[[events]]\nframe = "late"\n')
    with pytest.raises(ShotError, match=r"child\.toml: events\.0\.frame = 'late'"):
        shot_load(path)


def test_a_shortened_shot_may_lose_its_events(tmp_path: Path):
    """Who shortens a shot with events of somebody else means it: an override, or a file that extends it. Colliders may be under way."""
    path = write(tmp_path, "base.toml", "frames = 48\n[[events]]\nframe = 1030\n")
    assert shot_load(path, ["frames=6"]).shot.frames == 6
    assert shot_load(path, ["first=1101"]).shot.first == 1101
    assert shot_load(write(tmp_path, "child.toml", 'extends = "base"\nframes = 12\n')).shot.frames == 12
    with pytest.raises(ShotError, match=r"-s events=.*after the last frame"):
        shot_load(path, ["frames=6", "events=[{frame=1030}]"])
    shot_load(path, ["events=[{kind='collider', path=[[900, 0, 3, 0], [1010, 9, 3, 0]]}]"])


def test_members_of_events_are_what_buildings_are_made_of():
    """The kinds that a shot may name are those of the results, without the bodies that events bring in."""
    assert (*MEMBERS, "body") == MEMBER_KINDS


def test_a_table_given_in_part_keeps_the_rest(tmp_path: Path):
    """Brick with another friction is still brick, from a file and from the command line; concrete keeps its bars."""
    path = tmp_path / "s.toml"
    path.write_text("[materials.brick]\nfriction = 0.9\n")
    materials = shot_load(path, ["materials.concrete.friction=0.8"]).shot.materials
    assert materials.brick == Shot().materials.brick.model_copy(update={"friction": 0.9})
    assert materials.concrete == Shot().materials.concrete.model_copy(update={"friction": 0.8})


def test_material_given_in_part_stays_itself(tmp_path: Path):
    """Brick with another friction is still brick, from a file and from -s, and the other materials are untouched."""
    path = write(tmp_path, "part.toml", "[materials.brick]\nfriction = 0.9\n")
    materials, usual = shot_load(path, ["materials.concrete.tension=1e6"]).shot.materials, Shot().materials
    assert materials.brick == usual.brick.model_copy(update={"friction": 0.9})
    assert materials.concrete == usual.concrete.model_copy(update={"tension": 1e6}) and materials.facade == usual.facade


def test_missing_shot_names_the_nearest_bundled(tmp_path: Path):
    """A wrong bundled name gets the nearest right one."""
    write(tmp_path, "apartment_block.toml", "")
    with pytest.raises(ShotError, match="did you mean apartment_block"):
        shot_load("appartment_block", bundled=tmp_path)


def test_every_parameter_has_a_sentence():
    """Each row of `demolish params` carries type, default and what it does to the picture."""
    rows = list(param_rows())
    assert len(rows) > 100
    assert all(row["text"] and row["type"] for row in rows if row["key"] != "name")
    assert len({row["key"] for row in rows}) == len(rows)
