"""Every table of the warehouse: columns, types, keys, and what each column means.

This is the one place that says what is stored. The warehouse creates its tables from here, refuses frames
that do not fit, and the Dagster UI shows these meanings beside the columns. Every row of an asset table also
carries the provenance columns below, filled in by the store itself.
"""

from deeper_assets.store.columns import (
    ATTEMPTS,
    DOMAIN,
    ENDED,
    FILES,
    MODEL,
    NOTE,
    PERSONA,
    PLACE,
    PLACED,
    PREDICTED,
    PROMPT,
    USER,
    VALIDATION,
    WINDOW,
    Column,
    Table,
)
from deeper_assets.store.columns import integer as _integer
from deeper_assets.store.columns import long as _long
from deeper_assets.store.columns import moment as _moment
from deeper_assets.store.columns import number as _number
from deeper_assets.store.columns import text as _text
from deeper_assets.store.evaluation_tables import CONTROLS, EVALUATION, RESULTS, TRUTH
from deeper_assets.store.induction_tables import INDUCTION

_SPLIT = _text(
    "split",
    "train or eval, and never both; short: too few windows for either, so the user is in no figure",
    check="split IN ('train', 'eval', 'short')",
)
_RATED_AT = _moment("rated_at", "when it was given, UTC; NULL where the source only orders", nullable=True)
_TEMPLATE = _text("template", "prompt template that the policy gets: refinement or inc_update")
_RECIPE = _text("recipe", "how the policy is trained, e.g. balanced; balanced_seed_2 is its second training")
_LEARNS = _integer(
    "round", "window a context learns from, 1-based: S_round comes from W_round", check='"round" >= 1'
)
_CANDIDATE = _integer(
    "candidate", "number of the first sample with this text, 0-based", check="candidate >= 0"
)
_ORIGIN = _text(
    "origin",
    "whose samples: of iteration_1, of iteration_2, or a replay of iteration 1 in iteration 2",
    check="origin IN ('iteration_1', 'iteration_2', 'replay')",
)
_REWARDS = tuple(
    _number(
        f"reward_{which}",
        f"error on {window}, old persona's minus candidate's, in rating points; NULL where unknown",
        nullable=True,
    )
    for which, window in (("previous", "W_(round−1)"), ("current", "W_round"), ("future", "W_(round+1)"))
)


_WINDOWS = (
    DOMAIN,
    USER,
    _SPLIT,
    WINDOW,
    PLACE,
    _text("item_id", "the source's own id of the item, or its title"),
    _text("title", "what the item is called", check="trim(title) <> ''"),
    _number("rating", "the user's rating, in rating points, on the domain's scale"),
    _RATED_AT,
)


def _samples(number: int, by: Column) -> tuple[Table, ...]:
    """What iteration `number` samples and measures; `by` is what its samples are drawn for beside the domain.

    Recipes with the same template share the samples of iteration 1, so these are cut by domain alone.
    """
    columns = (DOMAIN, by, USER, _LEARNS)
    partition = ("domain",) if by is _TEMPLATE else ("domain", by.name)
    context = ("domain", by.name, "user_id", "round")
    predicted = (WINDOW, PLACE, PREDICTED, PLACED, NOTE, ATTEMPTS, MODEL)
    return (
        Table(
            f"contexts_{number}",
            (
                *columns,
                _text(
                    "prompt",
                    "complete prompt for the policy; NULL where no candidate can be asked for",
                    nullable=True,
                ),
                _text("persona", "old persona S_(round−1); NULL where unknown", nullable=True),
                _text("note", "why no candidate can be asked for", nullable=True),
                _text("model", "model that wrote the old persona", nullable=True),
            ),
            context,
            partition,
        ),
        Table(
            f"context_predictions_{number}", (*columns, *predicted), (*context, "window", "place"), partition
        ),
        Table(
            f"candidates_{number}",
            (
                *columns,
                _CANDIDATE,
                _text("persona", "candidate's text, a refined persona"),
                _integer("copies", "how many samples say exactly this", check="copies >= 1"),
                _integer("tokens", "tokens of the text, the end token not counted", check="tokens >= 0"),
                _text(
                    "unusable",
                    "why it can be neither chosen nor rejected; NULL where it can",
                    nullable=True,
                    check="unusable IN ('empty', 'truncated', 'echo', 'names_item', 'states_score')",
                ),
                _integer("names_item", "1: names an item of the window", check="names_item IN (0, 1)"),
                _integer("states_score", "1: states a score", check="states_score IN (0, 1)"),
                _text("model", "policy that wrote it"),
            ),
            (*context, "candidate"),
            partition,
        ),
        Table(
            f"candidate_predictions_{number}",
            (*columns, _CANDIDATE, *predicted),
            (*context, "candidate", "window", "place"),
            partition,
        ),
        Table(f"rewards_{number}", (*columns, _CANDIDATE, *_REWARDS), (*context, "candidate"), partition),
    )


