"""The estimate of several personas a person beside what a run really asks and embeds."""

from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, MultiPartitionKey

from deeper_assets import estimating_events
from deeper_assets.assets.histories import HISTORIES
from deeper_assets.definitions import build_definitions
from deeper_assets.estimate_text import as_text
from deeper_assets.estimating import Estimate, Rates, estimate
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets_tests.chat_server.process import chat_server
from deeper_assets_tests.fakes import CountedStandIn


def small(home: Path, **changed: Any) -> Experiment:
    users = {"synthetic_users": 60, "train_users": 16, "eval_users": 12}
    return Experiment(
        home, Settings(**{**users, "branches": ["induction"], "evaluate": ["grocery"], **changed})
    )


def made(here: Experiment, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], int]:
    """Makes the branch as a run does; how often the chat model was asked, by table and inducer."""
    chat = CountedStandIn()
    setup = ChatSetup(chat, here.chat.prompts, here.chat.asks)
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "chat", property(lambda _: setup))
        definitions = build_definitions(here)
        asked: dict[tuple[str, str], int] = {}
        with DagsterInstance.ephemeral() as instance:
            histories = [AssetKey(table) for table in HISTORIES]
            definitions.resolve_job_def("personas").execute_in_process(
                instance=instance, partition_key="grocery", asset_selection=histories
            )
            definitions.resolve_job_def("remembering").execute_in_process(
                instance=instance, partition_key="grocery"
            )
            asked["memories", ""] = chat.asked
            for name in INDUCERS:
                definitions.resolve_job_def("inducers").execute_in_process(
                    instance=instance, partition_key=name
                )
                before, key = chat.asked, MultiPartitionKey({"domain": "grocery", "inducer": name})
                definitions.resolve_job_def("inducing").execute_in_process(
                    instance=instance, partition_key=key
                )
                if chat.asked > before:
                    asked["persona_sets", name] = chat.asked - before
    return asked


def counts(of: Estimate) -> dict[tuple[str, str], int]:
    return {(step.table, step.by): step.count for step in of.chat}


@pytest.fixture
def everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """All people are played, so none stands for others."""
    monkeypatch.setattr(estimating_events, "PEOPLE", 100)


@pytest.mark.usefixtures("everybody")
def test_it_counts_what_the_branch_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = small(tmp_path)
    expected = estimate(here, Rates())
    assert not here.warehouse.path.exists()  # the events were counted, and not kept
    asked = made(here, monkeypatch)
    assert counts(expected) == asked
    assert asked["memories", ""] == 28 * 28  # people and sessions
    assert set(asked) == {("memories", ""), ("persona_sets", "clusters")}
    assert not (expected.embedding or expected.sampling or expected.training)
    again = estimate(here, Rates())
    assert (counts(again), again.notes[0]) == (asked, "events stored in this home: grocery")


def test_some_people_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = small(tmp_path, synthetic_users=120, train_users=60, eval_users=40)
    with monkeypatch.context() as patch:
        patch.setattr(estimating_events, "PEOPLE", 100)
        every = {step.table: step for step in estimate(here, Rates()).chat}
    some = {step.table: step for step in estimate(here, Rates()).chat}
    assert some["memories"].count == every["memories"].count == 95 * 28
    for table, figure, share in (
        ("memories", "tokens_in", 0.02),
        ("memories", "tokens_out", 0.1),
        ("persona_sets", "count", 0.1),
        ("persona_sets", "tokens_in", 0.1),
    ):
        assert getattr(some[table], figure) == pytest.approx(getattr(every[table], figure), rel=share)


def test_both_branches_are_the_sum_of_each(tmp_path: Path) -> None:
    few = {"train_recipes": [], "synthetic_users": 12, "train_users": 3, "eval_users": 2}
    one, other, both = (
        estimate(small(tmp_path, branches=branches, **few), Rates())
        for branches in (["induction"], ["refinement"], ["refinement", "induction"])
    )
    assert counts(both) == counts(one) | counts(other)
    assert not any("personas as long as the paper's" in note for note in one.notes)
    assert set(both.notes) == {*one.notes, *other.notes}


@pytest.mark.usefixtures("everybody")
def test_an_endpoint_is_given_no_more_texts_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server() as server:
        embedder = {"engine": "openai", "model": "local", "base_url": server.url, "price": 3.0}
        here = small(tmp_path, embedder=embedder)
        expected = estimate(here, Rates())
        made(here, monkeypatch)
        [step] = expected.embedding
        memories = here.warehouse.load("memories")
        assert (step.table, step.by, step.count) == ("persona_sets", "", len(memories))
        rows = here.journal.usage()
        assert {row.asset for row in rows} == {"persona_sets"}
        assert sum(row.requests for row in rows) == memories["intent"].nunique() < step.count
        assert step.usd == pytest.approx(step.tokens_in * 3 / 1e6, abs=1e-5)
        assert 0 < sum(row.cost_usd for row in rows) < (step.usd or 0)
    text = as_text(expected)
    assert "embedder                                             texts   M tokens in           USD" in text
    assert "local costs 3 USD a million tokens" in text


def test_ratings_are_the_events_of_a_domain_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        f"u{user},Tale of Dragon {item},{1 + user * item % 5}" for user in range(12) for item in range(60)
    ]
    (tmp_path / "tales.csv").write_text("\n".join(["user,tale,stars", *lines]) + "\n")
    own = {
        **{"item_type": "tale", "scale": {"lowest": 1, "highest": 5, "step": 1}},
        **{"file": tmp_path / "tales.csv"},
        "columns": {"user": "user", "item": "tale", "rating": "stars"},
    }
    here = small(tmp_path / "home", domains={"tales": own}, evaluate=["tales"], train_recipes=[])
    found = estimate(here, Rates())
    assert counts(found)["memories", ""] == 12 * 6  # windows
    assert found.notes[0] == "events read from their sources: tales"


@pytest.mark.usefixtures("everybody")
def test_it_counts_what_policies_write_and_what_is_said_of_it(tmp_path: Path) -> None:
    """What a policy is shown does not depend on what it writes, so prompts are those of a real run."""
    here = small(
        tmp_path, set_recipes=["foreseeing"], training_domains=["book"], candidates=3, evaluate=["book"]
    )
    told = estimate(here, Rates())
    definitions = build_definitions(here)
    steps = [
        *(("personas", "book"), ("remembering", "book"), ("set_pretraining", None)),
        *(("sampling_sets", "book"), ("inducers", "untrained")),
        ("inducing", MultiPartitionKey({"domain": "book", "inducer": "untrained"})),
    ]
    with DagsterInstance.ephemeral() as instance:
        for job, key in steps:
            selected = [AssetKey(table) for table in HISTORIES] if job == "personas" else None
            definitions.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=key, asset_selection=selected
            )
    load = here.warehouse.load
    contexts, texts = len(load("set_contexts")), {(step.table, step.by): step.count for step in told.sampling}
    assert texts["set_candidates", ""] == 3 * contexts > 0
    assert texts["persona_sets", "untrained"] == len(load("set_writings"))
    assert texts["persona_sets", "foreseeing"] == texts["persona_sets", "untrained"]
    [training] = told.training
    assert (training.table, training.by) == ("set_models", "foreseeing")
    assert 0 < training.count <= contexts
    assert {(step.table, step.by) for step in told.chat} == {
        *(("memories", ""), ("persona_sets", "clusters"), ("judged_claims", ""))
    }
    claims = {step.table: step.count for step in told.chat}["judged_claims"]
    assert contexts <= claims <= 3 * contexts
