"""`deeper why`: what a persona of somebody rests on, down to the lines of the source."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deeper_assets.cli_options import HOME, experiment_in
from deeper_assets.method.exceptions import DeeperError

if TYPE_CHECKING:
    import pandas as pd

    from deeper_assets.resources import Experiment


@click.command("why")
@HOME
@click.option("--user", required=True, help="Whose personas.")
@click.option("--persona", type=click.IntRange(0), help="Only this one, with all of its memories.")
@click.option("--domain", help="Where several domains have that user.")
@click.option("--window", type=click.IntRange(0), help="The set after this window.  [default: the last one]")
def why_command(
    home: Path | None, user: str, persona: int | None, domain: str | None, window: int | None
) -> None:
    """Show what is said of a person, and why: memories, events and the lines they were read from."""
    from deeper_assets.reports.induction import Why, why_as_text

    experiment = experiment_in(home)
    if domain is not None:
        experiment.domain(domain)
    there = experiment.warehouse.load("events", columns=["domain", "user_id"])
    domains = sorted(
        set(there.loc[there["user_id"] == user, "domain"])
        & ({domain} if domain else experiment.domains.keys())
    )
    if not domains:
        raise DeeperError(
            f"no events of user {user!r}" + (f" in {domain!r}" if domain else "") + f" in {experiment.home};"
            " `deeper run --branches induction` reads them"
        )
    if len(domains) > 1:
        raise DeeperError(f"user {user!r} is in {', '.join(domains)}: say which with --domain")
    events = _of(experiment, "events", user, domains[0])
    _refuse_older_sets(experiment, domains[0])
    last = int(events["window"].max())
    after = last if window is None else window
    if after > last:
        raise DeeperError(f"user {user!r} has no window {after}; the last one is {last}")
    of_window = {
        name: rows[(rows["inducer"] == "clusters") & (rows["window"] == after)]
        for name in ("persona_sets", "persona_memories", "dropped_personas")
        for rows in [_of(experiment, name, user, domains[0])]
    }
    known = sorted(set(of_window["persona_sets"]["persona"]))
    if persona is not None and persona not in known:
        told = f"those after window {after}: {', '.join(map(str, known))}" if known else "there is none"
        raise DeeperError(f"user {user!r} has no persona {persona}; {told}")
    ended = int((of_window["persona_sets"]["state"] == "ended").sum())
    counted = f"{len(known) - ended} persona{'s' if len(known) - ended != 1 else ''}"
    click.echo(
        f"{user} ({domains[0]}) after window {after}: {counted}" + (f", {ended} just ended" if ended else "")
    )
    told = why_as_text(
        Why(
            of_window["persona_sets"],
            of_window["persona_memories"],
            _of(experiment, "memories", user, domains[0]),
            _of(experiment, "memory_events", user, domains[0]),
            events,
            of_window["dropped_personas"],
        ),
        persona,
    )
    if told:
        click.echo(told)


def _refuse_older_sets(experiment: "Experiment", domain: str) -> None:
    """Personas that were made of other memories than are stored by now would show the wrong ones."""
    versions = experiment.warehouse.current()
    contents = {version.place: version.content for version in versions}
    made = {"domain": domain, "inducer": "clusters"}
    for version in versions:
        if version.table != "persona_sets" or version.partition != made:
            continue
        if any(contents.get(read.place) != read.content for read in version.inputs):
            raise DeeperError(
                f"the memories of {domain!r} are newer than its personas; `deeper run` makes these anew"
            )


def _of(experiment: "Experiment", table: str, user: str, domain: str) -> "pd.DataFrame":
    rows = experiment.warehouse.load(table, {"domain": [domain]})
    return rows[rows["user_id"] == user]
