"""`deeper init` on logs of events: what it takes for one, what it writes and what it says."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deeper_assets.cli import cli
from deeper_assets.layers import load_settings
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.events import EventColumns
from deeper_assets.sources.guessing_events import guess_events, is_rated
from deeper_assets.sources.looking import Place, looked_at


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a log of six users in it."""
    monkeypatch.chdir(tmp_path)
    rows = [
        f"v{user},Dragon story {event},{1_600_000_000 + 3600 * event},"
        f"{('search', 'click')[event % 2]},{-1 if event == 2 else 0}"
        for user in range(6)
        for event in range(user + 1)
    ]
    (tmp_path / "shop.csv").write_text("\n".join(["visitor,query,clicked_at,action,liked", *rows]) + "\n")
    return tmp_path


def deeper(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


TOLD = """\
  domain      shop, of shop.csv
  item_type   shop
                (a guess, from the name shop; otherwise --item-type)
  user        visitor
  text        query
  time        clicked_at
  kind        action
  sign        liked
  note: no column looks like a session, so silence ends one (session_silence)

The first 10 rows, as they are read:
  line  user_id  text            kind    sign  happened_at
  2     v0       Dragon story 0  search        2020-09-13 12:26:40
  3     v1       Dragon story 0  search        2020-09-13 12:26:40
  4     v1       Dragon story 1  click         2020-09-13 13:26:40
  5     v2       Dragon story 0  search        2020-09-13 12:26:40
  6     v2       Dragon story 1  click         2020-09-13 13:26:40
  7     v2       Dragon story 2  search  -1    2020-09-13 14:26:40
  8     v3       Dragon story 0  search        2020-09-13 12:26:40
  9     v3       Dragon story 1  click         2020-09-13 13:26:40
  10    v3       Dragon story 2  search  -1    2020-09-13 14:26:40
  11    v3       Dragon story 3  click         2020-09-13 15:26:40

1 of 22 events and 0 of 6 users rejected
"""

WRITTEN = """\
# Written by `deeper init`. What was guessed can be corrected here, or by the flags that are named.
extends: offline   # or paper, local: real models
branches: [induction]   # nobody rated, so there is nothing to refine
domains:
  shop:
    item_type: shop   # a guess, from the name shop; otherwise --item-type
    file: shop.csv
    events:
      user: visitor
      text: query
      time: clicked_at
      kind: action
      sign: liked
"""


def test_what_is_told_and_written(here: Path) -> None:
    with (here / "shop.csv").open("a") as file:
        file.write(",Dragon story,1600000000,click,0\n")
    done = deeper("init", "shop.csv")
    assert done.exit_code == 0, done.output
    head, told, rest = done.stdout.partition(
        "  missing_user                 0           1  no user is named\n"
    )
    assert head == TOLD + "  reason                   users      events\n"
    assert told
    assert rest.startswith("\n3 users would train and 3 be evaluated, as a hash of each user (train_share)")
    assert "  users with so many windows or more: 1: 6  2: 2\n" in rest
    assert rest.endswith("\nwrote shop.yaml; next: deeper run --profile shop.yaml\n")
    assert (here / "shop.yaml").read_text() == WRITTEN
    settings = load_settings(here / "home", {"profile": "shop.yaml"})
    own = settings.domains["shop"]
    assert own.events == EventColumns("visitor", "query", "clicked_at", kind="action", sign="liked")
    assert settings.branches == ["induction"]


@pytest.mark.parametrize(
    ("header", "row", "flags", "events"),
    [
        (
            "user_id,session_id,song,track_id,ts",
            "u1,s{row},Blue {row},t{row},1600000{row:03}",
            [],
            {"user": "user_id", "text": "song", "time": "ts", "session": "session_id", "item": "track_id"},
        ),
        ("user,page,step", "u1,Home of {row},{row}", [], {"user": "user", "text": "page", "order": "step"}),
        (
            "client,utterance,when",
            "u1,say {row},2024-01-01 10:{row:02}",
            [],
            {"user": "client", "text": "utterance", "time": "when"},
        ),
        # A rating, but the text of an event is said.
        (
            "user,what,stars,when",
            "u1,say {row},4,2024-01-01 10:{row:02}",
            ["--text", "what", "--session", "none"],
            {"user": "user", "text": "what", "time": "when"},
        ),
    ],
)
def test_columns_are_guessed(
    here: Path, header: str, row: str, flags: list[str], events: dict[str, str]
) -> None:
    (here / "log.csv").write_text("\n".join([header, *(row.format(row=row_) for row_ in range(40))]) + "\n")
    done = deeper("init", "log.csv", "--profile", "own.yaml", "--name", "own", *flags)
    assert done.exit_code == 0, done.output
    written = load_settings(here / "home", {"profile": "own.yaml"}).domains["own"].events
    assert written is not None
    assert {name: column for name, column in vars(written).items() if column} == events


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--text", "query", "--rating", "liked"],
            "--text is of a log of events, --rating of ratings: give one",
        ),
        (["--session", "query", "--marks", "user"], "--session is of a log of events, --marks of ratings"),
        (["--text", "query", "--title", "query"], "--text is of a log of events, --title of ratings"),
        (["--split", "action"], "no column of shop.csv looks like the item or the rating"),
        (["--scale", "1:5:1"], "no column of shop.csv looks like the item or the rating"),
        (["--text", "querry"], "shop.csv has no column 'querry'; did you mean 'query'? (--text)"),
        (["--kind", "action", "--time", "none"], "say it with --time COLUMN or --order COLUMN. Its columns"),
        (
            ["--text", "query", "--item", "visitor"],
            "say it with --user COLUMN. Its columns, with values: vis",
        ),
    ],
)
def test_what_does_not_fit_is_told(here: Path, flags: list[str], told: str) -> None:
    done = deeper("init", "shop.csv", *flags)
    assert done.exit_code == 1
    assert isinstance(done.exception, DeeperError)
    assert told in str(done.exception)
    assert not (here / "shop.yaml").exists()


def test_where_nobody_can_be_evaluated_it_says_so(here: Path) -> None:
    (here / "shop.csv").write_text("visitor,query,clicked_at\n" + ",a b,1600000000\n" * 20)
    done = deeper("init", "shop.csv", "--user", "visitor")
    assert "Nobody has an event that can be used: correct what is rejected most" in done.stdout


def test_ratings_stay_ratings(here: Path) -> None:
    texts = {
        "user,item,rating,title,time": True,  # rated
        "user,query,session,x,time": False,  # 1 to 5 in x alone: a session says that these are events
        "user,item,x,title,time": True,
        "user,item,plays,title,time": True,
    }
    for header, rated in texts.items():
        rows = [f"u1,i{row},{1 + row % 5},{1 + row % 5},1600000000" for row in range(40)]
        (here / "log.csv").write_text("\n".join([header, *rows]) + "\n")
        with looked_at(Place(file=here / "log.csv")) as look:
            assert is_rated(look, {}) == rated, header
            assert is_rated(look, {"rating": "none"})  # so it is counted, as ever
            assert guess_events(look, {"text": "none"}) is None
