"""The one resource that assets take: an experiment, which joins settings, sources, engines and the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.method.asking import Cast
from deeper_assets.method.domains import PAPER_DOMAINS, Domain, Scale, find_domain
from deeper_assets.method.faults import DeeperError
from deeper_assets.method.prompts import Prompts
from deeper_assets.method.rounds import ROUNDS
from deeper_assets.method.windows import Sampling, WindowRules
from deeper_assets.settings import DomainSettings, Settings
from deeper_assets.sources.custom import ColumnMap, CustomSource
from deeper_assets.sources.published import PublishedSource
from deeper_assets.sources.shape import Source
from deeper_assets.sources.synthetic import SyntheticSource
from deeper_assets.store.warehouse import Warehouse


@dataclass(frozen=True)
class Experiment:
    """One home folder and its settings.

    Attributes:
        home: folder of the warehouse, of Dagster's instance and of recorded settings.
        settings: what was asked for.
    """

    home: Path
    settings: Settings

    @cached_property
    def domains(self) -> dict[str, Domain]:
        """The paper's ten domains and the user's own, by name."""
        own = {name: _own_domain(name, given) for name, given in self.settings.domains.items()}
        taken = sorted(set(own) & {domain.name for domain in PAPER_DOMAINS})
        if taken:
            raise DeeperError(f"domain {taken[0]!r} is one of the paper's; give your own another name")
        return {domain.name: domain for domain in PAPER_DOMAINS} | own

    def domain(self, name: str) -> Domain:
        """The domain called `name`; DeeperError where there is none."""
        return find_domain(name, self.domains.values())

    def source(self, name: str) -> Source:
        """Where the ratings of the domain called `name` come from."""
        domain, settings = self.domain(name), self.settings
        if name in settings.domains:
            return _own_source(domain, settings.domains[name])
        if settings.data is not None:
            return PublishedSource(domain, settings.data)
        return SyntheticSource(domain, settings.seed, settings.synthetic_users, settings.windows_at_most)

    @cached_property
    def warehouse(self) -> Warehouse:
        """The experiment's DuckDB file."""
        return Warehouse(self.home / "warehouse.duckdb", self.settings.lock_timeout)

    @cached_property
    def cast(self) -> Cast:
        """The frozen chat model, its prompts, and how often it is asked."""
        prompts = Prompts.load(self.settings.prompts, self.settings.persona_words)
        return Cast(OfflineChatModel(), prompts, self.settings.asks)

    @cached_property
    def rules(self) -> WindowRules:
        """How histories are cut in windows."""
        return WindowRules(at_least=self.settings.windows_at_least, at_most=self.settings.windows_at_most)

    @cached_property
    def sampling(self) -> Sampling:
        """Which users take part, and which of them train."""
        settings = self.settings
        return Sampling(settings.seed, settings.train_share, settings.train_users, settings.eval_users)

    def scratch(self, name: str) -> Path:
        """A path for a file that lives only until it is stored."""
        folder = self.home / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def describe(self, table: str, partition: Mapping[str, str]) -> dict[str, Any]:
        """The settings that, besides code and inputs, decide what a table's partition holds.

        They are hashed into the fingerprint of its rows, so a changed setting makes stale exactly the tables
        that it touches, and `deeper lineage` shows them.
        """
        if not partition:
            return {}
        domain = self.domain(partition["domain"])
        chat = {"chat": self.cast.chat.name, "prompts": self.cast.prompts.digest, "asks": self.cast.asks}
        wording = {"item_type": domain.item_type, "scale": str(domain.scale)}
        match table:
            case "raw_ratings":
                return {"source": self.source(domain.name).identity()}
            case "rejected_ratings":
                return {"scale": str(domain.scale), **_plain(self.rules)}
            case "rating_windows":
                return {"seen": domain.seen, **_plain(self.rules), **_plain(self.sampling)}
            case "initial_personas" | "initial_predictions":
                return {**chat, **wording}
            case "persona_rounds" | "round_predictions":
                return {**chat, **wording, "rounds": ROUNDS}
            case _:
                return {}

    def made_otherwise(self) -> list[str]:
        """Domains of which something is stored that other settings than today's have made.

        Their rows stand in the same tables, so whoever reads those has to know.
        """
        return sorted(
            {
                version.partition["domain"]
                for version in self.warehouse.current()
                # raw_ratings is left to `deeper run`: its settings hold hashes of files, which may be large.
                if version.partition.get("domain") in self.domains
                and version.table != "raw_ratings"
                and version.recipe.settings != self.describe(version.table, version.partition)
            }
        )


def _plain(value: object) -> dict[str, Any]:
    return dict(vars(value))


def _own_domain(name: str, given: DomainSettings) -> Domain:
    scale = Scale(given.scale.lowest, given.scale.highest, given.scale.step)
    return Domain(name, given.item_type, scale, given.seen)


def _own_source(domain: Domain, given: DomainSettings) -> CustomSource:
    columns = ColumnMap(**given.columns.model_dump())
    place = given.model_dump(include={"file", "database", "query", "dsn_env"})
    return CustomSource(domain, columns, **place)
