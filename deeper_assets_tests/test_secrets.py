"""Secrets that were written where they do not belong: no error, cause or event repeats them."""

import os
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from deeper_assets.layers import load_settings
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.settings import Settings

SECRET = "s3cr3t"
OWN: dict[str, Any] = {
    "item_type": "film",
    "scale": {"lowest": 1, "highest": 5, "step": 1},
    "columns": {"user": "u", "item": "i", "rating": "r"},
}
DSN = f"postgresql://me:{SECRET}@host/db"


def own(**place: object) -> dict[str, object]:
    return {"domains": {"films": {**OWN, **place}}}


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (own(query="FROM t", dsn_env=DSN), "domains.films.dsn_env"),
        (own(query="FROM t", dsn=DSN), "domains.films.dsn"),
        (
            own(query="FROM t", columns={**OWN["columns"], "password": SECRET}),
            "domains.films.columns.password",
        ),
        (own(query="FROM t", dsn_env=f"host=h password={SECRET}"), "domains.films.dsn_env"),
        (own(query="FROM t", dsn_env=[DSN]), "domains.films.dsn_env"),
        (own(query="FROM t", database=DSN), "domains.films.database"),
        (own(query="FROM t", database=f"host=h password={SECRET}"), "domains.films.database"),
        (own(query=f"FROM postgres_scan('{DSN}', 'public', 't')"), "domains.films.query"),
        (own(query=f"FROM postgres_scan('host=h password={SECRET}', 'public', 't')"), "domains.films.query"),
        *(
            (own(query=f"FROM {text}"), "domains.films.query")
            for text in (
                f"postgres_scan('host=h password=''{SECRET}'' user=u', 'public', 't')",
                f"postgres_scan('password = {SECRET} host = h', 'public', 't')",
                f"'https://{SECRET}@host/x.csv'",
                f"'https://me:{SECRET}/x@host/x.csv'",
                f"read_csv('https://host/x.csv?api_key={SECRET}')",
                f"'s3://bucket/x.parquet?a=1&s3_secret_access_key={SECRET}'",
            )
        ),
        ({"policy": f"https://me:{SECRET}@host/model"}, "policy"),
        (own(file=DSN), "domains.films.file"),
        ({"domains": {"films": DSN}}, "domains.films"),
        ({"domains": DSN}, "domains"),
        ({"data": f"https://me:{SECRET}@host/data"}, "data"),
        ({"prompts": {"refinement": f"https://host/prompt?key={SECRET}"}}, "prompts.refinement"),
        ({"chat": {"base_url": f"https://host/v1?api_key={SECRET}"}}, "chat.base_url"),
        ({"chat": {"base_url": f"https://host/v1#{SECRET}"}}, "chat.base_url"),
        ({"chat": {"base_url": f"https://me:{SECRET}@host/v1"}}, "chat.base_url"),
        ({"chat": {"base_url": f"https://{SECRET}@host/v1"}}, "chat.base_url"),
        ({"chat": {"base_url": f"sk-{SECRET}"}}, "chat.base_url"),
        ({"chat": {"base_url": {SECRET: 1}}}, "chat.base_url"),
        ({"chat": {"key_env": f"sk-{SECRET}"}}, "chat.key_env"),
        ({"chat": {"key_env": f"hf_{SECRET}"}}, "chat.key_env"),
        ({"chat": f"https://host/v1?key={SECRET}"}, "chat"),
        ({"embedder": {"base_url": f"https://me:{SECRET}@host/v1"}}, "embedder.base_url"),
        ({"embedder": {"model": f"https://me:{SECRET}@host/model"}}, "embedder.model"),
        ({"embedder": {"key_env": f"sk-{SECRET}"}}, "embedder.key_env"),
        ({"sampler": {"urls": ["http://host/v1", f"https://{SECRET}@host/v1"]}}, "sampler.urls.1"),
        ({"sampler": {"urls": f"http://host/v1?key={SECRET}"}}, "sampler.urls.0"),
        ({"sampler": {"urls": {f"http://host/v1?key={SECRET}": 1}}}, "sampler.urls"),
        ({"sampler": {"key_env": f"sk-{SECRET}"}}, "sampler.key_env"),
    ],
)
def test_a_secret_in_the_wrong_place_is_an_error_that_does_not_repeat_it(
    tmp_path: Path, values: dict[str, object], place: str
) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(DeeperError) as error:
        load_settings(tmp_path, {"profile": str(profile)})
    assert f"mine.yaml: setting {place}: " in str(error.value)
    # A traceback tells of causes too; Dagster's event log does the same.
    assert SECRET not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    "address",
    [
        "not a url",
        "host/v1",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://host:99999/v1",
        "http://h /v1",
    ],
)
def test_what_is_no_address_is_an_error_that_shows_one(tmp_path: Path, address: str) -> None:
    with pytest.raises(DeeperError, match=r"chat\.base_url: expected an address such as http://127"):
        load_settings(tmp_path, {"chat": {"base_url": address}})


def test_addresses_names_and_queries_without_a_secret_are_taken(tmp_path: Path) -> None:
    query = (
        "SELECT user, password = 'x' AS odd, 'see http://host/a@b?page=1' AS link"
        " FROM 'ratings.csv' a JOIN b ON a.pwd = b.pwd"
    )
    settings = load_settings(
        tmp_path,
        own(query=query, dsn_env="RATINGS_DSN_2") | {"chat": {"base_url": "https://[::1]:8000/a/v1"}},
    )
    assert settings.chat.base_url == "https://[::1]:8000/a/v1"
    assert settings.domains["films"].query == query
    assert settings.domains["films"].dsn_env == "RATINGS_DSN_2"


def test_every_setting_that_names_a_variable_is_checked_to_be_a_name() -> None:
    """By its name: a new `…_env` that took any text would be left out of the test above."""
    definitions = Settings.model_json_schema()["$defs"].values()
    named = {
        (part["title"], name) for part in definitions for name in part.get("properties", {}) if "_env" in name
    }
    assert named == {
        ("ChatSettings", "key_env"),
        ("EmbedderSettings", "key_env"),
        ("SamplerSettings", "key_env"),
        ("DomainSettings", "dsn_env"),
    }


def test_a_variables_text_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text in (
        ("DEEPER_CHAT", f"https://host/v1?key={SECRET}"),
        ("DEEPER_CHAT__BASE_URL", f"https://host/v1?key={SECRET}"),
        ("DEEPER_CHAT__KEY_ENV", f"sk-{SECRET}"),
        ("DEEPER_SAMPLER__URLS", f'["http://{SECRET}@host/v1"'),
        ("DEEPER_DOMAINS", f'{{"films": {{"dsn_env": "{DSN}"'),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(os.environ, variable, text)
            with pytest.raises(DeeperError, match=variable) as error:
                load_settings(tmp_path)
            assert SECRET not in "".join(traceback.format_exception(error.value)), variable
