"""`deeper why`: what a persona of somebody rests on, down to the lines of the source."""

from pathlib import Path

import click

from deeper_assets.cli_options import HOME, experiment_in
from deeper_assets.method.exceptions import DeeperError


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
    from deeper_assets.reports.induction import why_as_text
    from deeper_assets.why import has_older_sets, why_of

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
    events = experiment.warehouse.load("events", {"domain": [domains[0]]}, ["user_id", "window"])
    events = events[events["user_id"] == user]
    if has_older_sets(experiment, domains[0]):
        raise DeeperError(
            f"the memories of {domains[0]!r} are newer than its personas; `deeper run` makes these anew"
        )
    last = int(events["window"].max())
    after = last if window is None else window
    if after > last:
        raise DeeperError(f"user {user!r} has no window {after}; the last one is {last}")
    why = why_of(experiment, domains[0], user, after)
    known = sorted(set(why.sets["persona"]))
    if persona is not None and persona not in known:
        told = f"those after window {after}: {', '.join(map(str, known))}" if known else "there is none"
        raise DeeperError(f"user {user!r} has no persona {persona}; {told}")
    ended = int((why.sets["state"] == "ended").sum())
    counted = f"{len(known) - ended} persona{'s' if len(known) - ended != 1 else ''}"
    click.echo(
        f"{user} ({domains[0]}) after window {after}: {counted}" + (f", {ended} just ended" if ended else "")
    )
    told = why_as_text(why, persona)
    if told:
        click.echo(told)
