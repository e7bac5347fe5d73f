"""Iterations and models as Dagster runs them, with a policy that is scripted."""

from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
from dagster import DagsterInstance, MultiPartitionKey

from deeper_assets.definitions import build_definitions
from deeper_assets.engines.offline.language import HABITS, Reading, render
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.candidates import sample_candidates
from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets.method.updates import Observation, by_policy
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.values import Values
from deeper_assets_tests.fakes import ScriptedChat, ScriptedSampler
from deeper_assets_tests.method.test_rounds import windows
from deeper_assets_tests.store.samples import stamp

PERSONAS = [render(Reading({}, phrases[0]), "reader") for phrases in HABITS.values()]
PIECE = ["file", "content", "size", "sha256"]


def write(prompt: str, seed: int) -> Sample:
    """One of nine personas, by the seed; they differ in what they predict."""
    return Sample(PERSONAS[seed % len(PERSONAS)], 20, True)


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> ScriptedSampler:
    """What every policy of an experiment is."""
    scripted = ScriptedSampler(write)
    monkeypatch.setattr(Experiment, "sampler", lambda self, base, adapter=None: scripted)
    return scripted


def piece(content: bytes, file: str = "reference") -> tuple[str, bytes, int, str]:
    return file, content, len(content), sha256(content).hexdigest()


def test_from_contexts_to_preferences_and_no_model_with_a_domain_missing(
    tmp_path: Path, sampler: ScriptedSampler
) -> None:
    settings = Settings(
        synthetic_users=16,
        train_users=3,
        eval_users=2,
        persona_words=40,
        policy="somebody/some-model",
        candidates=5,
        training_domains=["book", "recipe"],
        train_recipes=["balanced"],
    )
    here = Experiment(tmp_path, settings)
    definitions, stored = build_definitions(here), here.warehouse

    def make(job: str, **key: str) -> None:
        partition = None if not key else MultiPartitionKey(key) if len(key) > 1 else next(iter(key.values()))
        definitions.resolve_job_def(job).execute_in_process(instance=instance, partition_key=partition)

    with DagsterInstance.ephemeral() as instance:
        make("pretraining")
        assert stored.load("base_policy")[PIECE].values.tolist() == [list(piece(b"somebody/some-model"))]
        make("personas", domain="book")
        make("iteration_1", domain="book")

        # A model that one domain has nothing in is not trained, and the check names the domain.
        training = definitions.resolve_job_def("training_1")
        stopped = training.execute_in_process(
            instance=instance, partition_key="balanced", raise_on_error=False
        )
        assert not stopped.success
        assert not stored.current("model_1")
        checked = [
            event.asset_check_evaluation_data
            for run in instance.get_runs()
            for record in instance.all_logs(run.run_id)
            if (event := record.dagster_event) and event.event_type_value == "ASSET_CHECK_EVALUATION"
        ]
        said = {check.check_name: (check.passed, check.description) for check in checked}
        assert said["every_domain_trains"] == (
            False,
            "missing: recipe; sample them (for the templates of train_recipes), or set training_domains",
        )
        assert said["chosen_beats_rejected"][0]

        users = stored.load("rating_windows").query("split == 'train'")["user_id"]
        contexts, candidates = stored.load("contexts_1"), stored.load("candidates_1")
        assert sorted(contexts["user_id"]) == sorted(set(users))
        assert contexts["prompt"].notna().all()
        assert candidates.groupby("user_id")["copies"].sum().tolist() == [5] * 3
        assert set(candidates["model"]) == {"scripted-policy-1"}
        (call,) = sampler.calls
        assert call[2] == here.settings.candidate_decoding
        pairs = stored.load("preference_pairs_1")
        assert len(pairs) > 3
        assert set(pairs["user_id"]) <= set(users)
        groups = stored.load("preference_groups_1")  # balanced compares all candidates of a context
        assert set(groups["completion"]) <= set(PERSONAS)
        assert groups.groupby("user_id")["reward"].nunique().gt(1).all()

        # Iteration 2: Model 1 writes S1 as in evaluation, and samples for rounds 1 and 2.
        adapter = pd.DataFrame([("balanced", *piece(b"weights", "w"))], columns=["recipe", *PIECE])
        stored.replace("model_1", {"recipe": "balanced"}, adapter.assign(ended=1.0), stamp())
        make("iteration_2", domain="book", recipe="balanced")
    refined, sampled = sampler.calls[1:]
    assert refined[2] == here.settings.evaluation_decoding
    assert [len(seeds) for seeds in refined[1]] == [1] * 3
    assert sorted(refined[0]) == sorted(contexts["prompt"])
    second = stored.load("contexts_2")
    assert second.groupby("round").size().to_dict() == {1: 3, 2: 3}
    assert set(second.query("round == 2")["persona"]) <= set(PERSONAS)
    assert set(second.query("round == 1")["prompt"]) == set(contexts["prompt"])
    assert sorted(sampled[0]) == sorted(second["prompt"])
    assert len({seed for seeds in sampled[1] for seed in seeds}) == 6 * 5
    assert stored.load("rewards_2")["reward_future"].notna().all()


