"""Where settings come from: layers of values, merged into one `Settings`.

Later layers win: the defaults of `Settings`, then the profile (a YAML file, built in or the user's own), then
what earlier commands recorded in the home folder, then `DEEPER_*` environment variables, then flags.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import ValidationError

from deeper_assets.engines.embedding.choosing import EmbedderSettings
from deeper_assets.engines.secrets import UNSPOKEN
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.method.exceptions import DeeperError, did_you_mean
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.recipes import Training
from deeper_assets.settings import (
    DEFAULT_PROFILE,
    ChatSettings,
    SamplerSettings,
    Settings,
    made_of_yes_or_no,
    shown,
)
from deeper_assets.yaml_files import read_settings, refuse_unusable

DEFAULT_HOME = Path(".deeper")
ENV_PREFIX = "DEEPER_"
RECORDED = "settings.yaml"

# Not settings of an experiment, but about where to find it and how to talk about it.
_OTHER_VARIABLES = {"DEEPER_HOME", "DEEPER_PROFILE"}
_TEST_VARIABLES = "DEEPER_TEST_"

Layer = tuple[str, Mapping[str, Any]]
"""Where values come from, for people, and the values by name."""

_NESTED: Mapping[str, tuple[str, ...]] = {
    "training": tuple(field.name for field in fields(Training)),
    "hardware": tuple(field.name for field in fields(Hardware)),
    "candidate_decoding": tuple(field.name for field in fields(Decoding)),
    "evaluation_decoding": tuple(field.name for field in fields(Decoding)),
    "chat": tuple(ChatSettings.model_fields),
    "embedder": tuple(EmbedderSettings.model_fields),
    "sampler": tuple(SamplerSettings.model_fields),
}
"""Settings of several values. Layers are merged value by value; other settings are replaced whole."""


def load_settings(home: Path, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings of the experiment in `home`, all layers merged.

    Args:
        home: home folder; it need not exist.
        flags: values from the command line, by field name; they win over everything.

    Raises:
        DeeperError: a profile is missing or no YAML, a name is unknown or a value does not fit. The message
            names where it was found, and suggests the nearest known name.
    """
    flags = dict(flags or {})
    recorded = recorded_settings(home)
    profile = str(
        flags.get("profile") or os.environ.get("DEEPER_PROFILE") or recorded.get("profile") or DEFAULT_PROFILE
    )
    refuse_unusable(flags, "command line")
    layers: list[Layer] = [
        *_profile_layers(profile),
        (str(home / RECORDED), recorded),
        *_environment(),
        ("command line", flags),
    ]
    merged: dict[str, Any] = {}
    for origin, layer in layers:
        _refuse_unknown(layer, Settings.model_fields, origin)
        for name, value in layer.items():
            if name in _NESTED and isinstance(value, Mapping):
                _refuse_unknown(value, _NESTED[name], f"{origin}: {name}")
                below = merged.get(name)
                merged[name] = {**below, **value} if isinstance(below, Mapping) else value
            else:
                merged[name] = value
    merged["profile"] = profile
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise DeeperError(_readable(error, layers)) from error
    if (place := made_of_yes_or_no(merged, settings)) is not None:
        dotted = ".".join(map(str, place))
        raise DeeperError(f"{_origin(place, layers)}: setting {dotted}: expected a number, not yes or no")
    return settings


def settings_files(home: Path) -> list[Path]:
    """The files that the settings of the experiment in `home` are read from, with its prompts.

    Raises:
        DeeperError: see `load_settings`.
    """
    settings = load_settings(home)
    profiles = [Path(path) for path, _ in _profile_layers(settings.profile)]
    return [home / RECORDED, *profiles, *settings.prompts.values()]


def record_settings(home: Path, flags: Mapping[str, Any]) -> None:
    """Keeps values given on the command line, so that later commands and the UI in this home use them too."""
    if flags:
        home.mkdir(parents=True, exist_ok=True)
        values = {**recorded_settings(home), **flags}
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        text = "# Recorded by `deeper run`; edit or delete it to go back to the profile's values.\n"
        partial = home / (RECORDED + ".partial")
        partial.write_text(text + yaml.safe_dump(plain, sort_keys=True), encoding="utf-8")
        partial.replace(home / RECORDED)


def recorded_settings(home: Path) -> dict[str, Any]:
    """What `record_settings` kept in `home`; empty where nothing was."""
    path = home / RECORDED
    return read_settings(path) if path.exists() else {}


def home_folder(given: Path | None = None) -> Path:
    """The experiment's home folder: `given`, else `DEEPER_HOME`, else `.deeper` in the current folder."""
    return (given or Path(os.environ.get("DEEPER_HOME") or DEFAULT_HOME)).resolve()


def _profile_layers(profile: str, seen: tuple[str, ...] = ()) -> list[Layer]:
    """A profile and those it extends, the most general first."""
    if profile in seen:
        raise DeeperError(f"profile {shown(profile)} extends itself: {' -> '.join((*seen, profile))}")
    path = _profile_path(profile)
    values = read_settings(path)
    base = values.pop("extends", None)
    # Paths in a user's own profile are meant from where that file lies.
    values = _resolve_paths(values, path.parent)
    below = _profile_layers(_beside(str(base), path.parent), (*seen, profile)) if base else []
    return [*below, (str(path), values)]


