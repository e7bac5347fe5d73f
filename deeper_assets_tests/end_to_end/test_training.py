"""The `deeper` command with training: few users, two domains that train, and what may go wrong."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pandas as pd
import psutil
import pytest
from dagster import AssetKey, DagsterRunStatus

from deeper_assets.definitions import build_definitions
from deeper_assets.estimating import Rates, estimate
from deeper_assets.instance import open_instance
from deeper_assets.layers import load_settings
from deeper_assets.method.ceilings import CEILINGS
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.resources import Experiment
from deeper_assets.store.adapters import identity
from deeper_assets.store.induction_tables import INDUCTION
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import deeper, environment

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

DOMAINS = ["--domains", "book", "--train-users", "5", "--eval-users", "3"]
METHODS = {"deeper", "deeper_iteration_1", "frozen_policy", *PROMPT_METHODS}
UNITS = 1 + 2 + 2 + 1 + 2 + 1 + len(METHODS) + len(METHODS) + len(CONTROLS) + 1 + 1
"""Base, personas, iteration 1, Model 1, iteration 2, Model 2, methods, rounds, controls, ceilings, tables."""


@pytest.fixture(scope="module")
def small() -> dict[str, str]:
    """The variables of a small training."""
    return {
        "DEEPER_TRAINING_DOMAINS": '["book", "recipe"]',
        "DEEPER_TRAIN_RECIPES": '["balanced"]',
        "DEEPER_CANDIDATES": "6",
        "DEEPER_TRAINING": '{"epochs": 3, "batch_size": 2, "examples_at_once": 2, "learning_rate": 0.0005}',
    }


@pytest.fixture(scope="module")
def home(small: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which everything has been made once. Tests read it, and copy it to go on in it."""
    folder = tmp_path_factory.mktemp("trained") / "home"
    said = deeper("run", "--home", folder, *DOMAINS, **small)
    assert f"in {UNITS} runs, 0 had nothing to do" in said.stdout
    for complaint in ("Warning", "leaked", "Traceback"):
        assert complaint not in said.stderr
    return folder


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home, tmp_path / "home"))


def load(home: Path, table: str) -> pd.DataFrame:
    return Warehouse(home / "warehouse.duckdb").load(table)


