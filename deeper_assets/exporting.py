"""`deeper export`: preference pairs and adapters as folders that other people's tools read, with cards.

A folder is written under another name and then renamed, so it is whole or not there. How the tables were made
is read from the ledger, because the settings may have changed since. Only the profile is not in the ledger,
so a card names the profile of the export.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import pandas as pd

from deeper_assets import __version__
from deeper_assets.lineage import Node, ancestry, render, trace, walk
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.reports.cards import OFFLINE_POLICY, PAIRWISE, Figures, Origin, dataset_card, model_card
from deeper_assets.reports.exchange import (
    SPLITS,
    as_llamafactory,
    as_trl,
    llamafactory_info,
    pairs_of_iterations,
)
from deeper_assets.resources import Experiment
from deeper_assets.store.adapters import identity
from deeper_assets.store.ledger import Version, canonical_json

Form: TypeAlias = Literal["trl", "llamafactory"]

CARD, LINEAGE, BASE = "README.md", "lineage.json", "base"
ADAPTER_CONFIG = "adapter_config.json"
STAND_IN = "offline-chat"
"""Beginning of the names of the embedded stand-in's versions."""


def export_pairs(
    experiment: Experiment, folder: Path, recipe: str, iterations: Sequence[int], form: Form
) -> None:
    """Writes the preference pairs of a recipe and of one or both iterations, with their card and lineage.

    `form` is Parquet with TRL's conversational columns, which `datasets.load_dataset(folder)` loads, or JSON
    with LLaMA-Factory's dataset_info.json.

    Raises:
        DeeperError: there is something in the folder; the recipe is unknown, or has no pairs.
    """
    with _whole(folder) as unfinished:
        pairs = pairs_of_iterations(
            {i: _stored(experiment, f"preference_pairs_{i}", recipe) for i in iterations}
        )
        splits = {name: pairs[pairs["validation"] == value] for value, name in SPLITS.items()}
        files = _write_pairs(
            {name: rows for name, rows in splits.items() if len(rows)}, unfinished, recipe, form
        )
        trees = [_tree(experiment, f"preference_pairs_{i}", recipe) for i in iterations]
        origin = _origin(experiment, recipe, trees)
        # Model 2 continues Model 1, so pairs of iteration 1 were learned by both.
        figures = _figures(experiment, trees, recipe, range(iterations[0], 3))
        _write(unfinished / CARD, dataset_card(pairs, files, form, origin, figures))
        _write_lineage(unfinished, trees)


