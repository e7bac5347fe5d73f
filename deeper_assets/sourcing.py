"""The domains of an experiment: which there are, where their rows come from, and which are in force."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from deeper_assets.method.domains import FIVE_STARS, PAPER_DOMAINS, Domain, find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.cutting import SessionRules
from deeper_assets.method.paper_users import PAPER
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.privacy import salt_of
from deeper_assets.settings import ALL, Settings
from deeper_assets.sources.custom import CustomSource
from deeper_assets.sources.events import EventLog, borders_of
from deeper_assets.sources.hashed import HashedSource
from deeper_assets.sources.originals import OriginalSource, expected_names, expected_original, find_original
from deeper_assets.sources.published import PublishedSource
from deeper_assets.sources.shape import Source
from deeper_assets.sources.synthetic import SyntheticSource


@dataclass(frozen=True)
class Sourced:
    """A home folder and its settings, as far as they say which domains there are and who takes part.

    `asks` says whether a source is asked a query only to see if its answer has changed.
    """

    home: Path
    settings: Settings
    asks: bool = True

    @cached_property
    def domains(self) -> dict[str, Domain]:
        """The paper's ten domains and the user's own, by name."""
        # Nobody asks for the scale of a log of events, and it trains no policy.
        own = [
            Domain(name, given.item_type, given.scale or FIVE_STARS, given.seen and not self.is_log(name))
            for name, given in self.settings.domains.items()
        ]
        return {domain.name: domain for domain in (*PAPER_DOMAINS, *own)}

    def domain(self, name: str) -> Domain:
        """The domain called `name`; DeeperError where there is none."""
        return find_domain(name, self.domains.values())

    def source(self, name: str) -> Source:
        """Where the ratings of the domain called `name` come from.

        Generated users are nobody, so their ids are never hashed.

        Raises:
            DeeperError: there is no such domain, or it is a log of events.
        """
        if self.is_log(name):
            raise DeeperError(f"domain {name!r} is a log of events: it has no ratings")
        source = self._source(name)
        if not self.settings.hash_ids or self.is_generated(name):
            return source
        return HashedSource(source, partial(salt_of, self.home))

    def _source(self, name: str) -> Source:
        domain, settings = self.domain(name), self.settings
        if name in self.originals:
            return self.originals[name]
        if name in settings.domains:
            given = settings.domains[name]
            assert given.columns is not None
            return CustomSource(domain, given.columns, **self._place(name), marks=given.marks)
        if settings.data is not None:
            return PublishedSource(domain, settings.data)
        if settings.downloads is not None:
            return expected_original(domain, settings.downloads)
        return SyntheticSource(domain, settings.seed, settings.synthetic_users, settings.windows_at_most)

    def _place(self, name: str) -> dict[str, Any]:
        """Where the rows of a domain of one's own lie, as `OwnRows` takes it."""
        given = self.settings.domains[name]
        profile = Path(self.settings.profile).expanduser()
        folder = profile.resolve().parent if profile.is_file() else None
        place = given.model_dump(include={"file", "database", "query", "dsn_env", "refresh"})
        return {**place, "folder": folder, "asks": self.asks}

    def log(self, name: str) -> Source | None:
        """Where the events of the domain called `name` come from; None where it has ratings."""
        if not self.is_log(name):
            return None
        events = self.settings.domains[name].events
        assert events is not None
        source = EventLog(self.domain(name), events, **self._place(name))
        if not self.settings.hash_ids:
            return source
        return HashedSource(source, partial(salt_of, self.home), "logged")

    def session_rules(self, name: str) -> SessionRules:
        """Where sessions of a log of the domain called `name` end, and how many count."""
        settings = self.settings
        events = settings.domains[name].events if self.is_log(name) else None
        return SessionRules(borders_of(events), settings.session_silence, settings.windows_at_most)

    @cached_property
    def originals(self) -> dict[str, OriginalSource]:
        """Where the ratings of domains come from whose original files are there, or named by a `format`."""
        there = {}
        for name, domain in self.domains.items():
            own = self.settings.domains.get(name)
            if own is None and self.settings.downloads is not None:
                there[name] = find_original(domain, self.settings.downloads)
            elif own is not None and own.format is not None and own.file is not None:
                there[name] = OriginalSource(domain, own.format, own.file, own.refresh)
        return {name: source for name, source in there.items() if source is not None}

    def is_log(self, name: str) -> bool:
        """Whether the domain called `name` is a log of events, and has no ratings."""
        own = self.settings.domains.get(name)
        return own is not None and own.events is not None

    def refuse_logs(self) -> None:
        """Refuses the branch refinement where a domain has no ratings for it.

        Raises:
            DeeperError: it is asked for, and a domain that is evaluated is a log of events.
        """
        logs = [name for name in self.evaluated if name in self.logs]
        if logs and "refinement" in self.settings.branches:
            raise DeeperError(
                f"domain {logs[0]!r} is a log of events: nobody rated, so the branch refinement has nothing"
                " to do there; give --branches induction, or other domains with --domains"
            )

    def is_generated(self, name: str) -> bool:
        """Whether the ratings of the domain called `name` are generated."""
        settings = self.settings
        return settings.data is None and settings.downloads is None and name not in settings.domains

    @cached_property
    def rules(self) -> WindowRules:
        """How histories are cut in windows."""
        settings = self.settings
        least, most = settings.windows_at_least, settings.windows_at_most
        return WindowRules(at_least=least, at_most=most, categories=settings.categories_in_titles)

    def user_sampling(self, domain: str) -> UserSampling:
        """Which users of a domain take part, and which of them train."""
        settings, seen = self.settings, self.domain(domain).seen
        in_paper = PAPER[domain].users if domain in PAPER else {"train": None, "eval": None}
        train, evaluated = (
            in_paper[split] if given == "paper" else given
            for split, given in (("train", settings.train_users), ("eval", settings.eval_users))
        )
        share = settings.train_share
        return UserSampling(settings.seed, share, train, evaluated, seen, settings.short_users)

    @cached_property
    def training_domains(self) -> list[str]:
        """Names of the domains whose training users train the policies."""
        seen = [name for name, domain in self.domains.items() if domain.seen]
        chosen = self._chosen(self.settings.training_domains, seen)
        for name in chosen:
            if self.is_log(name):
                raise DeeperError(f"training_domains: {name!r} is a log of events, which trains no policy")
            if name not in seen:
                raise DeeperError(f"training_domains: {name!r} only evaluates; leave it out, or set it seen")
        return chosen

    @cached_property
    def evaluated(self) -> list[str]:
        """Names of the domains that are evaluated."""
        return self._chosen(self.settings.evaluate, list(self.domains))

    @cached_property
    def logs(self) -> list[str]:
        """Names of the domains that are logs of events, evaluated or not."""
        return [name for name in self.settings.domains if self.is_log(name)]

    @cached_property
    def refined(self) -> list[str]:
        """Names of the domains in which the branch refinement evaluates."""
        return [name for name in self.evaluated if name not in self.logs]

    def _chosen(self, given: list[str] | None, every: list[str]) -> list[str]:
        """The domains that a setting names, in their order.

        Where it names none, of `every` the user's own, if there are any and no `downloads`; else all that
        have ratings.
        """
        if given is not None and given != [ALL]:
            return [name for name in self.domains if name in given]
        there = [name for name in every if name in self._there]
        own = [name for name in there if name in self.settings.domains]
        return there if given or self.settings.downloads is not None else own or there

    @property
    def _there(self) -> list[str]:
        """Names of the domains that have ratings: with `downloads` alone, those whose files lie there."""
        settings = self.settings
        if settings.downloads is None or settings.data is not None:
            return list(self.domains)
        there = [name for name in self.domains if name in {*self.originals, *settings.domains}]
        if not there:
            raise DeeperError(
                f"downloads: {settings.downloads} holds no original file of any domain's, nor does a folder "
                f"up to two below it; expected {', '.join(expected_names())}"
            )
        return there

    @cached_property
    def domains_in_force(self) -> list[str]:
        """Names of the domains that a run makes something of: they are evaluated, or train a recipe."""
        training = self.training_domains if self.settings.train_recipes else []
        writing = self.set_domains if "induction" in self.settings.branches else []
        return [name for name in self.domains if name in {*self.evaluated, *training, *writing}]

    @cached_property
    def set_domains(self) -> list[str]:
        """Names of the domains whose training users train the policies of sets: logs that are evaluated do.

        Where there are only such logs, no other domain does.
        """
        if not self.settings.set_recipes:
            return []
        logs = [name for name in self.evaluated if name in self.logs]
        others = self.training_domains if self.refined else []
        return [name for name in self.domains if name in {*logs, *others}]
