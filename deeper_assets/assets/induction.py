"""Several personas a person: events, memories, sets of personas after every window. By domain and inducer.

What was planted in generated people stands beside: nothing that induces descends from it.
"""

from dataclasses import asdict
from typing import Any

import pandas as pd
from dagster import Output

from deeper_assets.declaring import In, Read, table
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction import scores
from deeper_assets.method.induction.changes import changes_table, planted_changes
from deeper_assets.method.induction.cutting import EVENTS, REJECTED, SessionRules, cut_log
from deeper_assets.method.induction.events import events_of_log, events_of_ratings
from deeper_assets.method.induction.induce import LABELLED, ByClusters, induce, users_of
from deeper_assets.method.induction.memories import read_sessions
from deeper_assets.method.induction.sets import INDUCERS, Inducer
from deeper_assets.method.induction.writing import NO_WRITINGS, ByPolicy, SetWriting
from deeper_assets.method.protocols import Embedder
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.partitions import every_partition, of_ratings
from deeper_assets.resources import Samplers
from deeper_assets.sources.people import PlantedPeople, planted_log, planted_personas_of
from deeper_assets.sources.shape import Source, Workshop, write
from deeper_assets.store.schema import TABLES

OF_LOGS = ("rejected_events", "event_accounts")
"""Tables of logs of one's own; empty for ratings and for generated people."""


@table(
    "events",
    tables={
        "events": "What people did, session by session: their ratings, a window a session; or a log.",
        "rejected_events": "What a log of one's own had and we could not use, each with a reason. Of ratings,"
        " that is in rejected_ratings.",
        "event_accounts": "Where everything that was read of a log of one's own went, in users and events.",
    },
    reads={
        "rating_windows": In("rating_windows", of_ratings),
        "raw_ratings": In("raw_ratings", of_ratings),
    },
    induces=True,
)
def events(
    rating_windows: pd.DataFrame,
    raw_ratings: pd.DataFrame,
    domain: Domain,
    rules: WindowRules,
    people: PlantedPeople | None,
    log: Source | None,
    session_rules: SessionRules,
    user_sampling: UserSampling,
    workshop: Workshop,
) -> Read | list[pd.DataFrame]:
    """The events of a domain: of its own log, of generated people, or its ratings."""
    if log is not None:
        return events_of_source(log, domain, session_rules, user_sampling, workshop)
    if people is not None:
        made = events_of_log(planted_log(people), domain, session_rules.silence, user_sampling)
    else:
        made = events_of_ratings(rating_windows, raw_ratings, rules.size)
    return [made, *(pd.DataFrame(columns=list(TABLES[name].column_names)) for name in OF_LOGS)]


def events_of_source(
    log: Source, domain: Domain, rules: SessionRules, sampling: UserSampling, workshop: Workshop
) -> Read:
    """A log of one's own, read and cut by DuckDB: events, rejected_events and event_accounts."""
    before = log.identity()
    with workshop.open() as (connection, folder):
        report = log.load(connection, folder)
        accounts = cut_log(connection, domain, rules, sampling)
        written = [write(connection, relation, folder) for relation in (EVENTS, REJECTED)]
        if log.identity() != before:
            raise DeeperError(f"the log of {domain.name} changed while it was read; run it again")
        files = workshop.hand_over(written)
    outputs: list[Output[Any]] = [
        Output(files[0], metadata=accounts.figures()),
        Output(files[1]),
        Output(pd.DataFrame(accounts.rows()).assign(domain=domain.name)),
    ]
    return Read(outputs, before if report.answer is None else {**before, "answer": asdict(report.answer)})


@table(
    "memories",
    tables={
        "memories": "What somebody was after in a session, as the frozen chat model reads it.",
        "memory_events": "The events that show a memory.",
        "session_readings": "How the reading of each session went.",
    },
    templates=["memories"],
    induces=True,
)
def memories(events: pd.DataFrame, domain: Domain, chat: ChatSetup) -> list[Output[pd.DataFrame]]:
    """The intents of every session, each with its evidence."""
    read = read_sessions(events, domain, chat)
    unreadable = {"share unreadable": float(read.session_readings["note"].notna().mean())}
    return [
        Output(
            read.memories,
            metadata={"memories a session": len(read.memories) / max(len(read.session_readings), 1)},
        ),
        Output(read.memory_events),
        Output(read.session_readings, metadata=unreadable),
    ]


