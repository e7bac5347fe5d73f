"""`deeper init`: what it writes, what it says, and that a run reads just what it has told."""

import gzip
import re
from pathlib import Path

import duckdb
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.cli import cli
from deeper_assets.layers import load_settings
from deeper_assets.method.cutting import WINDOWS, cut_histories
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.proposing import Proposal, Said, place_of, profile_text, write_profile
from deeper_assets.resources import Experiment
from deeper_assets.sources.looking import Place
from deeper_assets.sources.shape import scratch
from deeper_assets_tests.postgres import own_postgres

HEAD = "user_id,episode_id,episode_title,stars,rated_at"


def log(users: int = 6, ratings: int = 60) -> list[str]:
    """A rating log: the last user has but 20 ratings, and two lines are wrong."""
    lines = [HEAD]
    for user in range(users):
        for i in range(20 if user == users - 1 else ratings):
            stars = "great" if (user, i) == (0, 3) else str(1 + (user + i) % 5)
            lines.append(
                f"u{user},e{i},The Tale of Dragon {i},{stars},2024-01-{1 + i // 24:02}T{i % 24:02}:00"
            )
    return [*lines[:5], "u0,e99", *lines[5:]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a rating log in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "podcasts.csv").write_text("\n".join(log()) + "\n")
    return tmp_path


