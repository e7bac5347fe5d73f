"""`deeper run --branches induction` and `deeper why`, run as a user runs them."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.method.induction.next_items import RANKERS
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import command, deeper, environment

pytestmark = pytest.mark.slow

PEOPLE = ["--branches", "induction", "--domains", "book", "--train-users", "8", "--eval-users", "6"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the branch was made of generated people."""
    home = tmp_path_factory.mktemp("induction") / "home"
    said = deeper("run", "--home", home, *PEOPLE).stdout
    assert "several personas a person: after window 6, 6 evaluation users" in said
    assert [line.split()[0] for line in said.splitlines() if re.match(r"  \w+ +[\d.]+ ", line)] == [
        *("clusters", "every_cluster", "random_clusters", "one_persona"),
        *RANKERS,
    ]
    return home


def test_the_other_branch_is_not_made_and_a_second_run_has_nothing_to_do(home: Path) -> None:
    made = {version.table for version in Warehouse(home / "warehouse.duckdb").current()}
    assert not made & {"initial_personas", "model_1", "persona_rounds", "mae_table"}
    assert "0 partitions made in 0 runs" in deeper("run", "--home", home).stdout


def test_why_leads_from_a_persona_to_its_events(home: Path) -> None:
    warehouse = Warehouse(home / "warehouse.duckdb")
    sets = warehouse.load("persona_sets").query("inducer == 'clusters' and window == 6")
    first = sets[sets["state"] != "ended"].iloc[0]
    every = deeper("why", "--home", home, "--user", first["user_id"]).stdout
    assert every.count("\npersona ") == (sets["user_id"] == first["user_id"]).sum()
    said = deeper("why", "--home", home, "--user", first["user_id"], "--persona", first["persona"]).stdout
    assert f"persona {first['persona']} ({first['state']}): {first['label']}" in said
    own = warehouse.load("memory_events").merge(
        warehouse.load("persona_memories").query(
            f"inducer == 'clusters' and window == 6 and persona == {first['persona']}"
        )
    )
    own = own[own["user_id"] == first["user_id"]].merge(warehouse.load("events").drop(columns="window"))
    assert said.count("\n  memory ") == first["memories"] == own["memory"].nunique()
    assert all(text in said for text in own["text"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--user", "nobody"], "no events of user 'nobody'"),
        (["--user", "book-p00001", "--persona", "99"], "has no persona 99; "),
        (["--user", "book-p00001", "--window", "99"], "has no window 99; the last one is 6"),
        (["--user", "book-p00001", "--domain", "boks"], "did you mean 'book'"),
    ],
)
def test_whoever_asks_for_what_is_not_there_is_told(home: Path, arguments: list[str], told: str) -> None:
    users = Warehouse(home / "warehouse.duckdb").load("events")["user_id"]
    arguments = [users.iloc[0] if argument == "book-p00001" else argument for argument in arguments]
    done = deeper("why", "--home", home, *arguments, check=False)
    assert done.returncode == 1
    assert told in done.stderr


def test_an_estimate_counts_the_branch(home: Path) -> None:
    told = deeper("estimate", "--home", home).stdout
    assert re.search(rf"  memories +{14 * 28} ", told)
    assert re.search(r"  persona_sets \[clusters\] +\d+ ", told)
    assert "  - events stored in this home: book" in told


INDUCED = (
    *("events", "memories", "persona_sets", "persona_memories", "planted_scores", "induction_table"),
    *("next_item_scores", "planted_next_items", "next_items_table"),
)


def test_killed_at_any_moment_it_comes_to_the_same_tables(home: Path, tmp_path: Path) -> None:
    again = tmp_path / "home"
    for table in ("memories", "persona_sets"):
        killed_once_there_is(table, again, PEOPLE)
    deeper("run", "--home", again, *PEOPLE)
    for table in INDUCED:
        one, other = (Warehouse(folder / "warehouse.duckdb").load(table) for folder in (home, again))
        pd.testing.assert_frame_equal(one, other, obj=table)


def test_a_policy_learns_to_write_sets(tmp_path: Path) -> None:
    """Killed where it has sampled, it goes on; then it says which policy wrote which set, word for word."""
    home, sizes = tmp_path / "home", ["--train-users", "30", "--eval-users", "16"]
    people = ["--branches", "induction", "--domains", "book", *sizes]
    trains = {
        **{"DEEPER_SET_RECIPES": "foreseeing", "DEEPER_TRAINING_DOMAINS": "book"},
        "DEEPER_SYNTHETIC_USERS": "80",
    }
    killed_once_there_is("set_candidates", home, people, **trains)
    sampled = Warehouse(home / "warehouse.duckdb").load("set_candidates")
    said = deeper("run", "--home", home, *people, **trains).stdout
    shown = re.findall(r"^  (\w+) +[\d.]+ +[\d.%-]+ +[\d.]+ +\[", said, re.MULTILINE)
    assert shown[:3] == ["clusters", "foreseeing", "untrained"]
    load = Warehouse(home / "warehouse.duckdb").load
    pd.testing.assert_frame_equal(load("set_candidates"), sampled)
    assert sampled["unusable"].isna().mean() > 0.75
    scores = load("planted_scores").query("window == 6 and split == 'eval'")
    f1 = scores.groupby("inducer")["planted_f1"].mean()
    assert f1["foreseeing"] > f1["untrained"]
    sets, written = load("persona_sets").query("inducer == 'foreseeing'"), load("set_writings")
    assert set(sets["user_id"]) <= set(scores["user_id"]), "it writes for evaluation users"
    models = load("set_policies").dropna(subset="file").set_index("inducer")["model"]
    assert set(sets["model"]) == {models["foreseeing"].iloc[0]}
    one = sets[sets["state"] != "ended"].iloc[-1]
    texts = written[(written["user_id"] == one["user_id"]) & (written["inducer"] == "foreseeing")]
    assert any(one["label"] in text and one["description"] in text for text in texts["text"])
    assert "0 partitions made in 0 runs" in deeper("run", "--home", home, **trains).stdout


