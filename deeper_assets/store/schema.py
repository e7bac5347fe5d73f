"""Every table of the warehouse: columns, types, keys, and what each column means.

This is the one place that says what is stored. The warehouse creates its tables from here, refuses frames
that do not fit, and the Dagster UI shows these meanings beside the columns. Every row of an asset table also
carries the provenance columns below, filled in by the store itself.
"""

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "TIMESTAMP", "BLOB"]


@dataclass(frozen=True)
class Column:
    """One column: SQL type, meaning (shown to people), whether NULL may stand in it, and a SQL CHECK."""

    name: str
    type: ColumnType
    meaning: str
    nullable: bool = False
    check: str | None = None


@dataclass(frozen=True)
class Table:
    """One table: its columns in order, the key no two rows of which may agree, and its partition columns.

    `partition` names the columns whose values are the partition key (empty: one unpartitioned whole).
    `key` is unique within a partition.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns an asset has to supply: all but provenance."""
        return tuple(column.name for column in self.columns)


PROVENANCE = (
    Column("run_id", "VARCHAR", "Dagster run that wrote the row"),
    Column("fingerprint", "VARCHAR", "hash of the code version, settings and input contents that made it"),
)

LEDGER = Table(
    "materializations",
    (
        Column("version", "BIGINT", "number of the replacement, counting up from 1 over all tables"),
        Column("table_name", "VARCHAR", "table a partition of which was replaced"),
        Column(
            "partition", "VARCHAR", "the partition: JSON object of column and value, {} for a whole table"
        ),
        *PROVENANCE,
        Column("content", "VARCHAR", "hash of the rows, whatever their order and whoever wrote them"),
        Column("row_count", "BIGINT", "rows in the partition", check="row_count >= 0"),
        Column("code_version", "VARCHAR", "version of the code that made it"),
        Column("settings", "VARCHAR", "settings that it depends on, as a JSON object"),
        Column(
            "inputs",
            "VARCHAR",
            "what was read: JSON list of table, partition, run_id, fingerprint and content",
        ),
        Column("made_at", "TIMESTAMP", "when it was replaced, UTC"),
    ),
    key=("version",),
)
"""Append-only: one row for every replacement of a partition. No asset, so it is not in `TABLES`."""

_DOMAIN = Column("domain", "VARCHAR", "domain of the items, e.g. book")
_USER = Column("user_id", "VARCHAR", "the source's own id of the user")
_SPLIT = Column(
    "split", "VARCHAR", "train or eval; a user is never in both", check="split IN ('train', 'eval')"
)
_WINDOW = Column(
    "window", "INTEGER", "window of the user's history, 0-based: W0, W1, …", check='"window" >= 0'
)
_PLACE = Column("place", "INTEGER", "place of the rating within its window, 0-based", check="place >= 0")
_METHOD = Column("method", "VARCHAR", "how personas are updated, e.g. inc_update")
_ROUND = Column(
    "round", "INTEGER", "evaluation round, 0-based: round r has r updates behind it", check='"round" >= 0'
)
_MODEL = Column("model", "VARCHAR", "model that wrote the answer", nullable=True)
_PERSONA = Column("persona", "VARCHAR", "persona text; NULL where no answer could be used", nullable=True)
_PREDICTED = Column(
    "predicted", "DOUBLE", "predicted rating, in rating points; NULL where unreadable", nullable=True
)
_ATTEMPTS = Column("attempts", "INTEGER", "how often the chat model was asked", check="attempts >= 0")
_NOTE = Column("note", "VARCHAR", "why there is no value, or why an old one was carried over", nullable=True)

_TEMPLATE = Column("template", "VARCHAR", "prompt template that the policy gets: refinement or inc_update")
_RECIPE = Column("recipe", "VARCHAR", "how the policy is trained, e.g. balanced")
_LEARNS = Column(
    "round",
    "INTEGER",
    "window a context learns from, 1-based: S_round comes from W_round",
    check='"round" >= 1',
)
_CANDIDATE = Column(
    "candidate", "INTEGER", "number of the first sample with this text, 0-based", check="candidate >= 0"
)
_PROMPT = Column("prompt", "VARCHAR", "complete prompt that the policy got")
_ORIGIN = Column(
    "origin",
    "VARCHAR",
    "whose samples: of iteration_1, of iteration_2, or a replay of iteration 1 in iteration 2",
    check="origin IN ('iteration_1', 'iteration_2', 'replay')",
)
_VALIDATION = Column(
    "validation", "INTEGER", "1: measures the training; 0: trains", check="validation IN (0, 1)"
)
_FILES = (
    Column("file", "VARCHAR", "path inside the model's folder, parts separated by /", check="file <> ''"),
    Column("content", "BLOB", "the file's bytes"),
    Column("size", "BIGINT", "bytes of the file", check="size = octet_length(content)"),
    Column("sha256", "VARCHAR", "SHA-256 of the bytes, 64 hexadecimal digits"),
)


