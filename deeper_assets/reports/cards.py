"""Cards of what is exported: a README.md for a dataset of preference pairs and one for an adapter.

Both tell how it was made, from what, and which licences hold. Figures stand in them beside controls and
floors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from deeper_assets.method.errors import MACRO
from deeper_assets.method.recipes import training_of
from deeper_assets.reports.text import (
    PAPER_NOTE,
    figure,
    last_round,
    round_table,
    rounds_of,
    shares_missing,
)

OFFLINE_POLICY = "offline"
"""What the setting `policy` calls the base that comes with this package."""

PAIRWISE = "pairwise"
"""The loss of recipes whose policies learn from pairs; with any other they learn from whole groups."""

_SHOWN = {
    "refinement": "the ratings predicted from it and the actual ones",
    "inc_update": "the ratings that came after it",
}
"""Template of a recipe → what its policy is shown beside a persona."""

_ORIGINS = {
    "food_com": "Food.com recipes and interactions (Kaggle)",
    "amazon": "Amazon reviews (McAuley Lab, UC San Diego)",
    "google_local": "Google Local reviews (McAuley Lab, UC San Diego)",
    "movielens": "MovieLens (GroupLens, University of Minnesota; not to be passed on without permission)",
}
"""Beginning of a published dataset's folder name → the collection that its ratings come from."""


@dataclass(frozen=True)
class Origin:
    """How something was made.

    Attributes:
        recipe: its name.
        profile: name of the settings' profile, when this was exported.
        chats: names of the frozen chat models that wrote and read personas.
        stand_in: whether one of them was the embedded stand-in.
        policy: the base policy: `offline`, or the name of a model.
        template: the prompt template of the recipe's policy: refinement or inc_update.
        loss: of the recipe.
        version: of deeper-assets, when this was exported.
        sources: domain → identity of its source, as the source gave it.
        settings: the settings that it depends on, by name.
        tree: `deeper lineage` of it.
    """

    recipe: str
    profile: str
    chats: tuple[str, ...]
    stand_in: bool
    policy: str
    template: str
    loss: str
    version: str
    sources: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    tree: str


@dataclass(frozen=True)
class Figures:
    """What was measured with it.

    Attributes:
        table: mae_table rows, of every kind.
        comparison: comparison_table rows; may be empty.
        methods: the methods that use it, or a policy trained on it.
    """

    table: pd.DataFrame
    comparison: pd.DataFrame
    methods: Sequence[str]


def dataset_card(
    pairs: pd.DataFrame, files: Mapping[str, str], form: str, origin: Origin, figures: Figures | None
) -> str:
    """The README.md of a dataset of preference pairs.

    Args:
        pairs: `exchange.pairs_of_iterations` rows.
        files: split → its file in the folder.
        form: trl or llamafactory.
        origin: how they were made.
        figures: what policies of the recipe reached; None where none was evaluated.
    """
    matter = {
        "pretty_name": f"DEEPER preference pairs, recipe {origin.recipe}",
        "license": "other",
        "license_name": "see-the-card",
        "language": ["en"],
        "task_categories": ["text-generation"],
        "tags": ["preference", "dpo", "trl", "persona", "deeper-assets"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in files.items()],
            }
        ],
    }
    counts = pairs.groupby(["domain", "iteration", "origin"])["validation"].agg(["size", "sum"]).reset_index()
    return _card(
        "dataset_card.md",
        matter,
        origin,
        figures,
        form=form,
        splits=" and ".join(files),
        pairwise=origin.loss == PAIRWISE,
        counts=counts.to_dict("records"),
        pairs=len(pairs),
        users=len(pairs[["domain", "user"]].drop_duplicates()),
    )


def model_card(
    iteration: int, name: str, base: str, base_is_inside: bool, origin: Origin, figures: Figures | None
) -> str:
    """The README.md of an adapter.

    Args:
        iteration: 1 or 2: which model of the recipe it is.
        name: its name in the tables, which is a hash of its content.
        base: what its adapter_config.json names as the base.
        base_is_inside: whether that is a folder beside it.
        origin: how it was made.
        figures: what it reached; None where it was not evaluated.
    """
    named = {} if base_is_inside or "/" not in base else {"base_model": base}
    matter = {
        **named,
        "license": _licence(origin.policy),
        "language": ["en"],
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "dpo", "persona", "deeper-assets"],
    }
    return _card(
        "model_card.md",
        matter,
        origin,
        figures,
        iteration=iteration,
        name=name,
        base=base,
        base_is_inside=base_is_inside,
    )