def deeper(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


SAID = """\
  domain      podcasts, of podcasts.csv
  item_type   episode
                (a guess, from the column episode_id; otherwise --item-type)
  scale       from 1 to 5 in steps of 1
  user        user_id
  item        episode_id
  rating      stars
  title       episode_title
  time        rated_at

The first 10 rows, as they are read:
  line  user_id  item_id  title                 rating  rated_at             reason
  2     u0       e0       The Tale of Dragon 0  1       2024-01-01 00:00:00
  3     u0       e1       The Tale of Dragon 1  2       2024-01-01 01:00:00
  4     u0       e2       The Tale of Dragon 2  3       2024-01-01 02:00:00
  5     u0       e3       The Tale of Dragon 3          2024-01-01 03:00:00  not_a_number
  6                                                                          malformed_line
  7     u0       e4       The Tale of Dragon 4  5       2024-01-01 04:00:00
  8     u0       e5       The Tale of Dragon 5  1       2024-01-01 05:00:00
  9     u0       e6       The Tale of Dragon 6  2       2024-01-01 06:00:00
  10    u0       e7       The Tale of Dragon 7  3       2024-01-01 07:00:00
  11    u0       e8       The Tale of Dragon 8  4       2024-01-01 08:00:00

22 of 321 ratings and 1 of 6 users rejected
  reason                   users     ratings
  too_few_windows              1          20  the user has too few windows with a usable rating
  malformed_line               0           1  the line does not fit its file's format
  not_a_number                 1           1  the rating is no number

5 users have enough windows of 10 ratings (5, windows_at_least); 2 would train and 3 be evaluated, as a hash \
of each user (train_share) or the column split, train_users and eval_users decide
  users with so many windows or more: 1: 6  2: 6  3: 5  4: 5  5: 5  6: 5

wrote podcasts.yaml; next: deeper run --profile podcasts.yaml
"""

WRITTEN = """\
# Written by `deeper init`. What was guessed can be corrected here, or by the flags that are named.
extends: offline   # or paper, local: real models
domains:
  podcasts:
    item_type: episode   # a guess, from the column episode_id; otherwise --item-type
    scale: {lowest: 1, highest: 5, step: 1}
    file: podcasts.csv
    columns:
      user: user_id
      item: episode_id
      rating: stars
      title: episode_title
      time: rated_at
"""


def test_what_is_said_and_written(here: Path) -> None:
    done = deeper("init", "podcasts.csv")
    assert (done.exit_code, done.stdout) == (0, SAID)
    assert (here / "podcasts.yaml").read_text() == WRITTEN
    assert sorted(path.name for path in here.iterdir()) == ["podcasts.csv", "podcasts.yaml"]


def test_a_profile_with_which_nothing_can_be_run_says_so(here: Path) -> None:
    (here / "podcasts.csv").write_text("\n".join(log(ratings=20)) + "\n")
    done = deeper("init", "podcasts.csv")
    assert done.exit_code == 0
    assert done.stdout.endswith(
        "\nwrote podcasts.yaml, but a run with it would come to nothing. Nobody can be evaluated and nobody "
        "trains: correct what is rejected most, by flags or by a query, and write the profile anew with "
        "--force.\n"
    )
    whole = [line for line in log(ratings=20) if line != "u0,e99" and "great" not in line]
    (here / "podcasts.csv").write_text("\n".join(whole) + "\n")
    done = deeper("init", "podcasts.csv", "--force")
    assert done.stdout.endswith(
        "Nobody can be evaluated and nobody trains: lower windows_at_least in the profile, or give users "
        "more ratings.\n"
    )
    split = [HEAD + ",split", *(f"{line},eval" for line in log()[1:] if line != "u0,e99")]
    (here / "podcasts.csv").write_text("\n".join(split) + "\n")
    done = deeper("init", "podcasts.csv", "--force")
    assert "0 would train and 5 be evaluated" in done.stdout
    assert done.stdout.endswith(
        "Nobody trains: train_share gives more users to the one side or the other, and so does a column "
        "split.\n"
    )
    assert "next:" not in done.stdout


def test_a_run_reads_what_was_told(here: Path) -> None:
    _, proposal, preview = write_profile(
        place_of("podcasts.csv", None, None, here), Said(), here / "mine.yaml", force=False
    )
    experiment = Experiment(here / "home", load_settings(here / "home", {"profile": "mine.yaml"}))
    assert (experiment.evaluated, experiment.training_domains) == (["podcasts"], ["podcasts"])
    assert experiment.domain("podcasts") == proposal.domain
    with scratch() as (connection, folder):
        placed = experiment.source("podcasts").load(connection, folder).placed
        sampling = experiment.user_sampling("podcasts")
        accounting = cut_histories(connection, proposal.domain, experiment.rules, sampling, placed)
        [(users, rows)] = connection.execute(
            f"SELECT count(DISTINCT user_id), count(*) FROM {WINDOWS}"
        ).fetchall()
    assert preview.accounting == accounting
    assert accounting.adds_up
    assert (users, rows) == (5, 5 * 60 - 1)


def test_flags_say_what_would_be_guessed(here: Path) -> None:
    flags = [
        "--item-type",
        "podcast: episode #1",
        "--scale",
        "0:10:0.5",
        "--name",
        "mine",
        "--extends",
        "local",
    ]
    columns = ["--user", "episode_id", "--item", "user_id", "--title", "none", "--time", "none"]
    done = deeper("init", "podcasts.csv", *flags, *columns, "--profile", "own/my.yaml")
    assert done.exit_code == 0, done.output
    assert yaml.safe_load((here / "own/my.yaml").read_text()) == {
        "extends": "local",
        "domains": {
            "mine": {
                "item_type": "podcast: episode #1",
                "scale": {"lowest": 0, "highest": 10, "step": 0.5},
                "file": str(here / "podcasts.csv"),
                "columns": {"user": "episode_id", "item": "user_id", "rating": "stars"},
            }
        },
    }


def test_a_profile_that_is_there_stays(here: Path) -> None:
    (here / "podcasts.yaml").write_text("extends: paper\n")
    done = deeper("init", "podcasts.csv")
    assert str(done.exception) == (
        "podcasts.yaml is there; --force writes it anew, --profile FILE writes another file"
    )
    assert (here / "podcasts.yaml").read_text() == "extends: paper\n"
    assert deeper("init", "podcasts.csv", "--force").exit_code == 0
    assert (here / "podcasts.yaml").read_text() == WRITTEN


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["podcast.csv"], "podcast.csv does not exist"),
        (["podcasts.csv", "--extends", "ofline"], "did you mean 'offline'?"),
        (["podcasts.csv", "--name", "book"], "'book' is one of the paper's; give your own another name"),
        (["podcasts.csv", "--rating", "star"], "has no column 'star'; did you mean 'stars'? (--rating)"),
        (["SELECT nothing FROM 'podcasts.csv'"], "the query cannot be read: Binder Error"),
        (
            ["rated", "--database", "podcasts.csv", "--dsn-env", "X"],
            "(--database) or of Postgres (--dsn-env)",
        ),
        (["rated", "--dsn-env", "NOBODYS_DSN"], "the environment variable NOBODYS_DSN is not set"),
        (["podcasts.csv", "--marks", "user", "--rating", "stars"], "give --rating or --marks, not both"),
        (["podcasts.csv", "--rating", "stars", "--amount", "stars"], "give --rating or --amount, not both"),
        (["podcasts.csv", "--profile", "/proc/x.yaml"], "/proc/x.yaml cannot be written (No such file"),
        (["podcasts.csv", "--profile", "podcasts.csv/x.yaml"], "podcasts.csv/x.yaml cannot be written ("),
    ],
)
def test_what_goes_wrong_leaves_nothing(here: Path, arguments: list[str], message: str) -> None:
    done = deeper("init", *arguments)
    assert done.exit_code == 1
    assert isinstance(done.exception, DeeperError)
    assert message in str(done.exception)
    assert [path.name for path in here.iterdir()] == ["podcasts.csv"]


