"""One HTML page: the tables with controls and floors, plots, and a few personas to read. No outside files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

from deeper_assets.method.errors import FEW_MISSING, MACRO, over_trainings
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.reports.induction import Person, evidence_of, figures_of, in_order, moment_of, words_of
from deeper_assets.reports.plots import as_address, mae_plot
from deeper_assets.reports.text import (
    PAPER_NOTE,
    covered,
    figure,
    interval,
    last_round,
    round_table,
    rounds_of,
    shares_missing,
    trainings,
)

MOST_MEMORIES = 30
"""Of a persona that the page shows, the latest ones."""

MOST_EVENTS = 20
"""Of a memory, the first ones; a session may have hundreds."""


@dataclass(frozen=True)
class ReEvaluation:
    """What came of a tick of the schedule.

    Attributes:
        tick: its time, UTC.
        made: domain and method of evaluations that were made.
        failed: of those that failed.
        before: macro average of the last round before, rating points, by method, control and floor.
        after: the same in the tables that followed; nothing where none did, because no row had changed.
    """

    tick: str
    made: Sequence[str]
    failed: Sequence[str]
    before: Mapping[str, float]
    after: Mapping[str, float]


def render_page(
    table: pd.DataFrame,
    comparison: pd.DataFrame,
    personas: pd.DataFrame,
    re_evaluations: Sequence[ReEvaluation],
    profile: str,
    stand_in: bool,
    induction: pd.DataFrame | None = None,
    induced: Sequence[Person] = (),
) -> str:
    """The report as HTML.

    Args:
        table: mae_table rows; where there are none, nothing is said of errors.
        comparison: comparison_table rows; where there are none, that part is left out.
        personas: persona_rounds rows of the users to show (domain, user_id, round, persona); may be empty.
        re_evaluations: what the schedule has done, the latest first; may be empty.
        profile: name of the profile, shown in the heading.
        stand_in: whether the embedded stand-in was the chat model, which the page then says.
        induction: induction_table rows; None where several personas a person were not asked for.
        induced: people whose several personas are shown, with what these rest on.
    """
    from jinja2 import Environment

    domains = list(dict.fromkeys(table["domain"]))
    names = [MACRO, *(name for name in domains if name != MACRO)] if domains else []
    template = resources.files("deeper_assets.reports").joinpath("page.html").read_text(encoding="utf-8")
    return (
        Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        .from_string(template)
        .render(
            profile=profile,
            stand_in=stand_in,
            paper=PAPER_NOTE.replace("`", "") if table["paper_mae"].notna().any() else None,
            sections=[_section(table, name) for name in names],
            compared=_compared(comparison),
            covered=covered(comparison),
            several=bool((over_trainings(table)["trainings"] > 1).any()),
            people=_people(personas),
            inducers=[] if induction is None or induction.empty else _inducers(induction),
            induced=[_induced(person) for person in induced],
            re_evaluations=[_re_evaluated(one) for one in re_evaluations],
        )
    )


def _section(table: pd.DataFrame, domain: str) -> dict[str, Any]:
    rows = round_table(table, domain)
    rounds = rounds_of(rows)
    under = _surely_under_floors(over_trainings(table[table["domain"] == domain]))
    return {
        "name": "Macro average over domains" if domain == MACRO else _title(domain),
        "plot": as_address(mae_plot(table, domain)),
        "rounds": rounds,
        "users": int(table.loc[table["domain"] == domain, "users"].max()),
        "rows": [
            {
                "method": row["method"],
                "kind": row["kind"],
                "figures": [{"value": figure(row[r]), "under": (row["method"], r) in under} for r in rounds],
                "paper": figure(row["paper"]),
                **dict(zip(("unreadable", "kept"), shares_missing(row), strict=True)),
                "pairs": figure(row["pairs"]),
                "ties": figure(row["ties"], ".0%"),
                "trainings": trainings(row),
            }
            for row in rows.to_dict("records")
        ],
    }


def _surely_under_floors(rows: pd.DataFrame) -> set[tuple[str, int]]:
    """Method and round of the figures under every floor by more than chance, with hardly anybody missing.

    `rows` are mae_table rows of one domain.
    """
    few = rows["unreadable"] + rows["kept"] <= FEW_MISSING
    under = rows[(rows["kind"] == "method") & few & (rows["gap_high"] < 0)]
    return set(zip(under["method"], under["round"], strict=True))


def _compared(comparison: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "method": row["method"],
            "mae": figure(row["mae"]),
            "mae_interval": interval(row["mae_low"], row["mae_high"]),
            "difference": figure(row["difference"], "+.3f"),
            "difference_interval": interval(row["difference_low"], row["difference_high"], "+.3f"),
            "pairs": figure(row["pairwise_accuracy"]),
            "pairs_interval": interval(row["pairwise_low"], row["pairwise_high"]),
        }
        for row in last_round(comparison).to_dict("records")
    ]


def _people(personas: pd.DataFrame) -> list[dict[str, Any]]:
    if personas.empty:
        return []
    return [
        {
            "domain": _title(str(domain)),
            "user": user,
            "first": rows["persona"].iloc[0],
            "last": rows["persona"].iloc[-1],
            "round": int(rows["round"].iloc[-1]),
            "method": rows["method"].iloc[0],
        }
        for (domain, user), rows in personas.sort_values("round").groupby(["domain", "user_id"], sort=False)
    ]


def _inducers(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Every inducer after the last window, in their order."""
    last = table[table["window"] == table["window"].max()].set_index("inducer")
    return [
        {
            "inducer": name,
            "is_control": name in INDUCERS[1:],
            "personas": figure(row["personas"], ".2f"),
            "single": figure(row["single"], ".1%"),
            "planted_f1": figure(row["planted_f1"]),
            "interval": interval(row["planted_f1_low"], row["planted_f1_high"]),
            "aimless": figure(row["aimless_personas"], ".2f"),
        }
        for name in in_order(last.index)
        for row in [last.loc[name]]
    ]


def _induced(person: Person) -> dict[str, Any]:
    """A person's personas, each with the events of its memories."""
    personas = []
    for row in person.why.sets.sort_values("persona").to_dict("records"):
        evidence = evidence_of(person.why, row["persona"], MOST_MEMORIES)
        memories = [
            {
                "session": int(rows["session"].iloc[0]),
                "intent": rows["intent"].iloc[0],
                "events": [
                    {"when": moment_of(event["happened_at"]), "text": event["text"], "place": event["place"]}
                    for event in rows.head(MOST_EVENTS).to_dict("records")
                ],
                "left": len(rows) - MOST_EVENTS,
            }
            for _, rows in evidence.groupby("memory")
        ]
        personas.append(
            {
                "state": row["state"],
                "label": words_of(row, "label"),
                "description": words_of(row, "description"),
                "figures": figures_of(row),
                "memories": memories,
                "left": 0 if row["state"] == "ended" else row["memories"] - len(memories),
            }
        )
    return {
        "domain": _title(person.domain),
        "user": person.user,
        "window": person.window,
        "personas": personas,
    }


def _re_evaluated(done: ReEvaluation) -> dict[str, Any]:
    return {
        "tick": done.tick,
        "made": done.made,
        "failed": done.failed,
        "rows": [
            {
                "method": method,
                "before": figure(done.before.get(method, math.nan)),
                "after": figure(after),
                "change": figure(after - done.before.get(method, math.nan), "+.3f"),
                "changed": after != done.before.get(method),
            }
            for method, after in done.after.items()
        ],
    }


def _title(domain: str) -> str:
    return domain.replace("_", " ").capitalize()