def _card(
    template: str, matter: Mapping[str, Any], origin: Origin, figures: Figures | None, **more: Any
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("deeper_assets", "reports"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    front = yaml.safe_dump(dict(matter), sort_keys=False, allow_unicode=True)
    body = environment.get_template(template).render(
        origin=origin,
        figures="\n".join(_figures(figures)),
        sources=[_source(domain, identity) for domain, identity in origin.sources.items()],
        made="\n".join(_made(origin)),
        shown=_SHOWN[origin.template],
        licence=_licence(origin.policy),
        **more,
    )
    return f"---\n{front}---\n\n{body}"


def _made(origin: Origin) -> Iterator[str]:
    """How it was made, as a Markdown table."""
    policy = "the policy that comes with deeper-assets" if origin.policy == OFFLINE_POLICY else origin.policy
    facts = {
        "profile, when exported": origin.profile,
        "frozen chat model": ", ".join(origin.chats),
        "base policy": policy,
        "recipe": origin.recipe,
        "deeper-assets, when exported": origin.version,
        **{name.replace("_", " "): value for name, value in sorted(origin.settings.items())},
    }
    yield from ("| | |", "| --- | --- |")
    yield from (f"| {name} | {value} |" for name, value in facts.items())


def _figures(figures: Figures | None) -> Iterator[str]:
    """The macro averages as a Markdown table, with controls and floors, and how sure the last round is."""
    if figures is None:
        return
    methods = {training_of(name)[0]: name for name in figures.methods}
    rows = round_table(figures.table, MACRO)
    rounds = rounds_of(rows)
    yield f"| | {' | '.join(f'round {r}' for r in rounds)} | paper | unreadable | kept | pairs | ties |"
    yield "| --- " * (len(rounds) + 6) + "|"
    for row in rows.to_dict("records"):
        name = f"**{row['method']}**" if row["method"] in methods else row["method"]
        values = [*(figure(row[r]) for r in rounds), figure(row["paper"]), *shares_missing(row)]
        order = [figure(row["pairs"]), figure(row["ties"], ".0%")]
        yield f"| {' | '.join([name, *values, *order])} |"
    domains = [name for name in dict.fromkeys(figures.table["domain"]) if name != MACRO]
    yield from ("", f"Means over these domains: {', '.join(domains)}. {PAPER_NOTE}")
    yield "Under `unreadable` is the share of users without an error, under `kept` of those whose persona is"
    yield "an old one because an update could not be used, both in the worst round. In the last one, `pairs`"
    yield "says how often an item that a user rated higher is predicted higher. Pairs that are predicted"
    yield "equal are left out of it; their share is under `ties`."
    compared = last_round(figures.comparison)
    for row in compared[compared["method"].isin(methods)].to_dict("records"):
        yield ""
        several = row["trainings"] > 1
        over = "over users and trainings" if several else "by a bootstrap over users"
        interval = f"{figure(row['mae_low'])} to {figure(row['mae_high'])}, {over}"
        mae = f"{figure(row['mae'])} on {row['users']:,} users (95 % interval {interval})"
        mean = f"mean of {row['trainings']} trainings with other seeds, " if several else ""
        yield f"**{row['method']}**. Last round: {mean}{mae}."
        yield from _own(figures, methods[row["method"]]) if several else ()


def _own(figures: Figures, method: str) -> Iterator[str]:
    """What this training reached, beside the mean of all."""
    macro = figures.table[(figures.table["domain"] == MACRO) & (figures.table["method"] == method)]
    last = macro.sort_values("round")["mae"].iloc[-1]
    yield f"This training alone (`{method}`): {figure(last)}."


def _source(domain: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """One domain's source: where its ratings come from, in words, and its files."""
    dataset = str(identity.get("dataset"))
    collection = next((name for start, name in _ORIGINS.items() if dataset.startswith(start)), dataset)
    words = {
        "synthetic": "generated by deeper-assets; no person's",
        "published": f"{collection}, as the paper's authors published them (`{dataset}`)",
    }
    return {
        "domain": domain,
        "from": words.get(str(identity.get("kind")), "data of whoever made this; ask them"),
        "files": dict(identity.get("files", {})),
    }


def _licence(policy: str) -> str:
    """What the Hub calls the licence of an adapter on a base policy."""
    if policy == OFFLINE_POLICY:
        return "apache-2.0"
    return "llama3.1" if "llama-3.1" in policy.lower() else "other"