def test_a_scale_that_is_none_is_said(here: Path) -> None:
    assert "'1-5' is no scale" in deeper("init", "podcasts.csv", "--scale", "1-5").output
    assert "lowest 5 must lie below highest 1" in deeper("init", "podcasts.csv", "--scale", "5:1:1").output


def test_other_sources_make_the_same_windows(here: Path) -> None:
    rows = "read_csv('podcasts.csv', ignore_errors = true, all_varchar = true)"
    with duckdb.connect(here / "rated.duckdb") as connection:
        connection.execute(f"CREATE TABLE ratings AS FROM {rows}")
        connection.execute("COPY ratings TO 'podcasts.parquet'")
    with gzip.open(here / "podcasts.csv.gz", "wt") as file:
        file.write((here / "podcasts.csv").read_text())
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM {rows}) TO 'podcasts.jsonl.gz' (FORMAT json, COMPRESSION gzip)")
    for source, flags in (
        ("podcasts.jsonl.gz", []),
        ("podcasts.csv.gz", []),
        ("podcasts.parquet", []),
        ("rated.duckdb", []),
        ("ratings", ["--database", "rated.duckdb"]),
        ("SELECT * FROM ratings WHERE stars <> '9'", ["--database", "rated.duckdb"]),
        (f"SELECT * FROM {rows}", []),
        ("FROM 'podcasts.parquet'", []),
    ):
        done = deeper("init", source, *flags, "--force", "--profile", "any.yaml", "--name", "podcasts")
        assert done.exit_code == 0, done.output
        assert "5 users have enough windows" in done.output, source
        experiment = Experiment(here, load_settings(here, {"profile": "any.yaml"}))
        with scratch() as (connection, folder):
            experiment.source("podcasts").load(connection, folder)
            [(users,)] = connection.execute("SELECT count(DISTINCT user_id) FROM ratings").fetchall()
        assert users == 6, source


def test_categories_are_kept(here: Path) -> None:
    genres = [HEAD + ",genres", *(line + ",Drama|Horror" for line in log()[1:])]
    (here / "films.csv").write_text("\n".join(genres) + "\n")
    done = deeper("init", "films.csv")
    assert done.exit_code == 0, done.output
    assert "  categories  genres\n" in done.output
    experiment = Experiment(here, load_settings(here, {"profile": "films.yaml"}))
    with scratch() as (connection, folder):
        experiment.source("films").load(connection, folder)
        [(kept,)] = connection.execute(
            "SELECT DISTINCT categories FROM ratings WHERE defect IS NULL"
        ).fetchall()
    assert kept == "Drama|Horror"


def test_a_database_with_several_tables_is_asked_about(here: Path) -> None:
    with duckdb.connect(here / "two.duckdb") as connection:
        connection.execute("CREATE TABLE a (n INT); CREATE TABLE b (n INT)")
    with pytest.raises(DeeperError, match=r"has 2 tables \(a, b\); say which.* deeper init TABLE --database"):
        place_of("two.duckdb", None, None, here)


def test_a_table_may_have_a_blank_in_its_name(here: Path) -> None:
    with duckdb.connect(here / "my.duckdb") as connection:
        rows = "read_csv('podcasts.csv', ignore_errors = true, all_varchar = true)"
        connection.execute(f'CREATE TABLE "Odd Table" AS FROM {rows}; CREATE TABLE other (n INT)')
    done = deeper("init", "Odd Table", "--database", "my.duckdb")
    assert done.exit_code == 0, done.output
    domain = yaml.safe_load((here / "odd_table.yaml").read_text())["domains"]["odd_table"]
    assert domain["query"] == 'SELECT * FROM "Odd Table"'


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], False),
        (["--scale", "0.5:5:0.5"], False),
        (["--scale", "1:10:1"], False),
        (["--scale", "0:10:1"], True),
        (["--scale", "0:100:1"], True),
        (["--scale=-1:1:1"], True),
        (["--scale", "0.5:10:0.5"], True),
        (["--scale", "0:10:1", "--extends", "local"], False),
    ],
)
def test_marks_that_the_offline_policy_does_not_read_are_noted(
    here: Path, flags: list[str], told: bool
) -> None:
    done = deeper("init", "podcasts.csv", *flags)
    assert done.exit_code == 0, done.output
    assert ("note: the policy of the profile offline reads marks from 1 to 10" in done.stdout) == told


