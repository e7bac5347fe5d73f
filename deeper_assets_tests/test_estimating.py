"""The estimate beside what the graph really asks and samples, and its arithmetic."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import AssetKey, DagsterInstance, MultiPartitionKey

from deeper_assets import estimating
from deeper_assets.assets.histories import HISTORIES
from deeper_assets.definitions import build_definitions
from deeper_assets.engines.offline.language import HABITS, Reading, render
from deeper_assets.estimate_text import as_text
from deeper_assets.estimating import Estimate, Rates, Step, estimate
from deeper_assets.layers import load_settings
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.protocols import Sample
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets_tests.fakes import CountedStandIn, ScriptedSampler
from deeper_assets_tests.store.samples import stamp

HABIT = [render(Reading({}, phrases[0]), "reader") for phrases in HABITS.values()]
PIECE = ["file", "content", "size", "sha256"]


def different(prompt: str, seed: int) -> Sample:
    """No text like any other."""
    return Sample(f"{HABIT[seed % len(HABIT)]} This is reader number {seed}.", 20, True)


def alike(prompt: str, seed: int) -> Sample:
    """One of a few texts, some of them cut off."""
    return Sample(HABIT[seed % 3], 20, seed % 4 > 0)


class Graph:
    """Makes every asset of a small experiment that asks or samples, one after another, and counts."""

    def __init__(self, here: Experiment, monkeypatch: pytest.MonkeyPatch, write: Any = different) -> None:
        self.here, self.chat, self.sampler = here, CountedStandIn(), ScriptedSampler(write)
        setup = ChatSetup(self.chat, here.chat.prompts, here.chat.asks)
        monkeypatch.setattr(Experiment, "chat", property(lambda _: setup))
        monkeypatch.setattr(Experiment, "sampler", lambda *_: self.sampler)
        monkeypatch.setattr(Experiment, "policy_sampler", lambda *_: self.sampler)
        self.definitions = build_definitions(here)
        self.asked: dict[tuple[str, str], int] = {}
        self.written: dict[tuple[str, str], int] = {}

    def make_everything(self, evaluated: list[str], recipes: list[str], methods: list[str]) -> None:
        settings = self.here.settings
        training = settings.training_domains or []
        with DagsterInstance.ephemeral() as instance:
            self.instance = instance
            self._make("pretraining", None, "base_policy")
            for domain in dict.fromkeys([*evaluated, *training]):
                self._make("personas", domain, *HISTORIES)
                self._make("personas", domain, "initial_personas")
                self._make("personas", domain, "initial_predictions")
            for domain in training:
                self._iterate(1, domain)
            for recipe in recipes:
                content = recipe.encode()
                row = (recipe, "w", content, len(content), sha256(content).hexdigest())
                rows = pd.DataFrame([row], columns=["recipe", *PIECE]).assign(ended=1.0)
                for i in (1, 2):
                    self.here.warehouse.replace(f"model_{i}", {"recipe": recipe}, rows, stamp())
                for domain in training:
                    self._iterate(2, MultiPartitionKey({"domain": domain, "recipe": recipe}))
            for method in methods:
                self._make("methods", method, "policies")
                for domain in evaluated:
                    key = MultiPartitionKey({"domain": domain, "method": method})
                    self._make("evaluation", key, "persona_rounds", "round_predictions")
            for control in CONTROLS if self.here.main_method in methods else ():
                for domain in evaluated:
                    key = MultiPartitionKey({"domain": domain, "control": control})
                    self._make("controls", key, "control_predictions")

    def _iterate(self, i: int, key: str | MultiPartitionKey) -> None:
        job = f"iteration_{i}"
        if i == 1:
            self._make(job, key, "training_windows")
        self._make(job, key, f"contexts_{i}", f"context_predictions_{i}")
        self._make(job, key, f"candidates_{i}")
        self._make(job, key, f"candidate_predictions_{i}")

    def _make(self, job: str, key: str | MultiPartitionKey | None, *tables: str) -> None:
        before = self.chat.asked
        self.sampler.calls.clear()
        self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=key,
            asset_selection=[AssetKey(table) for table in tables],
        )
        by = "" if not isinstance(key, MultiPartitionKey) else {**key.keys_by_dimension, "domain": ""}
        name = (tables[0], "".join(by.values()) if by else "")
        texts = sum(len(seeds) for _, given, _ in self.sampler.calls for seeds in given)
        for counts, n in ((self.asked, self.chat.asked - before), (self.written, texts)):
            if n:
                counts[name] = counts.get(name, 0) + n


def counts(steps: Sequence[Step]) -> dict[tuple[str, str], int]:
    """By table and what it is made for."""
    return {(step.table, step.by): step.count for step in steps}


def test_users_with_short_histories_are_counted(tmp_path: Path) -> None:
    """Six users have six windows; six others have one or two."""
    lines = [
        f"u{user},Tale of Dragon {item},{1 + user * item % 5}"
        for user in range(12)
        for item in range(60 if user < 6 else 13 + user)
    ]
    (tmp_path / "tales.csv").write_text("\n".join(["user,tale,stars", *lines]) + "\n")
    own = {
        **{"item_type": "tale", "scale": {"lowest": 1, "highest": 5, "step": 1}},
        **{"file": tmp_path / "tales.csv"},
        "columns": {"user": "user", "item": "tale", "rating": "stars"},
    }

    def asked(short_users: int | str) -> dict[tuple[str, str], int]:
        settings = Settings(domains={"tales": own}, train_recipes=[], short_users=short_users)
        return counts(estimate(Experiment(tmp_path, settings), Rates()).chat)

    without, with_all = asked(0), asked("all")
    more = {step: number - without[step] for step, number in with_all.items() if number != without[step]}
    # Those with 20 ratings and more predict W1 and learn from it.
    assert more == {
        **{("initial_personas", ""): 6, ("initial_predictions", ""): 5},
        **{("persona_rounds", method): 5 for method in ("full_regen", "slide_regen", "inc_update")},
        ("persona_rounds", "hier_merge"): 10,
    }
    assert asked(2)["initial_personas", ""] == without["initial_personas", ""] + 2


def small(home: Path, **changed: Any) -> Experiment:
    values = {
        **{"synthetic_users": 12, "train_users": 3, "eval_users": 2, "persona_words": 40, "candidates": 4},
        **{"policy": "somebody/some-model", "training_domains": ["book"]},
        **{"train_recipes": ["balanced", "inc_ft"], "evaluate": ["grocery"], **changed},
    }
    return Experiment(home, Settings(**values))


METHODS = [
    *("deeper", "deeper_iteration_1", "deeper_inc_ft", "frozen_policy"),
    *("full_regen", "slide_regen", "inc_update", "hier_merge"),
]


def test_it_counts_what_every_asset_asks_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = small(tmp_path)
    expected = estimate(here, Rates())
    assert not here.warehouse.path.exists()  # the windows were counted, and not kept
    graph = Graph(here, monkeypatch)
    graph.make_everything(["grocery"], ["balanced", "inc_ft"], METHODS)
    assert counts(expected.chat) == graph.asked
    assert counts(expected.sampling) == graph.written
    assert {by for table, by in graph.asked if table == "persona_rounds"} == set(METHODS)
    assert {by for table, by in graph.asked if table == "control_predictions"} == set(CONTROLS)
    again = estimate(here, Rates())
    assert counts(again.chat) == graph.asked
    assert again.notes[0] == "users stored in this home: book, grocery"
    assert "candidates of iteration 2: 100% are usable and different, as those in this home" in again.notes


def test_of_candidates_that_are_alike_it_bounds_the_questions_until_it_has_seen_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = small(tmp_path, train_recipes=["balanced"], candidates=8, evaluate=["book"])
    before = counts(estimate(here, Rates()).chat)
    graph = Graph(here, monkeypatch, alike)
    graph.make_everything(["book"], ["balanced"], ["full_regen"])
    after = counts(estimate(here, Rates()).chat)
    first, second = ("candidate_predictions_1", ""), ("candidate_predictions_2", "balanced")
    for name in (first, second):
        assert graph.asked[name] <= after[name] < before[name]
    assert after[first] == graph.asked[first]  # in iteration 2, contexts may share a text
    assert before[first] == 3 * 3 * 8


def test_the_papers_full_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPER_PROFILE", "paper")
    here = Experiment(tmp_path / "home", load_settings(tmp_path / "home"))
    found = estimate(here, Rates())
    asked = counts(found.chat)
    assert asked["initial_personas", ""] == 10_800 + 4_809
    assert asked["initial_predictions", ""] == 3 * 10_800 + 4_809
    assert asked["candidate_predictions_1", ""] == 10_800 * 15 * 3
    assert asked["candidate_predictions_2", "paper"] == 2 * 10_800 * 15 * 3
    assert asked["persona_rounds", "hier_merge"] == 4 * 3 * 4_809
    assert all(asked["control_predictions", control] == 5 * 4_809 for control in CONTROLS)
    assert counts(found.sampling)["candidates_2", "paper"] == 21_600 * 15
    trained = {(step.table, step.by): (step.count, step.steps) for step in found.training}
    assert trained["model_1", "balanced"][0] == round(10_800 * 0.9)
    assert trained["model_2", "balanced"][0] == pytest.approx(1.175 * 21_600 * 0.9, rel=0.05)
    for model, most in (("model_1", 4 * 10_800 * 0.9), ("model_2", 4 * 21_600 * 1.175 * 0.9)):
        pairs, steps = trained[model, "paper"]
        assert 0.8 * most < pairs < most
        assert steps == -(-pairs // 128) * 4
    persona = next(step for step in found.chat if step.table == "initial_personas")
    assert persona.tokens_out == 245 * 15_609
    assert "candidates of iteration 1 are all taken for usable and different: an upper bound" in found.notes
    assert any(note.startswith("this is more than max_cost_usd, 100") for note in found.notes)
    assert not here.home.exists()


def test_some_users_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = {"synthetic_users": 60, "train_users": 14, "eval_users": 9}
    here = small(tmp_path, evaluate=["book"], windows_at_most=6, **users)
    monkeypatch.setattr(estimating, "SAMPLE", 14)
    every = estimate(here, Rates())
    monkeypatch.setattr(estimating, "SAMPLE", 5)
    some = estimate(here, Rates())
    assert counts(some.chat)["initial_personas", ""] == 23
    for one, other in ((some.chat, every.chat), (some.sampling, every.sampling)):
        assert counts(one) == pytest.approx(counts(other), rel=0.1)
        tokens = [step.tokens_in for step in other]
        assert [step.tokens_in for step in one] == pytest.approx(tokens, rel=0.1)
    assert [(step.table, step.by) for step in some.training] == [
        *(("model_1", "balanced"), ("model_1", "inc_ft"), ("model_2", "balanced"), ("model_2", "inc_ft"))
    ]


CHAT = {
    "engine": "openai",
    "concurrency": 10,
    "prices": {"input": 2.0, "output": 8.0, "cached_input": 1.0, "batch_share": 0.25},
}


def personas_of(here: Experiment, rates: Rates | None = None) -> tuple[Step, Estimate]:
    found = estimate(here, rates or Rates())
    return next(step for step in found.chat if step.table == "initial_personas"), found


def test_cost_and_hours_are_counts_times_prices_and_rates(tmp_path: Path) -> None:
    here = small(tmp_path, train_recipes=[], eval_users=9, chat=CHAT)
    step, found = personas_of(here, Rates(seconds_per_request=4))
    assert (step.count, step.tokens_out) == (9, 9 * 245)
    assert step.usd == pytest.approx((step.tokens_in * 2 + step.tokens_out * 8) / 1e6, abs=1e-5)
    assert step.hours == pytest.approx(9 * 4 / 10 / 3600)
    assert not found.sampling and not found.training
    assert any("4 seconds a request (--seconds-per-request), 10 at once" in note for note in found.notes)

    in_batches = {**CHAT, "mode": "batch"}
    batch, found = personas_of(small(tmp_path, train_recipes=[], eval_users=9, chat=in_batches))
    assert (batch.usd, batch.hours) == (pytest.approx(step.usd / 4), None)
    assert any("of which a batch costs 25%" in note for note in found.notes)

    unknown, found = personas_of(small(tmp_path, train_recipes=[], chat={"engine": "openai"}))
    assert unknown.usd is None
    assert "what the chat model costs is unknown: set chat.prices" in found.notes
    free, _ = personas_of(small(tmp_path, train_recipes=[]))
    assert (free.usd, free.hours) == (0, None)


def test_a_schema_is_paid_for_with_every_prediction(tmp_path: Path) -> None:
    def asked(structured: bool) -> dict[str, int]:
        chat = {**CHAT, "structured": structured}
        found = estimate(small(tmp_path, train_recipes=[], chat=chat), Rates())
        return {step.table: step.tokens_in for step in found.chat}

    plain, schema = asked(False), asked(True)
    assert plain["initial_personas"] == schema["initial_personas"]
    assert 30 < (schema["initial_predictions"] - plain["initial_predictions"]) / 2 < 200


def test_rates_of_policy_and_training_are_the_flags(tmp_path: Path) -> None:
    here = small(tmp_path, train_recipes=["paper"], evaluate=["book"])
    slow = estimate(here, Rates(candidates_per_second=1, training_tokens_per_second=10))
    fast = estimate(here, Rates(candidates_per_second=2, training_tokens_per_second=100))
    candidates = next(step for step in slow.sampling if step.table == "candidates_1")
    assert candidates.hours == pytest.approx(3 * 4 / 3600)
    for one, other, factor in ((slow.sampling, fast.sampling, 2), (slow.training, fast.training, 10)):
        assert [step.hours for step in one] == [pytest.approx((step.hours or 0) * factor) for step in other]
    (first, _) = slow.training
    epochs = here.settings.training.epochs
    once = first.tokens_in / epochs / 10 / 3600
    assert first.hours == pytest.approx(once * (epochs + 1 / 3), rel=1e-4)
    in_every_epoch = {"hardware": {"precompute_reference": False}}
    again = small(tmp_path, train_recipes=["paper"], evaluate=["book"], **in_every_epoch)
    often = estimate(again, Rates(training_tokens_per_second=10))
    assert often.training[0].hours == pytest.approx(once * epochs * (1 + 1 / 3), rel=1e-4)
    assert often.notes[-1].endswith("scoring the reference takes a third of an epoch, in every epoch")


def test_the_text_has_every_step_its_sums_and_every_assumption() -> None:
    chat = (
        Step("initial_personas", "", 1500, 2_000_000, 3_000_000, usd=1.5, hours=0.25),
        Step("persona_rounds", "full_regen", 500, 1_000_000, 500_000, usd=None, hours=0.25),
    )
    text = as_text(Estimate(chat, (), (), (), ("nothing is cached",)))
    lines = [line.split() for line in text.splitlines()]
    assert " ".join(lines[0]) == "chat model requests M tokens in M tokens out USD hours"
    assert lines[1] == ["initial_personas", "1,500", "2.0", "3.0", "1.50", "0.2"]
    assert lines[2] == ["persona_rounds", "[full_regen]", "500", "1.0", "0.5", "-", "0.2"]
    assert lines[3] == ["in", "all", "2,000", "3.0", "3.5", "-", "0.5"]
    assert text.endswith("assumed\n  - nothing is cached")