def experiment(home: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """What `deeper` works with in this home."""
    for name, value in environment(**small).items():
        if name.startswith("DEEPER_"):
            monkeypatch.setenv(name, value)
    return Experiment(home, load_settings(home))


def test_policies_stand_in_the_tables_beside_the_other_methods(home: Path) -> None:
    rounds = load(home, "mae_table").query("kind == 'method' and domain == 'book'")
    assert set(rounds["method"]) == METHODS
    assert rounds.groupby("method")["round"].agg(list).to_dict() == {m: [0, 1, 2, 3, 4] for m in METHODS}
    assert rounds[rounds["round"] == 0]["mae"].nunique() == 1  # all start from S0
    compared = load(home, "comparison_table")
    assert set(compared["method"]) == METHODS | {*CONTROLS, *CEILINGS}
    said = json.loads(deeper("report", "--home", home, "--json").stdout)
    assert {row["method"] for row in said["rounds"]} > METHODS


def test_run_again_there_is_nothing_to_do(home: Path, small: dict[str, str]) -> None:
    said = deeper("run", "--home", home, **small)
    assert f"0 partitions made in 0 runs, {UNITS} had nothing to do" in said.stdout


def test_a_finished_home_is_green(home: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log that the UI reads, all is made but the evaluation of the domain that only trains."""
    graph = build_definitions(experiment(home, small, monkeypatch)).resolve_asset_graph()
    missing = {}
    with open_instance(home) as instance:
        for key in graph.get_all_asset_keys():
            cut = graph.get(key).partitions_def
            made = instance.get_materialized_partitions(key) if cut else {None}
            missing[key.to_user_string()] = set(cut.get_partition_keys() if cut else [None]) - made
            assert cut or instance.get_latest_materialization_event(key)
    assert {table: keys for table, keys in missing.items() if keys} == {
        table: {f"recipe|{method}" for method in METHODS}
        for table in ("persona_rounds", "round_predictions", "round_errors")
    } | {
        table: {f"{control}|recipe" for control in CONTROLS}
        for table in ("control_predictions", "control_errors")
    } | {table: {"recipe"} for table in ("planted_truth", "planted_items", "ceiling_errors")}


def test_only_training_users_are_in_the_pairs(home: Path) -> None:
    split = load(home, "rating_windows").groupby(["domain", "user_id"])["split"].first()
    for table in ("preference_pairs_1", "preference_pairs_2"):
        pairs = load(home, table)
        assert set(pairs["domain"]) == {"book", "recipe"}
        users = pd.MultiIndex.from_frame(pairs[["domain", "user_id"]])
        assert set(split.loc[users]) == {"train"}
    origins = pairs["origin"].value_counts()
    assert set(origins.index) == {"iteration_2", "replay"}
    assert origins["replay"] == round(0.175 * origins["iteration_2"])


def test_each_persona_names_the_policy_that_wrote_it(home: Path) -> None:
    base = f"base-{identity(load(home, 'base_policy'))}"
    models = {
        "frozen_policy": base,
        "deeper_iteration_1": f"{base}+{identity(load(home, 'model_1'))}",
        "deeper": f"{base}+{identity(load(home, 'model_2'))}",
    }
    assert len(set(models.values())) == 3
    personas = load(home, "persona_rounds").query("round > 0 and model.notna()")
    for method, model in models.items():
        assert set(personas[personas["method"] == method]["model"]) == {model}
    assert set(load(home, "candidates_1")["model"]) == {models["frozen_policy"]}
    assert set(load(home, "candidates_2")["model"]) == {models["deeper_iteration_1"]}
    stored = load(home, "policies").groupby("method")["model"].first().to_dict()
    assert stored == models


def test_the_tree_of_a_model_goes_back_to_the_ratings(home: Path) -> None:
    tree = deeper("lineage", "model_2", "--home", home).stdout
    for table in (
        *("preference_pairs_2", "candidates_2", "contexts_2", "rewards_2", "model_1"),
        *("preference_pairs_1", "candidates_1", "contexts_1", "rewards_1", "base_policy"),
        *("initial_personas", "rating_windows"),
    ):
        assert f"─ {table} [" in tree or f"─ {table}\n" in tree, table
    pairs = load(home, "preference_pairs_2").groupby("domain")["origin"].value_counts()
    for domain in ("book", "recipe"):
        counts = ", ".join(f"{count} of {origin}" for origin, count in pairs[domain].sort_index().items())
        assert f"{domain}: {counts}" in tree
    base, first = identity(load(home, "base_policy")), identity(load(home, "model_1"))
    assert f"model base-{base}\n" in tree
    assert f"model base-{base}+{first}\n" in tree
    for weights in load(home, "model_2")["sha256"]:
        assert weights[:16] in tree
    for setting in (
        "training.beta: ",
        "seed: ",
        "draw.decoding.top_p: ",
        "kind synthetic",
        "reference: start",
    ):
        assert setting in tree
    runs = {line.split(" run ")[1][:12] for line in tree.splitlines() if " run " in line}
    with open_instance(home) as instance:
        known = {run.run_id[:12] for run in instance.get_runs()}
    assert runs <= known


def test_the_run_of_a_model_shows_its_training(home: Path) -> None:
    with open_instance(home) as instance:
        (run,) = [one for one in instance.get_runs() if one.job_name == "training_2"]
        events = [r.dagster_event for r in instance.all_logs(run.run_id) if r.dagster_event is not None]
    assert run.status == DagsterRunStatus.SUCCESS
    (made,) = [
        event.step_materialization_data.materialization.metadata
        for event in events
        if event.is_step_materialization and event.asset_key.to_user_string() == "model_2"
    ]
    assert made["reference"].value == f"start (model_1 {identity(load(home, 'model_1'))})"
    assert made["identity"].value == identity(load(home, "model_2"))
    assert "data:image/svg+xml;base64," in made["loss curve"].value
    for kind in ("training", "validation"):
        assert made[f"{kind} loss"].value == made["report"].value[kind]["loss"]
        assert made[f"{kind} accuracy"].value == made["report"].value[kind]["reward_accuracy"]
    groups = load(home, "preference_groups_2")[["domain", "user_id", "round", "origin"]].drop_duplicates()
    assert made["trained on"].value + made["report"].value["validated"] == len(groups) > 0


def test_every_table_shows_what_it_holds_what_made_it_and_what_it_is_made_from(home: Path) -> None:
    told = {}
    with open_instance(home) as instance:
        for table in TABLES.keys() - {table.name for table in INDUCTION}:
            made = instance.get_latest_materialization_event(AssetKey(table))
            assert made is not None
            told[table] = {name: entry.value for name, entry in made.asset_materialization.metadata.items()}
    for table, metadata in told.items():
        assert {"preview", "settings", "made from"} <= set(metadata), table
        assert len(metadata["preview"]) < 10_000, table
    row = load(home, "preference_pairs_2").sort_values(["user_id", "domain"]).iloc[0]
    shown = told["preference_pairs_2"]["preview"]
    assert f"### user {row['user_id']} of {row['domain']}\n" in shown
    assert f"> {row['chosen']}\n" in shown
    assert "| training.beta | " in told["model_2"]["settings"]
    assert (
        "- model\\_1: [balanced](/assets/model_1?view=partitions&partition=balanced)"
        in (told["model_2"]["made from"])
    )
    assert r"- [base\_policy](/assets/base_policy)" in told["model_2"]["made from"]
    assert told["mae_table"]["made from"].endswith(" and 2 more")  # of seven methods


def test_an_adapters_rows_are_a_folder_that_peft_loads_and_a_damaged_cache_is_made_anew(
    home: Path, copy: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    here = experiment(copy, small, monkeypatch)
    rows = load(copy, "model_2")
    folder = copy / "models" / identity(rows)
    weights = folder / "adapter_model.safetensors"
    assert weights.exists()  # from the evaluation
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    policies = load(copy, "policies").query("method == 'deeper'")
    sampler = here.policy_sampler(policies)
    assert sampler.name == policies["model"].iloc[0]
    digests = {file.name: sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert digests == dict(zip(rows["file"], rows["sha256"], strict=True))

    base = here.base_folder(load(copy, "base_policy"))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    assert model.peft_config["default"].r == 16
    assert AutoTokenizer.from_pretrained(base).chat_template

    prompt = load(home, "contexts_2")["prompt"].dropna().iloc[0]
    (once,), (again,) = sampler.sample([prompt] * 2, [[1], [2]], here.settings.evaluation_decoding)
    assert once == again  # greedy


def test_exported_pairs_train_a_policy_with_trl_alone(
    home: Path, small: dict[str, str], tmp_path: Path
) -> None:
    """The exported adapter goes on from the exported pairs, in TRL's own trainer."""
    from datasets import load_dataset
    from huggingface_hub import DatasetCard, ModelCard
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    for kind in ("pairs", "model"):
        said = deeper("export", kind, tmp_path / kind, "--home", home, **small)
        assert said.stderr == f"wrote {tmp_path / kind}\n"
    pairs = load_dataset(str(tmp_path / "pairs"), cache_dir=str(tmp_path / "cache"))
    both = pd.concat([load(home, f"preference_pairs_{i}").query("origin != 'replay'") for i in (1, 2)])
    assert pairs["train"].num_rows == (both["validation"] == 0).sum()
    assert pairs["validation"].num_rows == (both["validation"] == 1).sum() > 0
    assert not set(pairs["train"]["user"]) & set(pairs["validation"]["user"])

    base = tmp_path / "model" / "base"
    policy = AutoModelForCausalLM.from_pretrained(base)
    trainer = DPOTrainer(
        model=PeftModel.from_pretrained(policy, tmp_path / "model", is_trainable=True),
        args=DPOConfig(
            str(tmp_path / "trained"),
            max_steps=2,
            per_device_train_batch_size=2,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            logging_steps=1,
        ),
        train_dataset=pairs["train"],
        eval_dataset=pairs["validation"],
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.train()
    first, second = [row for row in trainer.state.log_history if "loss" in row]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference are one
    assert second["rewards/chosen"] != 0

    table = load(home, "mae_table").query("domain == 'macro' and round == 4").set_index("method")["mae"]
    kinds = {"pairs": DatasetCard, "model": ModelCard}
    for card in (kind.load(tmp_path / folder / "README.md") for folder, kind in kinds.items()):
        for method in ("deeper", "floor_user_median"):
            (line,) = [line for line in card.text.splitlines() if f"| {method} |" in line.replace("*", "")]
            assert f"| {table[method]:.3f} |" in line
        assert "embedded stand-in, not a language model" in card.text


def test_an_exported_adapter_writes_what_the_policy_of_the_home_writes(
    home: Path, copy: Path, small: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    deeper("export", "model", tmp_path / "model", "--home", home, **small)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model" / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model" / "base")
    model = PeftModel.from_pretrained(base, tmp_path / "model").eval()
    here = experiment(copy, small, monkeypatch)
    ours = here.policy_sampler(load(copy, "policies").query("method == 'deeper'"))
    greedy = Decoding(temperature=0, top_p=1, repetition_penalty=1, max_new_tokens=60)
    for prompt in load(home, "contexts_2")["prompt"].dropna().iloc[:3]:
        said = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            text = model.generate(**said, do_sample=False, max_new_tokens=60)[0, said["input_ids"].shape[1] :]
        ((sample,),) = ours.sample([prompt], [[1]], greedy)
        assert tokenizer.decode(text, skip_special_tokens=True) == sample.text != ""


def test_a_run_has_asked_what_was_estimated(
    home: Path, copy: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(rows: pd.DataFrame, *what: str) -> pd.DataFrame:
        return rows[rows["attempts"] > 0].drop_duplicates(["domain", "user_id", *what])

    def asked_about_candidates(i: int) -> int:
        candidates, predictions = load(home, f"candidates_{i}"), load(home, f"candidate_predictions_{i}")
        keys = ["domain", "user_id", "round", "candidate"]
        return len(asked(predictions.merge(candidates[[*keys, "persona"]], on=keys), "window", "persona"))

    estimated = estimate(experiment(copy, small, monkeypatch), Rates())
    found = {(step.table, step.by): step.count for step in estimated.chat}
    assert found["initial_personas", ""] == len(asked(load(home, "initial_personas")))
    assert found["initial_predictions", ""] == len(asked(load(home, "initial_predictions"), "window"))
    second = load(home, "context_predictions_2").query("round == 2")
    assert found["contexts_2", "balanced"] == len(asked(second, "window"))
    first, both = asked_about_candidates(1), asked_about_candidates(2)
    assert found["candidate_predictions_1", ""] == first
    assert found["candidate_predictions_2", "balanced"] >= both > first
    predictions = asked(load(home, "round_predictions").query("round > 0"), "method", "round")
    written = load(home, "persona_rounds").query("round > 0").groupby("method")["attempts"].sum()
    for method in METHODS:
        own = written[method] if method in PROMPT_METHODS else 0
        assert found["persona_rounds", method] == (predictions["method"] == method).sum() + own, method
    said = deeper("estimate", "--home", home, **small).stdout
    assert f"{sum(found.values()):,}" in said
    assert "\nassumed\n  - users stored in this home: recipe, book\n" in said


def test_a_push_without_token_or_hub_is_one_line(home: Path, small: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": ""}
    arguments = ("export", "pairs", tmp_path / "pairs", "--to-hub", "some/pairs", "--home", home)
    said = deeper(*arguments, check=False, **small, **nowhere)
    assert (said.returncode, (tmp_path / "pairs").exists()) == (1, False)
    assert said.stderr.startswith("deeper: --to-hub some/pairs: there is no token for the Hub")
    said = deeper(*arguments, check=False, **small, **{**nowhere, "HF_TOKEN": "hf_planted"})
    assert (said.returncode, (tmp_path / "pairs").exists()) == (1, True)
    wrote, failed = said.stderr.splitlines()
    assert wrote == f"wrote {tmp_path / 'pairs'}"
    assert failed.startswith("deeper: --to-hub some/pairs: http://127.0.0.1:9 cannot be reached")
    assert "hf_planted" not in said.stderr


def test_a_training_that_fails_is_one_line_and_the_rest_goes_on(
    home: Path, copy: Path, small: dict[str, str]
) -> None:
    """One recipe without pairs, one with a loss that is no number, and a domain not seen before."""
    more = {
        "DEEPER_RECIPES": '{"choosy": {"loss": "pairwise", "margin_1": 50}}',
        "DEEPER_TRAIN_RECIPES": '["balanced", "choosy"]',
        "DEEPER_TRAINING": '{"epochs": 3, "batch_size": 2, "examples_at_once": 2, "learning_rate": 1e30}',
    }
    said = deeper("run", "--home", copy, "--domains", "book,grocery", check=False, **{**small, **more})
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    lines = [line for line in said.stderr.splitlines() if line.startswith("deeper: training_1")]
    assert len(lines) == 2
    for recipe, reason in (("balanced", "learning_rate"), ("choosy", "0 training examples")):
        (line,) = [line for line in lines if line.startswith(f"deeper: training_1 {recipe}: ")]
        assert reason in line, line
        assert said.stderr.count(line.removeprefix(f"deeper: training_1 {recipe}: ")) == 1
    # The model before is still there, and what was made with it.
    pd.testing.assert_frame_equal(load(copy, "model_1"), load(home, "model_1"))
    rounds = load(copy, "round_errors")
    assert set(rounds[rounds["domain"] == "book"]["method"]) == METHODS
    assert set(rounds[rounds["domain"] == "grocery"]["method"]) == {"frozen_policy", *PROMPT_METHODS}


Tables = dict[str, pd.DataFrame]


def tables(home: Path) -> Tables:
    names = ("rewards_1", "preference_pairs_1", "preference_pairs_2", "persona_rounds", "round_errors")
    models = {name: load(home, name).drop(columns="content") for name in ("model_1", "model_2")}
    return {**{name: load(home, name) for name in names}, **models}


def stored(home: Path, table: str) -> bool:
    """Whether a partition of the table is there; reading waits while a run writes."""
    return (home / "warehouse.duckdb").exists() and bool(Warehouse(home / "warehouse.duckdb").current(table))


def checkpointed(home: Path) -> bool:
    return any(home.glob("training/balanced_1/checkpoints/**/complete"))


def trainers(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline"]):
        said = process.info["cmdline"] or []
        if "deeper_assets.engines.training" in said and any(str(home) in word for word in said):
            yield process


@pytest.mark.timeout(900)
def test_killed_while_it_samples_predicts_or_trains_it_comes_to_the_same_tables(
    home: Path, small: dict[str, str], tmp_path: Path
) -> None:
    again = tmp_path / "home"
    command = [sys.executable, "-m", "deeper_assets.cli", "run", "--home", str(again), *DOMAINS]
    moments: list[tuple[Callable[[], bool], str]] = [
        (partial(stored, again, "contexts_1"), "candidates_1"),  # it samples
        (partial(stored, again, "candidates_1"), "rewards_1"),  # it predicts
        (partial(checkpointed, again), "model_1"),  # it trains
    ]
    for reached, not_yet in moments:
        process = subprocess.Popen(
            command, env=environment(**small), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not reached():
            assert process.poll() is None, f"{not_yet} was made too soon"
            time.sleep(0.02)
        # The parent alone: workers have to notice by themselves; so does a training, but it might end before.
        process.kill()
        for trainer in trainers(again):
            trainer.kill()
        assert process.wait() == -signal.SIGKILL
    said = deeper("run", "--home", again, *DOMAINS, **small)
    assert "failed" not in said.stderr
    report = json.loads((again / "training" / "balanced_1" / "report.json").read_text())
    assert report["resumed_from"] > 0
    undisturbed = tables(home)
    for name, frame in tables(again).items():
        pd.testing.assert_frame_equal(frame, undisturbed[name], obj=name)
    with open_instance(again) as instance:
        assert all(run.is_finished for run in instance.get_runs())


def test_a_training_without_effect_is_warned_of(home: Path, small: dict[str, str], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    training = '{"epochs": 1, "batch_size": 2, "examples_at_once": 2, "learning_rate": 1e-9}'
    said = deeper("run", "--home", copy, *DOMAINS, **small | {"DEEPER_TRAINING": training})
    (line,) = [line for line in said.stderr.splitlines() if "training_had_effect" in line]
    assert line.startswith(
        "deeper: warning: mae_table: training_had_effect: 2 of 2 trained methods err exactly as"
        " frozen_policy: deeper, deeper_iteration_1. Raise training.learning_rate (1e-09) or"
        " training.epochs (1)"
    )