def test_model_1_writes_s1_for_training_as_for_evaluation(tmp_path: Path) -> None:
    """The same user, persona and window make the same request of the policy in both places."""
    decodings = {
        "candidate_decoding": Decoding(1.0, 0.4, 1.1, 90),
        "evaluation_decoding": Decoding(0.7, 1, 1, 80),
    }
    values = Values(Experiment(tmp_path, Settings(**decodings)))
    training, evaluation = ScriptedSampler(write), ScriptedSampler(write)
    book, prompts, persona = find_domain("book"), Prompts(), "Enjoys a twist."
    frame = windows({"u": ("train", [[5.0, 4.0]] * 3)})
    seen = [RatedItem("Title u 1 0", 5.0), RatedItem("Title u 1 1", 4.0)]
    prompt = prompts.refinement(book, persona, seen, [3, 3])
    context = pd.DataFrame(
        [("refinement", "u", 1, prompt, persona)],
        columns=["template", "user_id", "round", "prompt", "persona"],
    )
    sample_candidates(context, training, values.refining_draw({"domain": "book"}), frame, book)
    writing = values.writing({"domain": "book", "method": "deeper_iteration_1"})
    by_policy(evaluation, writing).update(
        ChatSetup(ScriptedChat(lambda prompt, attempt: None), prompts, 1),
        book,
        [Observation("u", 1, persona, [[], seen], [3, 3])],
    )
    assert training.calls == evaluation.calls
    assert training.calls[0][2] == decodings["evaluation_decoding"]


def test_a_policy_made_anew_since_is_not_taken_for_the_one_that_was_named(tmp_path: Path) -> None:
    here = Experiment(tmp_path, Settings(policy="x"))
    here.warehouse.replace("base_policy", {}, pd.DataFrame([piece(b"x")], columns=PIECE), stamp())
    columns = ["method", "recipe", "iteration", "model", "file", "sha256"]
    named = pd.DataFrame([("frozen_policy", None, None, "base-0123", None, None)], columns=columns)
    with pytest.raises(DeeperError, match=r"was given the policy base-0123, but base-.* is stored by now"):
        here.policy_sampler(named)


def test_the_untrained_policys_method_needs_the_base_and_a_prompts_does_not(tmp_path: Path) -> None:
    here = Experiment(tmp_path, Settings())
    job = build_definitions(here).resolve_job_def("methods")
    with DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance, partition_key="inc_update")
        with pytest.raises(DeeperError, match="'frozen_policy' needs the table 'base_policy'"):
            job.execute_in_process(instance=instance, partition_key="frozen_policy")
        with pytest.raises(DeeperError, match="recipe 'paper' of table 'model_2' has never been"):
            job.execute_in_process(instance=instance, partition_key="deeper_paper")
    assert here.warehouse.load("policies").empty
