"""The graph as Dagster sees it, materialized for real in a Dagster instance."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from dagster import AssetKey, DagsterInstance, MultiPartitionKey
from dagster._core.errors import DagsterAssetCheckFailedError

from deeper_assets.assets.models import preferences_1
from deeper_assets.definitions import build_definitions
from deeper_assets.graph import Graph
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.next_items import RANKERS
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.method.pairs import ValidationSplit
from deeper_assets.method.recipes import RECIPES
from deeper_assets.planning import Planner
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.ledger import Ingredients, Stamp
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.conftest import REPOSITORY
from deeper_assets_tests.method.test_pairs import told


def make(experiment: Experiment, job: str, key: str | None, instance: DagsterInstance) -> None:
    definition = build_definitions(experiment).resolve_job_def(job)
    definition.execute_in_process(instance=instance, partition_key=key)


def evaluate(experiment: Experiment, method: str, instance: DagsterInstance) -> MultiPartitionKey:
    """Plays a method of one domain, with no policy made; the partition."""
    key = MultiPartitionKey({"domain": "book", "method": method})
    make(experiment, "methods", method, instance)
    make(experiment, "evaluation", key, instance)
    return key


def with_both_branches(experiment: Experiment) -> Experiment:
    branches = {"branches": ["refinement", "induction"], "set_recipes": ["foreseeing"]}
    return Experiment(experiment.home, experiment.settings.model_copy(update=branches))


def test_every_table_is_an_asset_with_text_and_columns(experiment: Experiment) -> None:
    graph = build_definitions(with_both_branches(experiment)).resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert set(nodes) == set(TABLES)
    declared = Graph.of(with_both_branches(experiment)).tables
    for name, node in nodes.items():
        read = {one.table for one in declared[name].reads.values()}
        assert {parent.to_user_string() for parent in node.parent_keys} == read
        assert node.description, name
        columns = node.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns][: len(TABLES[name].columns)] == list(
            TABLES[name].column_names
        )
        assert all(column.description for column in columns)
        assert node.code_version


TOLD = {"induction_table", "changes_table", "next_items_table"}
"""Tables of the branch that are for people."""


@pytest.mark.parametrize(
    ("truth", "told"),
    [
        ({"planted_truth", "planted_items"}, {"ceiling_errors", "mae_table", "comparison_table"}),
        (
            {"planted_personas", "planted_events"},
            {"planted_scores", "planted_changes", "planted_next_items"} | TOLD,
        ),
    ],
)
def test_nothing_that_writes_or_predicts_descends_from_the_truth(
    experiment: Experiment, truth: set[str], told: set[str]
) -> None:
    tables = Graph.of(with_both_branches(experiment)).tables
    knowing, left = set(truth), {""}
    while left:
        left = {
            name
            for name, asset in tables.items()
            if name not in knowing and any(read.table in knowing for read in asset.reads.values())
        }
        knowing |= left
    assert knowing == truth | told
    for name in knowing:
        assert not {"chat", "prompts", "samplers", "trainer", "embedder"} & set(tables[name].takes), name


def test_personas_are_induced_only_where_they_are_asked_for(experiment: Experiment) -> None:
    without, with_them = (
        set(Graph.of(experiment).tables),
        set(Graph.of(with_both_branches(experiment)).tables),
    )
    assert with_them - without == {
        *("events", "rejected_events", "event_accounts"),
        *("memories", "memory_events", "session_readings"),
        *("persona_sets", "persona_memories", "dropped_personas", "set_writings"),
        *("base_set_policy", "set_contexts", "set_groups", "set_candidates", "judged_claims"),
        *("set_rewards", "set_preferences", "set_models", "set_policies"),
        *("planted_personas", "planted_events", "planted_scores", "planted_changes"),
        *("next_item_scores", "planted_next_items", *TOLD),
    }


def test_several_personas_of_one_domain_through_the_whole_branch(experiment: Experiment) -> None:
    here = Experiment(
        experiment.home,
        experiment.settings.model_copy(
            update={
                **{"branches": ["induction"], "evaluate": ["book"]},
                **{"train_users": 6, "synthetic_users": 30},
            }
        ),
    )
    instance = DagsterInstance.ephemeral()
    for job in ("personas", "remembering", "planting"):
        make(here, job, "book", instance)
    for inducer in INDUCERS:
        make(here, "inducers", inducer, instance)
        for job in ("inducing", "scoring"):
            make(here, job, MultiPartitionKey({"domain": "book", "inducer": inducer}), instance)
    make(here, "ranking", "book", instance)
    make(here, "induction", None, instance)
    load = here.warehouse.load
    table = load("induction_table")
    assert set(table["inducer"]) == set(INDUCERS)
    last = table[table["window"] == 6].set_index("inducer")
    assert last.loc["clusters", "planted_f1"] > last.loc["one_persona", "planted_f1"]
    assert last.loc["one_persona", "personas"] == 1
    ranked = load("next_items_table").query("measure == 'hit_10'").set_index("ranker")["mean"]
    assert set(ranked.index) == set(RANKERS)
    assert ranked["planted_popular"] >= ranked["popularity"]
    # Every persona of a set leads to events of its user.
    chain = load("persona_memories").merge(load("memory_events"), on=["user_id", "memory"])
    chain = chain.merge(load("events"), on=["user_id", "session", "event"], suffixes=("", "_of_event"))
    sets = load("persona_sets").query("state != 'ended'")
    keys = ["inducer", "user_id", "window", "persona"]
    assert len(sets[keys].merge(chain[keys].drop_duplicates())) == len(sets)
    assert (chain["window_of_event"] <= chain["window"]).all()


def test_a_truth_is_there_only_where_ratings_are_generated(experiment: Experiment, tmp_path: Path) -> None:
    real = Experiment(experiment.home, experiment.settings.model_copy(update={"data": tmp_path}))
    with_truth, without = (set(Graph.of(one).tables) for one in (experiment, real))
    assert with_truth - without == {"planted_truth", "planted_items", "ceiling_errors"}


def test_evaluation_users_reach_no_training(experiment: Experiment) -> None:
    """What trains descends from no table of evaluation, and every figure from its windows."""
    graph = build_definitions(experiment).resolve_asset_graph()

    def ancestors(table: str) -> set[str]:
        return {key.to_user_string() for key in graph.get_ancestor_asset_keys(AssetKey(table))}

    evaluated = {"persona_rounds", "round_predictions", "round_errors", "mae_table", "comparison_table"}
    assert not ancestors("model_2") & (evaluated | {"policies", "floors_table"})
    assert {"model_1", "rewards_1", "rewards_2", "base_policy"} < ancestors("model_2")
    assert {"rating_windows", "model_2", "initial_personas"} < ancestors("mae_table")


def test_the_definitions_are_valid_as_dagster_sees_them(tmp_path: Path) -> None:
    dagster = Path(sys.executable).with_name("dagster")
    done = subprocess.run(
        [str(dagster), "definitions", "validate"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_one_domain_through_the_whole_graph(experiment: Experiment) -> None:
    methods = ("slide_regen", "hier_merge")
    with DagsterInstance.ephemeral() as instance:
        make(experiment, "personas", "book", instance)
        for method in methods:
            evaluate(experiment, method, instance)
        make(experiment, "tables", None, instance)
        event = instance.get_latest_materialization_event(AssetKey("mae_table"))
    assert event is not None
    metadata = event.asset_materialization.metadata
    assert metadata["dagster/row_count"].value == len(experiment.warehouse.load("mae_table"))
    assert metadata["MAE by round"].value.startswith("![MAE by round](data:image/svg+xml;base64,")
    table = experiment.warehouse.load("mae_table")
    macro = table[table["domain"] == "macro"].set_index(["method", "round"])["mae"]
    assert metadata["slide_regen round 4"].value == macro["slide_regen", 4]
    assert set(table["domain"]) == {"book", "macro"}
    floors = experiment.warehouse.load("floors_table").set_index(["method", "round"])["mae"]
    stands = table[(table["domain"] == "book") & (table["kind"] == "floor")].set_index(["method", "round"])[
        "mae"
    ]
    pd.testing.assert_series_equal(floors.sort_index(), stands.sort_index())
    rows = experiment.warehouse.load("round_errors", provenance=True)
    assert rows["run_id"].nunique() == len(methods)
    assert rows["fingerprint"].notna().all()


def test_the_plan_follows_settings_code_and_contents(experiment: Experiment) -> None:
    definitions = build_definitions(experiment)
    histories = ["rating_accounts", "rating_windows", "raw_ratings", "rejected_ratings"]
    tables = [*histories, "initial_personas", "initial_predictions"]

    def stale(one: Experiment, key: str = "book", unchecked: tuple[str, ...] = ()) -> list[str]:
        planner = Planner(Graph.of(one), definitions)
        return planner.stale(tables, key, planner.stored(), unchecked)

    assert stale(experiment) == tables
    with DagsterInstance.ephemeral() as instance:
        make(experiment, "personas", "book", instance)
        assert stale(experiment) == []
        assert stale(experiment, "grocery") == tables
        assert stale(experiment, unchecked=("initial_personas",)) == [
            "initial_personas",
            "initial_predictions",
        ]

        def changed(**values: object) -> Experiment:
            return Experiment(experiment.home, experiment.settings.model_copy(update=values))

        assert stale(changed(seed=1)) == tables
        assert stale(changed(eval_users=2)) == tables
        assert stale(changed(persona_words=41)) == ["initial_personas", "initial_predictions"]
        assert stale(changed(processes=3, lock_timeout=1.0, unreadable_limit=0.9)) == []
        # The same rows made again, by another run: nothing that was made from them is stale.
        make(experiment, "personas", "book", instance)
        assert stale(experiment) == []


def test_tables_of_one_computation_are_made_together(experiment: Experiment) -> None:
    planner = Planner(Graph.of(experiment), build_definitions(experiment))
    tables = ("persona_rounds", "round_predictions", "round_errors")
    with DagsterInstance.ephemeral() as instance:
        make(experiment, "personas", "book", instance)
        key = evaluate(experiment, "inc_update", instance)
    assert planner.stale(tables, key, planner.stored()) == []
    # Killed between the two tables, or before the check on the second one.
    stored = {k: version for k, version in planner.stored().items() if "round_predictions" not in k}
    assert sorted(planner.stale(tables, key, stored)) == sorted(tables)
    assert sorted(planner.stale(tables, key, planner.stored(), {"round_predictions"})) == sorted(tables)


def test_a_blocking_check_stops_what_comes_after(experiment: Experiment) -> None:
    nobody = Experiment(experiment.home, experiment.settings.model_copy(update={"train_share": 1.0}))
    stopped = pytest.raises(DagsterAssetCheckFailedError, match="someone_to_evaluate")
    with DagsterInstance.ephemeral() as instance, stopped:
        make(nobody, "personas", "book", instance)
    stored = {version.table for version in nobody.warehouse.current()}
    assert stored == {"raw_ratings", "rejected_ratings", "rating_windows", "rating_accounts"}
    assert set(nobody.warehouse.load("rating_windows")["split"]) == {"train"}


def test_evaluation_without_personas_says_what_to_make(experiment: Experiment) -> None:
    key = MultiPartitionKey({"domain": "book", "method": "inc_update"})
    with DagsterInstance.ephemeral() as instance, pytest.raises(DeeperError, match="never been materialized"):
        make(experiment, "evaluation", key, instance)


def test_a_domain_of_ones_own_is_a_partition_of_everything(tmp_path: Path) -> None:
    own = {
        "item_type": "podcast",
        "scale": {"lowest": 1, "highest": 5, "step": 1},
        "columns": {"user": "u", "item": "i", "rating": "r"},
        "file": tmp_path / "r.csv",
    }
    definitions = build_definitions(Experiment(tmp_path, Settings(domains={"podcasts": own})))
    graph = definitions.resolve_asset_graph()
    for name in ("raw_ratings", "candidates_1", "candidates_2", "round_errors"):
        keys = graph.get(AssetKey(name)).partitions_def.get_partition_keys()
        assert any("podcasts" in key for key in keys)


def test_what_is_in_force_no_more_is_not_called_outdated(tmp_path: Path) -> None:
    """A recipe may have left the settings, and a domain the training, whose tables are still stored."""
    here = Experiment(tmp_path, Settings(train_recipes=["balanced"], training_domains=["recipe"]))
    for table, partition in (
        ("candidates_2", {"domain": "recipe", "recipe": "mine"}),
        ("candidates_1", {"domain": "book"}),
    ):
        empty = pd.DataFrame(columns=list(TABLES[table].column_names))
        here.warehouse.replace(table, partition, empty, Stamp("run", Ingredients("0")))
    assert Graph.of(here).made_otherwise() == []
    empty = pd.DataFrame(columns=list(TABLES["candidates_1"].column_names))
    here.warehouse.replace("candidates_1", {"domain": "recipe"}, empty, Stamp("run", Ingredients("0")))
    assert Graph.of(here).made_otherwise() == ["recipe"]


def test_an_evaluation_of_a_domain_that_only_trains_now_is_not_called_outdated(tmp_path: Path) -> None:
    here = Experiment(tmp_path, Settings(evaluate=["grocery"], training_domains=["book"]))
    empty = pd.DataFrame(columns=list(TABLES["round_errors"].column_names))
    partitions = [{"domain": domain, "method": "full_regen"} for domain in ("book", "grocery", "automotive")]
    for partition in partitions:
        here.warehouse.replace("round_errors", partition, empty, Stamp("run", Ingredients("0")))
    graph = Graph.of(here)
    assert [graph.in_force("round_errors", partition) for partition in partitions] == [False, True, False]
    assert graph.in_force("raw_ratings", {"domain": "book"})
    assert graph.made_otherwise() == ["grocery"]


def test_another_number_of_evaluation_users_leaves_training_as_it_is(experiment: Experiment) -> None:
    """Their windows are other rows, and those of the training users the same."""
    tables = ("rating_windows", "training_windows", "contexts_1", "context_predictions_1")

    def contents(one: Experiment) -> dict[str, str]:
        with DagsterInstance.ephemeral() as instance:
            make(one, "personas", "book", instance)
            job = build_definitions(one).resolve_job_def("iteration_1")
            selected = [AssetKey(table) for table in tables[1:]]
            job.execute_in_process(instance=instance, partition_key="book", asset_selection=selected)
        return {table: one.warehouse.current(table)[0].content for table in tables}

    fewer = Experiment(experiment.home, experiment.settings.model_copy(update={"eval_users": 2}))
    before, after = contents(experiment), contents(fewer)
    assert {table for table in tables if before[table] != after[table]} == {"rating_windows"}
    assert set(fewer.warehouse.load("training_windows")["split"]) == {"train"}


def test_preferences_are_of_domains_that_train_now() -> None:
    """Another domain's candidates may be stored from the time when it trained."""
    frames = told({("book", "a", 1): [1.0, -1.0], ("recipe", "b", 1): [1.0, -1.0]})
    given = dict(zip(("candidates", "rewards", "contexts"), frames, strict=True))
    given["contexts"]["template"] = "refinement"
    taken = {"recipe": RECIPES["paper"], "recipe_name": "paper", "validation": ValidationSplit(0.0, 1)}
    for domains in (("book",), ("book", "recipe")):
        pairs, _ = preferences_1(**given, **taken, training_domains=domains)
        assert set(pairs.value["domain"]) == set(domains)
