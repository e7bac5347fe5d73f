"""The one resource that assets take: an experiment, which joins settings, sources, engines and the store."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from deeper_assets.engines.chat.entries import Usage
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.openai_chat import OpenAIChat
from deeper_assets.engines.offline import base_policy, set_policy
from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.engines.sampling.gpu import alone_on_gpu, dismiss
from deeper_assets.engines.sampling.remembered import RememberedSampler
from deeper_assets.engines.sampling.transformers_sampler import ReloadedSampler, TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import GivenServers, VllmSampler
from deeper_assets.engines.sampling.vllm_server import OwnServer, ServerOptions, usable
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.set_recipes import inducers_of
from deeper_assets.method.induction.sets import INDUCERS, Inducer
from deeper_assets.method.prompts import Prompts
from deeper_assets.method.protocols import ChatModel, Sampler
from deeper_assets.method.recipes import Recipe, Training, policy_methods, training_of, trainings_of
from deeper_assets.method.updates import FROZEN_POLICY, MAIN_METHOD, PROMPT_METHODS
from deeper_assets.sources.shape import Workshop, quarter_of_memory
from deeper_assets.sourcing import Sourced
from deeper_assets.store.adapters import as_rows, identity, restore
from deeper_assets.store.warehouse import Warehouse


class Samplers(Protocol):
    """The policies that stored files make."""

    @property
    def engine(self) -> str:
        """What they are sampled with, in a word."""
        ...

    def sampler(self, base: pd.DataFrame, adapter: pd.DataFrame | None = None) -> Sampler:
        """The policy with these files: rows of base_policy, and of a model if there is an adapter."""
        ...

    def policy_sampler(self, policies: pd.DataFrame) -> Sampler:
        """The policy that rows of `policies` name."""
        ...

    def set_sampler(self, policies: pd.DataFrame) -> Sampler:
        """The policy that rows of `set_policies` name."""
        ...


@dataclass(frozen=True)
class Objective:
    """What a training optimizes: loss and reference, the optimizer's settings, the seed and the machine."""

    loss: str
    reference: str
    training: Training
    seed: int
    hardware: Hardware


@dataclass(frozen=True)
class Trained:
    """What came of a training: the adapter's files as rows, a report, and a row a logged step."""

    rows: pd.DataFrame
    report: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]


class Trainer(Protocol):
    """What turns preferences into an adapter."""

    def train(
        self,
        name: str,
        base: pd.DataFrame,
        start: pd.DataFrame | None,
        examples: pd.DataFrame,
        objective: Objective,
    ) -> Trained:
        """Trains an adapter.

        Args:
            name: of the training: a killed one of this name goes on where it was.
            base: rows of base_policy.
            start: the adapter to go on from, as rows; None for a new one.
            examples: `training_examples` rows.
            objective: what is trained for, and how.
        """
        ...


