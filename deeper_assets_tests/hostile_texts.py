"""Texts from outside that nobody has looked at: settings files, variables, prompt templates, ratings.

`python -m deeper_assets_tests.hostile_texts NAME` tries one kind in a process whose memory is bounded, and
prints how much it took. What is tried is either taken or refused by a DeeperError; of ratings that are taken,
each is used, rejected, left over or not sampled.
"""

import csv
import gzip
import io
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import duckdb
import pandas as pd
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from deeper_assets.layers import load_settings
from deeper_assets.method.domains import Domain, Scale, find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.prompts import BUILT_IN, REQUIRED, Prompts, RatedItem, ShownGroup
from deeper_assets.method.windows import WindowRules
from deeper_assets.settings import ChatSettings, SamplerSettings, Settings
from deeper_assets.sources.custom import ColumnMap, CustomSource
from deeper_assets_tests.memory import highest_memory
from deeper_assets_tests.sources.reading import cut_source

GIGABYTE = 2**30
FOLDER = Path(tempfile.mkdtemp())
PARTS = {"chat": ChatSettings, "sampler": SamplerSettings}
DOMAIN = {
    "item_type": "film",
    "scale": {"lowest": 1, "highest": 5, "step": 1},
    "columns": {"user": "u", "item": "i", "rating": "r"},
    "file": "ratings.csv",
}

SIGNS = [
    *"[]{}&*!|>%@`\"'#,?:-~<=.\n\t 0x",
    *("!!bool ", "!!float ", "!!timestamp ", "!!str ", "!!omap ", '"\\UFFFFFFFF"', "1" + ":59" * 300 + ".0"),
    *("<<: ", "*a", "&a ", "!!int ", "!!binary ", "!!set ", "- ", "? ", "---\n", "%YAML 9.9\n", "\\"),
    *("0x_", "1e400", ".nan", ".inf", "-.inf", "2026-13-45", "190:20:30", "9" * 5000, "0x" + "f" * 300),
    *("null", "yes", "all", "[" * 300, "{a: " * 300, "extends: ", "offline", "../", "~nobody/", "x" * 300),
    *(
        "a: &a [x, x]\n",
        "b: &a [*a, *a, *a, *a, *a, *a, *a, *a]\n",
        '"\\0"',
        '"\\ud800"',
        "http://h/v1?key=1",
    ),
]

numbers = st.one_of(st.integers(), st.floats(), st.booleans(), st.none())
words = st.one_of(st.text(max_size=20), st.sampled_from(SIGNS), st.sampled_from(["all", "book", "balanced"]))
values = st.recursive(
    numbers | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


def _of(fields: Mapping[str, object]) -> SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(sorted(fields)), values, max_size=3)


profiles = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(SIGNS) | words, max_size=40).map("".join),
    st.lists(st.sampled_from([f"{name}: " for name in Settings.model_fields] + SIGNS)).map("".join),
    st.one_of(
        _of(Settings.model_fields),
        *(_of(of.model_fields).map(lambda given, name=name: {name: given}) for name, of in PARTS.items()),
        _of(DOMAIN).map(lambda given: {"domains": {"films": {**DOMAIN, **given}}}),
        st.dictionaries(words, st.just(DOMAIN), max_size=2).map(lambda given: {"domains": given}),
    ).map(lambda given: yaml.safe_dump(given, allow_unicode=True)),
)


def _taken_or_refused() -> None:
    with suppress(DeeperError):
        assert isinstance(load_settings(FOLDER), Settings)


def _one_of_a_file(content: bytes | str) -> None:
    path = FOLDER / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    with patch.dict(os.environ, {"DEEPER_PROFILE": str(path)}):
        _taken_or_refused()


def _in_a_variable(text: str) -> str:
    """What an operating system hands over: no NUL, and what is no text as lone surrogates."""
    return text.replace("\0", "").encode(errors="replace").decode(errors="surrogateescape")


names = st.sampled_from(
    ["DEEPER_OF_NOBODY", "DEEPER_"]
    + [f"DEEPER_{name}".upper() for name in Settings.model_fields]
    + [f"DEEPER_{name}__{part}".upper() for name, of in PARTS.items() for part in of.model_fields]
)
variables = st.dictionaries(
    names,
    st.one_of(words, st.lists(st.sampled_from(SIGNS), max_size=8).map("".join), numbers.map(str))
    | values.map(json.dumps),
    min_size=1,
    max_size=3,
)


def _some_variables(given: dict[str, str]) -> None:
    with patch.dict(os.environ, {name: _in_a_variable(text) for name, text in given.items()}):
        _taken_or_refused()


INNARDS = ["{persona.__class__}", "{0.__init__.__globals__}", "%(persona)s", "{{persona}}"]
SHAPES = ["$", "$$", "${", "${ratings", "$persona.__class__", "$Ratings", "$item_type", "$persona " * 200]
templates = st.tuples(
    st.sampled_from(sorted(BUILT_IN)),
    st.lists(st.sampled_from(INNARDS) | words, max_size=4),
    st.lists(st.sampled_from(SHAPES), max_size=1),
    st.booleans(),
)


