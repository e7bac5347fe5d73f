"""YAML files of settings, read within bounds: a few kilobytes may not become gigabytes or hours.

Every error names the file and the line, and repeats none of its text: what stands there may be a secret.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml import MappingNode, MarkedYAMLError, Node, ScalarNode
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from deeper_assets.method.exceptions import DeeperError

LARGEST = 250_000
"""Bytes of a file, and characters of it with its aliases written out. PyYAML takes seconds for as many."""

DEEPEST = 30
"""Lists and mappings within one another."""


def read_settings(path: Path) -> dict[str, Any]:
    """The values of a settings file by name; empty where nothing stands in it.

    Raises:
        DeeperError: it cannot be read, is no YAML, breaks a bound, names something twice, or holds no names.
    """
    try:
        if not path.is_file():  # a pipe would be waited for, and a device has no end
            raise DeeperError(f"settings file {path} is no file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise DeeperError(
                f"settings file {path} has more than {LARGEST:,} bytes; settings need far fewer"
            )
        values = yaml.load(content.decode(), _Loader)
    except OSError as error:
        raise DeeperError(f"settings file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DeeperError(
            f"settings file {path} cannot be read: it is not UTF-8 (byte {error.start})"
        ) from None
    except yaml.YAMLError as error:
        # Without its cause: a YAML error quotes the line.
        raise DeeperError(f"settings file {path} cannot be read: {_told(error)}") from None
    except (ValueError, OverflowError):  # what PyYAML lets out where an escape names no character
        raise DeeperError(f"settings file {path} cannot be read: a number in it is too large") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise DeeperError(f"settings file {path} holds {type(values).__name__}, expected `name: value` lines")
    refuse_unusable(values, str(path))
    return values


def refuse_unusable(value: Any, origin: str, depth: int = 0) -> None:
    """Refuses texts that no path, table or request can take, numbers that no column can, and great depth.

    Raises:
        DeeperError: there is one; the message names `origin` and the setting, and not the value.
    """
    if depth > DEEPEST:
        raise DeeperError(f"{origin}: more than {DEEPEST} lists and mappings within one another")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            refuse_unusable(name, f"{origin}: a name", depth + 1)
            refuse_unusable(inner, f"{origin}: {name!s:.60}" if depth == 0 else origin, depth + 1)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            refuse_unusable(inner, origin, depth + 1)
    elif isinstance(value, str):
        if _UNPRINTABLE.search(value):
            raise DeeperError(f"{origin}: a control character or half of a surrogate pair stands in the text")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise DeeperError(f"{origin}: the number has more than 18 digits")


_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds, and without its habit of taking the last of two equal names."""

    depth = 0

    def get_single_node(self) -> Node | None:
        """The document, unless its aliases written out would make it too large or too deep."""
        node: Node | None = super().get_single_node()
        if node is not None:
            written_out = _written_out(node, {})
            if written_out.size > LARGEST or written_out.depth > DEEPEST:
                problem = (
                    f"written out, its aliases take more than {LARGEST:,} characters, or {DEEPEST} levels"
                )
                raise ComposerError(None, None, problem, node.start_mark)
        return node

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """A value with all that is in it."""
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(
                None, None, f"more than {DEEPEST} lists and mappings within one another", mark
            )
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """A mapping, no name of which stands twice."""
        node: MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if (name := (key.tag, key.value)) in lines:
                    problem = f"{key.value[:60]!r} stands twice, in lines {lines[name]} and {line}"
                    raise ComposerError(None, None, problem, key.start_mark)
                lines[name] = line
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """A value. For some that are not what they look like, PyYAML lets an error of Python's out."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError) as error:
            # Of 2026-13-45, `!!int` alone, 1:59:…:59.0, `!!timestamp x` and `!!str {}`.
            kind = str(node.tag).rpartition(":")[2]
            raise ConstructorError(
                None, None, f"it looks like {kind} and is none", node.start_mark
            ) from error


@dataclass(frozen=True)
class _Extent:
    """What a value takes with its aliases written out: characters, and lists and mappings in one another."""

    size: float
    depth: float


_ENDLESS = _Extent(math.inf, math.inf)


def _written_out(node: Node, known: dict[int, _Extent]) -> _Extent:
    """The extent of a value; endless where it holds itself. Each node is looked at once."""
    if id(node) not in known:
        known[id(node)] = _ENDLESS  # until all that it holds is known
        if isinstance(node, ScalarNode):
            extent = _Extent(1 + len(node.value), 0)
        else:
            pairs = isinstance(node, MappingNode)
            inner = [part for pair in node.value for part in pair] if pairs else node.value
            extents = [_written_out(part, known) for part in inner]
            size = 1 + sum(extent.size for extent in extents)
            extent = _Extent(size, 1 + max((extent.depth for extent in extents), default=0))
        known[id(node)] = extent
    return known[id(node)]


def _told(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line."""
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark is not None else ""
        return place + re.sub(r"(alias|tag) '.*'$", r"\1", str(error.problem or error.context))
    if isinstance(error, ReaderError):
        return f"character {error.position} is none that YAML allows"
    return type(error).__name__
