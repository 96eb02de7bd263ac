"""Shot files: TOML in, a checked `Shot` out, every mistake as one clear sentence.

Layers, later ones win: defaults in `shot/params.py`, the shot named by `extends` (recursively), the file, then each
`key=value` override. Tables merge key by key; lists (events) are replaced whole. A shot is named by a path or by the
bare name of a bundled one. Values of overrides are TOML; a bare word is a string. Raises ShotError before any work.
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from shot.errors import ShotError, nearest
from shot.params import EVENT_KINDS, Collider, Shot

PLAIN = {  # what pydantic says of Python, said of TOML
    r"a valid tuple": "a list", r"a valid dictionary or instance of \w+": "a table",
    r"Tuple should have (.*) after validation": r"should have \1",
}


@dataclass(frozen=True)
class Loaded:
    """A checked shot and where it came from."""

    shot: Shot
    path: Path  # the shot file
    overrides: tuple[str, ...]

    @property
    def base(self) -> Path:
        """Folder against which relative asset paths are read."""
        return self.path.parent


@dataclass(frozen=True)
class Origin:
    """Who said a value."""

    layer: int  # 1 an override, 0 the shot file, -1 what it extends, and so on
    place: str  # file or override


def shot_load(name: str | Path, overrides: Sequence[str] = (), bundled: Path | None = None) -> Loaded:
    """Read, merge and check a shot. Raises ShotError naming file, key, value and what is allowed."""
    path = shot_path(name, Path.cwd(), bundled)
    values, origin = _read_merged(path, bundled, ())
    for override in overrides:
        key, value = _override(override)
        _assign(values, key, value)
        origin[key] = Origin(1, f"-s {override}")
    values.setdefault("name", path.stem)
    try:
        shot = Shot.model_validate(values)
    except ValidationError as error:
        raise ShotError(_sentence(error, origin, str(path))) from None
    for key, value, wanted in _coerced(values, shot):
        raise ShotError(f"{_place(origin, key, str(path)).place}: {key} = {value!r}: should be {wanted}")
    _mesh_is_there(shot, path, origin)
    _events_in_time(shot, origin, str(path))
    return Loaded(shot, path, tuple(overrides))


def shot_path(name: str | Path, folder: Path, bundled: Path | None) -> Path:
    """File of a shot named by path or by bundled name. Raises ShotError with the nearest bundled name."""
    direct = (folder / name).resolve()
    if direct.is_file():
        return direct
    known = {p.stem: p for p in sorted(bundled.glob("*.toml"))} if bundled else {}
    if str(name).removesuffix(".toml") in known:
        return known[str(name).removesuffix(".toml")]
    hint = nearest(Path(name).stem, known)
    listed = f"; bundled shots: {', '.join(known)}" if known else ""
    raise ShotError(f"{name}: no such shot file{hint}{listed}")


def param_rows(model: type[BaseModel] = Shot, prefix: str = "") -> Iterator[dict[str, str]]:
    """One row per parameter: key, type, default, unit, range, text."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from param_rows(kind, f"{key}.")
            continue
        arguments = typing.get_args(kind)
        if name == "events":
            yield from _event_rows(f"{key}.0.")
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        yield {
            "key": key,
            "type": getattr(kind, "__name__", str(kind)) if not arguments else str(kind).replace("typing.", ""),
            "default": "required" if field.is_required() else repr(field.get_default(call_default_factory=True)),
            "unit": str(extra.get("unit", "")),
            "range": _range(field.metadata),
            "text": field.description or "",
        }


def _event_rows(prefix: str) -> Iterator[dict[str, str]]:
    """Rows of all kinds of event, each key once; what only some kinds have says which."""
    models = list(dict.fromkeys(EVENT_KINDS.values()))
    seen: set[str] = set()
    for model in models:
        kinds = [kind for kind, of in EVENT_KINDS.items() if of is model]
        for row in param_rows(model, prefix):
            name = row["key"].removeprefix(prefix)
            if name in seen:
                continue
            seen.add(name)
            if name == "kind":
                what = "; ".join(str(of.model_fields["kind"].description) for of in models)
                yield row | {"type": f"Literal[{', '.join(repr(kind) for kind in EVENT_KINDS)}]", "text": what}
            else:
                holds = [kind for kind, of in EVENT_KINDS.items() if name in of.model_fields]
                yield row if len(holds) > len(kinds) else row | {"text": f"{', '.join(kinds)}: {row['text']}"}


