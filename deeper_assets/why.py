"""What the personas of somebody rest on, read from the warehouse; and whose are shown on the report page."""

from typing import TYPE_CHECKING

from deeper_assets.reports.induction import INDUCER, Person, Why

if TYPE_CHECKING:
    import pandas as pd

    from deeper_assets.resources import Experiment

PEOPLE = 4
"""People on the report page, or one of each domain where there are more domains."""


def why_of(experiment: "Experiment", domain: str, user: str, window: int) -> Why:
    """What the personas of a user after a window rest on."""
    of_window = {
        name: rows[(rows["inducer"] == INDUCER) & (rows["window"] == window)]
        for name in ("persona_sets", "persona_memories", "dropped_personas")
        for rows in [_of(experiment, name, domain, user)]
    }
    return Why(
        of_window["persona_sets"],
        of_window["persona_memories"],
        _of(experiment, "memories", domain, user),
        _of(experiment, "memory_events", domain, user),
        _of(experiment, "events", domain, user),
        of_window["dropped_personas"],
    )


def has_older_sets(experiment: "Experiment", domain: str) -> bool:
    """Whether the personas of a domain were made of other memories than are stored by now."""
    versions = experiment.warehouse.current()
    contents = {version.place: version.content for version in versions}
    made = {"domain": domain, "inducer": INDUCER}
    return any(
        contents.get(read.place) != read.content
        for version in versions
        if version.table == "persona_sets" and version.partition == made
        for read in version.inputs
    )


def people_to_read(experiment: "Experiment") -> list[Person]:
    """A few evaluation users who have personas, the first of each domain by id, after their last window."""
    each = max(1, PEOPLE // max(1, len(experiment.evaluated)))
    people = []
    for domain in experiment.evaluated:
        if has_older_sets(experiment, domain):
            continue
        columns = ["user_id", "split", "window"]
        events = experiment.warehouse.load("events", {"domain": [domain]}, columns)
        last = events[events["split"] == "eval"].groupby("user_id", as_index=False)["window"].max()
        sets = experiment.warehouse.load("persona_sets", {"domain": [domain], "inducer": [INDUCER]})
        there = sets[sets["state"] != "ended"].merge(last, on=["user_id", "window"])
        for user in sorted(set(there["user_id"]))[:each]:
            window = int(last.loc[last["user_id"] == user, "window"].iloc[0])
            people.append(Person(domain, user, window, why_of(experiment, domain, user, window)))
    return people


def _of(experiment: "Experiment", table: str, domain: str, user: str) -> "pd.DataFrame":
    rows = experiment.warehouse.load(table, {"domain": [domain]})
    return rows[rows["user_id"] == user]