def export_model(experiment: Experiment, folder: Path, recipe: str, iteration: int) -> None:
    """Writes the adapter of a recipe's model as an ordinary PEFT folder, with its card and lineage.

    The base that comes with this package is written into `base`; any other base is only named.

    Raises:
        DeeperError: there is something in the folder; the recipe is unknown, or was not trained.
    """
    table = f"model_{iteration}"
    with _whole(folder) as unfinished:
        adapter, base = _stored(experiment, table, recipe), experiment.warehouse.load("base_policy")
        tree = _tree(experiment, table, recipe)
        if any(node.table == "base_policy" and node.replaced for node in walk(tree)):
            raise DeeperError(
                f"{table} of recipe {recipe!r} was trained on a base that has been replaced since;"
                " `deeper run` trains it anew"
            )
        origin = _origin(experiment, recipe, [tree])
        inside = origin.policy == OFFLINE_POLICY
        named = BASE if inside else origin.policy
        _write_files(adapter, unfinished)
        _name_base(unfinished / ADAPTER_CONFIG, named)
        if inside:
            _write_files(base, unfinished / BASE)
        figures = _figures(experiment, [tree], recipe, [iteration])
        name = f"base-{identity(base)}+{identity(adapter)}"
        _write(unfinished / CARD, model_card(iteration, name, named, inside, origin, figures))
        _write_lineage(unfinished, [tree])


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write in; it is renamed to `folder` at the end, unless there was an error."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DeeperError(f"{folder} is there and not empty; name another folder, or empty it first")
    if folder.resolve() == Path.cwd():
        raise DeeperError(f"{folder} is the folder you are in, which cannot be replaced; name one in it")
    unfinished = folder.with_name(f".{folder.name}.{uuid4().hex}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.replace(folder)
    except OSError as error:
        raise DeeperError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


# ------------------------------------------------------------------------------------------------- pairs


def _stored(experiment: Experiment, table: str, recipe: str) -> pd.DataFrame:
    experiment.recipe(recipe)
    rows = experiment.warehouse.load(table, {"recipe": [recipe]})
    if rows.empty:
        raise DeeperError(
            f"{table} of recipe {recipe!r} holds nothing in {experiment.home}; `deeper run` makes it for the"
            f" recipes in train_recipes (now {', '.join(experiment.trainings) or 'none'})"
        )
    return rows


def _write_pairs(splits: Mapping[str, pd.DataFrame], folder: Path, recipe: str, form: Form) -> dict[str, str]:
    """Writes each split to a file of its own; split → file."""
    if form == "trl":
        files = {name: f"data/{name}.parquet" for name in splits}
        (folder / "data").mkdir()
        for name, rows in splits.items():
            as_trl(rows).to_parquet(folder / files[name], index=False)
        return files
    files = {name: f"{name}.json" for name in splits}
    for name, rows in splits.items():
        _write(folder / files[name], json.dumps(as_llamafactory(rows), ensure_ascii=False, indent=1))
    datasets = {f"deeper_{recipe}_{name}": file for name, file in files.items()}
    _write(folder / "dataset_info.json", json.dumps(llamafactory_info(datasets), indent=2))
    return files


# ------------------------------------------------------------------------------------------------- models


def _write_files(rows: pd.DataFrame, folder: Path) -> None:
    for file, content in zip(rows["file"], rows["content"], strict=True):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _name_base(config: Path, base: str) -> None:
    """Puts the base's name in an adapter's configuration, where the home folder has a hash or a path."""
    values = json.loads(config.read_text(encoding="utf-8"))
    _write(config, json.dumps({**values, "base_model_name_or_path": base}, indent=2, sort_keys=True) + "\n")


# ------------------------------------------------------------------------------------------ where it is from


def _tree(experiment: Experiment, table: str, recipe: str) -> Node:
    return trace(experiment.warehouse, table, recipe=recipe)


def _versions(trees: Iterable[Node]) -> list[Version]:
    """Every version in these trees, once, the oldest first."""
    by_number = {one.version: one for tree in trees for node in walk(tree) for one in node.versions}
    return [by_number[number] for number in sorted(by_number)]


def _origin(experiment: Experiment, recipe: str, trees: Sequence[Node]) -> Origin:
    versions = _versions(trees)
    chats = tuple(dict.fromkeys(_recorded(versions, "chat", "model")))
    own = trees[-1].versions[0].ingredients.settings

    def latest(value: str, part: str, default: str) -> str:
        return next(reversed(_recorded(versions, value, part)), default)

    return Origin(
        recipe=recipe,
        profile=Path(experiment.settings.profile).name,
        chats=chats,
        stand_in=any(chat.startswith(STAND_IN) for chat in chats),
        policy=_name_of(latest("policy", "name", OFFLINE_POLICY)),
        template=latest("recipe", "template", "refinement"),
        loss=latest("recipe", "loss", PAIRWISE),
        version=__version__,
        sources={one.partition["domain"]: _source(one) for one in versions if one.table == "raw_ratings"},
        settings={
            name: value if isinstance(value, str) else canonical_json(value) for name, value in own.items()
        },
        tree=_portable("\n\n".join(render(tree) for tree in trees), versions),
    )


def _figures(
    experiment: Experiment, trees: Sequence[Node], recipe: str, iterations: Iterable[int]
) -> Figures | None:
    """The stored tables, if every domain in them was evaluated with just these models; else None.

    Figures of an earlier model would be wrong here, and so would averages over domains of both.
    """
    table = experiment.warehouse.load("mae_table")
    evaluated = set(table["method"])
    methods = tuple(
        method
        for method, (of, iteration) in experiment.policies.items()
        if of == recipe and iteration in iterations and method in evaluated
    )
    own = {one.place: one.version for tree in trees for one in tree.versions}
    behind = {one.version for one in ancestry(experiment.warehouse, "mae_table") if one.place in own}
    if not methods or behind != set(own.values()):
        return None
    return Figures(table, experiment.warehouse.load("comparison_table"), methods)


def _write_lineage(folder: Path, trees: Sequence[Node]) -> None:
    """Writes the ledger's rows of every partition that the export was made from."""
    versions = _versions(trees)
    text = json.dumps([asdict(one) for one in versions], indent=1, default=str, ensure_ascii=False)
    _write(folder / LINEAGE, _portable(text, versions))


def _recorded(versions: Iterable[Version], value: str, part: str) -> list[str]:
    """A part of a value of each version that lists it, as the ledger has it; the oldest version first."""
    values: list[Any] = [one.ingredients.settings.get(value) for one in versions]
    return [str(one[part]) for one in values if one is not None]


def _source(version: Version) -> dict[str, Any]:
    """The identity of a domain's source, with files by name instead of path."""
    source: Any = version.ingredients.settings["source"]
    return {**source, "files": {_name_of(file): digest for file, digest in source.get("files", {}).items()}}


def _portable(text: str, versions: Iterable[Version]) -> str:
    """`text` without folders of this machine: source files and own bases are named without them."""
    versions = list(versions)
    named = set(_recorded(versions, "policy", "name"))
    for one in versions:
        source: Any = one.ingredients.settings.get("source", {})
        named |= set(source.get("files", {}))
    for path in sorted((name for name in named if Path(name).is_absolute()), key=len, reverse=True):
        text = text.replace(path, _name_of(path))
    return text


def _name_of(place: str) -> str:
    """The last part of a path on this machine; anything else as it is."""
    return Path(place).name if Path(place).is_absolute() else place


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
