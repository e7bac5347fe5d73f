"""The `deeper` command, and the way it fails; some of its commands are in modules beside it (`cli_*`)."""

import atexit
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deeper_assets import __version__
from deeper_assets.cli_download import download_group
from deeper_assets.cli_export import export_group
from deeper_assets.cli_init import init_command
from deeper_assets.cli_journal import journal_group
from deeper_assets.cli_options import HOME, experiment_in, opened_home
from deeper_assets.cli_why import why_command
from deeper_assets.explaining import explained
from deeper_assets.method.exceptions import DeeperError, did_you_mean

if TYPE_CHECKING:
    from deeper_assets.resources import Experiment
    from deeper_assets.running import Outcome, Report


class _Count(click.ParamType[int | str]):
    name = "N|all|paper"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A positive whole number, or one of the words all and paper."""
        if isinstance(value, str) and value.lower() in ("all", "paper"):
            return value.lower()
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'all' nor 'paper'", param, ctx)
        if number < 1:
            self.fail(f"{number} is too few; 1 or more, or 'all'", param, ctx)
        return number


_ABOVE_0 = click.FloatRange(min=0, min_open=True)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Errors are one line and a non-zero exit; put --debug before the command for the traceback.",
)
@click.version_option(__version__, prog_name="deeper")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Personas that predict: from rating histories to readable personas, refined round after round.

    \b
    Start here, with nothing but this machine:
      deeper run                                 generated ratings, every step, the table with floors
      deeper report --html report.html           the same as a page, with plots and personas
      deeper lineage mae_table --domain book     what the book figures were derived from
      deeper rejects                             which users and ratings fell out, and why
      deeper run --branches induction            several personas a person, each with its evidence
      deeper why --user book-p00003              what is said of a person, and why
    \b
    Then your own:
      deeper init ratings.csv                    look at ratings of your own, and write their profile
      deeper run --profile ratings.yaml          run it, or any settings of your own
      deeper run --data FOLDER                   the published rating files
      deeper download movielens --to FOLDER      an original data set, from its publisher
    \b
    With real models:
      deeper estimate --profile paper            what a run would ask and cost, before anything is spent
      deeper export model FOLDER                 what was trained, for others
    """  # noqa: D301 - \b tells click to keep these lines as they are
    context.obj = debug


