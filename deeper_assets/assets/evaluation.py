"""Evaluation: four rounds of update and prediction, their errors, and what they stand beside."""

from collections.abc import Mapping, Sequence

import pandas as pd
from dagster import MetadataValue, Output, PartitionMapping

from deeper_assets.assets.personas import with_placings, with_share
from deeper_assets.declaring import In, table
from deeper_assets.method import controls, errors
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.errors import Evaluated
from deeper_assets.method.floors import MEDIAN, floor_errors
from deeper_assets.method.parsing import RATINGS_VERSION
from deeper_assets.method.rounds import mark_kept, play_rounds
from deeper_assets.method.statistics import bootstrap_gaps, compare, under_floors
from deeper_assets.method.updates import MAIN_METHOD, PROMPT_METHODS, PolicyWriting, by_policy
from deeper_assets.partitions import Partitions
from deeper_assets.reports.figures import gap_figures, macro_figures, round_figures
from deeper_assets.reports.plots import as_markdown, mae_plot
from deeper_assets.resources import Samplers
from deeper_assets.store.ledger import Partition
from deeper_assets.values import Usage, Values


def _templates(values: Values, partition: Partition) -> Sequence[str]:
    """A method's own templates, and that of predictions."""
    writing = values.writing(partition)
    own = (writing.template,) if writing else PROMPT_METHODS[partition["method"]].templates
    return [*own, "prediction"]


@table(
    "evaluation",
    tables={
        "persona_rounds": "Personas S0 … S4 of users who do not train, as far as their windows reach; by one"
        " method.",
        "round_predictions": "What the persona of each round predicts for the window after it.",
    },
    templates=_templates,
    code_version=RATINGS_VERSION,
)
def persona_rounds(
    rating_windows: pd.DataFrame,
    initial_personas: pd.DataFrame,
    initial_predictions: pd.DataFrame,
    policies: pd.DataFrame,
    method: str,
    domain: Domain,
    chat: ChatSetup,
    writing: PolicyWriting | None,
    samplers: Samplers,
) -> list[Output[pd.DataFrame]]:
    """Personas S0 … S4 of a domain's evaluation users by one method, and what each predicts next.

    Two tables from one computation, because refinement needs the predictions of the round before.
    """
    update = by_policy(samplers.policy_sampler(policies), writing) if writing else PROMPT_METHODS[method]
    played = play_rounds(rating_windows, initial_personas, initial_predictions, method, update, domain, chat)
    return [with_share(played.personas, "persona"), with_placings(played.predictions)]


@table("evaluation", code_version="2")
def round_errors(
    rating_windows: pd.DataFrame, persona_rounds: pd.DataFrame, round_predictions: pd.DataFrame
) -> Output[pd.DataFrame]:
    """ε(r+1|S_r) of every evaluation user and round; unknown where a prediction could not be read.

    Users with short histories are left out: they reach few rounds, so they would change who is averaged.
    """
    evaluated = rating_windows[rating_windows["split"] == "eval"]
    counted = round_predictions[round_predictions["user_id"].isin(evaluated["user_id"])]
    measured = _measured(counted, evaluated, "method")
    marked = mark_kept(measured.value, persona_rounds)
    share = float(marked["kept"].mean()) if len(marked) else 0.0
    return Output(marked, metadata={**measured.metadata, "share kept": share})


def _measured(predictions: pd.DataFrame, windows: pd.DataFrame, by: str) -> Output[pd.DataFrame]:
    measured = errors.measured_windows(predictions, windows, ["domain", by, "user_id", "round", "window"])
    unreadable = errors.share_missing(measured["error"])
    return Output(measured, metadata={"share unreadable": unreadable, **round_figures(measured)})


def _shuffled(partitions: Partitions) -> PartitionMapping:
    return partitions.shuffled


