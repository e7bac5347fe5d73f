"""Errors that a user can act on: each names the thing, the value and the way out."""


class DeeperError(Exception):
    """Base of every error whose message is meant for the user: one readable line, no traceback needed."""


class UnreadableAnswer(DeeperError):
    """A chat model's answer that holds no usable ratings; `str()` is the reason that gets counted."""