def _range(metadata: Sequence[object]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "pattern": "matches"}
    return ", ".join(f"{sign} {getattr(m, k)}" for m in metadata for k, sign in signs.items() if getattr(m, k, None) is not None)


def _read_merged(path: Path, bundled: Path | None, seen: tuple[Path, ...]) -> tuple[dict, dict[str, Origin]]:
    """Values of a file over those of what it extends, and the origin of each dotted key."""
    if path in seen:
        raise ShotError(f"{path}: extends itself through {' -> '.join(p.name for p in (*seen, path))}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ShotError(f"{path}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ShotError(f"{path}: cannot be read: {error}") from None
    parent = values.get("extends", "")
    if not isinstance(parent, str):
        raise ShotError(f"{path}: extends = {parent!r}: want the name of one shot")
    origin = {key: Origin(-len(seen), str(path)) for key in _leaves(values)}
    if not parent:
        return values, origin
    try:
        parent_path = shot_path(parent if parent.endswith(".toml") else f"{parent}.toml", path.parent, bundled)
    except ShotError as error:
        raise ShotError(f"{path}: extends = {parent!r}: {error}") from None
    inherited, whence = _read_merged(parent_path, bundled, (*seen, path))
    inherited.pop("name", None)
    mesh = inherited.get("building", {}).get("file")
    if isinstance(mesh, str) and mesh:
        inherited["building"]["file"] = str((parent_path.parent / mesh).resolve())
    return _merge(inherited, values), whence | origin


def _merge(under: dict, over: dict) -> dict:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(text: str) -> tuple[str, object]:
    key, sign, raw = text.partition("=")
    if not sign or not key.strip():
        raise ShotError(f"-s {text}: want key=value")
    try:
        value = tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw
    return key.strip(), value


def _assign(values: dict, key: str, value: object) -> None:
    parts = key.split(".")
    here: typing.Any = values
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(here, list):
            if not part.isdigit() or int(part) >= len(here):
                raise ShotError(f"-s {key}: there are {len(here)} entries, want an index 0..{len(here) - 1}")
            if last:
                here[int(part)] = value
            else:
                here = here[int(part)]
        elif last:
            here[part] = value
        else:
            if not isinstance(here.setdefault(part, {}), dict | list):
                raise ShotError(f"-s {key}: {'.'.join(parts[: depth + 1])} is a value, not a table")
            here = here[part]


def _leaves(values: dict, prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _place(origin: dict[str, Origin], key: str, path: str) -> Origin:
    """Who said a key, the table or list it is in, or something in it."""
    parts = key.split(".")
    for depth in range(len(parts), 0, -1):
        if found := origin.get(".".join(parts[:depth])):
            return found
    return next((of for leaf, of in origin.items() if leaf.startswith(f"{key}.")), Origin(0, path))


def _coerced(said: object, made: object, key: str = "") -> Iterator[tuple[str, object, str]]:
    """Key, value and what it should be, where pydantic took a text for a number, or one of them for true or false."""
    if isinstance(said, dict):
        for name, value in said.items():
            yield from _coerced(value, getattr(made, name, None), f"{key}.{name}".lstrip("."))
    elif isinstance(said, list) and isinstance(made, Sequence):
        for place, (value, of) in enumerate(zip(said, made, strict=False)):
            yield from _coerced(value, of, f"{key}.{place}")
    elif isinstance(made, bool) != isinstance(said, bool) or (isinstance(said, str) and isinstance(made, int | float)):
        yield key, said, "true or false" if isinstance(made, bool) else "a text" if isinstance(made, str) else "a number"


def _mesh_is_there(shot: Shot, path: Path, origin: dict[str, Origin]) -> None:
    """Refuse a mesh file that is not there, with the nearest of those beside it."""
    file = path.parent / shot.building.file
    if shot.building.kind == "mesh" and not file.is_file():
        near = nearest(file.name, [beside.name for beside in file.parent.glob("*")])
        place = _place(origin, "building.file", str(path)).place
        raise ShotError(f"{place}: building.file = {shot.building.file!r}: no such file in {file.parent.resolve()}{near}")


def _events_in_time(shot: Shot, origin: dict[str, Origin], path: str) -> None:
    """Refuse an event that no frame would show, unless the shot was shortened by someone who found the event there."""
    spans = [origin[key].layer for key in ("first", "frames") if key in origin]
    first, last = shot.frame_range[0], shot.frame_range[-1]
    for k, event in enumerate(shot.events):
        driven = isinstance(event, Collider)  # may be on its way already when the shot begins
        key, value = (f"events.{k}.path.0.0", round(event.path[0][0])) if driven else (f"events.{k}.frame", event.frame)
        said = _place(origin, key, path)
        if (value > last or (value < first and not driven)) and said.layer >= max(spans, default=said.layer):
            when = "after the last frame" if value > last else "before the first frame"
            raise ShotError(f"{said.place}: {key} = {value}: {when}, the shot is {first} to {last}")


def _sentence(error: ValidationError, origin: dict[str, Origin], path: str) -> str:
    """The first mistake in one sentence, and how many more there are."""
    problems = error.errors(include_url=False)
    first: dict[str, typing.Any] = dict(problems[0])
    parts = tuple(str(part) for part in first["loc"])
    model: type[BaseModel] = Shot
    kind = ""
    if parts[:1] == ("events",) and len(parts) > 2 and parts[2] in EVENT_KINDS:  # pydantic names the kind of event that it tried
        kind = parts[2]
        model, parts = EVENT_KINDS[kind], parts[:2] + parts[3:]
    if first["type"] == "union_tag_invalid":
        parts, tag = (*parts, "kind"), first["ctx"]["tag"]
        first |= {"input": tag, "msg": f"should be one of {', '.join(EVENT_KINDS)}{nearest(tag, EVENT_KINDS)}"}
    key = ".".join(parts)
    where = _place(origin, key, path).place
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: {key}{_no_such(parts, model, kind)}{more}"
    if not key:
        return f"{where}: {first['msg'].removeprefix('Value error, ')}{more}"
    if first["type"] == "missing":
        among = first["input"]
        whose = f", which a {kind} needs" if isinstance(among, dict) and kind else ""
        short = "" if isinstance(among, dict) else f": {among!r} has too few values"
        return f"{where}: {key} is missing{whose}{short}{more}"
    table = {row["key"]: row for row in (param_rows() if model is Shot else param_rows(model, "events.0."))}
    row = table.get(".".join("0" if part.isdigit() else part for part in parts), {})
    ours = first["type"] == "value_error"  # says its unit itself
    unit = f" [{row['unit']}]" if row.get("unit") and not ours else ""
    allowed = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    for pattern, plain in PLAIN.items():
        allowed = re.sub(pattern, plain, allowed)
    if first["type"] == "literal_error":
        allowed += nearest(str(first["input"]), allowed.split("'")[1::2])
    return f"{where}: {key} = {first['input']!r}: {allowed}{unit}{more}"


def _no_such(parts: tuple[str, ...], model: type[BaseModel], kind: str) -> str:
    """What is wrong with a key that a shot, or an event of this kind, does not have."""
    holds = [other for other, of in EVENT_KINDS.items() if parts[-1] in of.model_fields]
    if kind and holds and len(parts) == 3:
        return f": a {kind} has none, {', '.join(holds)} {'has' if len(holds) == 1 else 'have'}"
    key, depth = ".".join(parts), len(parts)
    rows = param_rows() if model is Shot else param_rows(model, ".".join(parts[:2]) + ".")
    known = [row["key"].split(".") for row in rows]
    tables = sorted({".".join(names[:depth]) for names in known if len(names) >= depth})  # keys and tables beside it
    return f": no such parameter{nearest(key, tables) or nearest(key, ['.'.join(names) for names in known])}"
