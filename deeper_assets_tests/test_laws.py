"""Two laws: which setting makes which tables stale, and that nothing else can change their rows."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

from deeper_assets.definitions import build_definitions
from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.engines.offline.language import HABITS, Reading, render
from deeper_assets.engines.offline.word_vectors import WordVectors
from deeper_assets.graph import Graph, declared_assets
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.method.protocols import Answer, Embedder, Sample, Sampler
from deeper_assets.method.recipes import RECIPES
from deeper_assets.method.windows import stable_hash
from deeper_assets.planning import Key, Planner
from deeper_assets.resources import Experiment, Trained, base_policy_rows
from deeper_assets.settings import Settings
from deeper_assets.store.ledger import Partition, canonical_json
from deeper_assets.store.schema import TABLES
from deeper_assets.values import Tools, Values, described
from deeper_assets_tests.fakes import ScriptedSampler

RATED = "user,episode,stars\n" + "".join(
    f"u{user},e{episode},{1 + (user + episode) % 5}\n" for user in range(12) for episode in range(60)
)


def of(*names: str) -> frozenset[str]:
    """Tables by name; `name_*` stands for both iterations."""
    both = {name.replace("*", number) for name in names for number in "12"}
    return frozenset(both)


WRITTEN = (*INDUCERS, "untrained", "foreseeing", "grounded")
"""Inducers in force."""

NOTHING = of()
CONTEXTS = of("contexts_*", "context_predictions_*")
SECOND = of("contexts_2", "context_predictions_2")
ROUNDS = of("persona_rounds", "round_predictions")
CONTROLLED = of("control_predictions")
MEMORIES = of("memories", "memory_events", "session_readings")
SETS = of("persona_sets", "persona_memories", "dropped_personas", "set_writings")
SET_CONTEXTS = of("set_contexts", "set_groups")
JUDGED = of("judged_claims")
EMBEDDED = SETS | SET_CONTEXTS | of("set_rewards", "next_item_scores")
PEOPLE = of("planted_personas", "planted_events")
EVENTS = of("events", "rejected_events", "event_accounts")
TOLD = of("induction_table", "changes_table", "next_items_table")
RANKED = of("next_item_scores", "planted_next_items")
ASKED = (
    of("initial_personas", "initial_predictions", "candidate_predictions_*")
    | SECOND
    | ROUNDS
    | CONTROLLED
    | MEMORIES
    | SETS
    | JUDGED
)
PREFERENCES = of("preference_pairs_*", "preference_groups_*")
OF_SETS = of("set_preferences")
MODELS = of("model_*")
PLANTED = of("planted_truth", "planted_items")
HISTORIES = of("raw_ratings", "rejected_ratings", "rating_windows", "rating_accounts")
DOMAIN = HISTORIES | (
    of(
        "candidates_*",
        "planted_truth",
        "planted_items",
        "ceiling_errors",
    )
    | ASKED
    | CONTEXTS
    | EVENTS
    | PEOPLE
    | SET_CONTEXTS
    | RANKED
)

STALE: Mapping[str, frozenset[str]] = {
    "profile": NOTHING,
    "seed": HISTORIES
    | PLANTED
    | of("candidates_*", "mae_table", "comparison_table")
    | SECOND
    | ROUNDS
    | PREFERENCES
    | MODELS
    | EVENTS
    | PEOPLE
    | SETS
    | OF_SETS
    | TOLD
    | of("set_candidates", "set_models"),
    "data": HISTORIES | EVENTS,
    "downloads": HISTORIES | EVENTS,
    "domains.podcasts.item_type": DOMAIN,
    "domains.podcasts.scale.lowest": DOMAIN | of("floors_table", "mae_table", "comparison_table"),
    "domains.podcasts.scale.highest": DOMAIN | of("floors_table", "mae_table", "comparison_table"),
    "domains.podcasts.scale.step": DOMAIN | of("floors_table", "mae_table", "comparison_table"),
    "domains.podcasts.seen": HISTORIES | PREFERENCES | OF_SETS | EVENTS | PEOPLE,
    "domains.podcasts.columns.user": HISTORIES,
    "domains.podcasts.columns.item": HISTORIES,
    "domains.podcasts.columns.rating": HISTORIES,
    "domains.podcasts.columns.title": HISTORIES,
    "domains.podcasts.columns.time": HISTORIES,
    "domains.podcasts.columns.order": HISTORIES,
    "domains.podcasts.columns.split": HISTORIES,
    "domains.podcasts.columns.amount": HISTORIES,
    "domains.podcasts.columns.categories": HISTORIES,
    "domains.podcasts.marks": HISTORIES,
    # It has no ratings then, so it is in no table of the branch refinement, and trains no policy.
    "domains.podcasts.events": DOMAIN
    | PREFERENCES
    | OF_SETS
    | of("floors_table", "mae_table", "comparison_table"),
    "domains.podcasts.file": HISTORIES,
    "domains.podcasts.query": HISTORIES,
    "domains.podcasts.database": HISTORIES,
    "domains.podcasts.dsn_env": HISTORIES,
    "domains.podcasts.format": HISTORIES,
    "domains.podcasts.refresh": NOTHING,
    "hash_ids": HISTORIES,
    "synthetic_users": HISTORIES | PLANTED | EVENTS | PEOPLE,
    "train_users": HISTORIES | EVENTS | PEOPLE,
    "eval_users": HISTORIES | EVENTS | PEOPLE,
    "train_share": HISTORIES | EVENTS | PEOPLE,
    "short_users": HISTORIES | EVENTS | PEOPLE,
    "windows_at_least": HISTORIES | EVENTS,
    "categories_in_titles": HISTORIES | EVENTS,
    "memory": NOTHING,
    "windows_at_most": HISTORIES | PLANTED | EVENTS,
    **dict.fromkeys(
        [f"chat.{name}" for name in ("model", "base_url", "temperature", "max_tokens", "structured")],
        ASKED,
    ),
    "chat.engine": ASKED | of("ceiling_errors"),
    **dict.fromkeys(
        [
            *("chat.key_env", "chat.mode", "chat.concurrency", "chat.timeout", "chat.tries"),
            *("chat.batch_requests", "chat.batch_poll", "max_cost_usd", "unreadable_limit"),
            *(f"chat.prices.{name}" for name in ("input", "output", "cached_input", "batch_share")),
        ],
        NOTHING,
    ),
    **dict.fromkeys(["embedder.engine", "embedder.model", "embedder.base_url"], EMBEDDED),
    **dict.fromkeys(
        [f"embedder.{name}" for name in ("key_env", "concurrency", "timeout", "tries", "price")], NOTHING
    ),
    "prompts.initial_persona": of("initial_personas"),
    "prompts.prediction": ASKED - of("initial_personas") - MEMORIES - SETS - JUDGED,
    "prompts.memories": MEMORIES,
    "prompts.persona_label": SETS,
    "prompts.persona_set": SETS | SET_CONTEXTS,
    "prompts.verdicts": JUDGED,
    "prompts.refinement": CONTEXTS | ROUNDS,
    "prompts.full_regen": ROUNDS,
    "prompts.slide_regen": ROUNDS,
    "prompts.inc_update": ROUNDS,
    "prompts.short_term_persona": ROUNDS,
    "prompts.merge_personas": ROUNDS,
    "persona_words": of("initial_personas"),
    "asks": ASKED,
    "policy": of("base_policy", "base_set_policy"),
    "sampler.max_length": of("candidates_*", "persona_rounds", "round_predictions", "set_candidates")
    | SECOND
    | SETS,
    "candidates": of("candidates_*", "set_candidates"),
    "forbid_leaks": of("candidates_*") | SECOND,
    **{
        f"{decoding}.{name}": tables
        for decoding, tables in (
            ("candidate_decoding", of("candidates_*", "set_candidates") | ROUNDS | SETS),
            ("evaluation_decoding", SECOND | ROUNDS | SETS),
        )
        for name in ("temperature", "top_p", "repetition_penalty", "max_new_tokens")
    },
    "training.validation_share": PREFERENCES | MODELS | OF_SETS | of("set_models"),
    **dict.fromkeys(
        [
            *("training.beta", "training.sft_weight", "training.max_length", "training.batch_size"),
            *("training.lora_rank", "training.lora_alpha", "training.lora_dropout", "training.epochs"),
            *("training.examples_at_once", "training.learning_rate", "training.warmup"),
            *("training.max_grad_norm", "training.evaluate_every", "training.bf16"),
            "hardware.group_by_length",
        ],
        MODELS | of("set_models"),
    ),
    **dict.fromkeys(
        [
            *("hardware.devices", "hardware.sharding", "hardware.gradient_checkpointing"),
            "hardware.precompute_reference",
        ],
        NOTHING,
    ),
    **dict.fromkeys(
        [
            f"recipes.mine.{name}"
            for name in (
                *("weights", "chosen_at_least", "rejected_at_most", "margin_1", "margin_2"),
                *("pairs_at_most", "replay", "replay_margin"),
            )
        ],
        PREFERENCES,
    ),
    "recipes.mine.template": PREFERENCES | CONTEXTS | ROUNDS,
    "recipes.mine.loss": PREFERENCES | MODELS,
    "recipes.mine.reference": PREFERENCES | of("model_2"),
    "re_evaluation": NOTHING,
    "event_log_days": NOTHING,
    "train_recipes": CONTEXTS - SECOND | of("mae_table", "comparison_table"),
    "training_seeds": of("mae_table", "comparison_table"),
    "training_domains": PREFERENCES | OF_SETS,
    "set_recipes": of("induction_table", "changes_table"),
    "evaluate": of("floors_table", "mae_table", "comparison_table") | TOLD,
    "branches": NOTHING,
    "session_silence": EVENTS | PEOPLE,
    "planted_noise": EVENTS | PEOPLE,
    "false_discovery": SETS,
    "processes": NOTHING,
    "executor": NOTHING,
    "re_evaluation_cron": NOTHING,
    "lock_timeout": NOTHING,
}
"""Every setting → the tables that it makes stale by itself. What is made from these follows from contents."""

OF_ENGINES = "sampler."
"""Settings of the machine that samples: texts of another engine are other draws from the same policy. But for
how long they may be, which decides what they say."""

PARTITIONS: Mapping[tuple[str, ...], list[Partition]] = {
    (): [{}],
    ("domain",): [{"domain": name} for name in ("book", "podcasts")],
    ("recipe",): [{"recipe": name} for name in ("paper", "mine")],
    ("method",): [{"method": name} for name in ("deeper_mine", "frozen_policy", "full_regen")],
    ("domain", "recipe"): [
        {"domain": domain, "recipe": recipe}
        for domain in ("book", "podcasts")
        for recipe in ("paper", "mine")
    ],
    ("domain", "method"): [
        {"domain": domain, "method": method}
        for domain in ("book", "podcasts")
        for method in (
            "deeper_mine",
            "frozen_policy",
            "full_regen",
            "slide_regen",
            "inc_update",
            "hier_merge",
        )
    ],
    ("domain", "control"): [
        {"domain": domain, "control": control} for domain in ("book", "podcasts") for control in CONTROLS
    ],
    ("inducer",): [{"inducer": inducer} for inducer in WRITTEN],
    ("set_recipe",): [{"set_recipe": recipe} for recipe in ("foreseeing", "grounded")],
    ("domain", "inducer"): [
        {"domain": domain, "inducer": inducer} for domain in ("book", "podcasts") for inducer in WRITTEN
    ],
}
"""Some partitions of every kind."""


def base(folder: Path) -> dict[str, Any]:
    """Settings that have a value everywhere, so that every one of them can be changed."""
    (folder / "ratings.csv").write_text(RATED)
    for name in ("other.csv", "third.csv"):
        (folder / name).write_text(RATED.replace("e1,", "e01,"))
    columns = {"user": "user", "item": "episode", "rating": "stars"}
    scale = {"lowest": 1.0, "highest": 5.0, "step": 1.0}
    ratings = str(folder / "ratings.csv")
    own = {"item_type": "episode", "scale": scale, "columns": columns, "file": ratings}
    return {
        **{"synthetic_users": 14, "train_users": 2, "eval_users": 2, "persona_words": 40, "candidates": 6},
        "chat": {
            "engine": "openai",
            "base_url": "http://127.0.0.1:9/v1",
            "prices": {"input": 1, "output": 2},
        },
        "embedder": {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "price": 1.0},
        "domains": {"podcasts": own},
        "recipes": {"mine": {"like": "paper", "chosen_at_least": 0.1, "margin_1": 0.1, "margin_2": 0.1}},
        "train_recipes": ["paper", "mine"],
        "training_domains": ["book", "podcasts"],
        "evaluate": ["book", "podcasts"],
        "branches": ["refinement", "induction"],
        "set_recipes": ["foreseeing", "grounded"],
    }


def changes(folder: Path) -> Mapping[str, Any]:
    """Other values of settings for which adding one or turning it round is no other value."""
    own = "domains.podcasts."
    unrated = {"user": "user", "item": "episode"}
    return {
        "profile": "paper",
        "data": str(folder),
        "downloads": str(folder),
        "memory": "2 GB",
        f"{own}scale.lowest": 0.0,
        f"{own}scale.highest": 10.0,
        f"{own}scale.step": 0.5,
        f"{own}columns.title": "stars",
        f"{own}columns.time": "stars",
        f"{own}columns.order": "stars",
        f"{own}columns.split": "stars",
        f"{own}columns.categories": "stars",
        # Ratings and amounts exclude each other, and amounts need marks.
        f"{own}columns.amount": {"marks": "user", "columns": {**unrated, "amount": "stars"}},
        f"{own}marks": {"marks": "user", "columns": unrated},
        f"{own}file": str(folder / "other.csv"),
        # A file and a query exclude each other, so these three go together with it.
        f"{own}query": {"file": None, "query": f"select * from '{folder}/ratings.csv'"},
        f"{own}database": {"file": None, "query": "select 1", "database": str(folder / "x.duckdb")},
        f"{own}format": {"columns": None, "format": "movielens"},
        f"{own}events": {"columns": None, "scale": None, "events": {"user": "u", "text": "x", "time": "t"}},
        f"{own}refresh": "manual",
        f"{own}dsn_env": {"file": None, "query": "select 1", "dsn_env": "NOBODYS_DSN"},
        "chat.engine": "offline",
        "chat.mode": "batch",
        "chat.base_url": "http://127.0.0.1:8/v1",
        "chat.prices.cached_input": 0.5,
        "embedder.engine": "minilm",
        "embedder.base_url": "http://127.0.0.1:8/v1",
        "max_cost_usd": 5.0,
        "sampler.engine": "transformers",
        "sampler.urls": ["http://127.0.0.1:7/v1"],
        "sampler.max_length": 900,
        "sampler.dtype": "float32",
        "policy": "somebody/some-model",
        "candidate_decoding.temperature": 0.7,
        "evaluation_decoding.top_p": 0.5,
        "hardware.sharding": "fsdp",
        "recipes.mine.weights": [0.0, 0.0, 1.0],
        "recipes.mine.template": "inc_update",
        "recipes.mine.loss": "lipo",
        "recipes.mine.reference": "base",
        "train_recipes": ["paper", "inc_ft"],
        "training_domains": ["podcasts"],
        "set_recipes": ["grounded"],
        "evaluate": ["podcasts"],
        "branches": ["induction", "refinement"],
        "processes": 3,
        "executor": "multiprocess",
        "re_evaluation": "all",
        "event_log_days": 90,
        "re_evaluation_cron": "0 7 * * 1",
        **{f"prompts.{name}": _template(folder, name) for name in _prompts(Settings())},
    }


def _prompts(settings: Settings) -> list[str]:
    return list(Experiment(Path("nowhere"), settings).chat.prompts.texts)


def _template(folder: Path, name: str) -> str:
    path = folder / f"{name}.txt"
    path.write_text(Experiment(Path("nowhere"), Settings()).chat.prompts.texts[name] + " Think twice.")
    return str(path)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting below a value, by its path."""
    if isinstance(value, BaseModel):
        parts = {name: getattr(value, name) for name in type(value).model_fields}
    elif dataclasses.is_dataclass(value):
        parts = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
    elif path == "domains":
        parts = dict(value)
    elif path == "recipes":
        parts = {name: dataclasses.replace(RECIPES["paper"]) for name in value}
    elif path == "prompts":
        parts = dict.fromkeys(_prompts(Settings()))
    else:
        yield path, value
        return
    for name, part in parts.items():
        yield from leaves(part, f"{path}.{name}" if path else name)


