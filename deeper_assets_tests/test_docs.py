"""README.md and docs/ against the code: names, commands, settings, paths, links, tables and examples.

A check takes a page and yields what is wrong on it. So each can be shown a wrong page too, at the end.
"""

import ast
import dataclasses
import inspect
import io
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click
import pandas as pd
import pytest
from click.testing import CliRunner
from dagster import AssetCheckKey, Definitions
from pydantic import BaseModel

from deeper_assets import declaring
from deeper_assets.cli import cli
from deeper_assets.definitions import build_definitions
from deeper_assets.graph import Graph
from deeper_assets.jobs import JOBS
from deeper_assets.layers import load_settings
from deeper_assets.method.ceilings import CEILINGS
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.floors import FLOORS
from deeper_assets.method.induction.next_items import RANKERS
from deeper_assets.method.induction.set_recipes import SET_RECIPES, inducers_of
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.method.recipes import RECIPES, Recipe, policy_methods, trainings_of
from deeper_assets.method.updates import FROZEN_POLICY, PROMPT_METHODS
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.sources.originals import FORMATS
from deeper_assets.store import schema
from deeper_assets.store.columns import PROVENANCE
from deeper_assets.store.induction_tables import INDUCTION
from deeper_assets.store.ledger import LEDGER
from deeper_assets.store.schema import TABLES
from deeper_assets.values import Tools, Values
from deeper_assets_tests.conftest import REPOSITORY
from deeper_assets_tests.pages import Page, commands, page
from deeper_assets_tests.test_laws import STALE, leaves

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
BENCHMARKS = REPOSITORY / "deeper_assets_tests" / "benchmarks" / "README.md"
PACKAGE = REPOSITORY / "deeper_assets"
PATHS = [README, *sorted(DOCS.glob("*.md"))]

OTHER_NAMES = {"extends", "like", "deeper_pairwise", "count_windows", "chromium", "postgresql"}
OTHER_NAMES |= {"salt", "short"}
"""Names in backticks that are of profiles, examples, files, values, or of other people's programs."""

OTHER_FOLDERS = {"texts/", "training/", "gpu/", "scratch/", "run.lock"}
IN_HOME = {
    "warehouse.duckdb",
    "journal.sqlite",
    "settings.yaml",
    "dagster/",
    "models/",
    "gpu/log",
    *OTHER_FOLDERS,
}
"""Paths in the home folder. Each of their parts is a word of the code."""

OTHER_PATHS = {"podcasts.yaml", "deeper/"}
"""Files that readers write or get themselves."""


BRANCHES = {"branches": ["refinement", "induction"], "set_recipes": ["foreseeing"]}
"""Settings with which every table is there."""


@cache
def definitions() -> Definitions:
    """The code location of an experiment with default settings, and both branches."""
    both = experiment().settings.model_copy(update=BRANCHES)
    return build_definitions(Experiment(Path("nowhere"), both))


@cache
def experiment() -> Experiment:
    return Experiment(Path("nowhere"), Settings())