def killed_once_there_is(table: str, home: Path, people: list[str], **more: str) -> None:
    """Starts a run, and kills it as soon as a table has rows."""
    process = subprocess.Popen(
        command("run", "--home", home, *people),
        env=environment(**more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (home / "warehouse.duckdb").exists() or not any(
        version.table == table for version in Warehouse(home / "warehouse.duckdb").current()
    ):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_a_log_of_ones_own_is_traced_to_its_lines(tmp_path: Path) -> None:
    words = ["Dragon", "Wizard", "Murder", "Detective", "Galaxy", "Robot"]
    rows = [
        f"u{user},{words[user % 3 * 2 + place % 2]} {place},{1 + (place + user) % 5},{1.6e9 + place:.0f}"
        for user in range(8)
        for place in range(60)
    ]
    log, profile, home = tmp_path / "books.csv", tmp_path / "books.yaml", tmp_path / "home"
    log.write_text("\n".join(["user,book,stars,read_at", *rows]) + "\n")
    deeper("init", log, "--profile", profile, "--name", "books")
    deeper("run", "--home", home, "--profile", profile, "--branches", "induction")
    events = Warehouse(home / "warehouse.duckdb").load("events")
    lines = log.read_text().splitlines()
    assert len(events) > 0
    for event in events.to_dict("records"):
        user, title, *_ = lines[event["line"] - 1].split(",")
        assert (user, title) == (event["user_id"], event["text"])
    sets = Warehouse(home / "warehouse.duckdb").load("persona_sets").query("inducer == 'clusters'")
    said = deeper("why", "--home", home, "--user", sets["user_id"].iloc[0]).stdout
    assert re.search(r"  (Dragon|Wizard|Murder|Detective|Galaxy|Robot) \d+  \(books\.csv:\d+\)", said)
    page = tmp_path / "page.html"
    deeper("report", "--home", home, "--html", page)
    shown = re.search(
        r"(Dragon|Wizard|Murder|Detective|Galaxy|Robot) \d+ <.*?>books\.csv:\d+<", page.read_text()
    )
    assert shown is not None


THEMES = [("Dragon", "Wizard"), ("Murder", "Detective"), ("Galaxy", "Robot")]


def test_a_log_of_events_goes_from_init_to_why(tmp_path: Path) -> None:
    """Each visitor has a theme; of the visits, every second one is about it, the others about anything."""
    rows = []
    for visitor in range(12):
        for visit in range(12):
            for place in range(4):
                theme = THEMES[visitor % 3 if visit % 2 else (visitor + visit + place) % 3]
                when = 1_600_000_000 + 86_400 * visit + 60 * place
                rows.append(
                    f"v{visitor},{theme[place % 2]} story {place},{when},{('search', 'buy')[place % 2]}"
                )
    log, profile, home = tmp_path / "shop.csv", tmp_path / "shop.yaml", tmp_path / "home"
    broken = ["v3,Dragon story,never,search", ",Dragon story,1600000000,buy", "v3,torn"]
    log.write_text("\n".join(["visitor,query,clicked_at,action", *rows, *broken]) + "\n")
    proposed = deeper("init", log, "--profile", profile).stdout
    assert "3 of 579 events and 0 of 12 users rejected" in proposed
    refused = deeper("run", "--home", home, "--profile", profile, "--branches", "refinement", check=False)
    assert refused.returncode == 1
    assert "domain 'shop' is a log of events: nobody rated" in refused.stderr
    assert not home.exists()

    deeper("run", "--home", home, "--profile", profile, "--branches", "induction")
    warehouse = Warehouse(home / "warehouse.duckdb")
    made = {version.table for version in warehouse.current()}
    assert "raw_ratings" not in made
    assert "rating_windows" not in made
    events = warehouse.load("events")
    lines = log.read_text().splitlines()
    assert len(events) == len(rows)  # twelve visits are three windows
    for event in events.to_dict("records"):
        user, text, _, action = lines[event["line"] - 1].split(",")
        assert (user, text, action) == (event["user_id"], event["text"], event["kind"])
    rejected = deeper("rejects", "--home", home, "--domain", "shop").stdout
    assert "shop: 0 of 12 users and 3 of 579 events rejected" in rejected
    assert f"shop.csv:{len(rows) + 2}  user v3  'Dragon story'  found 'never', expected a time" in rejected
    assert "0 partitions made in 0 runs" in deeper("run", "--home", home).stdout

    sets = warehouse.load("persona_sets").query("inducer == 'clusters' and window == 2 and state != 'ended'")
    assert len(sets) > 0
    persona = sets.iloc[0]
    why = deeper("why", "--home", home, "--user", persona["user_id"], "--persona", persona["persona"]).stdout
    cited = re.findall(r"    (\S+ \S+)  (search|buy): (\w+ story \d)  \(shop\.csv:(\d+)\)", why)
    assert len(cited) >= 2
    for _, action, text, line in cited:
        user, query, _, done = lines[int(line) - 1].split(",")
        assert (user, query, done) == (persona["user_id"], text, action)
