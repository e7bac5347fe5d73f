"""Settings files that were written to break who reads them, and those with ordinary mistakes."""

import os
from pathlib import Path

import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.yaml_files import LARGEST, read_settings


def read(folder: Path, text: str | bytes) -> dict[str, object]:
    path = folder / "mine.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_settings(path)


def nested(form: str, first: str) -> str:
    """Eight lines, each of which holds the one before it ten times."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} " + form % ", ".join([f"*a{i - 1}"] * 10) for i in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested("[%s]", "[x]"), "line 1: written out, its aliases take more than 250,000 characters"),
        (nested("{<<: [%s]}", "{x: 1}"), "line 1: written out, its aliases take more than 250,000"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 40)), "or 30 levels"),
        ("a: &a [*a]\n", "line 1: written out, its aliases take more"),
        ("domains: " + "[" * 5000, "line 1: more than 30 lists and mappings within one another"),
        ("a: 1\nb: " + "{a: " * 5000, "line 2: more than 30 lists and mappings within one another"),
        ("? " * 5000, "line 1: more than 30 lists and mappings within one another"),
        ("a: " + "x" * LARGEST, "has more than 250,000 bytes"),
        ("eval_users: 3\nseed: 1\neval_users: 4\n", "line 3: 'eval_users' stands twice, in lines 1 and 3"),
        ("chat:\n  tries: 3\n  tries: 3\n", "line 3: 'tries' stands twice, in lines 2 and 3"),
        ("when: 2026-13-45\n", "line 1: it looks like timestamp and is none"),
        ("seed: 1\nasks: 0x_\n", "line 2: it looks like int and is none"),
        ("seed: !!bool maybe\n", "line 1: it looks like bool and is none"),
        ("seed: !!int\n", "line 1: it looks like int and is none"),
        ("seed: !!str {}\n", "line 1: expected a scalar node, but found mapping"),
        ("seed: !!timestamp x\n", "line 1: it looks like timestamp and is none"),
        ("seed: 1" + ":59" * 300 + ".0", "line 1: it looks like float and is none"),
        ('policy: "\\UFFFFFFFF"\n', "a number in it is too large"),
        ("%YAML 1." + "9" * 5000 + "\n---\nseed: 1\n", "a number in it is too large"),
        ("seed: " + "9" * 5000, "line 1: it looks like int and is none"),
        ("seed: 0x" + "f" * 5000, "seed: the number has more than 18 digits"),
        ('data: "a\\0b"\n', "data: a control character or half of a surrogate pair stands in the text"),
        ('data: ["\\ud800"]\n', "data: a control character or half of a surrogate pair stands in the text"),
        ("data: a\0b", "character 7 is none that YAML allows"),
        (b"data: \xff", "it is not UTF-8 (byte 6)"),
        ("{[1]: 2}\n", "line 1: found unhashable key"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ("- a\n", "holds list, expected `name: value` lines"),
    ],
)
def test_a_file_that_breaks_a_bound_or_says_two_things_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(DeeperError) as error:
        read(tmp_path, text)
    assert str(tmp_path / "mine.yaml") in str(error.value)
    assert message in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "domains: {p: {dsn_env: postgresql://u:s3cret@host/db: x}}\n",
        "key: 's3cret\n",
        "key: *s3cret\n",
        "key: !s3cret x\n",
        "s3cret\nkey: 1\n",
    ],
)
def test_an_error_about_a_file_quotes_nothing_of_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(DeeperError, match="cannot be read: line") as error:
        read(tmp_path, text)
    assert "s3cret" not in str(error.value)
    assert error.value.__suppress_context__  # its cause would quote the line: in a traceback, in an event log


def test_aliases_are_taken_where_they_are_of_use(tmp_path: Path) -> None:
    text = "columns: &ours {user: u, item: i}\nother: {<<: *ours, item: book}\n"
    ours = {"user": "u", "item": "i"}
    assert read(tmp_path, text) == {"columns": ours, "other": {"user": "u", "item": "book"}}
    assert read(tmp_path, "﻿# nothing but this\n") == {}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.yaml")
    with pytest.raises(DeeperError, match=r"settings\.yaml is no file"):
        read_settings(tmp_path / "settings.yaml")
