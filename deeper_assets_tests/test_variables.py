"""Settings in environment variables."""

from pathlib import Path

import pytest

from deeper_assets.engines.chat.endpoint import Prices
from deeper_assets.engines.chat.served import OPENAI
from deeper_assets.layers import load_settings
from deeper_assets.method.exceptions import DeeperError


def test_a_nested_value_has_an_environment_variable_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPER_PROFILE", "local")
    monkeypatch.setenv("DEEPER_CHAT__BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("DEEPER_SAMPLER__URLS", '["http://127.0.0.1:8/v1"]')
    monkeypatch.setenv("DEEPER_CHAT__PRICES", '{"input": 1, "output": 2.5}')
    monkeypatch.setenv("DEEPER_MAX_COST_USD", "2.5")
    settings = load_settings(tmp_path)
    # base_url, prices and urls: environment; engine and model: local.yaml
    assert (settings.chat.engine, settings.chat.model) == ("openai", "local")
    assert settings.chat.base_url == "http://127.0.0.1:9/v1"
    assert settings.sampler.urls == ["http://127.0.0.1:8/v1"]
    assert settings.max_cost_usd == 2.5
    assert settings.chat.prices == Prices(input=1.0, output=2.5)
    assert load_settings(tmp_path, {"chat": {"base_url": None}}).chat.base_url == OPENAI
    monkeypatch.setenv("DEEPER_CHAT__BASE_ULR", "x")
    with pytest.raises(
        DeeperError, match="DEEPER_CHAT__BASE_ULR is no setting; did you mean 'DEEPER_CHAT__BASE_URL'"
    ):
        load_settings(tmp_path)


def test_a_list_may_be_written_with_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPER_TRAIN_RECIPES", "balanced")
    monkeypatch.setenv("DEEPER_EVALUATE", "grocery, book")
    monkeypatch.setenv("DEEPER_SAMPLER__URLS", "http://a:1/v1,http://b:1/v1")
    settings = load_settings(tmp_path, {"training_domains": "recipe,book"})
    assert (settings.train_recipes, settings.evaluate) == (["balanced"], ["grocery", "book"])
    assert settings.sampler.urls == ["http://a:1/v1", "http://b:1/v1"]
    assert settings.training_domains == ["recipe", "book"]


def test_a_variable_takes_back_what_a_profile_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("data: ratings\nchat: {prices: {input: 1, output: 1}}\n")
    monkeypatch.setenv("DEEPER_PROFILE", str(profile))
    monkeypatch.setenv("DEEPER_DATA", "null")
    monkeypatch.setenv("DEEPER_CHAT__PRICES", "null")
    settings = load_settings(tmp_path)
    assert (settings.data, settings.chat.prices) == (None, None)


def test_a_misspelt_variable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPER_EVAL_USRS", "3")
    with pytest.raises(DeeperError, match="DEEPER_EVAL_USRS is no setting; did you mean 'DEEPER_EVAL_USERS'"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "DEEPER_TRAIN_RECIPES",
            "[balanced]",
            'is no JSON (Expecting value); write it like ["one", "two"], or one,two',
        ),
        ("DEEPER_RECIPES", '{"a": {}, "a": {}}', "is no JSON (a name stands twice in an object)"),
        ("DEEPER_RECIPES", '{"a": {"margin_1": NaN}}', "is no JSON (NaN is no number)"),
        ("DEEPER_RECIPES", '{"a": ' + "[" * 50_000, "is no JSON"),
        ("DEEPER_RECIPES", '{"a": ' + "[" * 100 + "]" * 100 + "}", "more than 30 lists and mappings"),
        ("DEEPER_RECIPES", "bold", """holds no JSON object; write DEEPER_RECIPES='{"name": value}'"""),
        ("DEEPER_CHAT", "openai", "or set a part: DEEPER_CHAT__MODEL=value"),
        ("DEEPER_CHAT__TRIES", "x", "setting chat.tries = 'x': Input should be a valid integer"),
        ("DEEPER_EVAL_USERS", "1e400", "setting eval_users = '1e400': Input should be a valid integer"),
        ("DEEPER_DATA", "a\udc80b", "a control character or half of a surrogate pair stands in the text"),
    ],
)
def test_an_error_about_a_variable_names_it_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv("DEEPER_CHAT__CONCURRENCY", "3")  # another part of `chat` is not where the mistake is
    monkeypatch.setenv(variable, value)
    with pytest.raises(DeeperError) as error:
        load_settings(tmp_path)
    assert f"environment variable {variable}" in str(error.value)
    assert message in str(error.value)