@dataclass(frozen=True)
class Experiment(Sourced):
    """One home folder (of the warehouse, Dagster's instance and recorded settings) and its settings."""

    @cached_property
    def warehouse(self) -> Warehouse:
        """The experiment's DuckDB file."""
        return Warehouse(self.home / "warehouse.duckdb", self.settings.lock_timeout, self.memory)

    @cached_property
    def chat(self) -> ChatSetup:
        """The frozen chat model, its prompts, and how often it is asked."""
        settings = self.settings
        offline = settings.chat.engine == "offline"
        model: ChatModel = OfflineChatModel() if offline else OpenAIChat(settings.chat, self.journal)
        return ChatSetup(model, Prompts.load(settings.prompts, settings.persona_words), settings.asks)

    @cached_property
    def journal(self) -> Journal:
        """Every answer that was paid for in this home."""
        return Journal(self.home / "journal.sqlite", self.settings.max_cost_usd)

    def usage(self) -> pd.DataFrame:
        """What has been asked of chat models in this home, and what it cost: a row a `Usage`."""
        rows = self.journal.usage() if self.journal.path.exists() else []
        return pd.DataFrame(map(asdict, rows), columns=[column.name for column in fields(Usage)])

    @cached_property
    def policies(self) -> dict[str, tuple[str, int]]:
        """The methods whose personas a trained policy writes: method → training and iteration."""
        seeds = self.settings.training_seeds
        return policy_methods(
            name for recipe in self.settings.all_recipes for name in trainings_of(recipe, seeds)
        )

    @cached_property
    def trainings(self) -> list[str]:
        """The trainings in force: every recipe of `train_recipes`, as often as `training_seeds` says."""
        seeds = self.settings.training_seeds
        return [name for recipe in self.settings.train_recipes for name in trainings_of(recipe, seeds)]

    @property
    def fills_gpu(self) -> bool:
        """Whether a policy is loaded on this machine's GPU to be sampled."""
        given = self.settings.sampler
        if given.urls and given.engine != "transformers":
            return False
        return given.engine == "vllm" or self.settings.policy != "offline"

    def base_folder(self, rows: pd.DataFrame) -> str:
        """The base policy as transformers loads it: a folder restored from its rows, or the name in them."""
        if list(rows["file"]) == [REFERENCE]:
            return bytes(rows["content"].iloc[0]).decode()
        return str(restore(rows, self.home / "models"))

    def adapter_folder(self, rows: pd.DataFrame) -> Path:
        """The folder of an adapter, restored from its rows."""
        return restore(rows, self.home / "models")

    @cached_property
    def methods(self) -> list[str]:
        """The methods in force: those of trained recipes, the untrained policy beside them, and prompts.

        Without a recipe there is nothing to compare the untrained policy with.
        """
        trained = [method for method, (training, _) in self.policies.items() if training in self.trainings]
        return [*trained, *([FROZEN_POLICY] if trained else []), *PROMPT_METHODS]

    @property
    def inducers(self) -> list[Inducer]:
        """The inducers in force: those of trained policies and the untrained one beside those without."""
        return [*INDUCERS, *inducers_of(self.settings.set_recipes)]

    @property
    def main_method(self) -> str:
        """The method whose personas a control gives to other users: the one to look at first."""
        return MAIN_METHOD if MAIN_METHOD in self.methods else self.methods[0]

    @property
    def engine(self) -> Literal["transformers", "vllm"]:
        """What policies are sampled with: as set, or for `auto` what fits the machine and the policy."""
        settings = self.settings
        if settings.sampler.engine != "auto":
            return settings.sampler.engine
        if settings.sampler.urls:
            return "vllm"
        # The tiny policy has written its texts before vLLM has started.
        return "vllm" if settings.policy != "offline" and usable() else "transformers"

    def sampler(self, base: pd.DataFrame, adapter: pd.DataFrame | None = None) -> Sampler:
        """The policy with these files: the base, and an adapter on it if there is one.

        Its name says which policy that is, and not which engine writes: texts of another engine are other
        draws from the same policy, so a home that moves to another machine keeps what it has. The metadata
        of candidates names the engine.
        """
        name = f"base-{identity(base)}"
        folder = None
        if adapter is not None:
            name = f"{name}+{identity(adapter)}"
            folder = self.adapter_folder(adapter)
        writer, given = self._writer(name, base, folder), self.settings.sampler
        weights = _weights(base)
        if weights is None:
            return writer
        about = {"engine": self.engine, "max_length": given.max_length, "dtype": given.dtype, "base": weights}
        return RememberedSampler(writer, self.home / "texts", about)

    def _writer(self, name: str, base: pd.DataFrame, adapter: Path | None) -> Sampler:
        place, given = self.base_folder(base), self.settings.sampler
        if self.engine == "vllm":
            return VllmSampler(name, place, self._servers, adapter, given.concurrency)
        if not self.fills_gpu:
            return _loaded(name, place, adapter, given.max_length)
        return ReloadedSampler(
            TransformersSampler(name, place, adapter, max_length=given.max_length), self._gpu
        )

    @property
    def _servers(self) -> GivenServers | OwnServer:
        given = self.settings.sampler
        if given.urls:
            return GivenServers(tuple(given.urls), given.key_env)
        options = ServerOptions(
            given.tensor_parallel,
            given.memory_share,
            given.prefix_caching,
            given.max_length,
            given.dtype,
            self.settings.training.lora_rank,
        )
        return OwnServer(self._gpu, options, given.keep_loaded)

    def alone_on_gpu(self) -> AbstractContextManager[None]:
        """For a training: no policy is sampled or trained on this machine's GPU beside it."""
        offline = self.settings.policy == "offline"
        return nullcontext() if offline and not self.fills_gpu else alone_on_gpu(self._gpu)

    def dismiss_host(self) -> None:
        """Ends the home's own vLLM server, unless somebody samples from it."""
        dismiss(self._gpu)

    @property
    def _gpu(self) -> Path:
        return self.home / "gpu"

    def policy_sampler(self, policies: pd.DataFrame) -> Sampler:
        """The policy that rows of `policies` name; its files are read from the tables that hold them.

        Raises:
            DeeperError: they hold other files by now.
        """
        first = policies.iloc[0]
        model = f"model_{first['iteration']}", {"recipe": [first["recipe"]]}
        return self._stored_policy(f"method {first['method']!r}", first, "base_policy", model)

    def set_sampler(self, policies: pd.DataFrame) -> Sampler:
        """The same of rows of `set_policies`."""
        first = policies.iloc[0]
        model = "set_models", {"set_recipe": [first["set_recipe"]]}
        return self._stored_policy(f"inducer {first['inducer']!r}", first, "base_set_policy", model)

    def _stored_policy(
        self, whose: str, named: "pd.Series[Any]", base: str, model: tuple[str, Mapping[str, Sequence[str]]]
    ) -> Sampler:
        """The policy of these tables: the first row that names it says whether it has an adapter."""
        adapter = self.warehouse.load(*model) if isinstance(named["file"], str) else None
        sampler = self.sampler(self.warehouse.load(base), adapter)
        if sampler.name != named["model"]:
            raise DeeperError(
                f"{whose} was given the policy {named['model']}, but {sampler.name} is stored by now; "
                "`deeper run` makes policies anew"
            )
        return sampler

    @property
    def workshop(self) -> Workshop:
        """Where histories are cut; its files live only until they are stored."""
        return Workshop(self.home / "scratch", self.memory)

    @cached_property
    def memory(self) -> str:
        """What DuckDB may take."""
        return self.settings.memory or quarter_of_memory()

    def recipe(self, name: str) -> Recipe:
        """The recipe called `name`, or of the training called so; DeeperError where there is none."""
        recipes = self.settings.all_recipes
        recipe, _ = training_of(name)
        if recipe not in recipes:
            raise DeeperError(f"there is no recipe {name!r}; known: {', '.join(recipes)}")
        return recipes[recipe]