def _profile_path(profile: str) -> Path:
    built_in = Path(str(resources.files("deeper_assets"))) / "profiles"
    known = sorted(path.stem for path in built_in.glob("*.yaml"))
    if profile in known:
        return built_in / f"{profile}.yaml"
    try:
        path = Path(profile).expanduser()
        if path.is_file():
            return path.resolve()
    except (OSError, RuntimeError, ValueError):  # too long, of nobody's home, with a NUL
        pass
    hint = did_you_mean(profile, known)
    raise DeeperError(f"profile {shown(profile)} is neither built in ({', '.join(known)}) nor a file{hint}")


def _beside(base: str, folder: Path) -> str:
    return str(folder / base) if base.endswith((".yaml", ".yml")) and not Path(base).is_absolute() else base


def _resolve_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    def resolve(value: Any) -> Any:
        if not isinstance(value, str) or "://" in value:  # the type says what is wrong
            return value
        try:
            return str((folder / Path(value).expanduser()).resolve())
        except (OSError, RuntimeError) as error:  # too long, of nobody's home
            raise DeeperError(f"profile in {folder}: {shown(value)} is no path: {error}") from error

    values = dict(values)
    for name in ("data", "downloads"):
        if values.get(name):
            values[name] = resolve(values[name])
    if isinstance(values.get("prompts"), dict):
        values["prompts"] = {name: resolve(path) for name, path in values["prompts"].items()}
    if isinstance(values.get("domains"), dict):
        values["domains"] = {
            name: {
                key: resolve(value) if key in {"file", "database"} else value for key, value in domain.items()
            }
            if isinstance(domain, dict)
            else domain
            for name, domain in values["domains"].items()
        }
    return values


def _environment() -> Iterator[Layer]:
    """A layer for each variable: of a whole setting first, of its parts then."""
    variables: dict[str, tuple[str, ...]]
    variables = {ENV_PREFIX + name.upper(): (name,) for name in Settings.model_fields if name != "profile"}
    for name, known_parts in _NESTED.items():
        variables |= {f"{ENV_PREFIX}{name}__{part}".upper(): (name, part) for part in known_parts}
    known = {*variables, *_OTHER_VARIABLES}
    for given in os.environ:
        if given.startswith(ENV_PREFIX) and not given.startswith(_TEST_VARIABLES) and given not in known:
            raise DeeperError(f"environment variable {given[:80]} is no setting{did_you_mean(given, known)}")
    for variable, (name, *parts) in variables.items():
        if variable in os.environ:
            value = _value_of(variable)
            mapping = name in _NESTED or get_origin(Settings.model_fields[name].annotation) is dict
            if mapping and not parts and not isinstance(value, dict):
                way_out = f"{variable}='{{\"name\": value}}'"
                if name in _NESTED:
                    way_out += f", or set a part: {variable}__{_NESTED[name][0].upper()}=value"
                raise DeeperError(f"environment variable {variable} holds no JSON object; write {way_out}")
            yield f"environment variable {variable}", {name: {parts[0]: value} if parts else value}


def _value_of(variable: str) -> Any:
    """What the variable holds: JSON where it begins as a list or an object does, otherwise plain text."""
    text = os.environ[variable]
    if text.strip() == "null":
        return None
    if text.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            example = '["one", "two"], or one,two' if text.lstrip()[0] == "[" else '{"name": 1}'
            # Without its cause, which holds the text.
            raise DeeperError(
                f"environment variable {variable} is no JSON ({why}); write it like {example}"
            ) from None
    else:
        value = text
    refuse_unusable(value, f"environment variable {variable}")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return values


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _refuse_unknown(layer: Mapping[str, Any], known: Iterable[str], origin: str) -> None:
    for name in layer:
        if name not in known:
            raise DeeperError(f"{origin}: {shown(name)} is no setting{did_you_mean(str(name), known)}")


_EXPECT_PARTS = {"dataclass_type", "dict_type", "list_type", "model_type", "model_attributes_type"}
"""Types of the errors about a text where several values belong: it may be any of them, a secret too."""


_OF_TYPES = {"function-before", "constrained-int"}
"""What stands in the place of an error and is no setting's name."""


def _readable(error: ValidationError, layers: list[Layer]) -> str:
    """The first thing wrong, in one line: where it was set, which setting, what was expected."""
    first = error.errors()[0]
    place = ".".join(str(part)[:60] for part in first["loc"] if part not in _OF_TYPES)
    value, message = first["input"], first["msg"].removeprefix("Value error, ")
    unknown = first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}
    if unknown:  # whatever it was to be: `dsn` in the place of `dsn_env`
        message = "there is no such setting"
    if not place:  # about several settings together
        return f"settings: {message}"
    many = isinstance(value, Mapping) or (first["type"] in _EXPECT_PARTS and isinstance(value, str | list))
    repeated = "" if unknown or many or first["type"] == UNSPOKEN else f" = {shown(value)}"
    return f"{_origin(first['loc'], layers)}: setting {place}{repeated}: {message}"


def _origin(place: Sequence[Any], layers: list[Layer]) -> str:
    """The last layer that says something of a setting, or of its part."""
    name, *parts = place
    telling = [(origin, layer[name]) for origin, layer in reversed(layers) if name in layer]
    if name in _NESTED and parts:
        of_part = [origin for origin, value in telling if not isinstance(value, Mapping) or parts[0] in value]
        return [*of_part, *(origin for origin, _ in telling), "settings"][0]
    return telling[0][0] if telling else "settings"
