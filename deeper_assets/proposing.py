"""`deeper init`: a profile for ratings or events of somebody's own, and what a run would make of them.

What flags say stands; the rest is guessed (`sources.guessing`). Then the rows are read and cut by the very
statements of a run, under the profile that is proposed.
"""

import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from duckdb import DuckDBPyConnection

from deeper_assets.layers import load_settings
from deeper_assets.method.cutting import Preview, cut_histories, preview
from deeper_assets.method.domains import FIVE_STARS, PAPER_DOMAINS, Domain, Scale
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.cutting import LogPreview, cut_log, preview_of_log
from deeper_assets.method.sql import identifier
from deeper_assets.reports.rejects import shown
from deeper_assets.resources import Experiment
from deeper_assets.settings import ALL
from deeper_assets.sources.amounts import Marks
from deeper_assets.sources.custom import ColumnMap, CustomSource
from deeper_assets.sources.events import EventColumns, EventLog
from deeper_assets.sources.guessing import NONE, Guessed, guess_columns, guess_item_type, guess_name
from deeper_assets.sources.guessing_events import ONLY_OF_EVENTS, ONLY_OF_RATINGS, guess_events, is_rated
from deeper_assets.sources.hashed import HashedSource
from deeper_assets.sources.looking import Place, looked_at, tables_of
from deeper_assets.sources.scales import guess_scale
from deeper_assets.sources.shape import Source, Workshop, quarter_of_memory

_DATABASES = (".duckdb", ".ddb", ".db")
_QUERY = re.compile(r"\s*(select|from|with|table|values|pivot|unpivot)\b", re.IGNORECASE)
_ANY = Scale(0, 1, 1)
"""Stands in for the scale until the marks are known."""


