"""Where settings come from: layers of values, merged into one `Settings`.

Later layers win: the defaults of `Settings`, then the profile (a YAML file, built in or the user's own), then
what earlier commands recorded in the home folder, then `DEEPER_*` environment variables, then flags.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.method.exceptions import DeeperError, did_you_mean
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.recipes import Training
from deeper_assets.settings import DEFAULT_PROFILE, ChatSettings, SamplerSettings, Settings

DEFAULT_HOME = Path(".deeper")
ENV_PREFIX = "DEEPER_"
RECORDED = "settings.yaml"

# Not settings of an experiment, but about where to find it and how to talk about it.
_OTHER_VARIABLES = {"DEEPER_HOME", "DEEPER_PROFILE"}
_TEST_VARIABLES = "DEEPER_TEST_"

_UNSPOKEN = re.compile(r"\.(base_url|key_env|urls)\b")
"""Settings whose value no error repeats: a wrong one may be a secret."""


_NESTED: Mapping[str, tuple[str, ...]] = {
    "training": tuple(field.name for field in fields(Training)),
    "hardware": tuple(field.name for field in fields(Hardware)),
    "candidate_decoding": tuple(field.name for field in fields(Decoding)),
    "evaluation_decoding": tuple(field.name for field in fields(Decoding)),
    "chat": tuple(ChatSettings.model_fields),
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
    layers: list[tuple[str, Mapping[str, Any]]] = [
        *_profile_layers(profile),
        (str(home / RECORDED), recorded),
        ("environment", _environment()),
        ("command line", flags),
    ]
    merged: dict[str, Any] = {}
    for origin, layer in layers:
        _refuse_unknown(layer, Settings.model_fields, origin)
        for name, value in layer.items():
            if name in _NESTED and isinstance(value, Mapping):
                _refuse_unknown(value, _NESTED[name], f"{origin}: {name}")
                merged[name] = {**merged.get(name, {}), **value}
            else:
                merged[name] = value
    merged["profile"] = profile
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise DeeperError(_readable(error, layers)) from error


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
    return _read_yaml(path) if path.exists() else {}


def home_folder(given: Path | None = None) -> Path:
    """The experiment's home folder: `given`, else `DEEPER_HOME`, else `.deeper` in the current folder."""
    return (given or Path(os.environ.get("DEEPER_HOME") or DEFAULT_HOME)).resolve()


def _profile_layers(profile: str, seen: tuple[str, ...] = ()) -> list[tuple[str, dict[str, Any]]]:
    """A profile and those it extends, the most general first."""
    if profile in seen:
        raise DeeperError(f"profile {profile!r} extends itself: {' -> '.join((*seen, profile))}")
    path = _profile_path(profile)
    values = _read_yaml(path)
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
    path = Path(profile).expanduser()
    if path.is_file():
        return path.resolve()
    hint = did_you_mean(profile, known)
    raise DeeperError(f"profile {profile!r} is neither built in ({', '.join(known)}) nor a file{hint}")


def _beside(base: str, folder: Path) -> str:
    return str(folder / base) if base.endswith((".yaml", ".yml")) and not Path(base).is_absolute() else base


def _resolve_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    def resolve(value: Any) -> Any:
        return str((folder / Path(value).expanduser()).resolve()) if isinstance(value, str) else value

    values = dict(values)
    if values.get("data"):
        values["data"] = resolve(values["data"])
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


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DeeperError(f"settings file {path} cannot be read: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise DeeperError(f"settings file {path} holds {type(values).__name__}, expected `name: value` lines")
    return values


def _environment() -> dict[str, Any]:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | _OTHER_VARIABLES
    known |= {f"{ENV_PREFIX}{name}__{part}".upper() for name, parts in _NESTED.items() for part in parts}
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and not name.startswith(_TEST_VARIABLES) and name not in known:
            raise DeeperError(f"environment variable {name} is no setting{did_you_mean(name, known)}")
    try:
        values = EnvSettingsSource(
            Settings, env_prefix=ENV_PREFIX, case_sensitive=False, env_nested_delimiter="__"
        )()
    except SettingsError as error:
        raise DeeperError(f"environment: {error}") from error
    return {name: value for name, value in values.items() if name != "profile"}


def _refuse_unknown(layer: Mapping[str, Any], known: Iterable[str], origin: str) -> None:
    for name in layer:
        if name not in known:
            raise DeeperError(f"{origin}: {name!r} is no setting{did_you_mean(str(name), known)}")


def _readable(error: ValidationError, layers: list[tuple[str, Mapping[str, Any]]]) -> str:
    """The first thing wrong, in one line: where it was set, which setting, what was expected."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "function-before")
    field = str(first["loc"][0]) if first["loc"] else ""
    origin = next((name for name, layer in reversed(layers) if field in layer), "settings")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        message = "there is no such setting"
    if not place:  # about several settings together
        return f"settings: {message}"
    unspoken = _UNSPOKEN.search(place) or isinstance(first["input"], Mapping)
    value = "" if unspoken else f" = {first['input']!r}"
    return f"{origin}: setting {place}{value}: {message}"
