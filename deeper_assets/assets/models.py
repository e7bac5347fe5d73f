"""Models: the base policy, preferences drawn from rewards, and the adapters trained on them."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd
from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetOut,
    AssetsDefinition,
    MetadataValue,
    Output,
    PipesSubprocessClient,
    ResourceParam,
    asset,
    multi_asset,
)
from dagster._core.errors import DagsterPipesExecutionError

from deeper_assets.assets.stored import stored
from deeper_assets.engines.offline import base_policy as offline
from deeper_assets.engines.training.failures import FAILURE, KILLED, out_of_memory
from deeper_assets.engines.training.job import CODE_VERSION, read_job
from deeper_assets.engines.training.launching import PARENT
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.pairs import CONTEXT, choose_pairs, group_candidates, mark_validation, replayed
from deeper_assets.method.recipes import Recipe
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.partitions import Partitions
from deeper_assets.reports.plots import as_markdown, loss_plot
from deeper_assets.resources import REFERENCE, Experiment
from deeper_assets.store.adapters import as_rows, identity
from deeper_assets.store.io_manager import OPTIONAL

GROUP_COLUMNS = ["group", "prompt", "completion", "reward", "validation"]
PAIR_COLUMNS = ["prompt", "chosen", "rejected", "validation"]


def base_policy(context: AssetExecutionContext, experiment: ResourceParam[Experiment]) -> pd.DataFrame:
    """The policy before any training: the tiny one that is shipped, or a model of one's own."""
    policy = experiment.settings.policy
    rows = as_rows(offline.SHIPPED) if policy == "offline" else _as_reference(policy)
    context.add_output_metadata({"bytes": int(rows["size"].sum()), "identity": identity(rows)})
    return rows


def preferences_1(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    contexts: pd.DataFrame,
    candidates: pd.DataFrame,
    rewards: pd.DataFrame,
) -> Iterator[Output[pd.DataFrame]]:
    """Pairs and groups of iteration 1, of all training domains together."""
    recipe, name = experiment.recipes[context.partition_key], context.partition_key
    pairs = choose_pairs(candidates, rewards, contexts, recipe, name, 1)
    groups = group_candidates(candidates, rewards, contexts, recipe, name, 1)
    yield from _preferences(experiment, recipe, pairs, groups, 1)


def preferences_2(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    contexts: pd.DataFrame,
    candidates: pd.DataFrame,
    rewards: pd.DataFrame,
    preference_pairs_1: pd.DataFrame,
    preference_groups_1: pd.DataFrame,
) -> Iterator[Output[pd.DataFrame]]:
    """Pairs and groups of iteration 2, and what is replayed of iteration 1."""
    recipe, name = experiment.recipes[context.partition_key], context.partition_key
    pairs = choose_pairs(candidates, rewards, contexts, recipe, name, 2)
    groups = group_candidates(candidates, rewards, contexts, recipe, name, 2)
    pairs_again = replayed(preference_pairs_1, recipe, len(pairs))
    groups_again = replayed(preference_groups_1, recipe, len(groups[CONTEXT].drop_duplicates()))
    pairs, groups = _joined(pairs, pairs_again), _joined(groups, groups_again)
    yield from _preferences(experiment, recipe, pairs, groups, 2)


def model_1(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    pipes: ResourceParam[PipesSubprocessClient],
    base_policy: pd.DataFrame,
    preference_pairs_1: pd.DataFrame,
    preference_groups_1: pd.DataFrame,
) -> Output[pd.DataFrame]:
    """Model 1: the adapter that iteration 1's preferences train on the base policy."""
    return _train(context, experiment, pipes, 1, base_policy, preference_pairs_1, preference_groups_1)


def model_2(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    pipes: ResourceParam[PipesSubprocessClient],
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
    preference_pairs_2: pd.DataFrame,
    preference_groups_2: pd.DataFrame,
) -> Output[pd.DataFrame]:
    """Model 2: Model 1's adapter, trained on with iteration 2's preferences."""
    return _train(
        context, experiment, pipes, 2, base_policy, preference_pairs_2, preference_groups_2, start=model_1
    )


def policies(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
    model_2: pd.DataFrame,
) -> pd.DataFrame:
    """Which policy writes the personas of a method; the methods that only prompt the chat model have none."""
    method = context.partition_key
    columns = ["method", "recipe", "iteration", "model", "file", "sha256"]
    rows = pd.DataFrame(columns=columns)
    if method not in PROMPT_METHODS:
        if base_policy.empty:
            raise DeeperError(f"method {method!r} needs the table 'base_policy'; make it with `deeper run`")
        recipe, iteration = experiment.policies.get(method, (None, None))
        adapter = pd.concat([model_1, model_2])
        base = f"base-{identity(base_policy)}"
        if recipe is None:
            rows = pd.DataFrame([(method, None, None, base, None, None)], columns=columns)
        else:
            model = f"{base}+{identity(adapter)}"
            rows = adapter.assign(method=method, recipe=recipe, iteration=iteration, model=model)[columns]
    return rows.astype({"iteration": "Int64"})


def _preferences(
    experiment: Experiment, recipe: Recipe, pairs: pd.DataFrame, groups: pd.DataFrame, iteration: int
) -> Iterator[Output[pd.DataFrame]]:
    """Groups are kept only where the recipe's loss looks at them: they repeat every candidate's text."""
    if recipe.loss == "pairwise":
        groups = groups.iloc[:0]
    share, seed = experiment.settings.training.validation_share, experiment.settings.seed
    for name, rows in (("preference_pairs", pairs), ("preference_groups", groups)):
        by_origin = (rows["domain"] + ", " + rows["origin"]).value_counts(sort=False)
        metadata = {str(of): int(count) for of, count in by_origin.items()}
        yield Output(mark_validation(rows, share, seed), f"{name}_{iteration}", metadata=metadata)


