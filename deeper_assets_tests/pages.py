"""Pages of Markdown, taken apart: blocks, backticks, tables, and the commands in them."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class Page:
    """A page of Markdown, taken apart."""

    path: Path
    text: str

    def blocks(self, language: str) -> list[str]:
        """Its code blocks in a language."""
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)

    @property
    def prose(self) -> str:
        """What is not in blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.M | re.S)

    @property
    def spans(self) -> list[str]:
        """What stands in backticks outside of blocks."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    def section(self, heading: str) -> "Page":
        """What stands below a heading, up to the next."""
        (_, text) = re.split(rf"^#+ {re.escape(heading)}$", self.text, flags=re.M)
        return Page(self.path, re.split(r"^#+ ", text, flags=re.M)[0])

    def rows(self) -> list[list[str]]:
        """The cells of its tables, without the lines above and under a head."""
        lines = [line for line in self.prose.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        rules = {i for i, row in enumerate(cells) if set("".join(row)) <= {"-"}}
        return [row for i, row in enumerate(cells) if not {i, i + 1} & rules]


@dataclass(frozen=True)
class Command:
    """A command of a shell: the variables in front of it, and its words."""

    variables: Mapping[str, str]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The program, without its folder."""
        return Path(self.words[0]).name if self.words else ""

    def after(self, option: str) -> Iterator[str]:
        """What follows an option."""
        yield from (value for word, value in pairwise(self.words) if word == option)


def page(path: Path) -> Page:
    return Page(path, path.read_text(encoding="utf-8"))


def commands(of: Page) -> Iterator[Command]:
    """Every command in its shell blocks and in backticks."""
    blocks = "\n".join(of.blocks("bash")).replace("\\\n", " ").splitlines()
    for line in [*blocks, *(span for span in of.spans if " " in span or "=" in span)]:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("&|;"):
                words.append(word)
            elif words:
                yield _command(words)
                words = []


def _command(words: list[str]) -> Command:
    variables = {}
    while words and (assigned := re.fullmatch(r"(\w+)=(.*)", words[0], re.S)):
        variables[assigned[1]] = assigned[2]
        words = words[1:]
    return Command(variables, tuple(words))
