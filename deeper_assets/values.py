"""What assets and checks can take beside tables: by the name of a parameter, resolved for each partition.

A *value* decides what a table holds. The values of an asset are hashed into the fingerprint of its rows, so a
changed setting makes stale exactly the tables that take it. No asset reads a setting that it does not take.
A *tool* computes or stores, and decides nothing: which machine a policy is sampled on, where files lie.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from deeper_assets.engines.embedding.choosing import embedder_of
from deeper_assets.engines.offline import base_policy, set_policy
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.candidates import CandidateDraw
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.errors import Evaluated
from deeper_assets.method.induction.cutting import SessionRules
from deeper_assets.method.induction.set_recipes import SET_RECIPES, SetRecipe
from deeper_assets.method.induction.sets import INDUCERS, Inducer
from deeper_assets.method.induction.writing import SetWriting
from deeper_assets.method.pairs import ValidationSplit
from deeper_assets.method.prompts import Prompts
from deeper_assets.method.protocols import Decoding, Embedder
from deeper_assets.method.recipes import Recipe, Training, training_of
from deeper_assets.method.updates import PROMPT_METHODS, PolicyWriting
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.sources.people import PlantedPeople
from deeper_assets.sources.shape import Source, Workshop
from deeper_assets.store.adapters import as_rows, identity
from deeper_assets.store.ledger import JSON, Partition
from deeper_assets.store.warehouse import Warehouse

if TYPE_CHECKING:
    from deeper_assets.resources import Experiment, Samplers, Trainer

OUTSIDE = ("source", "log")
"""Values that look at files and databases, which may be others while no setting changes."""

UNTRAINED_TEMPLATE = "refinement"
"""The template by which the untrained policy refines."""


@dataclass(frozen=True)
class BasePolicy:
    """The base of all policies: `offline`, or a folder or hub name; and the version of the offline one."""

    name: str
    version: str | None


@dataclass(frozen=True)
class TrainedModel:
    """The model that writes for a method: its training (`recipe`, as in the tables) and iteration."""

    recipe: str
    iteration: int


@dataclass(frozen=True)
class Usage:
    """What the journal of the chat model has booked. The journal is no table, so its rows are a value."""

    rows: pd.DataFrame

    def settings(self) -> None:
        """No setting decides what it holds."""

    def identity(self) -> str:
        """A hash of the rows."""
        return hashlib.sha256(self.rows.to_csv().encode()).hexdigest()


@dataclass(frozen=True)
class Values:
    """The values of one experiment: a method a value, which gets the partition by column.

    What `source`, `log` and `usage` say may change while no setting does: they look at files and at the
    journal.
    """

    experiment: "Experiment"

    def source(self, partition: Partition) -> Source:
        """Where the domain's ratings come from."""
        return self.experiment.source(partition["domain"])

    def planted_source(self, partition: Partition) -> Source | None:
        """What generates the domain's ratings; None where nothing does."""
        return self.source(partition) if self.experiment.is_generated(partition["domain"]) else None

    def domain(self, partition: Partition) -> Domain:
        """The partition's domain."""
        return self.experiment.domain(partition["domain"])

    def scales(self, _: Partition) -> Mapping[str, Scale]:
        """The rating scale of every domain that is evaluated."""
        return {name: self.experiment.domain(name).scale for name in self.experiment.refined}

    def evaluated(self, _: Partition) -> Evaluated:
        """The domains and methods that are evaluated."""
        return Evaluated(tuple(self.experiment.refined), tuple(self.experiment.methods))

    def evaluated_domains(self, _: Partition) -> tuple[str, ...]:
        """Names of the domains that are evaluated."""
        return tuple(self.experiment.evaluated)

    def training_domains(self, _: Partition) -> tuple[str, ...]:
        """Names of the domains whose training users train the policies."""
        return tuple(self.experiment.training_domains)

    def rules(self, _: Partition) -> WindowRules:
        """How histories are cut in windows."""
        return self.experiment.rules

    def user_sampling(self, partition: Partition) -> UserSampling:
        """Which users take part, and which of them train."""
        return self.experiment.user_sampling(partition["domain"])

    def chat(self, _: Partition) -> ChatSetup:
        """The frozen chat model and how often it is asked; `Graph` leaves the asset's templates in it."""
        return self.experiment.chat

    def prompts(self, _: Partition) -> Prompts:
        """The prompt templates; `Graph` leaves those of the asset."""
        return self.experiment.chat.prompts

    def unreadable_limit(self, _: Partition) -> float:
        """The share of unreadable answers that stops a run."""
        return self.experiment.settings.unreadable_limit

    def seed(self, partition: Partition) -> int:
        """The experiment's seed; of each further training of a recipe, the next number."""
        _, number = training_of(partition.get("recipe", ""))
        return self.experiment.settings.seed + number - 1

    def templates(self, _: Partition) -> tuple[str, ...]:
        """The templates that the trained recipes refine by."""
        trained = self.experiment.settings.train_recipes
        return tuple(dict.fromkeys(str(self.experiment.recipe(name).template) for name in trained))

    def template(self, partition: Partition) -> str:
        """The template that the partition's recipe refines by."""
        return self.recipe(partition).template

    def recipe(self, partition: Partition) -> Recipe:
        """The partition's recipe."""
        return self.experiment.recipe(partition["recipe"])

    def recipe_name(self, partition: Partition) -> str:
        """The name of the partition's training: that of its recipe, and a number but for the first."""
        return partition["recipe"]

    def candidate_draw(self, partition: Partition) -> CandidateDraw:
        """How candidates are drawn."""
        settings = self.experiment.settings
        return self._draw(settings.candidate_decoding, settings.candidates, partition)

    def set_draw(self, partition: Partition) -> CandidateDraw:
        """The same of sets: what leaks into a persona does not matter for them."""
        return replace(self.candidate_draw(partition), forbid_leaks=False)

    def refining_draw(self, partition: Partition) -> CandidateDraw:
        """How Model 1 writes the personas that iteration 2 starts from: one a context, as in evaluation."""
        return self._draw(self.experiment.settings.evaluation_decoding, 1, partition)

    def _draw(self, decoding: Decoding, n: int, partition: Partition) -> CandidateDraw:
        settings = self.experiment.settings
        length = settings.sampler.max_length
        return CandidateDraw(decoding, n, self.seed(partition), settings.forbid_leaks, length)

    def validation(self, partition: Partition) -> ValidationSplit:
        """Which users measure a training."""
        return ValidationSplit(self.experiment.settings.training.validation_share, self.seed(partition))

    def loss(self, partition: Partition) -> str:
        """The loss of the partition's recipe."""
        return self.recipe(partition).loss

    def reference(self, partition: Partition) -> str:
        """What iteration 2 of the partition's recipe is held to."""
        return self.recipe(partition).reference

    def training(self, _: Partition) -> Training:
        """How hard the optimizer works."""
        return self.experiment.settings.training

    def hardware(self, _: Partition) -> Hardware:
        """What training runs on; its identity is what of it decides."""
        return self.experiment.settings.hardware

    def policy(self, _: Partition) -> BasePolicy:
        """The base of all policies."""
        name = self.experiment.settings.policy
        return BasePolicy(name, identity(as_rows(base_policy.SHIPPED)) if name == "offline" else None)

    def method(self, partition: Partition) -> str:
        """The partition's method."""
        return partition["method"]

    def control(self, partition: Partition) -> str:
        """The partition's control."""
        return partition["control"]

    def trained(self, partition: Partition) -> TrainedModel | None:
        """The model that writes for the partition's method; None where no trained one does."""
        model = self.experiment.policies.get(partition["method"])
        return None if model is None else TrainedModel(*model)

    def writing(self, partition: Partition) -> PolicyWriting | None:
        """How a policy writes for the partition's method; None where the chat model does."""
        if partition["method"] in PROMPT_METHODS:
            return None
        model = self.trained(partition)
        template = UNTRAINED_TEMPLATE if model is None else self.experiment.recipe(model.recipe).template
        settings = self.experiment.settings
        length = settings.sampler.max_length
        seed = settings.seed if model is None else self.seed({"recipe": model.recipe})
        decoding, again = settings.evaluation_decoding, settings.candidate_decoding
        return PolicyWriting(template, decoding, again, seed, length)

    def people(self, partition: Partition) -> PlantedPeople | None:
        """What generates the logs of a generated domain; None where ratings are the events."""
        name, settings = partition["domain"], self.experiment.settings
        if not self.experiment.is_generated(name):
            return None
        domain, users = self.experiment.domain(name), settings.synthetic_users
        return PlantedPeople(domain, settings.seed, users, settings.planted_noise)

    def log(self, partition: Partition) -> Source | None:
        """Where the domain's events come from; None where it has ratings."""
        return self.experiment.log(partition["domain"])

    def session_rules(self, partition: Partition) -> SessionRules:
        """Where sessions of the domain's log end, and how many count."""
        return self.experiment.session_rules(partition["domain"])

    def session_silence(self, _: Partition) -> float:
        """Minutes without an event after which a session of a log has ended."""
        return self.experiment.settings.session_silence

    def false_discovery(self, _: Partition) -> float:
        """Share of a user's personas that may be chance."""
        return self.experiment.settings.false_discovery

    def inducer(self, partition: Partition) -> Inducer:
        """The partition's inducer."""
        return partition["inducer"]

    def inducers(self, _: Partition) -> tuple[Inducer, ...]:
        """All inducers in force."""
        return tuple(self.experiment.inducers)

    def set_domains(self, _: Partition) -> tuple[str, ...]:
        """Names of the domains whose training users train the policies of sets."""
        return tuple(self.experiment.set_domains)

    def set_policy(self, _: Partition) -> BasePolicy:
        """The base of all policies that write sets: as `policy`, but another tiny one offline."""
        name = self.experiment.settings.policy
        return BasePolicy(name, identity(as_rows(set_policy.SHIPPED)) if name == "offline" else None)

    def set_recipe(self, partition: Partition) -> SetRecipe:
        """The partition's recipe of sets."""
        return SET_RECIPES[partition["set_recipe"]]

    def set_recipe_name(self, partition: Partition) -> str:
        """Its name."""
        return partition["set_recipe"]

    def writes(self, partition: Partition) -> bool:
        """Whether a policy writes the sets of the partition's inducer."""
        return partition["inducer"] not in INDUCERS

    def set_writing(self, partition: Partition) -> SetWriting | None:
        """How a policy writes the sets of the partition's inducer; None where no policy does."""
        settings = self.experiment.settings
        if not self.writes(partition):
            return None
        decoding, again = settings.evaluation_decoding, settings.candidate_decoding
        return SetWriting(decoding, again, settings.seed, settings.asks, settings.sampler.max_length)

    def embedder(self, _: Partition) -> Embedder:
        """What turns memories into vectors."""
        return embedder_of(self.experiment.settings.embedder, self.experiment.journal)

    def stand_in(self, _: Partition) -> str | None:
        """The name of the embedded stand-in, where it is the chat model."""
        settings = self.experiment.settings
        return self.experiment.chat.model.name if settings.chat.engine == "offline" else None

    def usage(self, _: Partition) -> Usage:
        """What the chat model has been asked, and what it cost."""
        return Usage(self.experiment.usage())


