"""Assets through Dagster itself: what is stored, what is loaded, and what the ledger says was read."""

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from dagster import (
    AssetIn,
    AssetOut,
    AssetsDefinition,
    DagsterInstance,
    DailyPartitionsDefinition,
    Definitions,
    DynamicPartitionsDefinition,
    ExecuteInProcessResult,
    Failure,
    MaterializeResult,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    RetryPolicy,
    SpecificPartitionsPartitionMapping,
    StaticPartitionsDefinition,
    TableSchema,
    asset,
    materialize,
    multi_asset,
)

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.io_manager import OPTIONAL, WarehouseIOManager, column_schema, partition_expr
from deeper_assets.store.ledger import Ingredients, Input, Partition, Version, canonical_json, fingerprint
from deeper_assets.store.relation import Relation
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse

ODD_DOMAIN, ODD_METHOD = "o'brien; DROP TABLE x --", "a\"b'; --"
DOMAINS = StaticPartitionsDefinition(["book", "movies tv", ODD_DOMAIN])
METHODS = StaticPartitionsDefinition(["m", ODD_METHOD])
DOMAIN_METHODS = MultiPartitionsDefinition({"domain": DOMAINS, "method": METHODS})


def both(domain: str, method: str) -> MultiPartitionKey:
    return MultiPartitionKey({"domain": domain, "method": method})


def persona_rows(domain: str, users: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "domain": domain,
            "user_id": [f"u{number}" for number in range(users)],
            "split": "eval",
            "persona": "a reader",
            "note": None,
            "attempts": 1,
            "model": "m",
        },
        index=range(users),
    )


@asset(partitions_def=DOMAINS, code_version="7", metadata={"partition_expr": "domain"})
def initial_personas(context) -> pd.DataFrame:
    return persona_rows(
        context.partition_key, users=1 + DOMAINS.get_partition_keys().index(context.partition_key)
    )


@asset(partitions_def=DOMAIN_METHODS)
def round_errors(context, initial_personas: pd.DataFrame) -> pd.DataFrame:
    key = context.partition_key.keys_by_dimension
    assert set(initial_personas["domain"]) <= {key["domain"]}
    return initial_personas[["domain", "user_id"]].assign(
        method=key["method"],
        round=0,
        window=1,
        items=10,
        error=0.5,
        pairs=3,
        pairs_right=2,
        pairs_tied=1,
        kept=0,
    )


@asset
def floors_table(round_errors: pd.DataFrame) -> pd.DataFrame:
    groups = round_errors.groupby(["domain", "method", "round"])
    return groups.agg(users=("user_id", "size"), mae=("error", "mean")).reset_index()


GRAPH = [initial_personas, round_errors, floors_table]


def describe(table: str, partition: Partition) -> Ingredients:
    settings = {"setting": f"of {table}", "for": list(partition.values())}
    return Ingredients("7" if table == "initial_personas" else "1", settings)


def tell(version: Version) -> dict[str, str]:
    return {"told": f"{version.table}, {version.row_count} rows, from {len(version.inputs)} inputs"}


def make(
    warehouse: Warehouse, wanted: AssetsDefinition, key: str | None = None, *, graph=GRAPH, **options: Any
) -> ExecuteInProcessResult:
    """Materialize one asset, in a process and an instance of its own as it were."""
    return materialize(
        list(graph),
        selection=[wanted],
        partition_key=key,
        resources={"io_manager": WarehouseIOManager(warehouse, describe, tell)},
        instance=DagsterInstance.ephemeral(),
        **options,
    )


def data_versions(made: ExecuteInProcessResult) -> dict[str, str]:
    """The data version that Dagster has recorded of each asset that a run made."""
    events = [
        event.step_materialization_data.materialization for event in made.get_asset_materialization_events()
    ]
    return {event.asset_key.to_user_string(): event.tags["dagster/data_version"] for event in events}


def inputs_of(version: Version) -> list[tuple[str, Partition]]:
    return sorted(((one.table, one.partition) for one in version.inputs), key=canonical_json)


def test_materializing_twice_leaves_the_rows_once(warehouse) -> None:
    first = make(warehouse, initial_personas, "movies tv")
    again = make(warehouse, initial_personas, "movies tv")
    assert warehouse.load("initial_personas")["user_id"].tolist() == ["u0", "u1"]
    runs = [version.run_id for version in warehouse.history()]
    assert runs == [first.run_id, again.run_id]
    assert set(warehouse.load("initial_personas", provenance=True)["run_id"]) == {again.run_id}
    one, two = warehouse.history()
    assert (one.fingerprint, one.content) == (two.fingerprint, two.content)