def _preferences(number: int) -> tuple[Table, ...]:
    """What each recipe makes of the samples of iteration `number`: preferences, and a model."""
    columns, partition = (_RECIPE, DOMAIN, USER, _LEARNS), ("recipe",)
    context = ("recipe", "domain", "user_id", "round", "origin")
    return (
        Table(
            f"preference_pairs_{number}",
            (
                *columns,
                _integer("pair", "number of the pair in its context, 0-based", check="pair >= 0"),
                PROMPT,
                _text("chosen", "the better persona"),
                _text("rejected", "the worse persona"),
                _number("reward_chosen", "the recipe's weighted sum of rewards, rating points"),
                _number("reward_rejected", "the recipe's weighted sum of rewards, rating points"),
                _number("margin", "reward_chosen minus reward_rejected", check="margin >= 0"),
                _ORIGIN,
                VALIDATION,
            ),
            (*context, "pair"),
            partition,
        ),
        Table(
            f"preference_groups_{number}",
            (
                *columns,
                _CANDIDATE,
                PROMPT,
                _text("completion", "candidate's text"),
                _number("reward", "the recipe's weighted sum of rewards, rating points"),
                _ORIGIN,
                VALIDATION,
            ),
            (*context, "candidate"),
            partition,
        ),
        Table(f"model_{number}", (_RECIPE, *FILES, ENDED), ("recipe", "file"), partition),
    )


_RATINGS_AND_PERSONAS = (
    Table(
        "raw_ratings",
        (
            DOMAIN,
            _long("row", "place of the rating in the domain's source, from 0 on", check='"row" >= 0'),
            _text("user_id", "the source's own id of the user; NULL where it has none", nullable=True),
            _text("item_id", "the source's own id of the item, or its title", nullable=True),
            _text("title", "what the item is called, HTML entities resolved", nullable=True),
            _text("categories", "genres, tags or the like, where the source has them", nullable=True),
            _text("rating_text", "the rating as the source wrote it", nullable=True),
            _number("rating", "the rating, in rating points; NULL where it is no number", nullable=True),
            _RATED_AT,
            _long(
                "position", "place in the user's time order, 0-based; NULL where it has none", nullable=True
            ),
            _text(
                "split",
                "train or eval where the source decides it",
                nullable=True,
                check="split IN ('train', 'eval')",
            ),
            _text("file", "file or query the rating was read from", nullable=True),
            _long("line", "1-based line (or record) in that file", nullable=True),
            _text("defect", "reason for which the source's reader could not use it", nullable=True),
            _text("detail", "what exactly the reader saw, where there is a defect", nullable=True),
        ),
        key=("domain", "row"),
        partition=("domain",),
    ),
    Table(
        "rejected_ratings",
        (
            DOMAIN,
            _text("user_id", "user the rating belongs to, where known", nullable=True),
            _long("row", "row of raw_ratings; NULL where a whole user is rejected", nullable=True),
            _text("file", "file (or query) it was read from", nullable=True),
            _long("line", "1-based line (or record) in that file", nullable=True),
            _text("reason", "why it cannot be used, as one of a fixed set of words"),
            _text("detail", "the value that was found and what was expected", nullable=True),
            _long("ratings", "how many ratings this row stands for", check="ratings >= 0"),
        ),
        key=("domain", "user_id", "row", "reason"),
        partition=("domain",),
    ),
    Table(
        "rating_accounts",
        (
            DOMAIN,
            _text(
                "part",
                "of everything that was read: used; rejected; not_sampled; unseen_train (trains by the"
                " source, in a domain that only evaluates); left_over (ratings of used users in no window)",
                check="part IN ('read', 'used', 'rejected', 'not_sampled', 'unseen_train', 'left_over')",
            ),
            _long("users", "how many users", check="users >= 0"),
            _long("ratings", "how many ratings", check="ratings >= 0"),
        ),
        key=("domain", "part"),
        partition=("domain",),
    ),
    Table("rating_windows", _WINDOWS, ("domain", "user_id", "window", "place"), partition=("domain",)),
    Table(
        "initial_personas",
        (DOMAIN, USER, _SPLIT, PERSONA, NOTE, ATTEMPTS, MODEL),
        key=("domain", "user_id"),
        partition=("domain",),
    ),
    Table(
        "initial_predictions",
        (DOMAIN, USER, _SPLIT, WINDOW, PLACE, PREDICTED, PLACED, NOTE, ATTEMPTS, MODEL),
        key=("domain", "user_id", "window", "place"),
        partition=("domain",),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *_RATINGS_AND_PERSONAS,
        Table("base_policy", FILES, key=("file",)),
        Table("training_windows", _WINDOWS, ("domain", "user_id", "window", "place"), partition=("domain",)),
        *_samples(1, _TEMPLATE),
        *_preferences(1),
        *_samples(2, _RECIPE),
        *_preferences(2),
        *EVALUATION,
        *CONTROLS,
        *TRUTH,
        *RESULTS,
        *INDUCTION,
    )
}
