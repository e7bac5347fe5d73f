"""What the ledger says of each partition, which versions a reading has, and what a fingerprint is of."""

import hashlib
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.ledger import LEDGER, Ingredients, Input, Partition, Stamp, fingerprint
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.store.samples import errors, samples, stamp

A, B = {"batch": "a"}, {"batch": "b"}


def test_the_ledger_says_what_each_version_was_made_from(warehouse) -> None:
    before = datetime.now(UTC)
    first = warehouse.replace("samples", A, samples("a"), stamp("run 1"))
    ingredients = Ingredients("7", {"model": "m", "nested": {"b": [1, 2.5, None], "a": True}})
    second = warehouse.replace("samples", B, samples("b"), Stamp("run 2", ingredients, (first.as_input(),)))
    assert warehouse.history() == warehouse.current() == [first, second]
    assert second.inputs == (Input("samples", A, "run 1", first.fingerprint, first.content),)
    assert second.ingredients == ingredients
    assert second.fingerprint == fingerprint(ingredients, second.inputs)
    assert (first.version, second.version) == (1, 2)
    assert before <= first.made_at <= second.made_at <= datetime.now(UTC)
    rows = warehouse.load("samples", provenance=True)[["batch", "run_id", "fingerprint"]].drop_duplicates()
    assert rows.values.tolist() == [["a", "run 1", first.fingerprint], ["b", "run 2", second.fingerprint]]
    third = warehouse.replace("samples", A, samples("a", rows=1), stamp("run 3"))
    assert warehouse.current("samples") == [second, third]
    assert warehouse.history("samples") == [first, second, third]
    assert warehouse.history("round_errors") == []


def test_settings_that_are_not_json_are_refused_and_nothing_is_stored(warehouse) -> None:
    for value in (Path("x"), float("nan")):
        with pytest.raises(DeeperError, match="cannot be written as JSON"):
            warehouse.replace("samples", A, samples(), stamp(value=value))
    assert warehouse.load("samples").empty


def test_a_reading_has_the_latest_version_of_each_partition_that_was_asked_for(warehouse) -> None:
    for domain, method, generation in [*product("abc", "xy", [1]), ("c", "y", 2)]:
        partition = {"domain": domain, "method": method}
        warehouse.replace("round_errors", partition, errors(partition, generation, users=1), stamp())

    def read(*partitions: Partition) -> list[str]:
        versions = warehouse.read("round_errors", partitions).versions
        return ["".join([*one.partition.values(), str(one.version)]) for one in versions]

    assert read({"domain": "c", "method": "y"}, {"method": "x", "domain": "a"}) == ["ax1", "cy7"]
    assert read({"domain": "c"}) == ["cx5", "cy7"]
    assert read({"method": "x"}, {"domain": "a", "method": "y"}) == ["ax1", "ay2", "bx3", "cx5"]
    assert read({}) == ["ax1", "ay2", "bx3", "by4", "cx5", "cy7"]
    assert read() == read({"domain": "d"}) == []


def test_a_partition_named_in_part_is_not_looked_for_inside_of_a_value(warehouse) -> None:
    odd = ['book","method":"m', '"method":"m"', '\\"method":"m', "method"]
    for partition in [{"domain": name, "method": "other"} for name in odd]:
        warehouse.replace("round_errors", partition, errors(partition, 1, users=1), stamp())
    assert warehouse.read("round_errors", [{"method": "m"}]).versions == ()
    for name in odd:
        [version] = warehouse.read("round_errors", [{"domain": name}]).versions
        assert version.partition["domain"] == name


def test_a_fingerprint_is_of_code_settings_and_contents_and_of_nothing_else() -> None:
    one = Input("t", {"b": "1", "a": "2"}, "run", "f", "content 1")
    two = Input("u", {}, "run", "f", "content 2")
    base = fingerprint(Ingredients("1", {"x": 1, "y": [1, 2]}), [one, two])
    inputs = '[["t","{\\"a\\":\\"2\\",\\"b\\":\\"1\\"}","content 1"],["u","{}","content 2"]]'
    text = f'["1",{{"x":1,"y":[1,2]}},{inputs}]'
    assert base == hashlib.sha256(text.encode()).hexdigest()[:32]
    assert base == fingerprint(Ingredients("1", {"y": [1, 2], "x": 1}), [two, one])
    other_run = Input("t", {"a": "2", "b": "1"}, "another run", "another f", "content 1")
    assert base == fingerprint(Ingredients("1", {"x": 1, "y": [1, 2]}), [other_run, two])
    changed = [
        fingerprint(Ingredients("2", {"x": 1, "y": [1, 2]}), [one, two]),
        fingerprint(Ingredients("1", {"x": 2, "y": [1, 2]}), [one, two]),
        fingerprint(Ingredients("1", {"x": 1, "y": [2, 1]}), [one, two]),
        fingerprint(Ingredients("1", {"x": 1, "y": [1, 2]}), [one]),
        fingerprint(Ingredients("1", {"x": 1, "y": [1, 2]}), [one, Input("u", {}, "run", "f", "content 3")]),
        fingerprint(Ingredients("1", {"x": 1, "y": [1, 2]}), [one, Input("v", {}, "run", "f", "content 2")]),
        fingerprint(
            Ingredients("1", {"x": 1, "y": [1, 2]}), [one, Input("u", {"a": ""}, "run", "f", "content 2")]
        ),
    ]
    assert len({base, *changed}) == 8


def test_the_ledger_is_no_asset_table() -> None:
    assert LEDGER.name not in TABLES