@cache
def source() -> str:
    """All code, in one text."""
    patterns = ("deeper_assets*/**/*.py", "deeper_assets*/**/*.sh", "deeper_assets/profiles/*.yaml", ".ci/*")
    files = [file for pattern in patterns for file in REPOSITORY.glob(pattern) if file.name != "test_docs.py"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def literals(kind: Any) -> Iterator[str]:
    """Every word that a setting of this type, or a part of it, can have as its value."""
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    elif dataclasses.is_dataclass(kind) or (inspect.isclass(kind) and issubclass(kind, BaseModel)):
        for part in get_type_hints(kind).values():
            yield from literals(part)
    else:
        for part in get_args(kind):
            yield from literals(part)


@cache
def setting_paths() -> frozenset[str]:
    """Every setting by its path, and what such paths begin with."""
    every = {*STALE, *(path for path, _ in leaves(Settings()))}
    return frozenset(".".join(path.split(".")[:n]) for path in every for n in range(1, path.count(".") + 2))


@cache
def names() -> frozenset[str]:
    """Every name in lower case that a reader can look up."""
    here = experiment()
    columns = [*PROVENANCE, *LEDGER.columns, *(c for t in TABLES.values() for c in t.columns)]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    declared = Graph.of(here).declared
    trainings = [name for recipe in RECIPES for name in trainings_of(recipe, 3)]
    return frozenset(
        [
            *TABLES,
            *(column.name for column in columns),
            *(asset.group for asset in declared),
            *(asset.function.__name__ for asset in declared),
            *(job.name for job in definitions().jobs or ()),
            *(key.name for key in check_keys()),
            *automation(),
            *trainings,
            *(part.name for part in dataclasses.fields(Recipe)),
            *literals(Recipe),
            *(
                *policy_methods(trainings),
                *PROMPT_METHODS,
                FROZEN_POLICY,
                *FLOORS,
                *CONTROLS,
                *CEILINGS,
                *INDUCERS,
                *inducers_of(SET_RECIPES),
                *RANKERS,
                *here.domains,
            ),
            *(part for path in setting_paths() for part in path.split(".")),
            *literals(Settings),
            *(*vars(Values), *vars(Tools)),
            *(*inspect.signature(declaring.table).parameters, *inspect.signature(declaring.check).parameters),
            *(path.stem for path in PACKAGE.rglob("*.py")),
            *(path.stem for path in (PACKAGE / "profiles").iterdir()),
            *(name for name, _ in click_commands(cli)),
            *project["project"]["optional-dependencies"],
            *(Path(program).name for program in project["project"]["scripts"]),
            *(line.split(":")[0] for line in project["tool"]["pytest"]["ini_options"]["markers"]),
        ]
    )


def check_keys() -> list[AssetCheckKey]:
    return sorted(definitions().resolve_asset_graph().asset_check_keys)


def automation() -> dict[str, str]:
    """Schedules and sensors, and whether they are on at first."""
    location = definitions()
    both = [*(location.schedules or ()), *(location.sensors or ())]
    return {one.name: "on" if one.default_status.name == "RUNNING" else "off" for one in both}


def click_commands(command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by name."""
    yield str(command.name), command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from click_commands(below)


# -------------------------------------------------------------------------------- checks on every page

Check = Callable[[Page], Iterable[str]]


FIELDS = {field for written in FORMATS.values() for field in (*written.fields, *written.item_fields)}
"""Of original data sets."""


def unknown_names(of: Page) -> Iterator[str]:
    """Names in backticks: settings by their path, other names alone or before a colon, flags, classes."""
    flags = {o for _, command in click_commands(cli) for param in command.params for o in param.opts}
    for span in of.spans:
        if re.fullmatch(r"[a-z][a-z0-9_]*(: .+)?", span):
            if span.split(":")[0] not in names() | OTHER_NAMES | FIELDS:
                yield span
        elif re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)+(: .+)?", span) and Path(span).suffix[1:] not in SUFFIXES:
            if span.split(":")[0] not in setting_paths():
                yield span
        elif re.fullmatch(r"--[a-z-]+", span):
            if span not in flags:
                yield span
        elif re.fullmatch(r"@?[A-Za-z]\w*", span) and not re.search(rf"\b{span.strip('@')}\b", source()):
            yield span


SUFFIXES = {"lock", "py", "sh", "toml", "md", "txt", "yaml", "duckdb", "sqlite"}


def missing_paths(of: Page) -> Iterator[str]:
    """Paths in backticks: in the repository, in the package, or in the home folder."""
    for span in of.spans:
        if re.search(r"[\s:<=]", span) or ("/" not in span and Path(span).suffix[1:] not in SUFFIXES):
            continue
        there = any((root / span).exists() for root in (REPOSITORY, PACKAGE))
        in_home = span in IN_HOME and all(f'"{part}"' in source() for part in span.strip("/").split("/"))
        if not (there or in_home or span in OTHER_PATHS):
            yield span


def wrong_commands(of: Page) -> Iterator[str]:
    """Commands of `deeper`, parsed by click; nothing is run. What they lack is left to the reader."""
    for command in commands(of):
        if command.name == "deeper":
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("sys.stdin", io.StringIO())  # nobody to confirm anything
                    for _, below in click_commands(cli):
                        patch.setattr(below, "callback", None)
                    cli.main(list(command.words[1:]), standalone_mode=False)
            except (click.MissingParameter, click.exceptions.NoArgsIsHelpError, click.Abort):
                pass
            except click.ClickException as error:
                yield f"{shlex.join(command.words)}: {error.format_message()}"


def wrong_modules(of: Page) -> Iterator[str]:
    """`python -m MODULE`, and the marks of `pytest -m`."""
    for command in commands(of):
        for module in set(command.after("-m")):
            if command.name == "pytest" and module not in names():
                yield f"no mark {module}"
            if command.name.startswith("python") and not is_runnable(module):
                yield f"no module {module}"


def is_runnable(module: str) -> bool:
    """Whether `python -m` can run it."""
    try:
        there = find_spec(module)
    except ModuleNotFoundError:
        return False
    if there is not None and there.submodule_search_locations is not None:
        return find_spec(f"{module}.__main__") is not None
    return there is not None


def wrong_jobs(of: Page) -> Iterator[str]:
    """`dagster job backfill`: the job and its partitions."""
    for command in commands(of):
        if command.words[1:3] == ("job", "backfill"):
            (job,), (keys,) = command.after("-j"), command.after("--partitions")
            if job not in {one.name for one in JOBS}:
                yield f"no job {job}"
                continue
            cut = definitions().resolve_job_def(job).partitions_def
            yield from (key for key in keys.split(",") if cut is None or not cut.has_partition_key(key))


def wrong_variables(of: Page) -> Iterator[str]:
    """DEEPER_* variables: that they are settings, and that a value given in front of a command fits."""
    given = {name: value for command in commands(of) for name, value in command.variables.items()}
    for name in sorted(set(re.findall(r"DEEPER_[A-Z0-9_]*[A-Z0-9]", of.text))):
        if name.startswith("DEEPER_TEST_"):
            if f'"{name}"' not in source():
                yield name
            continue
        value = given.get(name, "…")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            try:
                load_settings(Path("nowhere"))
            except DeeperError as error:
                if value != "…" or "is no setting" in str(error):
                    yield str(error)


def broken_links(of: Page) -> Iterator[str]:
    """Links to files and headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", of.prose):
        if not target.startswith(("http://", "https://")):
            file, _, anchor = target.partition("#")
            path = of.path.parent / file if file else of.path
            if not path.exists() or (anchor and anchor not in anchors(path)):
                yield target


def anchors(path: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page(path).prose, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def wrong_profiles(of: Page) -> Iterator[str]:
    """Examples in YAML: each is a profile that loads."""
    for block in of.blocks("yaml"):
        with TemporaryDirectory() as folder:
            profile = Path(folder) / "example.yaml"
            profile.write_text(block, encoding="utf-8")
            try:
                load_settings(Path(folder), {"profile": str(profile)})
            except DeeperError as error:
                yield str(error)


CHECKS: tuple[Check, ...] = (
    unknown_names,
    missing_paths,
    wrong_commands,
    wrong_modules,
    wrong_jobs,
    wrong_variables,
    broken_links,
    wrong_profiles,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_page_says_what_the_code_says(path: Path, check: Check) -> None:
    assert list(check(page(path))) == []


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (unknown_names, "the job `pretrainings`"),
        (unknown_names, "the table `raw_rating`"),
        (unknown_names, "the setting `sampler.url`"),
        (unknown_names, "`loss_: pairwise`"),
        (unknown_names, "the flag `--domain-names`"),
        (unknown_names, "the class `Valuess`"),
        (missing_paths, "in `deeper_assets/methods/`"),
        (missing_paths, "in `declarings.py`"),
        (missing_paths, "`gpus/log` in the home folder"),
        (wrong_commands, "`deeper serve`"),
        (wrong_commands, "```bash\n.venv/bin/deeper run --domain book\n```\n"),
        (wrong_commands, "```bash\nX=1 deeper export pairs F \\\n  --format jsonl && true\n```\n"),
        (wrong_commands, "`deeper report mae_table`"),
        (wrong_modules, "`python -m deeper_assets.nowhere JOB.json`"),
        (wrong_modules, "`python -m deeper_assets.engines.chat`"),
        (wrong_modules, "`pytest -n 2 -m quick`"),
        (wrong_jobs, "`dagster job backfill -j base_policy --partitions book`"),
        (wrong_jobs, "`dagster job backfill -j personas --partitions boook`"),
        (wrong_variables, "`DEEPER_EVAL_USER=3`"),
        (wrong_variables, "`DEEPER_EVAL_USERS=some`"),
        (wrong_variables, "DEEPER_TEST_NOTHING"),
        (broken_links, "[here](nowhere.md)"),
        (broken_links, "[here](README.md#nowhere)"),
        (wrong_profiles, "```yaml\neval_user: 3\n```\n"),
        (wrong_profiles, "```yaml\nsampler: {engine: vllm_servers}\n```\n"),
    ],
)
def test_a_check_sees_what_is_wrong(check: Check, text: str) -> None:
    assert len(list(check(Page(README, text)))) == 1


# ------------------------------------------------------------------------------------- single passages


def test_the_readme_is_one_read() -> None:
    assert len(page(README).text.splitlines()) <= 190


def test_the_test_command_stands_below_its_mark() -> None:
    """`.ci/run` takes it from there."""
    (command,) = re.findall(r"^<!-- test command -->\n```bash\n(.+)\n```$", page(README).text, re.M)
    assert ".venv/bin/pytest" in command


def test_the_picture_is_the_graph() -> None:
    (picture,) = page(README).blocks("mermaid")
    boxes = dict(re.findall(r'^  (\w+)\["(.+)"\]$', picture, re.M))
    drawn = set()
    for line in re.findall(r"^  (.+ --> .+)$", picture, re.M):
        steps = [set(step.split(" & ")) for step in line.split(" --> ")]
        drawn |= {(a, b) for one, other in pairwise(steps) for a in one for b in other}
    graph = Graph.of(experiment())
    expected: dict[str, list[str]] = {}
    edges = set()
    for name, asset in graph.tables.items():
        cut = " and ".join(TABLES[name].partition)
        title = f"{asset.group} · by {cut}" if cut else asset.group
        expected.setdefault(asset.group, [title]).append(name)
        edges |= {(graph.tables[read.table].group, asset.group) for read in asset.reads.values()}
    assert {group: sorted(box.split("<br>")) for group, box in boxes.items()} == {
        group: sorted(lines) for group, lines in expected.items()
    }
    assert drawn == {(one, other) for one, other in edges if one != other}


def test_screenshots_are_those_that_a_test_takes() -> None:
    """To take them anew, see the page on extending."""
    shown = set(re.findall(r"!\[.+\]\(docs/images/(.+)\.png\)", page(README).text))
    test = (REPOSITORY / "deeper_assets_tests" / "end_to_end" / "test_ui.py").read_text()
    assert shown == set(re.findall(r'picture\("(\w+)"\)', test)) & shown == {"groups", "personas"}
    drawn = set(re.findall(r"!\[.+\]\(\.\./\.\./docs/images/(.+)\.png\)", page(BENCHMARKS).text))
    assert shown | drawn == {path.stem for path in (DOCS / "images").iterdir()}


def test_jobs_are_those_of_the_definitions() -> None:
    cut_by = {}
    for job in JOBS:
        first = min(definitions().resolve_job_def(job.name).asset_layer.executable_asset_keys)
        cut_by[job.name] = ", ".join(TABLES[first.to_user_string()].partition)
    rows = page(DOCS / "ui.md").section("Jobs").rows()
    cut_by |= {job.name: "" for job in definitions().jobs or () if job not in JOBS}
    assert [(name.strip("`"), cut) for name, cut, _ in rows] == list(cut_by.items())


def test_checks_are_those_of_the_definitions() -> None:
    graph = definitions().resolve_asset_graph()
    blocking = {key.name for key in check_keys() if graph.get(key).blocking}
    others = {key.name for key in check_keys()} - blocking
    for heading, names in (("Checks", blocking), ("Checks that only warn", others)):
        rows = page(DOCS / "ui.md").section(heading).rows()
        assert {check.strip("`") for _, check, _ in rows} == names


def test_what_starts_jobs_is_that_of_the_definitions() -> None:
    rows = page(DOCS / "ui.md").section("Schedule and sensors").rows()
    assert {name.strip("`"): at_first for name, at_first, _ in rows} == automation()


def test_recipes_are_those_that_are_built_in() -> None:
    rows = page(DOCS / "recipes.md").section("Recipes").rows()
    assert {name for cell, _ in rows for name in re.findall(r"`(\w+)`", cell)} == set(RECIPES)


DEPARTS = "Departs from the paper:"
"""What begins a note, in a module's docstring, on where the code does otherwise than the paper."""


def unlisted_departures(of: Page, notes: Mapping[str, str]) -> Iterator[str]:
    """Modules (path in the package → docstring) that depart from the paper without a line in a table."""
    listed = {path for *_, where in of.rows() for path in re.findall(r"`([^`]+)`", where)}
    yield from (path for path, doc in notes.items() if DEPARTS in doc and path not in listed)


def test_every_departure_from_the_paper_has_its_line_with_a_reason() -> None:
    of = page(DOCS / "paper.md")
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    sources = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    notes = {name: ast.get_docstring(ast.parse(text)) or "" for name, text in sources.items()}
    assert sum(DEPARTS in doc for doc in notes.values()) > 10
    assert {name for name, text in sources.items() if DEPARTS in text} == {
        name for name, doc in notes.items() if DEPARTS in doc
    }  # a note stands where the page sends its reader
    assert list(unlisted_departures(of, notes)) == []
    assert list(unlisted_departures(of, {"method/new.py": f"New. {DEPARTS} it does not."})) == [
        "method/new.py"
    ]
    contradictions = of.section("Where the paper disagrees with itself").rows()
    departures = [row for row in of.rows() if row not in contradictions]
    assert len(departures) > 20
    assert all(len(row) == 4 and all(row) for row in departures)


def test_settings_make_stale_what_the_law_says() -> None:
    rows = page(DOCS / "settings.md").section("What makes what stale").rows()
    assert len(rows) > 5
    induced = {table.name for table in INDUCTION}
    for cell, tables in rows:
        for setting in re.findall(r"`([^`]+)`", cell):
            assert set(re.findall(r"`(\w+)`", tables)) == STALE[setting] - induced, setting


@pytest.mark.slow
def test_the_estimate_is_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DEEPER_")]:
        monkeypatch.delenv(name)
    text = (DOCS / "costs.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- estimate")[2].partition("```\n")[2].partition("```")[0]
    printed = CliRunner().invoke(cli, ["estimate", "--profile", "paper", "--home", str(tmp_path / "home")])
    assert printed.stdout == shown


def test_the_example_of_a_new_table_works() -> None:
    method, declaration, asset = page(DOCS / "extending.md").blocks("python")
    names: dict[str, Any] = {"pd": pd, **vars(schema), **vars(declaring)}
    declared = eval(declaration, names)
    exec(method + asset, names)
    rows = [("book", "train", "a", 0), ("book", "train", "a", 0), ("book", "train", "a", 1)]
    windows = pd.DataFrame(
        [*rows, ("book", "train", "b", 0)], columns=["domain", "split", "user_id", "window"]
    )
    counted = names["window_counts"](windows)
    assert counted.columns.tolist() == list(declared.column_names)
    assert counted.to_numpy().tolist() == [["book", "train", 3, 2]]
    assert (names["window_counts"].group, list(names["window_counts"].tables)) == (
        "histories",
        [declared.name],
    )