def _reward(which: str, window: str) -> Column:
    return Column(
        f"reward_{which}",
        "DOUBLE",
        f"error on {window}, old persona's minus candidate's, in rating points; NULL where unknown",
        nullable=True,
    )


def _iteration(number: int, by: Column) -> tuple[Table, ...]:
    """The tables of one training iteration; `by` is what its samples are drawn for beside the domain.

    Recipes with the same template share the samples of iteration 1, so these are cut by domain alone.
    """
    sampled = ("domain",) if by is _TEMPLATE else ("domain", by.name)
    context = ("domain", by.name, "user_id", "round")
    trained = ("recipe", "domain", "user_id", "round", "origin")
    return (
        Table(
            f"contexts_{number}",
            (
                _DOMAIN,
                by,
                _USER,
                _LEARNS,
                Column(
                    "prompt",
                    "VARCHAR",
                    "complete prompt for the policy; NULL where no candidate can be asked for",
                    nullable=True,
                ),
                Column("persona", "VARCHAR", "old persona S_(round−1); NULL where unknown", nullable=True),
                Column("note", "VARCHAR", "why no candidate can be asked for", nullable=True),
                Column("model", "VARCHAR", "model that wrote the old persona", nullable=True),
            ),
            key=context,
            partition=sampled,
        ),
        Table(
            f"context_predictions_{number}",
            (_DOMAIN, by, _USER, _LEARNS, _WINDOW, _PLACE, _PREDICTED, _NOTE, _ATTEMPTS, _MODEL),
            key=(*context, "window", "place"),
            partition=sampled,
        ),
        Table(
            f"candidates_{number}",
            (
                _DOMAIN,
                by,
                _USER,
                _LEARNS,
                _CANDIDATE,
                Column("persona", "VARCHAR", "candidate's text, a refined persona"),
                Column("copies", "INTEGER", "how many samples say exactly this", check="copies >= 1"),
                Column(
                    "tokens", "INTEGER", "tokens of the text, the end token not counted", check="tokens >= 0"
                ),
                Column(
                    "unusable",
                    "VARCHAR",
                    "why it can be neither chosen nor rejected; NULL where it can",
                    nullable=True,
                    check="unusable IN ('empty', 'truncated', 'echo', 'names_item', 'states_score')",
                ),
                Column(
                    "names_item", "INTEGER", "1: names an item of the window", check="names_item IN (0, 1)"
                ),
                Column("states_score", "INTEGER", "1: states a score", check="states_score IN (0, 1)"),
                Column("model", "VARCHAR", "policy that wrote it"),
            ),
            key=(*context, "candidate"),
            partition=sampled,
        ),
        Table(
            f"candidate_predictions_{number}",
            (_DOMAIN, by, _USER, _LEARNS, _CANDIDATE, _WINDOW, _PLACE, _PREDICTED, _NOTE, _ATTEMPTS, _MODEL),
            key=(*context, "candidate", "window", "place"),
            partition=sampled,
        ),
        Table(
            f"rewards_{number}",
            (
                _DOMAIN,
                by,
                _USER,
                _LEARNS,
                _CANDIDATE,
                _reward("previous", "W_(round−1)"),
                _reward("current", "W_round"),
                _reward("future", "W_(round+1)"),
            ),
            key=(*context, "candidate"),
            partition=sampled,
        ),
        Table(
            f"preference_pairs_{number}",
            (
                _RECIPE,
                _DOMAIN,
                _USER,
                _LEARNS,
                Column("pair", "INTEGER", "number of the pair in its context, 0-based", check="pair >= 0"),
                _PROMPT,
                Column("chosen", "VARCHAR", "the better persona"),
                Column("rejected", "VARCHAR", "the worse persona"),
                Column("reward_chosen", "DOUBLE", "the recipe's weighted sum of rewards, rating points"),
                Column("reward_rejected", "DOUBLE", "the recipe's weighted sum of rewards, rating points"),
                Column("margin", "DOUBLE", "reward_chosen minus reward_rejected", check="margin >= 0"),
                _ORIGIN,
                _VALIDATION,
            ),
            key=(*trained, "pair"),
            partition=("recipe",),
        ),
        Table(
            f"preference_groups_{number}",
            (
                _RECIPE,
                _DOMAIN,
                _USER,
                _LEARNS,
                _CANDIDATE,
                _PROMPT,
                Column("completion", "VARCHAR", "candidate's text"),
                Column("reward", "DOUBLE", "the recipe's weighted sum of rewards, rating points"),
                _ORIGIN,
                _VALIDATION,
            ),
            key=(*trained, "candidate"),
            partition=("recipe",),
        ),
        Table(f"model_{number}", (_RECIPE, *_FILES), key=("recipe", "file"), partition=("recipe",)),
    )


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "raw_ratings",
            (
                _DOMAIN,
                Column(
                    "row",
                    "BIGINT",
                    "number of the rating in the domain's source, 0-based",
                    check='"row" >= 0',
                ),
                Column(
                    "user_id",
                    "VARCHAR",
                    "the source's own id of the user; NULL where it has none",
                    nullable=True,
                ),
                Column("item_id", "VARCHAR", "the source's own id of the item, or its title", nullable=True),
                Column("title", "VARCHAR", "what the item is called, HTML entities resolved", nullable=True),
                Column("rating_text", "VARCHAR", "the rating as the source wrote it", nullable=True),
                Column(
                    "rating",
                    "DOUBLE",
                    "the rating, in rating points; NULL where it is no number",
                    nullable=True,
                ),
                Column(
                    "rated_at",
                    "TIMESTAMP",
                    "when it was given, UTC; NULL where the source only orders",
                    nullable=True,
                ),
                Column(
                    "position",
                    "BIGINT",
                    "place in the user's time order, 0-based; NULL where it has none",
                    nullable=True,
                ),
                Column(
                    "split",
                    "VARCHAR",
                    "train or eval where the source decides it",
                    nullable=True,
                    check="split IN ('train', 'eval')",
                ),
                Column("file", "VARCHAR", "file or query the rating was read from", nullable=True),
                Column("line", "BIGINT", "1-based line (or record) in that file", nullable=True),
                Column(
                    "defect",
                    "VARCHAR",
                    "reason for which the source's reader could not use it",
                    nullable=True,
                ),
                Column(
                    "detail", "VARCHAR", "what exactly the reader saw, where there is a defect", nullable=True
                ),
            ),
            key=("domain", "row"),
            partition=("domain",),
        ),
        Table(
            "rejected_ratings",
            (
                _DOMAIN,
                Column("user_id", "VARCHAR", "user the rating belongs to, where known", nullable=True),
                Column(
                    "row", "BIGINT", "row of raw_ratings; NULL where a whole user is rejected", nullable=True
                ),
                Column("file", "VARCHAR", "file (or query) it was read from", nullable=True),
                Column("line", "BIGINT", "1-based line (or record) in that file", nullable=True),
                Column("reason", "VARCHAR", "why it cannot be used, as one of a fixed set of words"),
                Column("detail", "VARCHAR", "the value that was found and what was expected", nullable=True),
                Column("ratings", "BIGINT", "how many ratings this row stands for", check="ratings >= 0"),
            ),
            key=("domain", "user_id", "row", "reason"),
            partition=("domain",),
        ),
        Table(
            "rating_windows",
            (
                _DOMAIN,
                _USER,
                _SPLIT,
                _WINDOW,
                _PLACE,
                Column("item_id", "VARCHAR", "the source's own id of the item, or its title"),
                Column("title", "VARCHAR", "what the item is called", check="trim(title) <> ''"),
                Column("rating", "DOUBLE", "the user's rating, in rating points, on the domain's scale"),
                Column(
                    "rated_at",
                    "TIMESTAMP",
                    "when it was given, UTC; NULL where the source only orders",
                    nullable=True,
                ),
            ),
            key=("domain", "user_id", "window", "place"),
            partition=("domain",),
        ),
        Table(
            "initial_personas",
            (_DOMAIN, _USER, _SPLIT, _PERSONA, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "user_id"),
            partition=("domain",),
        ),
        Table(
            "initial_predictions",
            (_DOMAIN, _USER, _SPLIT, _WINDOW, _PLACE, _PREDICTED, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "user_id", "window", "place"),
            partition=("domain",),
        ),
        Table("base_policy", _FILES, key=("file",)),
        *_iteration(1, _TEMPLATE),
        *_iteration(2, _RECIPE),
        Table(
            "policies",
            (
                _METHOD,
                Column("recipe", "VARCHAR", "recipe of the policy; NULL for the base policy", nullable=True),
                Column(
                    "iteration",
                    "INTEGER",
                    "iteration it comes out of; NULL for the base policy",
                    nullable=True,
                    check="iteration IN (1, 2)",
                ),
                Column("model", "VARCHAR", "the policy's name, which says what its files hold"),
                Column("file", "VARCHAR", "file of its adapter; NULL for the base policy", nullable=True),
                Column("sha256", "VARCHAR", "SHA-256 of that file's bytes", nullable=True),
            ),
            key=("method", "file"),
            partition=("method",),
        ),
        Table(
            "persona_rounds",
            (_DOMAIN, _METHOD, _USER, _ROUND, _PERSONA, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "method", "user_id", "round"),
            partition=("domain", "method"),
        ),
        Table(
            "round_predictions",
            (_DOMAIN, _METHOD, _USER, _ROUND, _WINDOW, _PLACE, _PREDICTED, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "method", "user_id", "round", "place"),
            partition=("domain", "method"),
        ),
        Table(
            "round_errors",
            (
                _DOMAIN,
                _METHOD,
                _USER,
                _ROUND,
                _WINDOW,
                Column("items", "INTEGER", "ratings in the predicted window", check="items > 0"),
                Column(
                    "error",
                    "DOUBLE",
                    "ε(round+1|S_round): mean |predicted − actual|, rating points; NULL where unknown",
                    nullable=True,
                    check="error >= 0",
                ),
            ),
            key=("domain", "method", "user_id", "round"),
            partition=("domain", "method"),
        ),
        Table(
            "floors_table",
            (
                _DOMAIN,
                Column("method", "VARCHAR", "floor: a predictor that reads no text"),
                _ROUND,
                Column("users", "INTEGER", "evaluation users with a window to predict", check="users >= 0"),
                Column(
                    "mae",
                    "DOUBLE",
                    "mean over users of the mean absolute error, rating points",
                    nullable=True,
                ),
            ),
            key=("domain", "method", "round"),
        ),
        Table(
            "mae_table",
            (
                Column("domain", "VARCHAR", "domain, or macro: the plain average over the domains above it"),
                Column("method", "VARCHAR", "update method or floor"),
                Column(
                    "kind",
                    "VARCHAR",
                    "method, or floor: a predictor that reads no text",
                    check="kind IN ('method', 'floor')",
                ),
                _ROUND,
                Column("users", "INTEGER", "evaluation users whose error is known", check="users >= 0"),
                Column(
                    "mae", "DOUBLE", "mean over users of ε(round+1|S_round), rating points", nullable=True
                ),
                Column(
                    "unreadable",
                    "DOUBLE",
                    "share of users with a window to predict whose error is unknown",
                    check="unreadable BETWEEN 0 AND 1",
                ),
                Column(
                    "paper_mae",
                    "DOUBLE",
                    "the paper's figure (Tables 13–17); NULL where it has none",
                    nullable=True,
                ),
            ),
            key=("domain", "method", "round"),
        ),
        Table(
            "comparison_table",
            (
                _METHOD,
                _ROUND,
                Column("users", "INTEGER", "evaluation users whose error is known", check="users >= 0"),
                Column("mae", "DOUBLE", "macro average of their errors, rating points", nullable=True),
                Column("mae_low", "DOUBLE", "lower end of its 95 % bootstrap interval", nullable=True),
                Column("mae_high", "DOUBLE", "upper end of that interval", nullable=True),
                Column("against", "VARCHAR", "method it is compared with, on the same users", nullable=True),
                Column(
                    "difference",
                    "DOUBLE",
                    "its macro average minus that one's; below 0 where it errs less, rating points",
                    nullable=True,
                ),
                Column("difference_low", "DOUBLE", "lower end of its 95 % interval", nullable=True),
                Column("difference_high", "DOUBLE", "upper end of that interval", nullable=True),
            ),
            key=("method", "round"),
        ),
        Table(
            "chat_usage",
            (
                Column("asset", "VARCHAR", "asset (or the computation of several) that asked; may be empty"),
                Column("domain", "VARCHAR", "domain that it asked for; may be empty"),
                Column("asking_run_id", "VARCHAR", "Dagster run that asked; may be empty"),
                Column("model", "VARCHAR", "chat model that was asked"),
                Column("requests", "BIGINT", "answers that were paid for", check="requests >= 0"),
                Column("hits", "BIGINT", "answers that the journal held already", check="hits >= 0"),
                Column("unreadable", "BIGINT", "of the requests, refused, filtered, or cut off"),
                Column("retries", "BIGINT", "requests that came to nothing, and were sent again"),
                Column("input_tokens", "BIGINT", "tokens of prompts, as the server counted them"),
                Column("cached_tokens", "BIGINT", "of these, what the server had read before"),
                Column("output_tokens", "BIGINT", "tokens of answers"),
                Column("cost_usd", "DOUBLE", "what the requests cost, US dollars; 0 without prices"),
                Column("saved_usd", "DOUBLE", "what the hits had cost when they were paid for"),
                Column("unsure_usd", "DOUBLE", "the most that unanswered requests may have been charged"),
            ),
            key=("asset", "domain", "asking_run_id", "model"),
        ),
    )
}