@pytest.mark.parametrize("mark", ["63%", '"4,5"'])
def test_ratings_that_are_no_numbers_are_shown(here: Path, mark: str) -> None:
    rows = [HEAD, *(f"u{n % 7},e{n},The Tale of Dragon {n},{mark},2024-01-01" for n in range(770))]
    (here / "podcasts.csv").write_text("\n".join(rows) + "\n")
    done = deeper("init", "podcasts.csv", "--rating", "stars")
    shown = mark.strip('"')
    assert f"none of 770 ratings is a number, e.g. '{shown}'; a query can convert them" in str(done.exception)


def test_a_postgres_is_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    with own_postgres() as dsn:
        monkeypatch.setenv("RATINGS_DSN", dsn)
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "CREATE TABLE rated AS SELECT 'u' || u AS member, 'film ' || i AS film,"
                " 1 + (u + i) % 5 AS rating, i AS position"
                " FROM generate_series(1, 4) AS u, generate_series(1, 50) AS i"
            )
        done = deeper("init", "rated", "--dsn-env", "RATINGS_DSN")
        assert done.exit_code == 0, done.output
        assert "4 users have enough windows" in done.output
    assert yaml.safe_load((here / "rated.yaml").read_text())["domains"]["rated"] == {
        "item_type": "film",
        "scale": {"lowest": 1, "highest": 5, "step": 1},
        "dsn_env": "RATINGS_DSN",
        "query": "SELECT * FROM rated",
        "columns": {"user": "member", "item": "film", "rating": "rating", "order": "position"},
    }


def test_behaviour_without_ratings(here: Path) -> None:
    plays = ["user_id,song_id,plays", *(f"u{u},s{i},{1 + (u * i) % 30}" for u in range(3) for i in range(50))]
    (here / "plays.csv").write_text("\n".join(plays) + "\n")
    done = deeper("init", "plays.csv")
    assert done.exit_code == 0, done.output
    assert "3 users have enough windows" in done.output
    own = yaml.safe_load((here / "plays.yaml").read_text())["domains"]["plays"]
    assert (own["marks"], own["scale"]) == ("domain", {"lowest": 1, "highest": 5, "step": 1})
    assert own["columns"] == {"user": "user_id", "item": "song_id", "amount": "plays"}
    counted = deeper(
        "init", "plays.csv", "--marks", "user", "--amount", "none", "--scale", "1:3:1", "--force"
    )
    assert counted.exit_code == 0, counted.output
    own = yaml.safe_load((here / "plays.yaml").read_text())["domains"]["plays"]
    assert (own["marks"], own["scale"]["highest"]) == ("user", 3)
    assert own["columns"] == {"user": "user_id", "item": "song_id"}
    experiment = Experiment(here, load_settings(here, {"profile": "plays.yaml"}))
    with scratch() as (connection, folder):
        experiment.source("plays").load(connection, folder)
        assert connection.execute("SELECT DISTINCT rating FROM ratings").fetchall() == [(2,)]


def test_hashed_ids_are_not_shown(here: Path) -> None:
    done = deeper("init", "podcasts.csv", "--hash-ids")
    assert done.exit_code == 0, done.output
    assert re.search(r"\n  2     [0-9a-f]{28}…  e0 ", done.output)
    assert "u0" not in done.output
    assert "5 users have enough windows" in done.output
    assert yaml.safe_load((here / "podcasts.yaml").read_text())["hash_ids"] is True
    assert sorted(path.name for path in here.iterdir()) == ["podcasts.csv", "podcasts.yaml"]


plain = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20)


@given(user=plain, item=plain, item_type=plain, query=plain, remark=st.text(max_size=20))
def test_whatever_stands_in_it_a_profile_is_read_as_it_was_meant(
    tmp_path_factory: pytest.TempPathFactory, user: str, item: str, item_type: str, query: str, remark: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    domain = Domain("mine", item_type, Scale(0.1, 1.3, 0.2), seen=True)
    columns = {"user": user, "item": item, "rating": "r"}
    proposal = Proposal(Place(query=query), domain, columns, "offline", {"user": remark}, [])
    path.write_text(profile_text(proposal, path), encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {
        "extends": "offline",
        "domains": {
            "mine": {
                "item_type": item_type,
                "scale": {"lowest": 0.1, "highest": 1.3, "step": 0.2},
                "query": query,
                "columns": columns,
            }
        },
    }