def test_odd_keys_are_only_keys(warehouse) -> None:
    for domain in ("book", ODD_DOMAIN):
        make(warehouse, initial_personas, domain)
        for method in ("m", ODD_METHOD):
            make(warehouse, round_errors, both(domain, method))
    make(warehouse, initial_personas, ODD_DOMAIN)
    make(warehouse, round_errors, both(ODD_DOMAIN, ODD_METHOD))
    make(warehouse, floors_table)
    assert warehouse.load("initial_personas").groupby("domain").size().to_dict() == {"book": 1, ODD_DOMAIN: 3}
    assert warehouse.load("floors_table")[["domain", "method", "users"]].values.tolist() == [
        ["book", ODD_METHOD, 1],
        ["book", "m", 1],
        [ODD_DOMAIN, ODD_METHOD, 3],
        [ODD_DOMAIN, "m", 3],
    ]
    [errors] = [
        version
        for version in warehouse.current("round_errors")
        if version.partition == {"domain": ODD_DOMAIN, "method": ODD_METHOD}
    ]
    assert inputs_of(errors) == [("initial_personas", {"domain": ODD_DOMAIN})]


def test_the_ledger_holds_ingredients_and_exactly_what_was_read(warehouse) -> None:
    for domain in ("book", "movies tv"):
        make(warehouse, initial_personas, domain)
    make(warehouse, round_errors, both("movies tv", "m"))
    _, personas, errors = warehouse.current()
    assert personas.ingredients == Ingredients("7", {"setting": "of initial_personas", "for": ["movies tv"]})
    assert errors.ingredients == Ingredients("1", {"setting": "of round_errors", "for": ["movies tv", "m"]})
    assert errors.inputs == (
        Input(
            "initial_personas",
            {"domain": "movies tv"},
            personas.run_id,
            personas.fingerprint,
            personas.content,
        ),
    )
    assert errors.fingerprint == fingerprint(errors.ingredients, errors.inputs)


def test_steps_of_one_run_share_a_manager_and_not_their_inputs(warehouse) -> None:
    one_domain = StaticPartitionsDefinition(["book"])

    @asset(name="initial_personas", partitions_def=one_domain)
    def personas() -> pd.DataFrame:
        return persona_rows("book", 2)

    @asset(name="initial_predictions", partitions_def=one_domain)
    def predictions(initial_personas: pd.DataFrame) -> pd.DataFrame:
        kept = initial_personas[["domain", "user_id", "split", "note", "attempts", "model"]]
        return kept.assign(window=1, place=0, predicted=4.0, placed="name")

    @asset(name="rejected_ratings", partitions_def=one_domain)
    def rejected(initial_predictions: pd.DataFrame, initial_personas: pd.DataFrame) -> pd.DataFrame:
        assert len(initial_predictions) == len(initial_personas) == 2
        return pd.DataFrame(
            {"domain": ["book"], "user_id": None, "row": 1, "file": None, "line": None}
        ).assign(reason="none", detail=None, ratings=0)

    make_all = materialize(
        [personas, predictions, rejected],
        partition_key="book",
        resources={"io_manager": WarehouseIOManager(warehouse, describe, tell)},
        instance=DagsterInstance.ephemeral(),
    )
    book = {"domain": "book"}
    assert [inputs_of(version) for version in warehouse.current()] == [
        [],
        [("initial_personas", book)],
        [("initial_personas", book), ("initial_predictions", book)],
    ]
    assert {version.run_id for version in warehouse.current()} == {make_all.run_id}


def test_every_output_of_a_multi_asset_has_the_inputs_of_its_step_and_its_own_content(warehouse) -> None:
    @multi_asset(
        outs={"persona_rounds": AssetOut(), "round_predictions": AssetOut()}, partitions_def=DOMAIN_METHODS
    )
    def evaluation(context, initial_personas: pd.DataFrame):
        key = context.partition_key.keys_by_dimension
        rows = initial_personas[["domain", "user_id", "note", "attempts", "model"]].assign(
            method=key["method"]
        )
        rounds = rows.assign(round=0, persona="x")
        return rounds, rows.assign(round=0, window=1, place=0, predicted=4.0, placed="name")

    make(warehouse, initial_personas, "book")
    run = make(warehouse, evaluation, both("book", "m"), graph=[initial_personas, evaluation])
    personas, rounds, predictions = warehouse.current()
    assert data_versions(run) == {
        "persona_rounds": rounds.content,
        "round_predictions": predictions.content,
    }
    assert rounds.inputs == predictions.inputs == (personas.as_input(),)
    assert rounds.fingerprint != predictions.fingerprint


