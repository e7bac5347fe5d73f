"""Policies that write sets of personas: sampled sets, what they are worth, and the adapters trained on them.

Of domains there are those whose users train these policies.
"""

import pandas as pd
from dagster import Output

from deeper_assets.assets.models import trained_output
from deeper_assets.declaring import In, table
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import CODE_VERSION
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.candidates import CandidateDraw
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction import judging, writing
from deeper_assets.method.induction.induce import users_of
from deeper_assets.method.induction.set_recipes import COMPONENTS, SetRecipe, set_examples
from deeper_assets.method.induction.set_recipes import set_preferences as preferred
from deeper_assets.method.pairs import ValidationSplit
from deeper_assets.method.prompts import Prompts
from deeper_assets.method.protocols import Embedder
from deeper_assets.method.recipes import Training
from deeper_assets.partitions import every_partition
from deeper_assets.resources import Objective, Samplers, Trainer, set_policy_rows
from deeper_assets.store.adapters import identity
from deeper_assets.values import BasePolicy


@table("set_base", training=True, induces=True)
def base_set_policy(set_policy: BasePolicy) -> Output[pd.DataFrame]:
    """The policy of sets before any training: the tiny one that is shipped, or a model of one's own."""
    rows = set_policy_rows(set_policy.name)
    return Output(rows, metadata={"bytes": int(rows["size"].sum()), "identity": identity(rows)})


@table(
    "set_sampling",
    tables={
        "set_contexts": "Groups of a training user's memories after a window, as the policy's prompt.",
        "set_groups": "The memories of these groups.",
    },
    templates=["persona_set"],
    training=True,
    induces=True,
)
def set_contexts(
    memories: pd.DataFrame,
    memory_events: pd.DataFrame,
    events: pd.DataFrame,
    embedder: Embedder,
    domain: Domain,
    prompts: Prompts,
) -> list[pd.DataFrame]:
    """What the policy is shown of training users."""
    users, intents = users_of(memories, memory_events, events, embedder)
    made = writing.set_contexts(users, intents, events, embedder.reach, domain, prompts)
    return [made.set_contexts, made.set_groups]


@table("set_sampling", training=True, induces=True)
def set_candidates(
    set_contexts: pd.DataFrame,
    base_set_policy: pd.DataFrame,
    set_draw: CandidateDraw,
    samplers: Samplers,
) -> Output[pd.DataFrame]:
    """Sets that the policy writes for every context; equal texts once, with their number."""
    sampled = writing.sample_sets(set_contexts, samplers.sampler(base_set_policy), set_draw)
    unusable = float(sampled["copies"].where(sampled["unusable"].notna(), 0).sum())
    share = unusable / max(int(sampled["copies"].sum()), 1)
    return Output(sampled, metadata={"engine": samplers.engine, "share unusable": share})


@table("set_sampling", templates=["verdicts"], training=True, induces=True)
def judged_claims(
    set_contexts: pd.DataFrame,
    set_candidates: pd.DataFrame,
    memories: pd.DataFrame,
    domain: Domain,
    chat: ChatSetup,
) -> pd.DataFrame:
    """What the frozen chat model says of every claim of these sets: which memories show it."""
    return judging.judged_claims(set_contexts, set_candidates, memories, domain, chat)


@table("set_sampling", training=True, induces=True)
def set_rewards(
    set_contexts: pd.DataFrame,
    set_groups: pd.DataFrame,
    set_candidates: pd.DataFrame,
    judged_claims: pd.DataFrame,
    memories: pd.DataFrame,
    memory_events: pd.DataFrame,
    events: pd.DataFrame,
    embedder: Embedder,
) -> Output[pd.DataFrame]:
    """What each of these sets is worth, every component apart."""
    users, _ = users_of(memories, memory_events, events, embedder)
    rewards = judging.set_rewards(
        set_contexts, set_groups, set_candidates, judged_claims, users, embedder.reach
    )
    return Output(rewards, metadata={f"mean {name}": float(rewards[name].mean()) for name in COMPONENTS})


@table(
    "set_training",
    reads={name: In(name, every_partition) for name in ("set_contexts", "set_candidates", "set_rewards")},
    training=True,
    induces=True,
)
def set_preferences(
    set_contexts: pd.DataFrame,
    set_candidates: pd.DataFrame,
    set_rewards: pd.DataFrame,
    set_recipe: SetRecipe,
    set_recipe_name: str,
    set_domains: tuple[str, ...],
    validation: ValidationSplit,
) -> Output[pd.DataFrame]:
    """All sets of a context with what they are worth to the recipe, of all training domains."""
    rows = preferred(
        set_contexts, set_candidates, set_rewards, set_domains, set_recipe_name, set_recipe, validation
    )
    return Output(rows, metadata={"groups": rows.groupby(["domain", "user_id", "window"]).ngroups})


@table("set_training", training=True, induces=True, code_version=CODE_VERSION)
def set_models(
    base_set_policy: pd.DataFrame,
    set_preferences: pd.DataFrame,
    set_recipe: SetRecipe,
    set_recipe_name: str,
    training: Training,
    seed: int,
    hardware: Hardware,
    trainer: Trainer,
) -> Output[pd.DataFrame]:
    """The adapter that these preferences train on the policy of sets."""
    if set_preferences.empty:
        raise DeeperError(
            f"recipe of sets {set_recipe_name!r}: there is nothing to train on. Nobody who trains has a"
            " history that goes on after a window from which sets are written, with two sets that can be read"
            " and are worth different rewards. Take more training users (train_users) or longer histories, or"
            " none of these policies (set_recipes: [])"
        )
    objective = Objective(set_recipe.loss, "start", training, seed, hardware)
    name, examples = f"sets_{set_recipe_name}", set_examples(set_preferences)
    trained = trainer.train(name, base_set_policy, None, examples, objective)
    return trained_output(trained, {"set_recipe": set_recipe_name}, f"base {identity(base_set_policy)}")


@table(
    "set_policies",
    reads={
        "base_set_policy": In("base_set_policy", optional=True),
        "set_models": In("set_models", lambda partitions: partitions.set_models),
    },
    induces=True,
)
def set_policies(
    base_set_policy: pd.DataFrame, set_models: pd.DataFrame, inducer: str, writes: bool
) -> pd.DataFrame:
    """Which policy writes the sets of an inducer; those that need none have none."""
    columns = ["inducer", "set_recipe", "model", "file", "sha256"]
    base = f"base-{identity(base_set_policy)}" if writes else ""
    if not writes:
        rows = pd.DataFrame(columns=columns)
    elif set_models.empty:
        rows = pd.DataFrame([(inducer, None, base, None, None)], columns=columns)
    else:
        rows = set_models.assign(inducer=inducer, model=f"{base}+{identity(set_models)}")[columns]
    return rows
