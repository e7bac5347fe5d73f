"""Of whom an estimate plays the branch of several personas a person: events of some people of a domain.

All their splits are played together, because a persona of one is compared with what others did.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from deeper_assets.graph import Graph
from deeper_assets.method.cutting import WINDOWS as CUT
from deeper_assets.method.cutting import cut_histories
from deeper_assets.resources import Experiment
from deeper_assets.store.schema import TABLES

EVENTS = "events"
"""The table that the branch is played from."""

PEOPLE = 20
"""People of a domain that are played, at most; each stands for an equal share of all of them."""


@dataclass(frozen=True)
class SomeEvents:
    """Events of some people of a domain, for how many each of them stands, and their origin."""

    events: pd.DataFrame
    weight: float
    origin: str


def some_events(experiment: Experiment, name: str) -> SomeEvents:
    """Those of PEOPLE people at most, of both splits in their proportion."""
    graph, partition = Graph.of(replace(experiment, asks=False)), {"domain": name}
    if graph.is_stored(EVENTS, partition):
        return _some(experiment.warehouse.load(EVENTS, {"domain": [name]}), "stored in this home")
    generated = experiment.is_generated(name)
    frames = {
        "rating_windows": _none_of("rating_windows")
        if generated or experiment.is_log(name)
        else windows_of_source(experiment, name),
        "raw_ratings": _none_of("raw_ratings"),  # files and lines are asked about nothing
    }
    events = graph.make(graph.tables[EVENTS], partition, frames)[EVENTS].value
    return _some(events, "of generated people" if generated else "read from their sources")


def windows_of_source(experiment: Experiment, name: str) -> pd.DataFrame:
    """rating_windows of a domain, made now and not kept."""
    source, sampling = experiment.source(name), experiment.user_sampling(name)
    with experiment.workshop.open() as (connection, folder):
        placed = source.load(connection, folder).placed
        cut_histories(connection, source.domain, experiment.rules, sampling, placed)
        return connection.execute(f"FROM {CUT}").df()


def about_events(logs: Mapping[str, SomeEvents]) -> Iterator[str]:
    """What is assumed of the branch."""
    origins: dict[str, list[str]] = defaultdict(list)
    for name, log in logs.items():
        origins[log.origin].append(name)
    for origin, names in origins.items():
        yield f"events {origin}: {', '.join(names)}"
    yield f"memories and personas are counted on {PEOPLE} people of a domain at most, for all of them"
    yield (
        "memories and personas are those that the embedded stand-in reads, as many and as long: another model"
        " may read more or fewer. Each session is asked about once, and each group of memories"
    )


def _some(events: pd.DataFrame, origin: str) -> SomeEvents:
    sessions = events.groupby(["split", "user_id"])["session"].nunique().reset_index()
    people = sessions.sort_values(["split", "session", "user_id"])["user_id"].tolist()
    some = min(len(people), PEOPLE)
    chosen = [people[(2 * i + 1) * len(people) // (2 * some)] for i in range(some)]
    return SomeEvents(events[events["user_id"].isin(chosen)], len(people) / max(some, 1), origin)


def _none_of(table: str) -> pd.DataFrame:
    return pd.DataFrame(columns=list(TABLES[table].column_names))