def test_the_content_of_a_table_is_its_data_version(warehouse) -> None:
    made = [make(warehouse, initial_personas, "book"), make(warehouse, round_errors, both("book", "m"))]
    made.append(make(warehouse, floors_table))
    assert [data_versions(run) for run in made] == [
        {version.table: version.content} for version in warehouse.current()
    ]


def test_the_same_rows_made_again_are_the_same_data_version(warehouse) -> None:
    users = [1, 1, 2]

    @asset(name="initial_personas", partitions_def=DOMAINS)
    def personas(context) -> pd.DataFrame:
        return persona_rows(context.partition_key, users.pop(0))

    first, again, changed = (
        data_versions(make(warehouse, personas, "book", graph=[personas]))["initial_personas"]
        for _ in range(3)
    )
    assert first == again != changed


def test_a_retried_step_has_its_inputs_once(warehouse) -> None:
    attempts = []

    @asset(name="round_errors", partitions_def=DOMAIN_METHODS, retry_policy=RetryPolicy(max_retries=1))
    def flaky(initial_personas: pd.DataFrame) -> pd.DataFrame:
        attempts.append(len(initial_personas))
        if len(attempts) == 1:
            raise Failure("once")
        return initial_personas[["domain", "user_id"]].assign(
            method="m",
            round=0,
            window=1,
            items=10,
            error=None,
            pairs=3,
            pairs_right=None,
            pairs_tied=None,
            kept=0,
        )

    make(warehouse, initial_personas, "book")
    make(warehouse, flaky, both("book", "m"), graph=[initial_personas, flaky])
    assert attempts == [1, 1]
    assert inputs_of(warehouse.current()[-1]) == [("initial_personas", {"domain": "book"})]


def test_a_fan_in_loads_what_there_is(warehouse) -> None:
    for domain in ("book", ODD_DOMAIN):
        make(warehouse, initial_personas, domain)
        make(warehouse, round_errors, both(domain, "m"))
    make(warehouse, floors_table)
    assert warehouse.load("floors_table")["domain"].tolist() == ["book", ODD_DOMAIN]
    assert inputs_of(warehouse.current("floors_table")[0]) == [
        ("round_errors", {"domain": "book", "method": "m"}),
        ("round_errors", {"domain": ODD_DOMAIN, "method": "m"}),
    ]


def test_a_fan_in_of_nothing_at_all_is_empty(warehouse) -> None:
    make(warehouse, floors_table)
    assert len(warehouse.load("floors_table")) == 0
    assert warehouse.current("floors_table")[0].inputs == ()


@pytest.mark.parametrize("made", [[("book", "m"), (ODD_DOMAIN, ODD_METHOD), ("book", ODD_METHOD)]])
def test_partitions_that_are_no_range_and_no_product_are_loaded_as_asked(warehouse, made) -> None:
    wanted = [both("book", "m"), both(ODD_DOMAIN, ODD_METHOD)]
    seen = []

    @asset(
        name="mae_table",
        ins={"round_errors": AssetIn(partition_mapping=SpecificPartitionsPartitionMapping(wanted))},
    )
    def some(round_errors: pd.DataFrame) -> pd.DataFrame:
        seen.extend(round_errors[["domain", "method"]].drop_duplicates().itertuples(index=False, name=None))
        return pd.DataFrame(columns=list(TABLES["mae_table"].column_names))

    for domain, method in made:
        make(warehouse, initial_personas, domain)
        make(warehouse, round_errors, both(domain, method))
    make(warehouse, some, graph=[*GRAPH, some])
    assert seen == [("book", "m"), (ODD_DOMAIN, ODD_METHOD)]


def test_a_dimension_of_multi_partitions_feeds_a_single_one(warehouse) -> None:
    seen = []

    @asset(name="initial_predictions", partitions_def=METHODS)
    def by_method(round_errors: pd.DataFrame) -> None:
        seen.extend(round_errors["domain"].unique())

    for domain in ("book", ODD_DOMAIN):
        make(warehouse, initial_personas, domain)
        make(warehouse, round_errors, both(domain, "m"))
        make(warehouse, round_errors, both(domain, ODD_METHOD))
    make(warehouse, by_method, "m", graph=[*GRAPH, by_method])
    assert seen == ["book", ODD_DOMAIN]