@dataclass(frozen=True)
class Tools:
    """The tools of one experiment: an attribute a tool."""

    experiment: "Experiment"

    @property
    def samplers(self) -> "Samplers":
        """The policies that stored files make."""
        return self.experiment

    @property
    def trainer(self) -> "Trainer":
        """What turns preferences into an adapter."""
        from deeper_assets.training import PipesTrainer

        return PipesTrainer(self.experiment)

    @property
    def workshop(self) -> Workshop:
        """Where histories are cut."""
        return self.experiment.workshop

    @property
    def warehouse(self) -> Warehouse:
        """What is stored; for checks that look at more than their own partition."""
        return self.experiment.warehouse


def set_by_settings(value: Any) -> JSON:
    """A value as JSON without what files and the journal hold: see its `settings` where it has that."""
    return value.settings() if hasattr(value, "settings") else described(value)


def described(value: Any, before: JSON = None) -> JSON:
    """A value as JSON: what `identity` says of it where it has that, else its fields or items.

    What was stored was made from the value `before`; of a source not everything is looked at again.

    Raises:
        TypeError: the value, or a part of it, is of a kind that cannot be described.
    """
    if before is not None and hasattr(value, "identity_since"):
        since: JSON = value.identity_since(before)
        return since
    if hasattr(value, "identity"):
        identity: JSON = value.identity()
        return identity
    if is_dataclass(value):
        return {part.name: described(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): described(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [described(part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} {value!r} is no value of an asset: give it an identity()")
