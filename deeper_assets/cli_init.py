"""`deeper init`: a profile for ratings or events of one's own."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deeper_assets.method.domains import Scale
    from deeper_assets.sources.amounts import Marks

COLUMNS = {
    "user": "The user's id.",
    "item": "The item's id.",
    "title": "What the item is called.",
    "rating": "The rating.",
    "amount": "Without ratings: how much was done.",
    "time": "When it was given.",
    "order": "A number that orders a user's ratings.",
    "split": "Whether the user trains or is evaluated: train or eval.",
    "categories": "Genres, tags or categories of the item.",
    "text": "Of a log of events: what it was about.",
    "session": "Of a log of events: the session.",
    "kind": "Of a log of events: what was done.",
    "sign": "Of a log of events: a number, below 0 disliked.",
}
"""What a column can be, with the help of its flag."""


class _Scale(click.ParamType["Scale"]):
    name = "LOWEST:HIGHEST:STEP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Scale":
        """Three numbers, as 1:5:1."""
        from deeper_assets.method.domains import Scale

        try:
            lowest, highest, step = map(float, value.split(":"))
            return Scale(lowest, highest, step)
        except ValueError as error:
            self.fail(f"{value!r} is no scale ({error}); write it like 1:5:1 or 0.5:5:0.5", param, ctx)


def _columns(command: Callable[..., None]) -> Callable[..., None]:
    """A flag for each thing that a column can be."""
    for name, what in reversed(COLUMNS.items()):
        command = click.option(f"--{name}", metavar="COLUMN", help=f"{what}  [default: a guess]")(command)
    return command


@click.command("init")
@click.argument("source", metavar="FILE|QUERY")
@click.option(
    "--database", type=click.Path(path_type=Path), help="DuckDB file: ask it QUERY, or for that TABLE."
)
@click.option("--dsn-env", metavar="VARIABLE", help="Ask the Postgres whose connection string it holds.")
@_columns
@click.option("--scale", type=_Scale(), help="The marks of ratings, e.g. 1:5:1.  [default: a guess]")
@click.option(
    "--marks",
    type=click.Choice(["domain", "user", "item"]),
    help="Without ratings: among which amounts each is ranked.  [default: domain]",
)
@click.option("--item-type", metavar="WORDS", help="One item, in the singular.  [default: a guess]")
@click.option("--name", help="The domain's name.  [default: a guess, from the file or an item]")
@click.option("--hash-ids", is_flag=True, help="Salt and hash the ids of users; none of them is shown.")
@click.option("--extends", default="offline", show_default=True, help="The profile that yours builds on.")
@click.option(
    "--profile", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: NAME.yaml]"
)
@click.option("--force", is_flag=True, help="Overwrite the profile if it is there.")
def init_command(
    source: str,
    database: Path | None,
    dsn_env: str | None,
    scale: "Scale | None",
    marks: "Marks | None",
    item_type: str | None,
    name: str | None,
    hash_ids: bool,
    extends: str,
    profile: Path | None,
    force: bool,
    **columns: str | None,
) -> None:
    """Look at ratings or events of your own, and write the profile with which `deeper run` takes them.

    They lie in a CSV, TSV, JSON lines (also .gz) or Parquet file; or they are what a QUERY gives, asked of
    files, of a DuckDB file, or of Postgres. The command shows its guesses and the flags that change them,
    the first rows as they are read, what would be rejected, and how many users have enough ratings. Rows with
    a time and a text, and without a rating, are taken for a log of events.

    A column flag takes `none` for a column that is not to be used.
    """
    from deeper_assets.method.cutting import Preview
    from deeper_assets.proposing import Said, as_values, place_of, write_profile
    from deeper_assets.reports import proposal as reports

    folder = profile.resolve().parent if profile else Path.cwd()
    place = place_of(source, database, dsn_env, folder)
    given = {role: column for role, column in columns.items() if column is not None}
    written, proposal, preview = write_profile(
        place, Said(given, scale, marks, item_type, name, extends, hash_ids), profile, force=force
    )
    click.echo(reports.proposal_as_text(as_values(proposal), proposal.remarks, proposal.notes))
    if isinstance(preview, Preview):
        shown, lack = reports.preview_as_text(preview), reports.why_not_run(preview)
    else:
        shown, lack = reports.log_preview_as_text(preview), reports.why_not_run_log(preview)
    click.echo("\n" + shown)
    if lack is not None:
        click.echo(
            f"\nwrote {written}, but a run with it would come to nothing. {lack[0].upper()}{lack[1:]}."
        )
        return
    click.echo(f"\nwrote {written}; next: deeper run --profile {shlex.quote(str(written))}")