def test_an_input_may_ask_for_some_columns(warehouse) -> None:
    seen = []

    @asset(
        name="rejected_ratings",
        partitions_def=DOMAINS,
        ins={"initial_personas": AssetIn(metadata={"columns": ["persona", "user_id"]})},
    )
    def looks(initial_personas) -> None:  # without an annotation, a frame
        seen.append(initial_personas.to_dict("list"))

    make(warehouse, initial_personas, "movies tv")
    make(warehouse, looks, "movies tv", graph=[initial_personas, looks])
    assert seen == [{"persona": ["a reader"] * 2, "user_id": ["u0", "u1"]}]


def test_an_optional_input_that_was_never_made_has_no_rows(warehouse) -> None:
    seen = []

    @asset(name="mae_table", ins={"floors_table": AssetIn(metadata=OPTIONAL)})
    def later(floors_table: pd.DataFrame) -> None:
        seen.append(floors_table)

    make(warehouse, later, graph=[*GRAPH, later])
    assert seen[0].empty
    assert list(seen[0].columns) == list(TABLES["floors_table"].column_names)


def test_an_input_that_was_never_made_is_named_with_the_way_to_make_it(warehouse) -> None:
    make(warehouse, initial_personas, "book")
    with pytest.raises(DeeperError) as refused:
        make(warehouse, round_errors, both(ODD_DOMAIN, "m"))
    assert str(refused.value) == (
        "domain \"o'brien; DROP TABLE x --\" of table 'initial_personas' has never been materialized; make it"
        " with `deeper run`, or materialize it in the UI"
    )

    @asset(name="mae_table")
    def later(floors_table: pd.DataFrame) -> None: ...

    with pytest.raises(DeeperError, match=r"^table 'floors_table' has never been materialized"):
        make(warehouse, later, graph=[*GRAPH, later])


def test_an_input_that_was_made_empty_is_loaded_as_such(warehouse) -> None:
    @asset(name="initial_personas", partitions_def=DOMAINS)
    def nobody() -> pd.DataFrame:
        return persona_rows("book", 0)

    make(warehouse, nobody, "book", graph=[nobody])
    make(warehouse, round_errors, both("book", "m"))
    assert [(version.table, version.row_count) for version in warehouse.current()] == [
        ("initial_personas", 0),
        ("round_errors", 0),
    ]


def parquet_asset(path: Path) -> AssetsDefinition:
    @asset(name="initial_personas", partitions_def=DOMAINS)
    def from_file() -> Path:
        return path

    return from_file


def test_a_parquet_file_is_stored_and_then_deleted(warehouse, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for users, left in ((3, 3), (2, 2)):
        rows = persona_rows("book", users)
        duckdb.connect().from_df(rows.astype({"note": "string"})).write_parquet(str(path))
        make(warehouse, parquet_asset(path), "book", graph=[parquet_asset(path)])
        assert not path.exists()
        assert len(warehouse.load("initial_personas")) == left


def test_a_parquet_file_that_is_refused_stays_as_the_partition_does(warehouse, tmp_path: Path) -> None:
    make(warehouse, initial_personas, "book")
    path = tmp_path / "rows.parquet"
    duckdb.connect().from_df(persona_rows("movies tv", 2)).write_parquet(str(path))
    with pytest.raises(
        DeeperError, match=r"column 'domain' must be 'book' \(2 rows do not, e\.g\. 'movies tv'\)"
    ):
        make(warehouse, parquet_asset(path), "book", graph=[parquet_asset(path)])
    assert path.exists()
    assert warehouse.load("initial_personas")["domain"].tolist() == ["book"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rows: rows.drop(columns="note"), "column 'note' is missing"),
        (lambda rows: rows.assign(mood="good"), "column 'mood' is not declared"),
        (lambda rows: rows.assign(attempts="one"), "column 'attempts' must be INTEGER, not VARCHAR"),
    ],
)
def test_a_frame_that_does_not_fit_fails_the_step_and_the_partition_stays(warehouse, change, fault) -> None:
    @asset(name="initial_personas", partitions_def=DOMAINS)
    def wrong() -> pd.DataFrame:
        return change(persona_rows("book", 5))

    before = make(warehouse, initial_personas, "book")
    with pytest.raises(DeeperError, match=f"table 'initial_personas' refuses the data: {fault}"):
        make(warehouse, wrong, "book", graph=[wrong])
    rows = warehouse.load("initial_personas", provenance=True)
    assert rows[["user_id", "run_id"]].values.tolist() == [["u0", before.run_id]]
    assert len(warehouse.history()) == 1


