"""CSV read by Python, for the rare file of which DuckDB's reader does not see every record.

That happens where quotes stand in odd places. It takes some microseconds a record, ten times DuckDB's time.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from deeper_assets.sources.csv_lines import lines_of
from deeper_assets.sources.streams import LONGEST_LINE

_BATCH = 10_000
"""Records a block."""


def as_plain_csv(blocks: Iterable[bytes], delimiter: str, columns: int) -> Iterator[bytes]:
    """The same records as CSV that every reader takes alike: without a header, quoted, separated by commas.

    Args:
        blocks: the file in blocks of whole lines with line feeds, the header first.
        delimiter: one character.
        columns: how many values a record has.

    Returns:
        Blocks with a row a record: the line where it begins, what is wrong with it (empty where nothing is),
        and its values.
    """
    csv.field_size_limit(LONGEST_LINE)
    lines = _Lines(blocks)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    at_end = False
    while not at_end:
        for _ in range(_BATCH):
            line, lines.begun = reader.line_num + 1, []
            wrong = None
            try:
                record = next(reader)
            except StopIteration:
                at_end = True
                break
            except csv.Error as error:
                record, wrong = [], f"{str(error).capitalize()}."
            if line == 1 or (not record and wrong is None):
                continue
            wrong = wrong or _wrong_in(record, columns)
            values = record if wrong is None else [""] * columns
            writer.writerow((line, wrong and f"{wrong} In: {lines.shown}", *values))
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _wrong_in(record: Sequence[str], columns: int) -> str | None:
    """What is wrong with a record."""
    if len(record) != columns:
        return f"Expected Number of Columns: {columns} Found: {len(record)}"
    try:
        "".join(record).encode()
    except UnicodeEncodeError:
        return "Invalid unicode."
    return None


class _Lines:
    """Lines as text, bytes that are not UTF-8 as surrogates; the beginning of a record can be shown."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._lines = lines_of(blocks)
        self.begun: list[bytes] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if len(self.begun) < 3:
                self.begun.append(line[:200])
            yield line.decode(errors="surrogateescape") + "\n"

    @property
    def shown(self) -> str:
        """The beginning of the lines since `begun` was emptied."""
        return b"\n".join(self.begun).decode(errors="replace").strip()[:200]
