"""Evaluation: four rounds of update and prediction, their errors, and the floors they have to beat."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from dagster import (
    AssetExecutionContext,
    AssetOut,
    AssetsDefinition,
    MetadataValue,
    Output,
    ResourceParam,
    asset,
    multi_asset,
)

from deeper_assets.assets.booking import booked
from deeper_assets.assets.stored import stored
from deeper_assets.jobs import AFTER_EVALUATION
from deeper_assets.method import errors
from deeper_assets.method.floors import floor_errors
from deeper_assets.method.rounds import ROUNDS, play_rounds
from deeper_assets.method.statistics import compare
from deeper_assets.method.tables import mae_table as tabulate
from deeper_assets.method.updates import PROMPT_METHODS, UpdateMethod, by_policy
from deeper_assets.partitions import Partitions, columns_of
from deeper_assets.reports.plots import as_markdown, mae_plot
from deeper_assets.resources import Experiment


def persona_rounds(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    initial_personas: pd.DataFrame,
    initial_predictions: pd.DataFrame,
    policies: pd.DataFrame,
) -> Iterator[Output[pd.DataFrame]]:
    """Personas S0 … S4 of a domain's evaluation users by one method, and what each predicts next.

    Two tables from one computation, because refinement needs the predictions of the round before.
    """
    key = columns_of(context.partition_key)
    with booked(context, experiment, "persona_rounds") as chat:
        played = play_rounds(
            rating_windows,
            initial_personas,
            initial_predictions,
            key["method"],
            _update(experiment, key["method"], policies),
            experiment.domain(key["domain"]),
            chat,
        )
    for name, rows, value in (
        ("persona_rounds", played.personas, "persona"),
        ("round_predictions", played.predictions, "predicted"),
    ):
        yield Output(rows, name, metadata={"share unreadable": errors.share_missing(rows[value])})


def _update(experiment: Experiment, method: str, policies: pd.DataFrame) -> UpdateMethod:
    """How a method updates: by a prompt to the chat model, or by the policy that `policies` names."""
    if method in PROMPT_METHODS:
        return PROMPT_METHODS[method]
    recipe = policies["recipe"].iloc[0]
    template = experiment.recipes[recipe].template if isinstance(recipe, str) else "refinement"
    sampler = experiment.policy_sampler(policies)
    return by_policy(sampler, experiment.evaluation_decoding, template, experiment.settings.seed)


def round_errors(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    round_predictions: pd.DataFrame,
) -> pd.DataFrame:
    """ε(r+1|S_r) of every evaluation user and round; unknown where a prediction could not be read."""
    measured = errors.window_errors(
        round_predictions, rating_windows, ["domain", "method", "user_id", "round", "window"]
    )
    table = tabulate(measured, errors.mae_by_round(_floor_errors(experiment, rating_windows)))
    plot = mae_plot(table, columns_of(context.partition_key)["domain"])
    context.add_output_metadata(
        {
            "share unreadable": errors.share_missing(measured["error"]),
            "MAE by round": MetadataValue.md(as_markdown(plot)),
        }
    )
    return measured


def floors_table(experiment: ResourceParam[Experiment], rating_windows: pd.DataFrame) -> pd.DataFrame:
    """What predictors that read no text reach on the same users and rounds."""
    floors = _floor_errors(experiment, rating_windows)
    return errors.mae_by_round(floors)[["domain", "method", "round", "users", "mae"]]


def mae_table(
    context: AssetExecutionContext, round_errors: pd.DataFrame, floors_table: pd.DataFrame
) -> pd.DataFrame:
    """The paper's table: MAE per domain, method and round, beside floors and the paper's own figures."""
    table = tabulate(round_errors, floors_table)
    context.add_output_metadata(
        {"MAE by round": MetadataValue.md(as_markdown(mae_plot(table, errors.MACRO)))}
    )
    return table


def comparison_table(experiment: ResourceParam[Experiment], round_errors: pd.DataFrame) -> pd.DataFrame:
    """Macro averages by method and round with bootstrap intervals over users, beside `deeper`."""
    return compare(round_errors, "deeper", experiment.settings.seed)


def chat_usage(experiment: ResourceParam[Experiment]) -> pd.DataFrame:
    """Requests, tokens and cost of the chat model, by asset, domain and run, as the journal has them."""
    # Rows have a run_id already: that of the run that makes this table.
    return experiment.usage().rename(columns={"run_id": "asking_run_id"})


def _floor_errors(experiment: Experiment, windows: pd.DataFrame) -> pd.DataFrame:
    evaluated = windows[windows["split"] == "eval"]
    return pd.concat(
        [
            floor_errors(rows, str(name), experiment.domain(str(name)).scale, ROUNDS)
            for name, rows in evaluated.groupby("domain", sort=True)
        ]
        or [floor_errors(evaluated, "", next(iter(experiment.domains.values())).scale, ROUNDS)],
        ignore_index=True,
    )


def build(partitions: Partitions) -> list[AssetsDefinition]:
    """The assets of this group."""
    group: dict[str, Any] = {"group_name": "evaluation", "code_version": "1"}
    by_method: dict[str, Any] = {"partitions_def": partitions.domain_methods, **group}
    outs = {
        name: AssetOut(description=text, **stored(name), **group)
        for name, text in (
            ("persona_rounds", "Personas S0 … S4 of a domain's evaluation users, updated by one method."),
            ("round_predictions", "What the persona of each round predicts for the window after it."),
        )
    }
    return [
        multi_asset(name="persona_rounds", outs=outs, partitions_def=partitions.domain_methods)(
            persona_rounds
        ),
        asset(**stored("round_errors"), **by_method)(round_errors),
        asset(**stored("floors_table"), **group, automation_condition=AFTER_EVALUATION)(floors_table),
        asset(**stored("mae_table"), **group, automation_condition=AFTER_EVALUATION)(mae_table),
        asset(**stored("comparison_table"), **group, automation_condition=AFTER_EVALUATION)(comparison_table),
        asset(**stored("chat_usage"), **group)(chat_usage),
    ]