def changed(given: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Settings with the one at `path` set to `value`, or the settings beside it to the items of a mapping.

    A mapping may also be of the settings beside a part of the path, which it names.
    """
    head, _, rest = path.partition(".")
    if rest and not (isinstance(value, Mapping) and head in value):
        return {**given, head: changed(given.get(head) or {}, rest, value)}
    return {**given, **(value if isinstance(value, Mapping) else {head: value})}


def another(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.9 if value else 0.5
        case str():
            return value.upper() if value.upper() != value else value + "X"
    raise LookupError(f"say in `changes` what another value of {value!r} is")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie that settings name."""
    return tmp_path_factory.mktemp("laws")


def experiment(folder: Path, path: str | None = None) -> Experiment:
    """The experiment in `folder`, with the setting at `path` changed."""
    given = base(folder)
    if path is not None:
        here = dict(leaves(Settings(**given)))
        special = changes(folder)
        given = changed(given, path, special[path] if path in special else another(here[path]))
    return Experiment(folder / "home", Settings(**given))


def settings_of(graph: Graph) -> dict[tuple[str, str], str]:
    """What is hashed of the settings, by table and partition."""
    found = {}
    for table in graph.tables:
        for partition in PARTITIONS[TABLES[table].partition]:
            try:
                value = canonical_json(graph.settings(table, partition))
            except DeeperError as error:  # a source that is not there is another source
                value = str(error)
            found[table, canonical_json(partition)] = value
    return found


@pytest.fixture(scope="module")
def before(folder: Path) -> dict[tuple[str, str], str]:
    """What is hashed before anything is changed."""
    return settings_of(Graph.of(experiment(folder)))


def test_every_setting_is_declared(folder: Path) -> None:
    """A new setting has to say here which tables it makes stale."""
    there = {path for path, _ in leaves(experiment(folder).settings)}
    assert {path for path in there if path in STALE or not path.startswith(OF_ENGINES)} == set(STALE)


@pytest.mark.parametrize("path", STALE)
def test_a_setting_makes_stale_exactly_the_declared_tables(
    path: str, folder: Path, before: dict[tuple[str, str], str]
) -> None:
    after = settings_of(Graph.of(experiment(folder, path)))
    assert {table for (table, _), value in after.items() if value != before[table, _]} == STALE[path]


def test_the_machine_that_samples_makes_nothing_stale(
    folder: Path, before: dict[tuple[str, str], str]
) -> None:
    for path, _ in leaves(experiment(folder).settings):
        if path.startswith(OF_ENGINES) and path not in STALE:
            assert settings_of(Graph.of(experiment(folder, path))) == before, path


# ------------------------------------------------------------------------------------------ the second law


class Machine:
    """The tools in a small way: a policy that writes by the seed, a training that hashes its examples."""

    engine = "scripted"

    def sampler(self, base: pd.DataFrame, adapter: pd.DataFrame | None = None) -> Sampler:
        return ScriptedSampler(self._write)

    def policy_sampler(self, policies: pd.DataFrame) -> Sampler:
        return ScriptedSampler(self._write)

    def set_sampler(self, policies: pd.DataFrame) -> Sampler:
        return ScriptedSampler(self._write)

    def train(self, name: str, *given: Any) -> Trained:
        *frames, objective = given
        told = canonical_json(described(objective))
        rows = base_policy_rows(f"{name} {[str(frame) for frame in frames]} {told}")
        return Trained(rows, {"trained": 1}, [])

    @staticmethod
    def _write(prompt: str, seed: int) -> Sample:
        if "<groups>" in prompt:
            return Sample(some_set(prompt, seed), 9, True)
        return Sample(PERSONAS[seed % len(PERSONAS)], 9, True)


def some_set(prompt: str, seed: int) -> str:
    """A set of some of the groups of a prompt."""
    numbers = [number for number in range(1, prompt.count("\n- ") + 1) if stable_hash(seed, number) % 2]
    words = {"label": "some", "description": f"Is after theme {seed % 3}."}
    return json.dumps([{"groups": [number], **words} for number in numbers])


PERSONAS = [render(Reading({}, phrases[0]), "reader") for phrases in HABITS.values()]


@dataclass(frozen=True)
class SmallTools(Tools):
    """Tools that need no model: what they make is a function of what they are given."""

    machine: Machine = field(default_factory=Machine)

    @property
    def samplers(self) -> Any:
        return self.machine

    @property
    def trainer(self) -> Any:
        return self.machine


@dataclass(frozen=True)
class OfflineValues(Values):
    """The values, with stand-ins answering under the names of the models that are set."""

    def chat(self, partition: Partition) -> ChatSetup:
        setup = super().chat(partition)
        return dataclasses.replace(setup, model=Named(setup.model.name))

    def embedder(self, _: Partition) -> Embedder:
        return WordVectors()


@dataclass(frozen=True)
class Named:
    """The offline chat model under another name."""

    name: str

    def answer(self, prompts: list[str], **how: Any) -> list[Answer]:
        return OfflineChatModel().answer(prompts, **how)


Frames = dict[tuple[str, str], pd.DataFrame]


def small_graph(here: Experiment) -> Graph:
    return Graph(OfflineValues(here), SmallTools(here))


def rows_of(
    graph: Graph, planner: Planner, tables: tuple[str, ...], key: Key, inputs: Frames
) -> list[pd.DataFrame]:
    """What an asset makes for a partition of these inputs."""
    asset = graph.tables[tables[0]]
    partition = planner.columns(tables[0], key)
    frames = {}
    for name, read in asset.reads.items():
        parts = [
            inputs[read.table, canonical_json(planner.columns(read.table, one))]
            for one in planner.parent_keys(tables[0], key, read.table)
            if (read.table, canonical_json(planner.columns(read.table, one))) in inputs
        ]
        empty = pd.DataFrame(columns=list(TABLES[read.table].column_names))
        frames[name] = pd.concat(parts, ignore_index=True) if parts else empty
    values = [output.value for output in graph.make(asset, partition, frames).values()]
    return [pd.read_parquet(value) if isinstance(value, Path) else value for value in values]


Made = dict[tuple[tuple[str, ...], Key], list[pd.DataFrame]]
"""Rows by the tables that are made together and their partition."""


@dataclass(frozen=True)
class Played:
    """What the graph makes under the settings of `base`."""

    graph: Graph
    planner: Planner
    inputs: Frames
    made: Made


@pytest.fixture(scope="module")
def played(folder: Path) -> Played:
    """Everything that a run makes, in memory."""
    here = experiment(folder)
    graph = small_graph(here)
    planner = Planner(graph, build_definitions(here))
    inputs: Frames = {}
    made: Made = {}
    for unit in planner.units():
        key = unit.partition_key
        for table in [table for table in planner.order if table in unit.tables]:
            tables = tuple(graph.tables[table].tables)
            if (tables, key) not in made:
                made[tables, key] = rows_of(graph, planner, tables, key, inputs)
                where = canonical_json(planner.columns(table, key))
                inputs |= {(one, where): rows for one, rows in zip(tables, made[tables, key], strict=True)}
    return Played(graph, planner, inputs, made)


def test_the_small_graph_makes_something_of_everything(played: Played) -> None:
    """Or the law below would compare nothing with nothing."""
    rows = dict.fromkeys(TABLES, 0)
    for (tables, _), frames in played.made.items():
        for table, frame in zip(tables, frames, strict=True):
            rows[table] += len(frame)
    assert {table for table, count in rows.items() if not count} == {
        *("rejected_ratings", "chat_usage"),
        *("rejected_events", "event_accounts"),  # of logs of one's own
        *("preference_groups_1", "preference_groups_2"),  # both recipes compare pairs
    }


OF_TRUTH = {"planted_truth", "planted_items", "ceiling_errors", "mae_table", "comparison_table"}
OF_TRUTH |= {"planted_personas", "planted_events", "planted_scores", "induction_table"}
OF_TRUTH |= {"planted_changes", "changes_table", "planted_next_items", "next_items_table"}
TRUTH_IS_THERE = ("data", "downloads", "evaluate")
"""Settings that decide whether there is a truth at all, which tables OF_TRUTH hold or read."""

EXCLUSIVE = ("query", "database", "dsn_env", "format", "events", "columns.amount", "marks")
"""Settings that cannot be given beside a file and its columns, or beside a column of ratings."""


def all_others_changed(folder: Path, tables: tuple[str, ...]) -> Experiment:
    """The experiment with every setting changed that makes none of these tables stale."""
    given, special = base(folder), changes(folder)
    here = dict(leaves(Settings(**given)))
    for path, stale in STALE.items():
        left = (*EXCLUSIVE, *TRUTH_IS_THERE) if OF_TRUTH & set(tables) else EXCLUSIVE
        if not stale & set(tables) and not path.endswith(left):
            given = changed(given, path, special[path] if path in special else another(here[path]))
    return Experiment(folder / "home", Settings(**given))


@pytest.mark.parametrize("tables", [tuple(asset.tables) for asset in declared_assets()], ids="+".join)
def test_rows_change_only_with_settings_that_a_table_lists(
    tables: tuple[str, ...], folder: Path, played: Played
) -> None:
    """All settings are changed that it does not list; from the same inputs come the same rows."""
    graph = small_graph(all_others_changed(folder, tables))
    partitions = [key for made, key in played.made if made == tables]
    assert partitions
    for key in partitions:
        again = rows_of(graph, played.planner, tables, key, played.inputs)
        for table, one, other in zip(tables, played.made[tables, key], again, strict=True):
            pd.testing.assert_frame_equal(one, other, obj=f"{table} {key}")
