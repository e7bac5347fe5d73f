"""The salt of a home, and that nothing of a home holds an id when ids are hashed."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from deeper_assets.crew import Worker
from deeper_assets.graph import Graph
from deeper_assets.layers import load_settings
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.planning import Planner
from deeper_assets.privacy import salt_of
from deeper_assets.resources import Experiment
from deeper_assets_tests.command import deeper


def test_the_salt_is_made_once_and_is_for_its_owner(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ThreadPoolExecutor(8) as pool:
        salts = set(pool.map(lambda _: salt_of(home), range(40)))
    assert len(salts) == 1
    assert salts == {salt_of(home)}
    assert stat.S_IMODE((home / "salt").stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == ["salt"]
    assert salts != {salt_of(tmp_path / "other")}
    (home / "salt").chmod(0o644)
    assert {salt_of(home)} == salts
    assert stat.S_IMODE((home / "salt").stat().st_mode) == 0o600
    (home / "salt").write_text("pepper")
    with pytest.raises(DeeperError, match="salt holds no salt; put back what stood there, or delete it"):
        salt_of(home)


def log() -> str:
    """Ratings with ids in every place where a line can be wrong."""
    lines = ["user,film,stars,at"]
    for user in ("Zyxwanna", "Zyxwben", "Zyxwcara", "Zyxwdora"):
        lines += [f"{user},The Tale of Dragon {i},{1 + i * len(user) % 5},{1.7e9 + i:.0f}" for i in range(52)]
    lines += ["Zyxwanna,a,Zyxwben,5", "Zyxwanna,a,3,Zyxwben", "Zyxwanna", "a,b,c,Zyxwben,d", "Zyxweva,a,9,1"]
    return "\n".join([*lines, *lines[:3]]) + "\n"


HISTORIES = ["raw_ratings", "rejected_ratings", "rating_windows", "rating_accounts"]

PROFILE = """
extends: offline
hash_ids: true
train_recipes: []
eval_users: 1
windows_at_most: 5
domains:
  films:
    item_type: film
    scale: {lowest: 1, highest: 5, step: 1}
    file: ratings.csv
    columns: {user: user, item: film, rating: stars, time: at}
  wrong:
    item_type: film
    scale: {lowest: 1, highest: 5, step: 1}
    database: rated.duckdb
    query: SELECT id::INTEGER AS id, film, stars FROM rated
    columns: {user: id, item: film, rating: stars}
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Of a domain that can be read, and of one where an error quotes an id."""
    (tmp_path / "ratings.csv").write_text(log())
    with duckdb.connect(tmp_path / "rated.duckdb") as connection:
        connection.execute("CREATE TABLE rated AS SELECT 'Zyxwfred' AS id, 'a' AS film, 3 AS stars")
    (tmp_path / "own.yaml").write_text(PROFILE)
    return tmp_path / "own.yaml"


def texts_in(home: Path) -> str:
    """All that stands in the tables of a home, whose pages are compressed."""
    with duckdb.connect(home / "warehouse.duckdb", read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return str([connection.execute(f'FROM "{table}"').fetchall() for table in tables])


def test_no_file_of_a_home_holds_an_id(tmp_path: Path, profile: Path) -> None:
    home = tmp_path / "home"
    done = deeper("run", "--home", home, "--profile", profile, check=False)
    assert done.returncode == 1  # because of the domain `wrong`
    assert "the ratings of domain 'wrong' cannot be read (ConversionException)" in done.stderr
    rejects = deeper("rejects", "--home", home, "--domain", "films").stdout
    assert "malformed_line, for example:" in rejects
    lineage = deeper("lineage", "initial_personas", "--home", home, "--domain", "films").stdout
    assert "hash_ids true" in lineage
    stored = texts_in(home)
    assert "The Tale of Dragon 7" in stored
    for text in (done.stdout, done.stderr, rejects, lineage, stored):
        assert "Zyxw" not in text
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    found = [content[at - 80 : at + 80] for content in files.values() if (at := content.find(b"Zyxw")) >= 0]
    assert found == []
    salt = files[home / "salt"].strip()
    assert [path.name for path, content in files.items() if salt in content] == ["salt"]
    assert salt.decode() not in stored


def test_without_the_setting_ids_are_found(tmp_path: Path, profile: Path) -> None:
    """Or the test above could not fail."""
    here = Experiment(
        tmp_path / "home", load_settings(tmp_path / "home", {"profile": str(profile), "hash_ids": False})
    )
    worker = Worker(here)
    planner = Planner(Graph.of(here), worker.definitions)
    assert worker.make(planner.unit("personas", "films"), HISTORIES) is None
    assert "Zyxwanna" in texts_in(here.home)
    failure = worker.make(planner.unit("personas", "wrong"), HISTORIES)
    assert failure is not None
    assert "Zyxwfred" in failure.reason
    assert any(b"Zyxwfred" in path.read_bytes() for path in here.home.rglob("*") if path.is_file())
    assert not (here.home / "salt").exists()
