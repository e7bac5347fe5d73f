"""Errors that a user can act on: each names the thing, the value and the way out."""

import difflib
import re
from collections.abc import Iterable


class DeeperError(Exception):
    """Base of every error whose message is meant for the user: one readable line, no traceback needed."""


class UnreadableAnswer(DeeperError):
    """A chat model's answer that holds no usable ratings; `str()` is the reason that gets counted."""


def one_line(error: BaseException) -> str:
    """An error in one readable line; the type stands before it unless the message was meant for people."""
    text = " ".join(str(error).split())
    if isinstance(error, DeeperError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message; a database adds lines that only its own developers need."""
    return str(error).partition("\n")[0]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown word: the known one most like it; empty where none is like it.

    Case, spaces and signs between words do not count: `user_id` is most like "User ID".
    """
    folded = {_folded(name): name for name in known}
    close = difflib.get_close_matches(_folded(word), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def _folded(word: str) -> str:
    return re.sub(r"[\W_]+", "_", word.casefold()).strip("_")