@dataclass(frozen=True)
class Said:
    """What flags say of a profile; None for what is to be guessed.

    Attributes:
        columns: what a column is → its name, or `none`.
        scale: the marks.
        marks: how amounts become ratings; there are no ratings then, unless `columns` says which.
        item_type: what one item is called.
        name: of the domain.
        extends: the profile that the new one builds on.
        hash_ids: whether user ids are to be hashed.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    scale: Scale | None = None
    marks: Marks | None = None
    item_type: str | None = None
    name: str | None = None
    extends: str = "offline"
    hash_ids: bool = False


@dataclass(frozen=True)
class Proposal:
    """What stands in a profile.

    Attributes:
        place: where the ratings lie.
        domain: name, item type and scale.
        columns: what a column is → its name, in the order of a column map.
        extends: the profile that it builds on.
        remarks: what is unsure, and what flag says otherwise: by `item_type`, `scale`, `marks`, or what a
            column is.
        notes: what else was seen that may matter.
        marks: how amounts become ratings; None where there are ratings.
        hash_ids: whether user ids are hashed.
        log: whether the rows are events, and no ratings.
    """

    place: Place
    domain: Domain
    columns: Mapping[str, str]
    extends: str
    remarks: Mapping[str, str]
    notes: Sequence[str]
    marks: Marks | None = None
    hash_ids: bool = False
    log: bool = False


def place_of(source: str, database: Path | None, dsn_env: str | None, folder: Path) -> Place:
    """Where the ratings lie that a command names.

    Args:
        source: a file; a query; or the name of a table of `database` or of a Postgres.
        database: a DuckDB file that the query is asked of.
        dsn_env: the environment variable with the connection string of the Postgres that it is asked of.
        folder: where the profile will lie; relative paths of a query start there.

    Raises:
        DeeperError: it is none of these; or a DuckDB file, and which of its tables is meant is not said.
    """
    if database is not None and dsn_env is not None:
        raise DeeperError(
            "a query is asked of a DuckDB file (--database) or of Postgres (--dsn-env), not both"
        )
    if database is not None or dsn_env is not None:
        tables = tables_of(database) if database is not None else []
        if source in tables:
            query = f"SELECT * FROM {source if source.isidentifier() else identifier(source)}"
        else:
            query = source if re.search(r"\s", source.strip()) else f"SELECT * FROM {source}"
        return Place(None, database and database.resolve(), query, dsn_env, folder)
    path = Path(source).expanduser()
    if path.name.lower().endswith(_DATABASES):
        tables = tables_of(path)
        if len(tables) != 1:
            raise DeeperError(
                f"{path} has {len(tables)} tables ({', '.join(tables)}); say which, or ask a query: "
                f"deeper init TABLE --database {path}"
            )
        return Place(None, path.resolve(), f"SELECT * FROM {identifier(tables[0])}", None, folder)
    if _QUERY.match(source) and not path.exists():
        return Place(query=source, folder=folder)
    if not path.exists():
        raise DeeperError(
            f"{source} does not exist; name a file of ratings, a table with --database or --dsn-env, or a"
            " query that begins with SELECT or FROM"
        )
    return Place(file=path.resolve())


def write_profile(
    place: Place, said: Said, target: Path | None, *, force: bool
) -> tuple[Path, Proposal, Preview | LogPreview]:
    """Write a profile, and tell where, what stands in it, and what a run with it would read.

    It is written to `target`, or to a file of the current folder that is called as the domain is. It is
    written whole or not at all: where it cannot be run, nothing is left of it.

    Raises:
        DeeperError: the file is there and `force` is not given; something can neither be guessed nor is it
            said; or the ratings cannot be read.
    """
    _refuse_there(target, force)
    _refuse_contradictions(said)
    with looked_at(place) as look:
        unrated = {"rating": NONE} if said.marks is not None else {}
        given = {**unrated, **said.columns}
        rated = said.scale is not None or is_rated(look, given)
        events = None if rated else guess_events(look, given)
        guessed = events or guess_columns(look, given)
    proposal = _named(place, said, guessed, log=events is not None)
    target = target or Path(f"{proposal.domain.name}.yaml")
    _refuse_there(target, force)
    with (
        tempfile.TemporaryDirectory(prefix="deeper-") as spill,
        Workshop(Path(spill), quarter_of_memory()).open() as (connection, folder),
    ):
        report = _source(proposal).load(connection, folder)
        name = proposal.domain.name
        if proposal.log:
            with _tried(target, profile_text(proposal, target)) as experiment:
                rules = experiment.session_rules(name)
                accounts = cut_log(connection, experiment.domain(name), rules, experiment.user_sampling(name))
                return target, proposal, preview_of_log(connection, accounts, rules)
        if said.scale is None and proposal.marks is None:
            marks = connection.execute(
                "SELECT rating, count(*) FROM ratings WHERE rating IS NOT NULL GROUP BY 1"
            )
            counts = dict(marks.fetchall())
            _refuse_no_numbers(connection, counts)
            proposal = _scaled(proposal, counts)
        proposal = _with_blind_policy(proposal)
        with _tried(target, profile_text(proposal, target)) as experiment:
            sampling = experiment.user_sampling(name)
            accounting = cut_histories(
                connection, experiment.domain(name), experiment.rules, sampling, report.placed
            )
            return target, proposal, preview(connection, accounting, experiment.rules)


def as_values(proposal: Proposal) -> dict[str, str]:
    """What is proposed, as people read it, by what its remarks are called."""
    domain, place = proposal.domain, proposal.place
    return {
        "domain": f"{domain.name}, of {place.called}",
        "item_type": domain.item_type,
        **({"scale": str(domain.scale)} if not proposal.log else {}),
        **({"marks": proposal.marks} if proposal.marks else {}),
        **proposal.columns,
    }


def _refuse_there(target: Path | None, force: bool) -> None:
    if target is not None and target.exists() and not force:
        raise DeeperError(f"{target} is there; --force writes it anew, --profile FILE writes another file")


def _refuse_contradictions(said: Said) -> None:
    rated = said.columns.get("rating", NONE) != NONE
    if rated and said.columns.get("amount", NONE) != NONE:
        raise DeeperError("a row has a rating or an amount: give --rating or --amount, not both")
    if rated and said.marks is not None:
        raise DeeperError("--marks makes ratings out of amounts: give --rating or --marks, not both")
    of_events = [role for role in ONLY_OF_EVENTS if said.columns.get(role, NONE) != NONE]
    of_ratings = [role for role in ONLY_OF_RATINGS if said.columns.get(role, NONE) != NONE]
    of_ratings += [flag for flag in ("marks", "scale") if getattr(said, flag) is not None]
    if of_events and of_ratings:
        raise DeeperError(
            f"--{of_events[0]} is of a log of events, --{of_ratings[0]} of ratings: give one of them"
        )


def _named(place: Place, said: Said, guessed: Guessed, *, log: bool) -> Proposal:
    """The proposal without its scale, where no flag says that; or of a log of events."""
    called, columns, remarks = _called(place), guessed.columns, {**guessed.unsure}
    item_type, by = said.item_type, ""
    if item_type is None:
        item_type, by = guess_item_type(
            columns.get("item", ""), columns.get("text" if log else "title"), called
        )
        remarks["item_type"] = f"a guess, from {by}; otherwise --item-type"
    name = said.name
    if name is None:
        name = guess_name(item_type, called, [ALL, *(domain.name for domain in PAPER_DOMAINS)])
    scale, marks = said.scale or _ANY, said.marks
    if log:
        scale = FIVE_STARS
    elif "rating" not in columns:
        marks = marks or "domain"
        scale = said.scale or FIVE_STARS
        remarks["marks"] = _RANKED if said.marks is None else ""
        remarks["scale"] = "" if said.scale else "five marks, as nobody gave any; otherwise --scale"
    domain = Domain(name, item_type, scale, seen=not log)
    told = {of: remark for of, remark in remarks.items() if remark}
    return Proposal(place, domain, columns, said.extends, told, guessed.notes, marks, said.hash_ids, log)


_RANKED = (
    "no column looks like a rating, so amounts are ranked among all of the domain; otherwise"
    " --rating, or --marks user or item"
)


def _scaled(proposal: Proposal, marks: Mapping[float, int]) -> Proposal:
    """The proposal with the scale that so many ratings of each mark make."""
    guessed = guess_scale(marks)
    remark = "; ".join(guessed.doubts)
    return replace(
        proposal,
        domain=replace(proposal.domain, scale=guessed.scale),
        remarks={**proposal.remarks, **({"scale": remark} if remark else {})},
    )


def _refuse_no_numbers(connection: DuckDBPyConnection, counts: Mapping[float, int]) -> None:
    """Raises where there are ratings, and none of them is a number."""
    [(ratings, example)] = connection.execute(
        "SELECT count(*), min_by(rating_text, row) FROM ratings WHERE rating_text IS NOT NULL"
    ).fetchall()
    if ratings and not counts:
        raise DeeperError(
            f"none of {ratings:,} ratings is a number, e.g. '{shown(example)}'; a query can convert them:"
            " \"SELECT * REPLACE (replace(rating, ',', '.') AS rating) FROM 'FILE'\" for a decimal comma"
        )


def _with_blind_policy(proposal: Proposal) -> Proposal:
    """The proposal, with a note where the policy of the profile offline reads no such marks."""
    scale = proposal.domain.scale
    whole, halves = (
        all(float(parts * of).is_integer() for of in (scale.lowest, scale.step)) for parts in (1, 2)
    )
    known = scale.lowest > 0 and (scale.highest <= (10 if whole else 5)) and halves
    if proposal.extends != "offline" or known:
        return proposal
    note = (
        "the policy of the profile offline reads marks from 1 to 10, and halves up to 5; with others it"
        " refines blindly. A query can bring them to such a scale, or --extends can name a profile with"
        " another policy"
    )
    return replace(proposal, notes=[*proposal.notes, note])


def _called(place: Place) -> str:
    """The name of the file or the table that was named, without an ending."""
    if place.file is not None:
        return place.file.name.partition(".")[0]
    table = re.fullmatch(r'SELECT \* FROM (?:"([^"]+)"|(?:\w+\.)*(\w+))', place.query or "")
    return table[1] or table[2] if table else ""


def _source(proposal: Proposal) -> Source:
    domain, columns, lies = proposal.domain, proposal.columns, vars(proposal.place)
    source: Source = (
        EventLog(domain, EventColumns(**columns), **lies)
        if proposal.log
        else CustomSource(domain, ColumnMap(**columns), **lies, marks=proposal.marks)
    )
    if not proposal.hash_ids:
        return source
    # No home is there yet that has a salt.
    return HashedSource(source, lambda: secrets.token_hex(32), "logged" if proposal.log else "ratings")


@contextmanager
def _tried(target: Path, text: str) -> Iterator[Experiment]:
    """The experiment of a profile, which becomes the file `target` where all goes well with it."""
    partial = target.with_name(target.name + ".partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DeeperError(
            f"{target} cannot be written ({error.strerror}); --profile FILE writes another file"
        ) from error
    try:
        nowhere = partial / "home"  # no home: nothing but the profile and the environment speaks
        yield Experiment(nowhere, load_settings(nowhere, {"profile": str(partial)}))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ the file


def profile_text(proposal: Proposal, target: Path) -> str:
    """The profile as YAML, with comments on what was guessed; paths as they are meant from its folder."""
    domain, scale = proposal.domain, proposal.domain.scale
    marks = {"lowest": scale.lowest, "highest": scale.highest, "step": scale.step}
    place = proposal.place
    where: dict[str, Any] = {
        "file": place.file and _from(target.resolve().parent, place.file),
        "database": place.database and _from(target.resolve().parent, place.database),
        "dsn_env": place.dsn_env,
        "query": place.query,
    }
    lines = [
        "# Written by `deeper init`. What was guessed can be corrected here, or by the flags that are named.",
        _line(0, "extends", proposal.extends, "or paper, local: real models"),
        *(["hash_ids: true"] if proposal.hash_ids else []),
        *(
            [_line(0, "branches", ["induction"], "nobody rated, so there is nothing to refine")]
            if proposal.log
            else []
        ),
        "domains:",
        f"  {domain.name}:",
        _line(4, "item_type", domain.item_type, proposal.remarks.get("item_type", "")),
        *([] if proposal.log else [_line(4, "scale", marks, proposal.remarks.get("scale", ""))]),
        *([_line(4, "marks", proposal.marks, proposal.remarks.get("marks", ""))] if proposal.marks else []),
        *(_line(4, name, value) for name, value in where.items() if value is not None),
        "    events:" if proposal.log else "    columns:",
        *(_line(6, role, name, proposal.remarks.get(role, "")) for role, name in proposal.columns.items()),
    ]
    return "\n".join(lines) + "\n"


def _from(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _line(indent: int, name: str, value: Any, remark: str = "") -> str:
    comment = "".join(sign for sign in remark if sign.isprintable())
    return f"{' ' * indent}{name}: {_written(value)}" + (f"   # {comment}" if comment else "")


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_written(part)}" for name, part in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6).strip()[1:-1]