def test_what_the_ui_is_told_of_an_output(warehouse) -> None:
    result = make(warehouse, initial_personas, ODD_DOMAIN)
    [materialization] = result.asset_materializations_for_node("initial_personas")
    told = {name: value.value for name, value in materialization.metadata.items()}
    [version] = warehouse.current()
    assert told == {
        "dagster/row_count": 3,
        "dagster/table_name": "warehouse.main.initial_personas",
        "fingerprint": version.fingerprint,
        "content": version.content,
        "told": "initial_personas, 3 rows, from 0 inputs",
        "Query": "SELECT * FROM main.initial_personas WHERE\n\"domain\" in ('o''brien; DROP TABLE x --')",
    }


def test_metadata_of_the_asset_itself_is_kept(warehouse) -> None:
    @asset(name="initial_personas", partitions_def=DOMAINS)
    def counted() -> MaterializeResult[pd.DataFrame]:
        return MaterializeResult(value=persona_rows("book", 4), metadata={"users": 4})

    result = make(warehouse, counted, "book", graph=[counted])
    [materialization] = result.asset_materializations_for_node("initial_personas")
    assert materialization.metadata["users"].value == materialization.metadata["dagster/row_count"].value == 4


def test_a_column_schema_says_what_the_columns_mean() -> None:
    schema = column_schema("round_errors")
    assert isinstance(schema, TableSchema)
    columns = {column.name: column for column in schema.columns}
    assert list(columns)[-4:] == ["pairs_tied", "kept", "run_id", "fingerprint"]
    assert columns["error"].type == "DOUBLE"
    assert columns["error"].constraints.nullable is True
    assert columns["error"].constraints.other == ["error >= 0"]
    assert columns["domain"].constraints.nullable is False
    assert columns["domain"].description == "domain of the items, e.g. book"


def test_the_partition_expr_of_a_table() -> None:
    assert partition_expr("initial_personas") == "domain"
    assert partition_expr("round_errors") == {"domain": "domain", "method": "method"}
    with pytest.raises(DeeperError, match="table 'floors_table' has no partitions"):
        partition_expr("floors_table")


def test_values_are_loaded_outside_a_run(warehouse) -> None:
    make(warehouse, initial_personas, "movies tv")
    definitions = Definitions(GRAPH, resources={"io_manager": WarehouseIOManager(warehouse, describe, tell)})
    frame = definitions.load_asset_value("initial_personas", partition_key="movies tv")
    assert frame["user_id"].tolist() == ["u0", "u1"]


# --------------------------------------------------------------------------------- assets that do not fit


@pytest.mark.parametrize(
    ("definition", "key", "fault"),
    [
        (
            DailyPartitionsDefinition("2024-01-01"),
            "2024-01-02",
            "table 'initial_personas' takes static partitions only; its asset has DailyPartitionsDefinition",
        ),
        (
            DOMAIN_METHODS,
            both("book", "m"),
            "table 'initial_personas' is partitioned by domain; its asset by domain, method",
        ),
        (None, None, "table 'initial_personas' is partitioned by domain; its asset is not"),
    ],
)
def test_other_partitions_are_refused(warehouse, definition, key, fault) -> None:
    @asset(name="initial_personas", partitions_def=definition)
    def other() -> pd.DataFrame:
        return persona_rows("book", 1)

    with pytest.raises(DeeperError, match=fault):
        make(warehouse, other, key, graph=[other])


def test_dynamic_partitions_are_refused(warehouse) -> None:
    @asset(name="initial_personas", partitions_def=DynamicPartitionsDefinition(name="domains"))
    def other() -> pd.DataFrame:
        return persona_rows("book", 1)

    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("domains", ["book"])
        with pytest.raises(
            DeeperError, match="static partitions only; its asset has DynamicPartitionsDefinition"
        ):
            materialize(
                [other],
                partition_key="book",
                resources={"io_manager": WarehouseIOManager(warehouse, describe, tell)},
                instance=instance,
            )


def test_a_partitioned_asset_of_an_unpartitioned_table_is_refused(warehouse) -> None:
    @asset(name="floors_table", partitions_def=DOMAINS)
    def other() -> pd.DataFrame:
        return pd.DataFrame()

    with pytest.raises(
        DeeperError, match="table 'floors_table' is partitioned by nothing; its asset by one dimension"
    ):
        make(warehouse, other, "book", graph=[other])


