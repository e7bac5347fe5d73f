"""`deeper estimate`: what a run will ask, sample and train, and what that costs, before anything is spent.

The declared assets are played in memory, on some users, with the engines of `counting`. So an estimate goes
through the same steps as a run. What cannot be known before is assumed, and every assumption is a line under
the table.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import pandas as pd

from deeper_assets.counting import Amount, Amounts, Made, Tally, counting_graph
from deeper_assets.declaring import TableAsset
from deeper_assets.definitions import build_definitions
from deeper_assets.engines.token_counts import chat_tokens, policy_tokens
from deeper_assets.engines.training.steps import plan_steps
from deeper_assets.estimating_events import EVENTS, about_events, some_events, windows_of_source
from deeper_assets.graph import INDUCTION, Graph
from deeper_assets.method.frames import stacked
from deeper_assets.method.induction.induce import LABELLED
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.method.paper_users import PAPER, PERSONA_TOKENS, paper_windows
from deeper_assets.partitions import ITERATIONS
from deeper_assets.planning import Planner
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.ledger import Partition
from deeper_assets.store.schema import TABLES

SAMPLE = 10
"""Users of each split of a domain that are played, at most; each stands for an equal share of all of them."""

REFERENCE = 1 / 3
"""What scoring all examples once under the reference takes, in epochs: a forward pass, no backward one."""

PAPER_PROFILE = "paper"

WINDOWS = "rating_windows"
"""The table that everything is played from."""

COUNTED = {"chat", "samplers", "trainer"}
"""What an asset takes that asks, samples or trains."""


@dataclass(frozen=True)
class Rates:
    """How fast things go: assumptions, which flags of `deeper estimate` replace.

    Attributes:
        seconds_per_request: of the chat model, from question to answer.
        candidates_per_second: texts that the policy writes, on all devices together.
        training_tokens_per_second: that a training works through, on all devices together.
    """

    seconds_per_request: float = 3.0
    candidates_per_second: float = 20.0
    training_tokens_per_second: float = 8_000.0


@dataclass(frozen=True)
class Step:
    """What one asset takes, over all domains.

    Attributes:
        table: the asset.
        by: the update, recipe or method that it is made for; empty where there is none.
        count: requests to the chat model, texts that are embedded, texts of the policy, or training examples.
        tokens_in: of prompts (of the policy's, once for all its texts); of all epochs of a training.
        tokens_out: of answers or texts; None for a training.
        steps: optimizer steps of a training.
        usd: US dollars; None where unknown, or where there is no price.
        hours: None where nobody can say: a batch is done when it is done, the stand-in answers at once.
    """

    table: str
    by: str
    count: int
    tokens_in: int
    tokens_out: int | None = None
    steps: int | None = None
    usd: float | None = None
    hours: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What a run takes: assets that ask, embed (for a price), sample and train; and what was assumed."""

    chat: tuple[Step, ...]
    embedding: tuple[Step, ...]
    sampling: tuple[Step, ...]
    training: tuple[Step, ...]
    notes: tuple[str, ...]


def estimate(experiment: Experiment, rates: Rates) -> Estimate:
    """What `deeper run` takes if it has to make everything.

    Args:
        experiment: whose settings. What its warehouse has of windows and candidates is counted as it is.
        rates: how fast things go.
    """
    settings = experiment.settings
    refines, induces = (name in settings.branches for name in ("refinement", INDUCTION))
    trains = (refines and bool(settings.train_recipes)) or (induces and bool(settings.set_recipes))
    experiment.refuse_logs()
    planner = Planner(Graph.of(experiment), build_definitions(experiment))
    plays = list(_plays(planner))
    people = {name: _people(experiment, name) for name in experiment.domains_in_force} if refines else {}
    inducing_in = list(dict.fromkeys([*experiment.evaluated, *experiment.set_domains])) if induces else []
    logs = {name: some_events(experiment, name) for name in inducing_in}
    chat = chat_tokens(settings.chat.model)
    policy = policy_tokens(settings.policy) if trains else chat  # else nothing is sampled
    known = {i: share for i in ITERATIONS if (share := _usable_share(planner.graph, i)) is not None}
    shares = {f"candidates_{i}": share for i, share in known.items()}
    tally = Tally()
    graph = counting_graph(experiment, tally, chat, policy, _by_schema(settings), shares)
    for split in ("train", "eval", "short"):
        _play_users([play for play in plays if not play.asset.induces], graph, tally, people, split)
    events = {(EVENTS, name): log.events for name, log in logs.items()}
    weights = {name: log.weight for name, log in logs.items()}
    inducing = [play for play in plays if play.asset.induces and _asks(play.partition)]
    _play(inducing, graph, tally, events, weights)
    asked = tuple(_chat_step(*made, settings, rates) for made in _ordered(tally.requests))
    embedded = _embedding_steps(tally, settings)
    notes = [
        *(_about_users(people, settings) if refines else ()),
        *(about_events(logs) if induces else ()),
        *_about_chat(settings, rates, chat.note, total([*asked, *embedded], "usd")),
        *(_about_embedder(settings) if embedded else ()),
        *(_about_policy(settings, rates, policy.note, known) if trains else ()),
    ]
    return Estimate(
        asked,
        embedded,
        tuple(_sampling_step(*made, rates) for made in _ordered(tally.texts)),
        tuple(_training_step(*made, settings, rates) for made in _ordered(tally.examples)),
        tuple(notes),
    )


def _by_schema(settings: Settings) -> bool:
    """Whether predictions are asked for with a schema."""
    return settings.chat.engine == "openai" and settings.chat.structured


# ------------------------------------------------------------------------------------------------- playing


@dataclass(frozen=True)
class _Play:
    """One asset for one partition; of each parameter of it, the table and the keys of its partitions."""

    asset: TableAsset
    partition: Partition
    key: str
    inputs: Mapping[str, tuple[str, Sequence[str]]]

    @property
    def made(self) -> Made:
        cut_by = [value for column, value in self.partition.items() if column != "domain"]
        return next(iter(self.asset.tables)), "".join(cut_by)


def _plays(planner: Planner) -> Iterator[_Play]:
    """What a run makes that asks, samples or trains, and what that is made from; inputs first."""
    needed = _needed(planner.graph)
    for unit in planner.units():
        tables = [table for table in planner.order if table in unit.tables and table in needed]
        assets = [planner.graph.tables[table] for table in tables]
        for first, asset in {next(iter(asset.tables)): asset for asset in assets}.items():
            inputs = {
                parameter: (read.table, [str(key) for key in keys])
                for parameter, read in asset.reads.items()
                for keys in [planner.parent_keys(first, unit.partition_key, read.table)]
            }
            yield _Play(asset, planner.columns(first, unit.partition_key), str(unit.partition_key), inputs)


def _asks(partition: Partition) -> bool:
    """Whether the inducer of a partition asks for words, or has a policy write them, where it has one."""
    inducer = partition.get("inducer")
    return inducer is None or inducer in LABELLED or inducer not in INDUCERS


def _needed(graph: Graph) -> set[str]:
    """The tables of assets that are counted, and what they are made from, as far as windows and events."""
    needed: set[str] = set()
    left = [asset for asset in graph.declared if COUNTED.intersection(asset.takes)]
    while left:
        asset = left.pop()
        needed |= asset.tables.keys()
        read = {read.table for read in asset.reads.values()}
        left += [graph.tables[table] for table in read - needed - {WINDOWS, EVENTS}]
    return needed


def _play_users(
    plays: Iterable[_Play], graph: Graph, tally: Tally, people: Mapping[str, "_People"], split: str
) -> None:
    """Plays everything with the users of one split: those of the other stand for other numbers of users.

    With users who do not train, what serves training is left out: it would have no rows.
    """
    frames = {(WINDOWS, name): some.windows[some.windows["split"] == split] for name, some in people.items()}
    weights = {name: some.weights.get(split, 1.0) for name, some in people.items()}
    for_these = [play for play in plays if split == "train" or not (play.asset.training and play.partition)]
    _play(for_these, graph, tally, frames, weights)


def _play(
    plays: Iterable[_Play],
    graph: Graph,
    tally: Tally,
    first: Mapping[tuple[str, str], pd.DataFrame],
    weights: Mapping[str, float],
) -> None:
    """Plays assets from the `first` frames (by table and partition).

    `weights` says for how many users each user of a domain stands.
    """
    frames = dict(first)
    for play in plays:
        tally.made = play.made
        tally.weight = weights.get(play.partition.get("domain", ""), 1.0)
        inputs = {
            parameter: _together(table, [frames[table, key] for key in keys if (table, key) in frames])
            for parameter, (table, keys) in play.inputs.items()
        }
        for table, output in graph.make(play.asset, play.partition, inputs).items():
            frames[table, play.key] = output.value


def _together(table: str, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return stacked(frames or [pd.DataFrame(columns=list(TABLES[table].column_names))])


# ------------------------------------------------------------------------------------------------- people


@dataclass(frozen=True)
class _People:
    """Some users of a domain: their rating_windows, by split for how many users each stands, their origin."""

    windows: pd.DataFrame
    weights: Mapping[str, float]
    origin: str


def _people(experiment: Experiment, name: str) -> _People:
    settings = experiment.settings
    graph, partition = Graph.of(replace(experiment, asks=False)), {"domain": name}
    if graph.is_stored(WINDOWS, partition):
        windows = experiment.warehouse.load(WINDOWS, {"domain": [name]})
        return _People(*_some(windows), "stored in this home")
    if settings.profile != PAPER_PROFILE or not experiment.is_generated(name) or name not in PAPER:
        return _People(*_some(windows_of_source(experiment, name)), "read from their sources")
    sampling = experiment.user_sampling(name)
    at_most = {"train": sampling.train_users, "eval": sampling.eval_users}
    users = {split: min(there, at_most[split] or there) for split, there in PAPER[name].users.items()}
    some = {split: min(there, SAMPLE) for split, there in users.items()}
    weights = {split: there / some[split] for split, there in users.items() if there}
    origin = "of the paper, since there is no `data`, with six windows each"
    return _People(paper_windows(name, some), weights, origin)


def _some(windows: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, float]]:
    """Windows of SAMPLE users of each split at most, and for how many users each of them stands.

    Of users who have the same windows, and so are asked about as often, about the same share is taken.
    """
    has = windows.groupby(["split", "user_id"])["window"].agg(lambda own: str(sorted(set(own)))).reset_index()
    chosen: list[str] = []
    weights: dict[str, float] = {}
    for split, rows in has.groupby("split"):
        users = rows.sort_values(["window", "user_id"])["user_id"].tolist()
        some = min(len(users), SAMPLE)
        chosen += [users[(2 * i + 1) * len(users) // (2 * some)] for i in range(some)]
        weights[str(split)] = len(users) / some
    return windows[windows["user_id"].isin(chosen)], weights


def _usable_share(graph: Graph, iteration: int) -> Fraction | None:
    """The share of samples, made by the settings of now, that are usable and different; None if none are."""
    table, warehouse = f"candidates_{iteration}", graph.experiment.warehouse
    frames = [
        warehouse.load(table, {name: [value] for name, value in partition.items()}, ["copies", "unusable"])
        for version in warehouse.current(table)
        if graph.in_force(table, partition := version.partition)
        and version.ingredients.settings == graph.settings(table, partition)
    ]
    sampled = pd.concat(frames) if frames else pd.DataFrame(columns=["copies", "unusable"])
    usable, samples = sampled["unusable"].isna().sum(), sampled["copies"].sum()
    return Fraction(int(usable), int(samples)) if len(sampled) else None


# -------------------------------------------------------------------------------------------------- steps


def _ordered(amounts: Amounts) -> list[tuple[str, str, Amount]]:
    """In the order of the graph."""
    tables = list(TABLES)
    parts = [(*made, amount) for made, amount in amounts.items()]
    return sorted(parts, key=lambda part: tables.index(part[0]))


def _chat_step(table: str, by: str, asked: Amount, settings: Settings, rates: Rates) -> Step:
    chat = settings.chat
    live = chat.engine == "openai" and chat.mode == "live"
    hours = asked.count * rates.seconds_per_request / chat.concurrency / 3600 if live else None
    usd = 0.0 if chat.engine == "offline" else None
    if chat.engine == "openai" and chat.prices is not None:
        share = chat.prices.batch_share if chat.mode == "batch" else 1
        usd = (asked.tokens_in * chat.prices.input + asked.tokens_out * chat.prices.output) * share / 1e6
    return Step(table, by, *asked.rounded, usd=usd, hours=hours)


def _embedding_steps(tally: Tally, settings: Settings) -> tuple[Step, ...]:
    """What an endpoint is given to embed; nothing where none does that."""
    given = settings.embedder
    if given.engine != "openai":
        return ()
    steps = []
    for table, by, once in _ordered(tally.embedded):
        usd = None if given.price is None else once.tokens_in * given.price / 1e6
        steps.append(Step(table, by, *once.rounded[:2], usd=usd))
    return tuple(steps)


def _sampling_step(table: str, by: str, sampled: Amount, rates: Rates) -> Step:
    hours = sampled.count / rates.candidates_per_second / 3600
    return Step(table, by, *sampled.rounded, hours=hours)


def _training_step(table: str, by: str, once: Amount, settings: Settings, rates: Rates) -> Step:
    training = settings.training
    scored = 1 if settings.hardware.precompute_reference else training.epochs
    passes = training.epochs + scored * REFERENCE
    hours = once.tokens_in * passes / rates.training_tokens_per_second / 3600
    examples, tokens = round(once.count), round(once.tokens_in * training.epochs)
    return Step(table, by, examples, tokens, steps=plan_steps(training, examples, 1).steps, hours=hours)


def total(steps: Iterable[Step], what: str) -> float | None:
    """The sum of a column; None where a part of it is unknown."""
    values = [getattr(step, what) for step in steps]
    return None if None in values else sum(values)


# ------------------------------------------------------------------------------------------- assumptions


def _about_users(people: Mapping[str, _People], settings: Settings) -> Iterator[str]:
    origins: dict[str, list[str]] = defaultdict(list)
    for name, some in people.items():
        origins[some.origin].append(name)
    for origin, names in origins.items():
        yield f"users {origin}: {', '.join(names)}"
    lengths = ", ".join(f"{tokens:g}" for tokens in PERSONA_TOKENS["deeper"])
    yield f"personas as long as the paper's by round: {lengths} tokens; inc_update and hier_merge their own"
    yield "ratings are JSON with the titles"
    yield f"counted on {SAMPLE} users of a domain's split at most, who stand for the others of theirs"
    if _by_schema(settings):
        yield "the schema of predictions counts as its JSON"


def _about_chat(settings: Settings, rates: Rates, counted: str, usd: float | None) -> Iterator[str]:
    chat = settings.chat
    yield counted
    yield f"an unreadable answer is asked for up to {settings.asks} times; repeats are not counted"
    if chat.engine == "offline":
        yield "the chat model is the embedded stand-in: it costs nothing, and answers at once"
        return
    if chat.mode == "batch":
        yield "a batch takes up to a day, and each asset waits for those before it: hours are left open"
    else:
        yield (
            f"{rates.seconds_per_request:g} seconds a request (--seconds-per-request),"
            f" {chat.concurrency} at once (chat.concurrency), from one process"
        )
    if chat.prices is None:
        yield "what the chat model costs is unknown: set chat.prices"
        return
    share = f", of which a batch costs {chat.prices.batch_share:.0%}" if chat.mode == "batch" else ""
    yield (
        f"{chat.model} costs {chat.prices.input:g} USD a million tokens in, {chat.prices.output:g} out"
        f"{share}; none are taken for cached"
    )
    if settings.max_cost_usd is not None and usd is not None and usd > settings.max_cost_usd:
        yield (
            f"this is more than max_cost_usd, {settings.max_cost_usd:g}: a run stops there, and keeps what is"
            " paid for"
        )


def _about_embedder(settings: Settings) -> Iterator[str]:
    given = settings.embedder
    yield (
        "every memory is a text of its own to embed, though equal ones are embedded once; the texts of items,"
        " which are ranked for the next window, come on top and are not counted"
    )
    if given.price is None:
        yield "what the embedder costs is unknown: set embedder.price"
    else:
        yield f"{given.model} costs {given.price:g} USD a million tokens; counted as the chat model's"


def _about_policy(
    settings: Settings, rates: Rates, counted: str, shares: Mapping[int, Fraction]
) -> Iterator[str]:
    yield counted
    for i in ITERATIONS if "refinement" in settings.branches else ():
        if i in shares:
            share = float(shares[i])
            yield f"candidates of iteration {i}: {share:.0%} are usable and different, as those in this home"
        else:
            yield f"candidates of iteration {i} are all taken for usable and different: an upper bound"
    yield f"{rates.candidates_per_second:g} texts a second (--candidates-per-second), on all devices together"
    if INDUCTION in settings.branches:
        yield "a policy calls half of the groups that it is shown personas, in other words each time"
    if "refinement" in settings.branches:
        yield (
            "a persona rates all items of a window alike, by chance: how many examples that makes is a guess"
            " (the paper drew 34,782 and 33,612 pairs)"
        )
    yield "a prompt is read once for all its texts; validation is not counted"
    how_often = "" if settings.hardware.precompute_reference else ", in every epoch"
    yield (
        f"{rates.training_tokens_per_second:,g} tokens a second (--training-tokens-per-second), on all"
        f" devices together; scoring the reference takes a third of an epoch{how_often}"
    )