def _of_experiment(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which experiment is meant, and which of its domains."""
    options = (
        HOME,
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            help="Folder with the published rating files.  [default: ratings generated here]",
        ),
        click.option("--profile", help="Built-in profile, or a YAML file of settings.  [default: offline]"),
        click.option("--domains", help="Evaluate these, with commas, or `all`.  [default: your own, or all]"),
        click.option("--train-users", type=_Count(), help="Training users a domain, at most."),
        click.option("--eval-users", type=_Count(), help="Evaluation users a domain, at most."),
        click.option("--branches", help="refinement, induction or both, with commas.  [default: refinement]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@_of_experiment
@click.option("--refresh", help="Read the ratings of these again, separated by commas, or of `all`.")
def run(home: Path | None, refresh: str | None, **flags: Any) -> None:
    """Make everything that is missing or stale, then print the table.

    What is given here is recorded in the home folder, so that the next run, the report and `dagster dev` on
    the same home mean the same experiment, but for --refresh. A killed run goes on where it was.
    """
    from deeper_assets.running import run_everything

    given = _given(**flags)
    experiment = experiment_in(home, given)
    anew = _names(refresh, "--refresh") if refresh else []
    read_again = experiment.domains_in_force if isinstance(anew, str) else anew

    from deeper_assets.instance import quiet_dagster, show_readings

    quiet_dagster()
    show_readings()
    with _progress() as progress:
        outcome = run_everything(experiment, progress, given, read_again)
    _say_what_was_done(outcome)
    _say_what_it_cost(experiment)
    refined = "refinement" in experiment.settings.branches
    if refined and (not outcome.failed or not experiment.warehouse.load("mae_table").empty):
        _print_tables(experiment)
    if "induction" in experiment.settings.branches and not outcome.failed:
        _print_induction(experiment)
    click.echo(f"\nLook at it: deeper ui --home {experiment.home}")
    if outcome.failed:
        raise click.exceptions.Exit(1)


@cli.command()
@_of_experiment
@click.option("--seconds-per-request", type=_ABOVE_0, help="Of the chat model.  [default: 3]")
@click.option("--candidates-per-second", type=_ABOVE_0, help="Texts of the policy.  [default: 20]")
@click.option("--training-tokens-per-second", type=_ABOVE_0, help="Of a training.  [default: 8000]")
def estimate(home: Path | None, **flags: Any) -> None:
    """Print what a run would ask, sample and train, what that costs, and what was assumed.

    Nothing is asked, made or recorded. With the profile paper and no data, the paper's users are counted.
    """
    from deeper_assets.estimate_text import as_text
    from deeper_assets.estimating import Rates
    from deeper_assets.estimating import estimate as estimated

    rates = {rate.name: value for rate in fields(Rates) if (value := flags.pop(rate.name)) is not None}
    experiment = experiment_in(home, _given(**flags))
    click.echo(as_text(estimated(experiment, Rates(**rates))))


@cli.command()
@HOME
@click.option("--port", type=click.IntRange(1, 65535), help="To listen on.  [default: 3000, or a free one]")
def ui(home: Path | None, port: int | None) -> None:
    """Open the home folder in Dagster's UI: a webserver and its daemon, until Ctrl-C."""
    # Neither Dagster nor pandas is imported here: the page would be there seconds later.
    from deeper_assets.layers import home_folder, settings_files
    from deeper_assets.privacy import close_to_others
    from deeper_assets.ui import free_port, instance_folder

    folder = home_folder(home)
    files = settings_files(folder)  # settings that cannot be read are said here, not on a page
    close_to_others(folder)  # also for the processes that are started below
    instance = instance_folder(folder)
    chosen = free_port(port)
    if chosen is None:
        raise DeeperError(f"port {port} is taken; without --port a free one is chosen")
    os.environ |= {"DEEPER_HOME": str(folder), "DAGSTER_HOME": str(instance)}
    told = [str(folder), str(chosen), *map(str, files)]
    os.execv(sys.executable, [sys.executable, "-m", "deeper_assets.ui", *told])


@cli.command()
@HOME
@click.option("--json", "as_json_", is_flag=True, help="The tables as JSON, for other programs.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one page to this file.")
def report(home: Path | None, as_json_: bool, html: Path | None) -> None:
    """Print the tables of what has been made, methods beside floors."""
    from deeper_assets.graph import Graph
    from deeper_assets.privacy import for_others
    from deeper_assets.reports.text import as_json

    experiment = experiment_in(home)
    if not as_json_ and html is None:
        if "refinement" in experiment.settings.branches:
            _print_tables(experiment)
        if "induction" in experiment.settings.branches:
            _print_induction(experiment)
        return
    branches = experiment.settings.branches
    refined = as_json_ or "refinement" in branches
    table = _mae_table(experiment) if refined else experiment.warehouse.load("mae_table")
    comparison = experiment.warehouse.load("comparison_table")
    if others := Graph.of(experiment).made_otherwise():
        click.echo(f"made from other settings or inputs than now: {', '.join(others)}", err=True)
    if html is not None:
        from deeper_assets.history import re_evaluations
        from deeper_assets.instance import instance_to_read
        from deeper_assets.reports.page import render_page
        from deeper_assets.why import people_to_read

        with instance_to_read(experiment.home) as instance:
            done = re_evaluations(instance)
        sample, settings = _sample_of_personas(experiment), experiment.settings
        stand_in = settings.chat.engine == "offline"
        induces = "induction" in branches
        page = render_page(
            *(table, comparison, sample, done, settings.profile, stand_in),
            induction=experiment.warehouse.load("induction_table") if induces else None,
            induced=people_to_read(experiment) if induces else [],
        )
        with for_others():
            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(page, encoding="utf-8")
        click.echo(f"wrote {html}", err=True)
    if as_json_:
        click.echo(json.dumps(as_json(table, comparison, experiment.settings.profile), indent=1))


@cli.command()
@click.argument("table")
@HOME
@click.option("--domain", help="Only this domain's part of the tree.")
@click.option("--user", help="Also say which of a user's rows stand in each table.")
def lineage(table: str, home: Path | None, domain: str | None, user: str | None) -> None:
    """Show what TABLE was derived from: inputs, runs, settings, models and source files, as a tree."""
    from deeper_assets.lineage import render, trace

    experiment = experiment_in(home)
    if domain is not None:
        experiment.domain(domain)
    click.echo(render(trace(experiment.warehouse, table, domain, user)))


@cli.command()
@HOME
@click.option("--domain", help="Only this domain, with examples.")
@click.option("--reason", help="Only this reason, with more examples.")
def rejects(home: Path | None, domain: str | None, reason: str | None) -> None:
    """Show why users and ratings fell out, and the settings that would change it."""
    from deeper_assets.method.induction import rejects as of_events
    from deeper_assets.method.windows import REASONS
    from deeper_assets.reports.rejects import rejects_as_text
    from deeper_assets.store.rejects import EVENTS, RATINGS, read_rejects

    experiment = experiment_in(home)
    if domain is not None:
        experiment.domain(domain)
    known = list(dict.fromkeys([*REASONS, *of_events.REASONS]))
    if reason is not None and reason not in known:
        raise DeeperError(
            f"reason {reason!r} is not known{did_you_mean(reason, known)}; known: {', '.join(known)}"
        )
    each = 20 if reason is not None else 3 if domain is not None else 0
    with experiment.warehouse.connect(writing=False) as connection:
        both = {kind: read_rejects(connection, domain, reason, each, kind) for kind in (RATINGS, EVENTS)}
    there = {kind: fell_out for kind, fell_out in both.items() if not fell_out.domains.empty}
    if not there:
        what = "nothing" if domain is None else f"nothing of {domain!r}"
        raise DeeperError(f"{what} has been read in {experiment.home} yet; `deeper run` reads it")
    texts = [
        rejects_as_text(of.domains, of.counts, of.examples, reason, logs=kind is EVENTS)
        for kind, of in there.items()
    ]
    click.echo("\n\n".join(texts))


cli.add_command(export_group)
cli.add_command(download_group)
cli.add_command(init_command)
cli.add_command(journal_group)
cli.add_command(why_command)


def main() -> None:
    """Entry point: errors meant for people are one line, whatever went wrong."""
    status = _status()
    if "torch" in sys.modules:  # DuckDB complains of leaks where the interpreter is taken down with it
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _status() -> int:
    """Runs the command; its exit status."""
    debug = "--debug" in sys.argv
    try:
        status: int | None = cli.main(standalone_mode=False)  # a number only where an Exit was raised
        return status or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; the same command goes on from here", err=True)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost frame: every error becomes one readable line
        if debug:
            traceback.print_exc()
        click.echo(f"deeper: {explained(error, opened_home())}", err=True)
        return 1


@contextmanager
def _progress() -> Iterator["Report"]:
    """Progress on standard error: what is at work, done/total, time left."""
    from tqdm import tqdm

    def step(what: str, done: int, total: int) -> None:
        if bar.disable:
            gone = time.monotonic() - started
            left = f"about {bar.format_interval(gone / done * (total - done))}" if done else "?"
            click.echo(f"{done}/{total} {what}, {bar.format_interval(gone)} gone, {left} left", err=True)
        else:
            bar.total, bar.n = total, done
            bar.set_description_str(what)

    started = time.monotonic()
    form = "{n_fmt}/{total_fmt} {desc:<45.45} {elapsed} gone, about {remaining} left"
    # In a log file, redrawing would glue everything into one line.
    with tqdm(total=1, unit="run", bar_format=form, disable=not sys.stderr.isatty()) as bar:
        yield step


def _given(
    data: Path | None,
    profile: str | None,
    domains: str | None,
    train_users: int | str | None,
    eval_users: int | str | None,
    branches: str | None,
) -> dict[str, Any]:
    """The settings that flags give."""
    if data is not None and not data.is_dir():
        raise DeeperError(
            f"--data {data}: no such folder; expected the folder that holds the published datasets"
        )
    flags = {
        "data": data.resolve() if data else None,
        "profile": _absolute_if_file(profile) if profile else None,
        "evaluate": _names(domains, "--domains") if domains else None,
        "train_users": train_users,
        "eval_users": eval_users,
        "branches": branches,
    }
    return {name: value for name, value in flags.items() if value is not None}


def _names(given: str, flag: str) -> str | list[str]:
    """Names separated by commas, or the word all."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise DeeperError(f"{flag} {given!r} names no domain; give names, or `all`")
    return "all" if "all" in (name.lower() for name in names) else names


def _mae_table(experiment: "Experiment") -> Any:
    table = experiment.warehouse.load("mae_table")
    if table.empty:
        raise DeeperError(
            f"no tables in {experiment.home} yet; `deeper run --home {experiment.home}` makes them. If it has"
            f" run, nobody was evaluated; `deeper rejects --home {experiment.home}` says why"
        )
    return table


def _print_tables(experiment: "Experiment") -> None:
    from deeper_assets.graph import Graph
    from deeper_assets.reports.text import as_text

    table, comparison = _mae_table(experiment), experiment.warehouse.load("comparison_table")
    click.echo("\n" + as_text(table, comparison))
    others = Graph.of(experiment).made_otherwise()
    if others:
        names = ", ".join(others)
        click.echo(f"\nMade from other settings or inputs than now: {names}; `deeper run` makes them anew.")
    if experiment.settings.chat.engine == "offline":
        click.echo(
            "\nThe offline stand-in wrote and read these personas: its figures show the mechanism only."
        )


def _print_induction(experiment: "Experiment") -> None:
    from deeper_assets.reports.induction import induction_as_text
    from deeper_assets.reports.next_items import next_items_as_text

    table, ranked = (experiment.warehouse.load(name) for name in ("induction_table", "next_items_table"))
    if table.empty:
        click.echo("\nno personas were induced: no evaluation user has events")
        return
    click.echo("\n" + induction_as_text(table, experiment.warehouse.load("changes_table")))
    if not ranked.empty:
        click.echo("\n" + next_items_as_text(ranked))
    if experiment.settings.chat.engine == "offline":
        click.echo("\nThe offline stand-in read these events: its figures show the mechanism only.")


def _sample_of_personas(experiment: "Experiment") -> Any:
    """One user's personas in each domain, for people to read: of those in all rounds the first by id.

    They are those of `deeper`, or of IncUpdate where no policy has been trained.
    """
    import pandas as pd

    samples = []
    for domain in experiment.refined:
        for method in ("deeper", "inc_update"):
            rows = experiment.warehouse.load("persona_rounds", {"domain": [domain], "method": [method]})
            if not rows.empty:
                furthest = rows.loc[rows["round"] == rows["round"].max(), "user_id"]
                samples.append(rows[rows["user_id"] == furthest.min()])
                break
    return pd.concat(samples, ignore_index=True) if samples else pd.DataFrame()


def _say_what_was_done(outcome: "Outcome") -> None:
    rows = sum(len(tables) for _, tables in outcome.made)
    click.echo(
        f"{rows} partitions made in {len(outcome.made)} runs, {len(outcome.up_to_date)} had nothing to do"
    )
    for warning in outcome.warnings:
        click.echo(f"deeper: warning: {warning}", err=True)
    for unit, failure in outcome.failed:
        if click.get_current_context().find_root().obj:
            click.echo(failure.details, err=True)
        click.echo(f"deeper: {unit}: {failure.reason}", err=True)
    if outcome.skipped:
        click.echo(f"deeper: {len(outcome.skipped)} runs that need these were left out", err=True)


def _say_what_it_cost(experiment: "Experiment") -> None:
    usage = experiment.usage()
    if not usage.empty:
        from deeper_assets.reports.text import money_as_text

        click.echo(f"chat model: {money_as_text(usage, experiment.settings.max_cost_usd)}")


def _absolute_if_file(profile: str) -> str:
    path = Path(profile).expanduser()
    return str(path.resolve()) if path.is_file() else profile


if __name__ == "__main__":
    main()
