"""Where lines and records of a CSV file part: at blank lines, and at lines that go on inside of quotes.

numpy looks at blocks of a megabyte, a gigabyte or more a second where there are few quotes. A file with
quotes where none belong is looked at line by line.
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_LINE_FEED, _RETURN, _QUOTE = b'\n\r"'


@dataclass
class Counts:
    """Ascending numbers, a count with each: 16 bytes an entry, whatever the counts are.

    Attributes:
        total: of the counts.
    """

    total: int = 0
    _numbers: "array[int]" = field(default_factory=lambda: array("q"))
    _counts: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, numbers: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        """Add entries behind those that are there."""
        self._numbers.frombytes(numbers.astype(np.int64).tobytes())
        self._counts.frombytes(counts.astype(np.int64).tobytes())
        self.total += int(counts.sum())

    def add_runs(self, numbers: npt.NDArray[np.int64]) -> None:
        """Add ascending numbers: an entry a run, with its first number and its length."""
        begins = np.flatnonzero(np.diff(numbers, prepend=-1) != 1)
        self.add(numbers[begins], np.diff(begins, append=len(numbers)))

    def count(self, number: int) -> None:
        """Add one to the count of a number that is there last, or comes behind it."""
        if self._numbers and self._numbers[-1] == number:
            self._counts[-1] += 1
        else:
            self._numbers.append(number)
            self._counts.append(1)
        self.total += 1

    def as_table(self) -> dict[str, npt.NDArray[np.int64]]:
        """The columns `step` and `count`, as DuckDB takes them in."""
        return {
            "step": np.array(self._numbers, dtype=np.int64),
            "count": np.array(self._counts, dtype=np.int64),
        }


@dataclass
class Layout:
    """How the lines of a CSV file make records; blocks of whole lines are added one after another.

    Attributes:
        delimiter: one byte.
        steps: how many there are: a record is one, however many lines it has, and a blank line is one.
        blank: the first step (1-based) of each run of blank lines, and how many there are.
        continued: each step with lines that continue a quoted value, and how many there are.
        one_line_end: whether all lines end alike, and in nothing that DuckDB's reader would stop at.
        inside: whether the end, so far, lies inside of a quoted value.
        plain_quotes: whether quotes stand only where they belong, so that steps are what they seem.
    """

    delimiter: bytes
    steps: int = 0
    blank: Counts = field(default_factory=Counts)
    continued: Counts = field(default_factory=Counts)
    one_line_end: bool = True
    inside: bool = False
    plain_quotes: bool = True
    _with_return: bool | None = None

    @property
    def lines(self) -> int:
        """How many lines there are."""
        return self.steps + self.continued.total

    def add(self, block: bytes) -> None:
        """Take in a block of whole lines; only that of the end of a file may lack the end of its line."""
        content = np.frombuffer(block, np.uint8)
        is_end = content == _LINE_FEED
        marked = self.inside or self._with_return or b'"' in block or b"\r" in block
        if not marked and not is_end[0] and not np.any(is_end[1:] & is_end[:-1]):  # as most blocks are
            self._with_return = False
            self.steps += int(np.count_nonzero(is_end)) + (not block.endswith(b"\n"))
            return
        ends = np.flatnonzero(is_end)
        self._add_line_ends(content, ends)
        if not block.endswith(b"\n"):
            ends = np.append(ends, len(block))
        starts = np.concatenate(([0], ends[:-1] + 1))
        length = ends - starts
        empty = length == 0
        if self._with_return:
            empty |= (length == 1) & (content[starts] == _RETURN)
        quotes = np.flatnonzero(content == _QUOTE)
        if not len(quotes) and not self.inside:
            self.blank.add_runs(self.steps + 1 + np.flatnonzero(empty))
            self.steps += len(ends)
            return
        self._add_quotes(content, quotes)
        after = (self.inside + np.searchsorted(quotes, ends)) % 2 == 1
        goes_on = np.concatenate(([self.inside], after[:-1]))
        steps = self.steps + np.cumsum(~goes_on)
        self.blank.add_runs(steps[empty & ~goes_on])
        self.continued.add(*np.unique(steps[goes_on], return_counts=True))
        self.steps = int(steps[-1])
        self.inside = bool(after[-1])

    def added(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The blocks, each taken in on its way."""
        for block in blocks:
            self.add(block)
            yield block

    def _add_line_ends(self, content: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> None:
        returns = np.count_nonzero(content == _RETURN)
        pairs = np.count_nonzero(content[ends[ends > 0] - 1] == _RETURN)
        if self._with_return is None and len(ends):
            self._with_return = bool(returns)
        expected = len(ends) if self._with_return else 0
        self.one_line_end &= bool(returns == pairs == expected)

    def _add_quotes(self, content: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64]) -> None:
        """Look whether every other quote opens a value, or follows a quote, and each next one closes it."""
        opening, closing = quotes[int(self.inside) :: 2], quotes[1 - int(self.inside) :: 2]
        around = np.concatenate(([_LINE_FEED], content, [_LINE_FEED]))  # so `around[n + 1]` is `content[n]`
        known = (_LINE_FEED, _QUOTE, self.delimiter[0])
        self.plain_quotes &= bool(
            np.isin(around[opening], known).all() and np.isin(around[closing + 2], (*known, _RETURN)).all()
        )


def by_line(blocks: Iterable[bytes], delimiter: bytes) -> Layout:
    """The layout of a file with quotes where none belong, taken for what DuckDB's reader takes them."""
    opening = re.compile(rb"(?:^|" + re.escape(delimiter) + rb') *"')
    closing = re.compile(rb'[^"]*(?:""[^"]*)*"(?!")')
    layout = Layout(delimiter)
    for line in lines_of(blocks):
        if layout.inside:
            layout.continued.count(layout.steps)
        else:
            layout.steps += 1
            if line in (b"", b"\r"):
                layout.blank.count(layout.steps)
        if b'"' in line:
            at = 0
            while (match := (closing.match if layout.inside else opening.search)(line, at)) is not None:
                at, layout.inside = match.end(), not layout.inside
    return layout


def lines_of(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their line feeds."""
    for block in blocks:
        yield from block.removesuffix(b"\n").split(b"\n")


def mended(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks with line ends of one kind; DuckDB refuses a mixture, and stray carriage returns."""
    for block in blocks:
        if b"\r" not in block:
            yield block
            continue
        # The last line of a file may have lost its line feed, and kept what stood before it.
        yield block.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b" ")