@table(
    "controls",
    reads={"persona_rounds": In("persona_rounds", mapping=_shuffled)},
    templates=["prediction"],
    code_version=RATINGS_VERSION,
)
def control_predictions(
    rating_windows: pd.DataFrame, persona_rounds: pd.DataFrame, control: str, domain: Domain, chat: ChatSetup
) -> Output[pd.DataFrame]:
    """What is predicted for the windows of the rounds with something else in the persona's place.

    See `method/controls.py` for what.
    """
    return with_placings(controls.control_predictions(rating_windows, persona_rounds, control, domain, chat))


@table("controls")
def control_errors(rating_windows: pd.DataFrame, control_predictions: pd.DataFrame) -> Output[pd.DataFrame]:
    """The errors of what a control predicts, as those of a method."""
    return _measured(control_predictions, rating_windows, "control")


@table("tables", reads={"rating_windows": In("rating_windows", optional=True)})
def floors_table(rating_windows: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """What predictions that read no text reach on the same users and rounds."""
    evaluated = rating_windows[rating_windows["domain"].isin(scales)]
    floors = errors.mae_by_round(floor_errors(evaluated, scales))
    return floors[["domain", "method", "round", "users", "mae"]]


MEASURED = {"round_errors": "method", "control_errors": "control", "ceiling_errors": "ceiling"}
"""What is measured beside the floors: table → kind of its rows."""

_BESIDE_FLOORS = {name: In(name, optional=True) for name in (*MEASURED, "rating_windows")}


def _beside_floors(
    evaluated: Evaluated, windows: pd.DataFrame, scales: Mapping[str, Scale], *measured: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The errors in the tables of MEASURED, below one another, and the floors' errors in the same domains."""
    rows = evaluated.of(dict(zip(MEASURED.values(), measured, strict=True)))
    return rows, floor_errors(windows[windows["domain"].isin(set(rows["domain"]))], scales)


@table("tables", reads=_BESIDE_FLOORS, code_version="3")
def mae_table(
    round_errors: pd.DataFrame,
    control_errors: pd.DataFrame,
    ceiling_errors: pd.DataFrame,
    rating_windows: pd.DataFrame,
    floors_table: pd.DataFrame,
    scales: Mapping[str, Scale],
    evaluated: Evaluated,
    seed: int,
) -> Output[pd.DataFrame]:
    """The paper's table: MAE per domain, method and round, beside controls, floors and the paper's own."""
    measured, floors = _beside_floors(
        evaluated, rating_windows, scales, round_errors, control_errors, ceiling_errors
    )
    gaps = under_floors(measured, floors, seed)
    table = errors.mae_table(measured, floors_table).merge(gaps, on=["domain", "method", "round"], how="left")
    plot = MetadataValue.md(as_markdown(mae_plot(table, errors.MACRO)))
    return Output(table, metadata={"MAE by round": plot, **macro_figures(table)})


@table("tables", reads=_BESIDE_FLOORS)
def comparison_table(
    round_errors: pd.DataFrame,
    control_errors: pd.DataFrame,
    ceiling_errors: pd.DataFrame,
    rating_windows: pd.DataFrame,
    scales: Mapping[str, Scale],
    evaluated: Evaluated,
    seed: int,
) -> Output[pd.DataFrame]:
    """Macro averages by method and round with intervals over users and trainings, beside `deeper`."""
    measured, floors = _beside_floors(
        evaluated, rating_windows, scales, round_errors, control_errors, ceiling_errors
    )
    gaps = bootstrap_gaps(measured, floors, MEDIAN, seed)
    return Output(compare(measured, MAIN_METHOD, seed), metadata=gap_figures(gaps))


@table("tables")
def chat_usage(usage: Usage) -> pd.DataFrame:
    """Requests, tokens and cost of the chat model, by asset, domain and run, as the journal has them."""
    # Rows have a run_id already: that of the run that makes this table.
    return usage.rows.rename(columns={"run_id": "asking_run_id"})