def test_several_partitions_in_one_run_are_refused(warehouse) -> None:
    tags = {"dagster/asset_partition_range_start": "book", "dagster/asset_partition_range_end": "movies tv"}

    @asset(name="initial_personas", partitions_def=DOMAINS)
    def at_once() -> pd.DataFrame:
        return persona_rows("book", 1)

    with pytest.raises(DeeperError, match="one run was to make 2 partitions at once"):
        make(warehouse, at_once, graph=[at_once], tags=tags)
    assert not warehouse.history()


def test_an_asset_that_is_no_table_is_refused(warehouse) -> None:
    @asset
    def moods() -> pd.DataFrame:
        return pd.DataFrame()

    with pytest.raises(DeeperError, match="table 'moods' is not declared; known: raw_ratings, "):
        make(warehouse, moods, graph=[moods])


def test_a_path_cannot_be_asked_for(warehouse) -> None:
    @asset(name="rejected_ratings", partitions_def=DOMAINS)
    def wants_a_path(initial_personas: Path) -> None: ...

    make(warehouse, initial_personas, "book")
    with pytest.raises(
        DeeperError, match=r"input 'initial_personas' asks for a path; .* annotate it DataFrame"
    ):
        make(warehouse, wants_a_path, "book", graph=[initial_personas, wants_a_path])


def test_a_relation_is_asked_and_handed_over(warehouse) -> None:
    """No row of it passes through Python, and nothing is held in between."""

    @asset(name="initial_predictions", partitions_def=DOMAINS)
    def predicted(initial_personas: Relation) -> Relation:
        with Warehouse(warehouse.path, lock_timeout=0).connect(writing=True):
            pass
        assert initial_personas.ask("SELECT count(*) AS n, min(domain) AS d FROM stored").values.tolist() == [
            [3, ODD_DOMAIN]
        ]
        assert initial_personas.first(1)[0]["user_id"].tolist() == ["u0"]
        assert initial_personas.first(1)[1] == 3
        later = initial_personas.select("SELECT * FROM stored WHERE user_id > 'u0'")
        return later.select(
            'SELECT domain, user_id, split, 1 AS "window", 0 AS place, 4.0 AS predicted, NULL AS placed,'
            " note, attempts, model FROM stored"
        )

    graph = [initial_personas, predicted]
    for domain in DOMAINS.get_partition_keys():
        make(warehouse, initial_personas, domain)
    make(warehouse, predicted, ODD_DOMAIN, graph=graph)
    rows = warehouse.load("initial_predictions")
    assert rows[["domain", "user_id", "predicted"]].values.tolist() == [
        [ODD_DOMAIN, "u1", 4.0],
        [ODD_DOMAIN, "u2", 4.0],
    ]
    [version] = warehouse.current("initial_predictions")
    assert [(one.table, one.partition) for one in version.inputs] == [
        ("initial_personas", {"domain": ODD_DOMAIN})
    ]


def test_a_relation_that_does_not_fit_is_refused(warehouse) -> None:
    @asset(name="initial_predictions", partitions_def=DOMAINS)
    def predicted(initial_personas: Relation) -> Relation:
        return initial_personas.select("SELECT domain, user_id FROM stored")

    make(warehouse, initial_personas, "book")
    with pytest.raises(DeeperError, match="column 'split' is missing"):
        make(warehouse, predicted, "book", graph=[initial_personas, predicted])
    assert warehouse.current("initial_predictions") == []


def test_a_relation_of_what_was_never_made_is_named(warehouse) -> None:
    @asset(name="initial_predictions", partitions_def=DOMAINS)
    def predicted(initial_personas: Relation) -> Relation:
        return initial_personas

    with pytest.raises(DeeperError, match=r"'initial_personas' has never been materialized"):
        make(warehouse, predicted, "book", graph=[initial_personas, predicted])


def test_no_connection_is_held_while_an_asset_works(warehouse) -> None:
    @asset(name="round_errors", partitions_def=DOMAIN_METHODS)
    def works(initial_personas: pd.DataFrame) -> pd.DataFrame:
        with Warehouse(warehouse.path, lock_timeout=0).connect(writing=True):
            pass
        return initial_personas.iloc[:0].reindex(columns=list(TABLES["round_errors"].column_names))

    make(warehouse, initial_personas, "book")
    make(warehouse, works, both("book", "m"), graph=[initial_personas, works])
    assert warehouse.current()[-1].row_count == 0