def _one_template(given: tuple[str, list[str], list[str], bool]) -> None:
    name, texts, shapes, whole = given
    needed = [f"${placeholder}" for placeholder in sorted(REQUIRED[name])] if whole else []
    path = FOLDER / "template.txt"
    path.write_text(" ".join([*texts, *shapes, *needed]), encoding="utf-8", errors="surrogatepass")
    with suppress(DeeperError):
        prompts, domain = Prompts.load({name: path}, 200), find_domain("movielens")
        window = [RatedItem("Heat", 4)]
        written = {
            "initial_persona": lambda: prompts.initial_persona(domain, window),
            "prediction": lambda: prompts.prediction(domain, "likes films", ["Heat"]),
            "refinement": lambda: prompts.refinement(domain, "likes films", window, [3]),
            "full_regen": lambda: prompts.full_regen(domain, [window]),
            "slide_regen": lambda: prompts.slide_regen(domain, window),
            "inc_update": lambda: prompts.inc_update(domain, "likes films", window),
            "short_term_persona": lambda: prompts.short_term_persona(domain, window),
            "merge_personas": lambda: prompts.merge_personas(domain, "likes films", "likes Heat"),
            "memories": lambda: prompts.memories(domain, [("Heat", 1)]),
            "persona_label": lambda: prompts.persona_label(domain, ["crime films"]),
            "persona_set": lambda: prompts.persona_set(domain, [ShownGroup(2, 9, 1, 0.5, 0.1, ("crime",))]),
            "verdicts": lambda: prompts.verdicts(domain, ["Likes crime films."], ["crime films"]),
        }[name]()
        assert len(written) < 1_000_000
        assert all(text in written for text in texts if text in INNARDS)  # texts, and never looked into


FILMS = Domain("films", "film", Scale(1, 5, 1), seen=True)
MARKS = ["5", "4.0", "3,5", "0", "-1", "1e400", "nan", "inf", "0x5", " 4 ", "５", "9" * 400, ""]
TIMES = ["2020-01-02", "1577923200", "1577923200000", "-1", "9e99", "0001-01-01", "99999-01-01", "infinity"]
ODD = ["\0", "u\0", "\u200b", "\u2028", "\ufeffu", "\x1b[2J", "\r", '"', '""', "x" * 1001, "u", "U", " u "]
cells = st.sampled_from(MARKS + TIMES + ODD) | st.sampled_from("abcde") | words
usual = st.fixed_dictionaries(
    {
        "user": st.sampled_from("uvw"),
        "item": st.integers(0, 999).map(str),
        "title": cells,
        "rating": st.sampled_from("12345"),
        "time": st.integers(1, 10**9).map(str),
    }
)
ratings = st.tuples(
    st.sampled_from([".csv", ".tsv", ".csv.gz", ".parquet"]),
    st.sampled_from(["user,item,title,rating,time", "user,item,rating", "\ufeffuser,item,rating,time", ""]),
    st.lists(usual, max_size=40),
    st.lists(st.lists(cells, min_size=1, max_size=6), max_size=20),
    st.booleans(),
    st.just(b"") | st.binary(max_size=30),
)


def _one_file_of_ratings(
    given: tuple[str, str, list[dict[str, str]], list[list[str]], bool, bytes],
) -> None:
    """Whatever can be read adds up: each user and rating is used, rejected, left over or not sampled."""
    ending, header, whole, odd, quoted, noise = given
    separator = "\t" if ending == ".tsv" else ","
    names, path = header.split(","), FOLDER / f"ratings{ending}"
    lines = [[row.get(name.removeprefix("\ufeff"), "") for name in names] for row in whole] + odd
    table = io.StringIO()
    csv.writer(table, delimiter=separator, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(
        [names, *lines]
    )
    content = table.getvalue().encode(errors="surrogatepass") + noise
    if ending == ".parquet":
        fitting = [[*line, *[""] * len(names)][: len(names)] for line in lines]
        frame = pd.DataFrame(fitting, columns=names)
        duckdb.from_df(frame.map(lambda cell: cell.encode(errors="replace").decode())).write_parquet(
            str(path)
        )
    else:
        path.write_bytes(gzip.compress(content) if ending == ".csv.gz" else content)
    columns = ColumnMap(
        "user", "item", "rating", *(name if name in names else None for name in ("title", "time"))
    )
    rules = WindowRules(size=2, at_least=2, at_most=3)
    with suppress(DeeperError):
        done = cut_source(CustomSource(FILMS, columns, file=path), FOLDER, rules)
        assert done.accounting.adds_up


KINDS: Mapping[str, tuple[SearchStrategy, Callable[..., None], int]] = {
    "profiles": (profiles, _one_of_a_file, 1500),
    "variables": (variables, _some_variables, 1000),
    "templates": (templates, _one_template, 1500),
    "ratings": (ratings, _one_file_of_ratings, 400),
}


def main() -> None:
    strategy, attempt, examples = KINDS[sys.argv[1]]
    if attempt is not _one_file_of_ratings:  # DuckDB takes far more addresses than memory
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + GIGABYTE
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    given(strategy)(
        settings(max_examples=examples, deadline=None, database=None, suppress_health_check=checks)(attempt)
    )()
    print(highest_memory())


if __name__ == "__main__":
    main()
