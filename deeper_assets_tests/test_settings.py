"""Settings: layers, and errors that name the place and the way out."""

from pathlib import Path

import pytest
import yaml

from deeper_assets.method.faults import DeeperError
from deeper_assets.settings import load_settings, record_settings, recorded_settings

OWN_DOMAIN = {
    "item_type": "podcast",
    "scale": {"lowest": 1, "highest": 5, "step": 1},
    "columns": {"user": "u", "item": "i", "rating": "r"},
    "file": "ratings.csv",
}


def write(path: Path, **values: object) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_later_layers_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = write(tmp_path / "mine.yaml", extends="offline", eval_users=11, train_users=12, asks=4, seed=5)
    record_settings(tmp_path, {"profile": str(profile), "eval_users": 21, "train_users": 22, "asks": 6})
    monkeypatch.setenv("DEEPER_TRAIN_USERS", "31")
    monkeypatch.setenv("DEEPER_ASKS", "7")
    settings = load_settings(tmp_path, {"asks": 9})
    # seed: profile; eval_users: recorded; train_users: environment; asks: flag; persona_words: offline.yaml
    assert (settings.seed, settings.eval_users, settings.train_users, settings.asks) == (5, 21, 31, 9)
    assert settings.persona_words == 80


def test_all_means_every_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPER_TRAIN_USERS", "all")
    settings = load_settings(tmp_path, {"eval_users": "all"})
    assert settings.eval_users is None
    assert settings.train_users is None


def test_recording_adds_to_what_was_recorded(tmp_path: Path) -> None:
    record_settings(tmp_path, {"eval_users": 3})
    record_settings(tmp_path, {"data": tmp_path / "x"})
    assert recorded_settings(tmp_path) == {"eval_users": 3, "data": str(tmp_path / "x")}


def test_paths_in_a_profile_are_meant_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    profile = write(folder / "mine.yaml", data="../ratings", domains={"podcast": OWN_DOMAIN})
    settings = load_settings(tmp_path / "home", {"profile": str(profile)})
    assert settings.data == tmp_path / "ratings"
    assert settings.domains["podcast"].file == folder / "ratings.csv"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"eval_user": 3}, "command line: 'eval_user' is no setting; did you mean 'eval_users'?"),
        (
            {"eval_users": 0},
            "command line: setting eval_users = 0: Input should be greater than or equal to 1",
        ),
        ({"windows_at_least": 8}, "settings: windows_at_least 8 is more than windows_at_most 7"),
        (
            {"profile": "ofline"},
            "profile 'ofline' is neither built in (offline) nor a file; did you mean 'offline'?",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "scale": {"lowest": 5, "highest": 1, "step": 1}}}},
            "scale: lowest 5 must lie below highest 1",
        ),
        ({"domains": {"p": {**OWN_DOMAIN, "query": "select 1"}}}, "give either a file or a query"),
        (
            {"domains": {"p": {**OWN_DOMAIN, "database": "x"}}},
            "a file needs neither",
        ),
    ],
)
def test_errors_name_place_value_and_way_out(tmp_path: Path, flags: dict[str, object], message: str) -> None:
    with pytest.raises(DeeperError) as error:
        load_settings(tmp_path, flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_misspelt_variable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPER_EVAL_USRS", "3")
    with pytest.raises(DeeperError, match="DEEPER_EVAL_USRS is no setting; did you mean 'DEEPER_EVAL_USERS'"):
        load_settings(tmp_path)


def test_a_profile_that_extends_itself_is_an_error(tmp_path: Path) -> None:
    profile = tmp_path / "a.yaml"
    write(profile, extends=str(profile))
    with pytest.raises(DeeperError, match="extends itself"):
        load_settings(tmp_path, {"profile": str(profile)})


def test_a_broken_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("eval_users: [1\n")
    with pytest.raises(DeeperError, match=r"settings\.yaml cannot be read"):
        load_settings(tmp_path)