def _joined(own: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame for frame in (own, again[own.columns]) if len(frame)] or [own], ignore_index=True)


def _train(
    context: AssetExecutionContext,
    experiment: Experiment,
    pipes: PipesSubprocessClient,
    iteration: int,
    base: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
    start: pd.DataFrame | None = None,
) -> Output[pd.DataFrame]:
    """Trains in a process of its own, so that all of its memory is free afterwards.

    The folder it works in stays where it is, so a training that was killed goes on when asked for again.
    """
    name = context.partition_key
    recipe = experiment.recipes[name]
    folder = experiment.home / "training" / f"{name}_{iteration}"
    folder.mkdir(parents=True, exist_ok=True)
    _examples(pairs, groups, recipe).to_parquet(folder / "examples.parquet", index=False)
    adapter = None if start is None else experiment.adapter_folder(start)
    reference = recipe.reference if start is not None else "start"
    job = {
        "base": experiment.base_folder(base),
        "examples": str(folder / "examples.parquet"),
        "output": str(folder),
        "loss": recipe.loss,
        "seed": experiment.settings.seed,
        "training": asdict(experiment.settings.training),
        "hardware": asdict(experiment.settings.hardware),
        "adapter": None if adapter is None else str(adapter),
        "reference": reference,
    }
    config = folder / "job.json"
    config.write_text(json.dumps(job, indent=1), encoding="utf-8")
    failure = config.with_suffix(FAILURE)
    failure.unlink(missing_ok=True)
    try:
        with experiment.alone_on_gpu():
            run = pipes.run(
                command=[sys.executable, "-m", "deeper_assets.engines.training", str(config)],
                context=context,
                # One thread, as everywhere: the order of sums is fixed then, and so is the adapter.
                env={**os.environ, "OMP_NUM_THREADS": "1", PARENT: str(os.getpid())},
            )
    except DagsterPipesExecutionError as error:
        if failure.exists():
            raise DeeperError(failure.read_text(encoding="utf-8")) from error
        if str(error).endswith(f"code {-signal.SIGKILL}"):
            raise DeeperError(out_of_memory(read_job(config), KILLED)) from error
        raise
    log = [message for message in run.get_custom_messages() if isinstance(message, dict)]
    rows = as_rows(folder / "adapter")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    history = json.loads((folder / "training_log.json").read_text(encoding="utf-8")) or log
    metadata = {
        "loss curve": MetadataValue.md(as_markdown(loss_plot(history), "loss by step")),
        "report": MetadataValue.json(report),
        "trained on": report["trained"],
        "reference": reference if start is None else f"{reference} ({_name(reference, base, start)})",
        "identity": identity(rows),
    }
    # An Output, because after a Pipes session Dagster takes nothing less.
    return Output(rows.assign(recipe=name), metadata=metadata)


def _examples(pairs: pd.DataFrame, groups: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    if recipe.loss == "pairwise":
        return pairs[PAIR_COLUMNS]
    return groups.assign(group=groups.groupby([*CONTEXT, "origin"]).ngroup())[GROUP_COLUMNS]


def _name(reference: str, base: pd.DataFrame, start: pd.DataFrame) -> str:
    return f"model_1 {identity(start)}" if reference == "start" else f"base {identity(base)}"


def _as_reference(policy: str) -> pd.DataFrame:
    """One row that names a model of the user's own; its files stay where they are."""
    content = policy.encode()
    digest = hashlib.sha256(content).hexdigest()
    return pd.DataFrame(
        [(REFERENCE, content, len(content), digest)], columns=["file", "content", "size", "sha256"]
    )


def build(partitions: Partitions) -> list[AssetsDefinition]:
    """The assets of this group."""
    group: dict[str, Any] = {"group_name": "models", "code_version": "1"}
    trained: dict[str, Any] = {"partitions_def": partitions.recipes, **group, "code_version": CODE_VERSION}
    models = {f"model_{i}": AssetIn(f"model_{i}", partition_mapping=partitions.models[i]) for i in (1, 2)}
    models["base_policy"] = AssetIn("base_policy", metadata=OPTIONAL)
    return [
        asset(**stored("base_policy"), **group)(base_policy),
        _preference_assets(partitions, 1),
        asset(**stored("model_1"), **trained)(model_1),
        _preference_assets(partitions, 2),
        asset(**stored("model_2"), **trained)(model_2),
        asset(ins=models, partitions_def=partitions.methods, **stored("policies"), **group)(policies),
    ]


def _preference_assets(partitions: Partitions, i: int) -> AssetsDefinition:
    mapping = partitions.updates_over_domains if i == 1 else None
    names = ("contexts", "candidates", "rewards")
    ins = {name: AssetIn(f"{name}_{i}", partition_mapping=mapping) for name in names}
    outs = {
        f"{name}_{i}": AssetOut(
            description=text, group_name=f"iteration_{i}", code_version="1", **stored(f"{name}_{i}")
        )
        for name, text in (
            ("preference_pairs", "Chosen and rejected personas of one context, of all training domains."),
            ("preference_groups", "All personas of a context with their rewards, for losses over groups."),
        )
    }
    return multi_asset(name=f"preferences_{i}", ins=ins, outs=outs, partitions_def=partitions.recipes)(
        preferences_1 if i == 1 else preferences_2
    )