@table(
    "persona_sets",
    tables={
        "persona_sets": "After every window, the personas of a person, and those that have just ended. A"
        " persona keeps its id.",
        "persona_memories": "The memories of a persona, which are its evidence.",
        "dropped_personas": "Groups of memories that are no personas, and why.",
        "set_writings": "What a policy wrote after a window, word for word; nothing of other inducers.",
    },
    templates=["persona_label", "persona_set"],
    induces=True,
    code_version="2",
)
def persona_sets(
    memories: pd.DataFrame,
    memory_events: pd.DataFrame,
    events: pd.DataFrame,
    set_policies: pd.DataFrame,
    inducer: Inducer,
    embedder: Embedder,
    false_discovery: float,
    seed: int,
    domain: Domain,
    chat: ChatSetup,
    set_writing: SetWriting | None,
    samplers: Samplers,
) -> list[Output[pd.DataFrame]]:
    """Sets of personas from groups of memories, by one inducer."""
    users, intents = users_of(memories, memory_events, events, embedder)
    make: ByClusters | ByPolicy = ByClusters(inducer, false_discovery, embedder.reach)
    writer = chat.model.name if inducer in LABELLED else None
    if set_writing is not None:
        sampler = samplers.set_sampler(set_policies)
        told = {user.user_id: own for user, own in zip(users, intents, strict=True)}
        rate, reach = false_discovery, embedder.reach
        make = ByPolicy(told, sampler, set_writing, rate, reach, domain, chat.prompts)
        writer = sampler.name
    made = induce(memories, users, events, make, inducer, seed, domain, chat, writer)
    written = make.writings(domain.name, inducer) if isinstance(make, ByPolicy) else NO_WRITINGS
    return [
        Output(made.persona_sets, metadata={"personas": len(made.persona_sets)}),
        Output(made.persona_memories),
        Output(made.dropped_personas),
        Output(written, metadata={"unreadable": int(written["note"].notna().sum())}),
    ]


@table(
    "planted_people",
    tables={
        "planted_personas": "What generated people are after, and from when to when.",
        "planted_events": "Of each of their events, the persona that it belongs to, or none.",
    },
    planted=True,
    induces=True,
)
def planted_personas(
    people: PlantedPeople | None, domain: Domain, session_silence: float, user_sampling: UserSampling
) -> list[pd.DataFrame]:
    """The truth behind generated logs; empty for any others."""
    log = planted_log(people)
    taking_part = events_of_log(log, domain, session_silence, user_sampling)
    truth = planted_personas_of(people).assign(domain=domain.name)
    truth = truth[truth["user_id"].isin(taking_part["user_id"])]
    return [truth.reset_index(drop=True), scores.events_with_themes(log, taking_part)]


@table(
    "planted_scores",
    tables={
        "planted_scores": "How well each person's set agrees, after each window, with the planted personas"
        " that hold then.",
        "planted_changes": "Whether sets notice that a planted persona begins or ends, and leave others be.",
    },
    planted=True,
    induces=True,
)
def planted_scores(
    persona_sets: pd.DataFrame,
    persona_memories: pd.DataFrame,
    memory_events: pd.DataFrame,
    events: pd.DataFrame,
    planted_personas: pd.DataFrame,
    planted_events: pd.DataFrame,
    inducer: Inducer,
) -> list[pd.DataFrame]:
    """How well each person's sets agree with the planted personas."""
    if inducer not in INDUCERS:  # policies write sets of evaluation users
        events = events[events["split"] == "eval"]
        planted_personas, planted_events = (
            rows[rows["user_id"].isin(events["user_id"])] for rows in (planted_personas, planted_events)
        )
    given = (persona_sets, persona_memories, memory_events, events, planted_personas, planted_events, inducer)
    return [scores.planted_scores(*given), planted_changes(*given)]


@table(
    "induction",
    tables={
        "induction_table": "Every inducer after every window, evaluation users: how many personas, and how"
        " well they agree.",
        "changes_table": "How often each inducer notices that planted personas begin and end, and leaves"
        " others be.",
    },
    reads={
        "persona_sets": In("persona_sets", every_partition, optional=True),
        "planted_scores": In("planted_scores", every_partition, optional=True),
        "planted_changes": In("planted_changes", every_partition, optional=True),
        "planted_personas": In("planted_personas", every_partition, optional=True),
        "events": In("events", every_partition, optional=True),
    },
    induces=True,
)
def induction_table(
    persona_sets: pd.DataFrame,
    planted_scores: pd.DataFrame,
    planted_changes: pd.DataFrame,
    planted_personas: pd.DataFrame,
    events: pd.DataFrame,
    evaluated_domains: tuple[str, ...],
    inducers: tuple[str, ...],
    seed: int,
) -> list[pd.DataFrame]:
    """Every inducer, over the evaluation users of all domains."""
    frames = (persona_sets, planted_scores, planted_changes, planted_personas, events)
    sets, scored, changed, planted, done = (rows[rows["domain"].isin(evaluated_domains)] for rows in frames)
    return [
        scores.induction_table(sets, scored, planted, done, inducers, seed),
        changes_table(changed, seed),
    ]