REFERENCE = "reference"
"""File name of the one row of `base_policy` that only names a base: a folder or hub name of the user's."""


def _weights(base: pd.DataFrame) -> list[tuple[str, int, int]] | None:
    """What tells a base of this name from another one: of a folder, its files, their sizes and times.

    None where nothing tells: a model on the Hub may be another one by now.
    """
    if list(base["file"]) != [REFERENCE]:
        return []  # its rows are its files, and its name says what they hold
    folder = Path(bytes(base["content"].iloc[0]).decode())
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path, path.stat()) for path in files]
    return [(str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


@lru_cache(maxsize=2)
def _loaded(name: str, base: str, adapter: Path | None, max_length: int | None) -> TransformersSampler:
    """A policy stays loaded for the next domain of the same process."""
    return TransformersSampler(name, base, adapter, max_length=max_length)


def base_policy_rows(policy: str) -> pd.DataFrame:
    """Rows of `base_policy`: the files of the offline policy, or one row that names a model of one's own."""
    return as_rows(base_policy.SHIPPED) if policy == "offline" else _named_by(policy)


def set_policy_rows(policy: str) -> pd.DataFrame:
    """The same of `base_set_policy`: offline, another policy writes sets."""
    return as_rows(set_policy.SHIPPED) if policy == "offline" else _named_by(policy)


def _named_by(policy: str) -> pd.DataFrame:
    content = policy.encode()
    digest = hashlib.sha256(content).hexdigest()
    return pd.DataFrame(
        [(REFERENCE, content, len(content), digest)], columns=["file", "content", "size", "sha256"]
    )
