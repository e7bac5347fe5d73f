"""`deeper estimate`: what a run will ask, sample and train, and what that costs, before anything is spent.

Counts come from the windows at hand (`method.workload`), tokens from prompts built of them. What cannot be
known before is assumed, and every assumption is a line under the table.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from deeper_assets.engines.token_counts import TokenCount, chat_tokens, policy_tokens
from deeper_assets.engines.training.steps import plan_steps
from deeper_assets.graph import Graph
from deeper_assets.method.histories import History, histories
from deeper_assets.method.prompt_lengths import PromptLengths
from deeper_assets.method.prompts import RatedItem
from deeper_assets.method.recipes import Recipe
from deeper_assets.method.updates import FROZEN_POLICY, PROMPT_METHODS
from deeper_assets.method.windows import WINDOW, cut_windows, reject_ratings
from deeper_assets.method.workload import (
    PAPER,
    PAPER_WINDOWS,
    PERSONA_TOKENS,
    Asked,
    Population,
    Sampled,
    asked_in,
    asked_in_rounds,
    asked_initially,
    paper_population,
    population,
    sampled_in,
    sampled_in_rounds,
)
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.ledger import Ingredients, Stamp
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse

SAMPLE = 40
"""Users of a domain whose prompts are built and counted."""

REFERENCE = 1 / 3
"""Epochs that scoring all examples once under the reference takes: a pass forward and none back."""

PAPER_PROFILE = "paper"


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
        count: requests to the chat model, texts of the policy, or training examples; at most.
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
    """What a run takes: the assets that ask, those that sample, those that train; and what was assumed."""

    chat: tuple[Step, ...]
    sampling: tuple[Step, ...]
    training: tuple[Step, ...]
    notes: tuple[str, ...]


def estimate(experiment: Experiment, evaluated: Sequence[str], rates: Rates) -> Estimate:
    """What `deeper run` takes if it has to make everything.

    Args:
        experiment: whose settings. What its warehouse has of windows and candidates is counted as it is.
        evaluated: names of the domains to evaluate.
        rates: how fast things go.
    """
    work = _Work(experiment, evaluated)
    for name in work.domains:
        work.add(name)
    chat = tuple(_chat_step(*key, parts, experiment.settings, rates) for key, parts in _ordered(work.asked))
    sampling = tuple(_sampling_step(*key, parts, rates) for key, parts in _ordered(work.sampled))
    training = tuple(
        _training_step(i, name, recipe, work, rates) for i in (1, 2) for name, recipe in work.recipes.items()
    )
    return Estimate(chat, sampling, training, tuple(_notes(work, rates, _total(chat, "usd"))))


# ---------------------------------------------------------------------------------------------- the work


@dataclass(frozen=True)
class _Part:
    """Prompts of one kind in one domain: how many, mean tokens of each and of an answer, texts in all."""

    prompts: int
    tokens: float
    answer: float
    texts: int = 0


_Parts = dict[tuple[str, str], list[_Part]]


@dataclass(frozen=True)
class _Work:
    """What a run does, added up domain by domain.

    Attributes:
        experiment, evaluated: as of `estimate`.
        asked, sampled: by table and what it is made for.
        origins: where users come from, in words → domains.
    """

    experiment: Experiment
    evaluated: Sequence[str]
    asked: _Parts = field(default_factory=lambda: defaultdict(list))
    sampled: _Parts = field(default_factory=lambda: defaultdict(list))
    origins: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def settings(self) -> Settings:
        return self.experiment.settings

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        return {name: self.experiment.recipes[name] for name in self.settings.train_recipes}

    @cached_property
    def training(self) -> list[str]:
        return self.experiment.training_domains if self.recipes else []

    @property
    def domains(self) -> list[str]:
        return list(dict.fromkeys([*self.evaluated, *self.training]))

    @cached_property
    def policies(self) -> Mapping[str, str]:
        """The methods whose personas a policy writes → the prompt that it gets."""
        trained = {
            method: self.recipes[recipe].template
            for method, (recipe, _) in self.experiment.policies.items()
            if recipe in self.recipes
        }
        return trained | ({FROZEN_POLICY: "refinement"} if self.recipes else {})

    @cached_property
    def chat(self) -> TokenCount:
        return chat_tokens(self.settings.chat.model)

    @cached_property
    def policy(self) -> TokenCount:
        return policy_tokens(self.settings.policy)

    @cached_property
    def unique(self) -> Mapping[int, float | None]:
        """By iteration, the share of samples that are usable and differ; None where there are none yet."""
        return {i: _unique_share(self.experiment.warehouse, i) for i in (1, 2)}

    def share(self, iteration: int) -> float:
        """The share of samples that are asked about: all of them, where it is not known better."""
        known = self.unique[iteration]
        return 1.0 if known is None else known

    def add(self, name: str) -> None:
        """Adds what a domain asks and samples."""
        people, sample, origin = _people(self.experiment, name)
        self.origins[origin].append(name)
        domain, prompts = self.experiment.domain(name), self.experiment.chat.prompts
        chat = PromptLengths(domain, prompts, sample, self.chat.count, self.chat.frame)
        for asked in self._asked(name, people):
            self.asked[asked.table, asked.by].append(self._request(asked, chat))
        if self.recipes:
            policy = PromptLengths(domain, prompts, sample, self.policy.count, self.policy.frame)
            for sampled in self._sampled(name, people):
                self.sampled[sampled.table, sampled.by].append(self._text(sampled, policy))

    def _cuts(self, name: str) -> Iterator[tuple[int, str, str]]:
        """What a domain's iterations are made for: iteration, update or recipe, and the policy's prompt."""
        if name in self.training:
            for update in dict.fromkeys(recipe.template for recipe in self.recipes.values()):
                yield 1, update, update
            for recipe, of in self.recipes.items():
                yield 2, recipe, of.template

    def _asked(self, name: str, people: Population) -> Iterator[Asked]:
        yield from asked_initially(people)
        for i, by, _ in self._cuts(name):
            yield from asked_in(people, i, by, self.settings.candidates, self.share(i))
        for method in [*self.policies, *PROMPT_METHODS] if name in self.evaluated else []:
            yield from asked_in_rounds(people, method)

    def _sampled(self, name: str, people: Population) -> Iterator[Sampled]:
        for i, by, update in self._cuts(name):
            yield from sampled_in(people, i, by, update, self.settings.candidates)
        for method, update in self.policies.items() if name in self.evaluated else []:
            yield from sampled_in_rounds(people, method, update)

    @property
    def by_schema(self) -> bool:
        """Whether predictions are asked for with a schema."""
        return self.settings.chat.engine == "openai" and self.settings.chat.structured

    def _request(self, asked: Asked, lengths: PromptLengths) -> _Part:
        prompt = lengths.prompt(asked.prompt, asked.windows) + asked.shown
        if asked.answer is not None:
            return _Part(asked.requests, prompt, asked.answer)
        schema = lengths.schema if self.by_schema else 0
        return _Part(asked.requests, prompt + schema, lengths.ratings)

    def _text(self, sampled: Sampled, lengths: PromptLengths) -> _Part:
        decoding = (
            self.settings.evaluation_decoding
            if sampled.table == "persona_rounds"
            else self.settings.candidate_decoding
        )
        tokens = min(sampled.tokens, decoding.max_new_tokens)
        prompt = lengths.prompt(sampled.prompt, 1) + sampled.shown
        return _Part(sampled.prompts, prompt, tokens, sampled.texts)


# ------------------------------------------------------------------------------------------------- people


def _people(experiment: Experiment, name: str) -> tuple[Population, list[History], str]:
    """A domain's users by their windows, histories of some of them, and where they come from, in words."""
    settings, windows, origin = experiment.settings, _stored_windows(experiment, name), "stored in this home"
    if windows is None and settings.profile == PAPER_PROFILE and settings.data is None and name in PAPER:
        people = paper_population(name, settings.train_users, settings.eval_users)
        return people, [_paper_history(name)], "of the paper, since there is no `data`, with six windows each"
    if windows is None:
        windows, origin = _windows_of_source(experiment, name), "read from their sources"
    users = sorted(windows["user_id"].unique())
    some = users[:: max(len(users) // SAMPLE, 1)][:SAMPLE]
    return population(windows), list(histories(windows[windows["user_id"].isin(some)]).values()), origin


def _paper_history(name: str) -> History:
    """A user whose titles have as many tokens as those of the published files: a word is a token."""
    title = " ".join(["word"] * round(PAPER[name].title_tokens))
    return {window: [RatedItem(title, 4.0)] * WINDOW for window in PAPER_WINDOWS}


def _stored_windows(experiment: Experiment, name: str) -> pd.DataFrame | None:
    """rating_windows of a domain, if today's settings made those that are stored."""
    wanted = Graph.of(experiment).settings("rating_windows", {"domain": name})
    for version in experiment.warehouse.current("rating_windows"):
        if version.partition["domain"] == name and version.ingredients.settings == wanted:
            return experiment.warehouse.load("rating_windows", {"domain": [name]})
    return None


def _windows_of_source(experiment: Experiment, name: str) -> pd.DataFrame:
    """rating_windows of a domain, made now and not kept."""
    domain, rules = experiment.domain(name), experiment.rules
    with tempfile.TemporaryDirectory(prefix="deeper-") as folder:
        ratings = Path(folder) / "ratings.parquet"
        experiment.source(name).write_raw_ratings(ratings)
        read = Warehouse(Path(folder) / "warehouse.duckdb")  # which gives its columns the types they need
        read.replace("raw_ratings", {"domain": name}, ratings, Stamp("estimate", Ingredients("")))
        raw = read.load("raw_ratings")
    rejected = reject_ratings(raw, domain, rules)
    return cut_windows(raw, rejected, domain, rules, experiment.user_sampling)


def _unique_share(warehouse: Warehouse, iteration: int) -> float | None:
    sampled = warehouse.load(f"candidates_{iteration}", columns=["copies", "unusable"])
    return float(sampled["unusable"].isna().sum() / sampled["copies"].sum()) if len(sampled) else None


# -------------------------------------------------------------------------------------------------- steps


def _ordered(parts: _Parts) -> list[tuple[tuple[str, str], list[_Part]]]:
    """In the order of the graph."""
    tables = list(TABLES)
    return sorted(parts.items(), key=lambda item: tables.index(item[0][0]))


def _chat_step(table: str, by: str, parts: Sequence[_Part], settings: Settings, rates: Rates) -> Step:
    requests = sum(part.prompts for part in parts)
    asked = sum(part.prompts * part.tokens for part in parts)
    answered = sum(part.prompts * part.answer for part in parts)
    chat = settings.chat
    live = chat.engine == "openai" and chat.mode == "live"
    hours = requests * rates.seconds_per_request / chat.concurrency / 3600 if live else None
    usd = 0.0 if chat.engine == "offline" else None
    if chat.engine == "openai" and chat.prices is not None:
        share = chat.prices.batch_share if chat.mode == "batch" else 1
        usd = (asked * chat.prices.input + answered * chat.prices.output) * share / 1e6
    return Step(table, by, requests, round(asked), round(answered), usd=usd, hours=hours)


def _sampling_step(table: str, by: str, parts: Sequence[_Part], rates: Rates) -> Step:
    texts = sum(part.texts for part in parts)
    read = sum(part.prompts * part.tokens for part in parts)
    written = sum(part.texts * part.answer for part in parts)
    hours = texts / rates.candidates_per_second / 3600
    return Step(table, by, texts, round(read), round(written), hours=hours)


def _training_step(iteration: int, name: str, recipe: Recipe, work: _Work, rates: Rates) -> Step:
    training = work.settings.training
    own = _drawn(iteration, name, recipe, work)
    contexts = sum(part.prompts for part in own)
    first = sum(part.prompts for part in _drawn(1, name, recipe, work))
    pairwise = recipe.loss == "pairwise"
    each = recipe.pairs_at_most if pairwise else 1
    texts = 2 if pairwise else work.settings.candidates * work.share(iteration)
    replayed = min(recipe.replay * contexts, first) if iteration == 2 else 0
    examples = round((contexts + replayed) * each * (1 - training.validation_share))
    length = sum(part.prompts * (part.tokens + texts * part.answer) for part in own) / max(contexts, 1)
    once = examples * length
    scored = 1 if work.settings.hardware.precompute_reference else training.epochs
    hours = once * (training.epochs + scored * REFERENCE) / rates.training_tokens_per_second / 3600
    steps = plan_steps(training, examples, 1).steps
    return Step(f"model_{iteration}", name, examples, round(once * training.epochs), steps=steps, hours=hours)


def _drawn(iteration: int, name: str, recipe: Recipe, work: _Work) -> list[_Part]:
    """The contexts that a recipe's candidates of an iteration are drawn for."""
    return work.sampled.get((f"candidates_{iteration}", recipe.template if iteration == 1 else name), [])


def _total(steps: Iterable[Step], what: str) -> float | None:
    """The sum of a column; None where a part of it is unknown."""
    values = [getattr(step, what) for step in steps]
    return None if None in values else sum(values)


# ------------------------------------------------------------------------------------------- assumptions


def _notes(work: _Work, rates: Rates, usd: float | None) -> Iterator[str]:
    for origin, names in work.origins.items():
        yield f"users {origin}: {', '.join(names)}"
    lengths = ", ".join(f"{tokens:g}" for tokens in PERSONA_TOKENS["deeper"])
    yield f"personas as long as the paper's by round: {lengths} tokens; inc_update and hier_merge their own"
    yield f"{work.chat.note}; prompts of {SAMPLE} users a domain at most; ratings are JSON with the titles"
    if work.by_schema:
        yield "the schema of predictions counts as its JSON"
    yield f"an unreadable answer is asked for up to {work.settings.asks} times; repeats are not counted"
    yield from _about_chat(work, rates, usd)
    if work.recipes:
        yield from _about_policy(work, rates)


def _about_chat(work: _Work, rates: Rates, usd: float | None) -> Iterator[str]:
    settings, chat = work.settings, work.settings.chat
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


def _about_policy(work: _Work, rates: Rates) -> Iterator[str]:
    yield work.policy.note
    for i, share in work.unique.items():
        if share is None:
            yield f"candidates of iteration {i} are all taken for usable and different: an upper bound"
        else:
            yield f"candidates of iteration {i}: {share:.0%} are usable and different, as those in this home"
    yield f"{rates.candidates_per_second:g} texts a second (--candidates-per-second), on all devices together"
    yield (
        "as many examples as recipes allow (the paper drew 34,782 and 33,612 pairs); a prompt is read once"
        " for all its texts; validation is not counted"
    )
    how_often = "" if work.settings.hardware.precompute_reference else ", in every epoch"
    yield (
        f"{rates.training_tokens_per_second:,g} tokens a second (--training-tokens-per-second), on all"
        f" devices together; scoring the reference takes a third of an epoch{how_often}"
    )


# ------------------------------------------------------------------------------------------------ as text


def as_text(found: Estimate) -> str:
    """The estimate for a terminal: a table each for asking, sampling and training, then what was assumed."""
    blocks = [_table("chat model", ("requests", "M tokens in", "M tokens out", "USD", "hours"), found.chat)]
    if found.sampling:
        blocks.append(_table("policy", ("texts", "M tokens in", "M tokens out", "hours"), found.sampling))
        blocks.append(_table("training", ("examples", "M tokens", "steps", "hours"), found.training))
    notes = "\n".join(f"  - {note}" for note in found.notes)
    return "\n\n".join([*blocks, f"assumed\n{notes}"])


_COLUMNS = {
    "requests": ("count", "{:,}"),
    "texts": ("count", "{:,}"),
    "examples": ("count", "{:,}"),
    "M tokens": ("tokens_in", "{:,.1f}"),
    "M tokens in": ("tokens_in", "{:,.1f}"),
    "M tokens out": ("tokens_out", "{:,.1f}"),
    "steps": ("steps", "{:,}"),
    "USD": ("usd", "{:,.2f}"),
    "hours": ("hours", "{:,.1f}"),
}
"""Heading → attribute of a step, and how it is written."""


def _table(title: str, columns: Sequence[str], steps: Sequence[Step]) -> str:
    lines = [f"{title:<44}" + "".join(f"{name:>14}" for name in columns)]
    for step in steps:
        name = step.table + (f" [{step.by}]" if step.by else "")
        values = [_value(column, getattr(step, _COLUMNS[column][0])) for column in columns]
        lines.append(f"  {name:<42}" + "".join(f"{value:>14}" for value in values))
    totals = [_value(column, _total(steps, _COLUMNS[column][0])) for column in columns]
    lines.append(f"  {'in all':<42}" + "".join(f"{value:>14}" for value in totals))
    return "\n".join(lines)


def _value(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return _COLUMNS[column][1].format(value / 1e6 if column.startswith("M ") else value)
