"""Every table of the warehouse: columns, types, keys, and what each column means.

This is the one place that says what is stored. The warehouse creates its tables from here, refuses frames
that do not fit, and the Dagster UI shows these meanings beside the columns. Every row of an asset table also
carries the provenance columns below, filled in by the store itself.
"""

from deeper_assets.store.columns import Column, Table
from deeper_assets.store.columns import integer as _integer
from deeper_assets.store.columns import long as _long
from deeper_assets.store.columns import moment as _moment
from deeper_assets.store.columns import number as _number
from deeper_assets.store.columns import text as _text

_DOMAIN = _text("domain", "domain of the items, e.g. book")
_USER = _text("user_id", "the source's own id of the user")
_SPLIT = _text("split", "train or eval; a user is never in both", check="split IN ('train', 'eval')")
_WINDOW = _integer("window", "window of the user's history, 0-based: W0, W1, …", check='"window" >= 0')
_PLACE = _integer("place", "place of the rating within its window, 0-based", check="place >= 0")
_METHOD = _text("method", "how personas are updated, e.g. inc_update")
_CONTROL = _text("control", "what stands in the persona's place, e.g. control_habit")
_ROUND = _integer("round", "evaluation round, 0-based: round r has r updates behind it", check='"round" >= 0')
_MODEL = _text("model", "model that wrote the answer", nullable=True)
_PERSONA = _text("persona", "persona text; NULL where no answer could be used", nullable=True)
_RATED_AT = _moment("rated_at", "when it was given, UTC; NULL where the source only orders", nullable=True)
_PREDICTED = _number("predicted", "predicted rating, in rating points; NULL where unreadable", nullable=True)
_PLACED = _text(
    "placed",
    "how the rating found its item: by its name, by its position, or by a name that was corrected;"
    " NULL where unreadable",
    nullable=True,
    check="placed IN ('name', 'position', 'correction')",
)
_ATTEMPTS = _integer("attempts", "how often the chat model was asked", check="attempts >= 0")
_NOTE = _text("note", "why there is no value, or why an old one was carried over", nullable=True)

_PAIRS = (
    _integer("pairs", "pairs of the window's items that the user rated differently", check="pairs >= 0"),
    _integer(
        "pairs_right",
        "of these pairs, those predicted in the same order; NULL where the error is unknown",
        nullable=True,
        check="pairs_right >= 0",
    ),
    _integer(
        "pairs_tied",
        "of these pairs, those predicted equal; NULL where the error is unknown",
        nullable=True,
        check="pairs_tied >= 0 AND pairs_right + pairs_tied <= pairs",
    ),
)
_MEASURED = (
    _WINDOW,
    _integer("items", "ratings in the predicted window", check="items > 0"),
    _number(
        "error",
        "ε(round+1|S_round): mean |predicted − actual|, rating points; NULL where unknown",
        nullable=True,
        check="error >= 0",
    ),
    *_PAIRS,
)
_KEPT = _integer("kept", "1: of an old persona, because an update could not be used", check="kept IN (0, 1)")
_KIND = _text(
    "kind",
    "method; control: text without the persona; ceiling: what knows the truth; floor: what reads no text",
    check="kind IN ('method', 'control', 'ceiling', 'floor')",
)
_ACCURACY = _number(
    "pairwise_accuracy",
    "mean over users of the share of their pairs in the right order, ties left out; NULL where all are tied",
    nullable=True,
    check="pairwise_accuracy BETWEEN 0 AND 1",
)

_TEMPLATE = _text("template", "prompt template that the policy gets: refinement or inc_update")
_RECIPE = _text("recipe", "how the policy is trained, e.g. balanced; balanced_seed_2 is its second training")
_LEARNS = _integer(
    "round", "window a context learns from, 1-based: S_round comes from W_round", check='"round" >= 1'
)
_CANDIDATE = _integer(
    "candidate", "number of the first sample with this text, 0-based", check="candidate >= 0"
)
_PROMPT = _text("prompt", "complete prompt that the policy got")
_ORIGIN = _text(
    "origin",
    "whose samples: of iteration_1, of iteration_2, or a replay of iteration 1 in iteration 2",
    check="origin IN ('iteration_1', 'iteration_2', 'replay')",
)
_VALIDATION = _integer("validation", "1: measures the training; 0: trains", check="validation IN (0, 1)")
_FILES = (
    _text("file", "path inside the model's folder, parts separated by /", check="file <> ''"),
    Column("content", "the file's bytes", "BLOB"),
    _long("size", "bytes of the file", check="size = octet_length(content)"),
    _text("sha256", "SHA-256 of the bytes, 64 hexadecimal digits"),
)
_ENDED = _number("ended", "share of a few greedy texts of the policy that came to an end", nullable=True)
_REWARDS = tuple(
    _number(
        f"reward_{which}",
        f"error on {window}, old persona's minus candidate's, in rating points; NULL where unknown",
        nullable=True,
    )
    for which, window in (("previous", "W_(round−1)"), ("current", "W_round"), ("future", "W_(round+1)"))
)


_WINDOWS = (
    _DOMAIN,
    _USER,
    _SPLIT,
    _WINDOW,
    _PLACE,
    _text("item_id", "the source's own id of the item, or its title"),
    _text("title", "what the item is called", check="trim(title) <> ''"),
    _number("rating", "the user's rating, in rating points, on the domain's scale"),
    _RATED_AT,
)


def _samples(number: int, by: Column) -> tuple[Table, ...]:
    """What iteration `number` samples and measures; `by` is what its samples are drawn for beside the domain.

    Recipes with the same template share the samples of iteration 1, so these are cut by domain alone.
    """
    columns = (_DOMAIN, by, _USER, _LEARNS)
    partition = ("domain",) if by is _TEMPLATE else ("domain", by.name)
    context = ("domain", by.name, "user_id", "round")
    predicted = (_WINDOW, _PLACE, _PREDICTED, _PLACED, _NOTE, _ATTEMPTS, _MODEL)
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
    columns, partition = (_RECIPE, _DOMAIN, _USER, _LEARNS), ("recipe",)
    context = ("recipe", "domain", "user_id", "round", "origin")
    return (
        Table(
            f"preference_pairs_{number}",
            (
                *columns,
                _integer("pair", "number of the pair in its context, 0-based", check="pair >= 0"),
                _PROMPT,
                _text("chosen", "the better persona"),
                _text("rejected", "the worse persona"),
                _number("reward_chosen", "the recipe's weighted sum of rewards, rating points"),
                _number("reward_rejected", "the recipe's weighted sum of rewards, rating points"),
                _number("margin", "reward_chosen minus reward_rejected", check="margin >= 0"),
                _ORIGIN,
                _VALIDATION,
            ),
            (*context, "pair"),
            partition,
        ),
        Table(
            f"preference_groups_{number}",
            (
                *columns,
                _CANDIDATE,
                _PROMPT,
                _text("completion", "candidate's text"),
                _number("reward", "the recipe's weighted sum of rewards, rating points"),
                _ORIGIN,
                _VALIDATION,
            ),
            (*context, "candidate"),
            partition,
        ),
        Table(f"model_{number}", (_RECIPE, *_FILES, _ENDED), ("recipe", "file"), partition),
    )


_RATINGS_AND_PERSONAS = (
    Table(
        "raw_ratings",
        (
            _DOMAIN,
            _long("row", "number of the rating in the domain's source, 0-based", check='"row" >= 0'),
            _text("user_id", "the source's own id of the user; NULL where it has none", nullable=True),
            _text("item_id", "the source's own id of the item, or its title", nullable=True),
            _text("title", "what the item is called, HTML entities resolved", nullable=True),
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
            _DOMAIN,
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
    Table("rating_windows", _WINDOWS, ("domain", "user_id", "window", "place"), partition=("domain",)),
    Table(
        "initial_personas",
        (_DOMAIN, _USER, _SPLIT, _PERSONA, _NOTE, _ATTEMPTS, _MODEL),
        key=("domain", "user_id"),
        partition=("domain",),
    ),
    Table(
        "initial_predictions",
        (_DOMAIN, _USER, _SPLIT, _WINDOW, _PLACE, _PREDICTED, _PLACED, _NOTE, _ATTEMPTS, _MODEL),
        key=("domain", "user_id", "window", "place"),
        partition=("domain",),
    ),
)

_EVALUATION = (
    Table(
        "policies",
        (
            _METHOD,
            _text("recipe", "recipe of the policy; NULL for the base policy", nullable=True),
            _integer(
                "iteration",
                "iteration it comes out of; NULL for the base policy",
                nullable=True,
                check="iteration IN (1, 2)",
            ),
            _text("model", "the policy's name, which says what its files hold"),
            _text("file", "file of its adapter; NULL for the base policy", nullable=True),
            _text("sha256", "SHA-256 of that file's bytes", nullable=True),
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
        (_DOMAIN, _METHOD, _USER, _ROUND, _WINDOW, _PLACE, _PREDICTED, _PLACED, _NOTE, _ATTEMPTS, _MODEL),
        key=("domain", "method", "user_id", "round", "place"),
        partition=("domain", "method"),
    ),
    Table(
        "round_errors",
        (_DOMAIN, _METHOD, _USER, _ROUND, *_MEASURED, _KEPT),
        key=("domain", "method", "user_id", "round"),
        partition=("domain", "method"),
    ),
)

_CONTROLS = (
    Table(
        "control_predictions",
        (
            *(_DOMAIN, _CONTROL, _USER, _ROUND, _WINDOW, _PLACE),
            _text("persona_of", "user whose persona it is, where another's is used", nullable=True),
            *(_PREDICTED, _PLACED, _NOTE, _ATTEMPTS, _MODEL),
        ),
        key=("domain", "control", "user_id", "round", "place"),
        partition=("domain", "control"),
    ),
    Table(
        "control_errors",
        (_DOMAIN, _CONTROL, _USER, _ROUND, *_MEASURED),
        key=("domain", "control", "user_id", "round"),
        partition=("domain", "control"),
    ),
)

_TRUTH = (
    Table(
        "planted_truth",
        (
            _DOMAIN,
            _USER,
            _text(
                "part",
                "habit, use (of the scale), noise, taste or appeal: see `sources/synthetic.py`",
                check="part IN ('habit', 'use', 'noise', 'taste', 'appeal')",
            ),
            _text("name", "of a taste or an appeal, its theme; otherwise empty"),
            _moment("since", "rating from which on it holds, UTC"),
            _number("value", "share of the scale; of `use` a factor, of `appeal` a share of the items"),
        ),
        key=("domain", "user_id", "part", "name", "since"),
        partition=("domain",),
    ),
    Table(
        "planted_items",
        (
            _DOMAIN,
            _text("title", "what the item is called"),
            _text("theme", "generator's theme of the item"),
            _text("word", "word of the theme in the title; NULL where there is none", nullable=True),
            _number("quality", "what everyone finds in it, share of the scale"),
        ),
        key=("domain", "title"),
        partition=("domain",),
    ),
    Table(
        "ceiling_errors",
        (
            _DOMAIN,
            _text("ceiling", "what predicts: the planted truth, or what is said of it"),
            *(_USER, _ROUND, *_MEASURED),
        ),
        key=("domain", "ceiling", "user_id", "round"),
        partition=("domain",),
    ),
)

_RESULTS = (
    Table(
        "floors_table",
        (
            _DOMAIN,
            _text("method", "floor: a predictor that reads no text"),
            _ROUND,
            _integer("users", "evaluation users with a window to predict", check="users >= 0"),
            _number("mae", "mean over users of the mean absolute error, rating points", nullable=True),
        ),
        key=("domain", "method", "round"),
    ),
    Table(
        "mae_table",
        (
            _text("domain", "domain, or macro: the plain average over the domains above it"),
            _text("method", "update method, control, ceiling or floor"),
            _KIND,
            _ROUND,
            _integer("asked", "evaluation users with a window to predict", check="asked >= users"),
            _integer("users", "evaluation users whose error is known", check="users >= 0"),
            _number("mae", "mean over users of ε(round+1|S_round), rating points", nullable=True),
            _number(
                "unreadable",
                "share of users with a window to predict whose error is unknown",
                check="unreadable BETWEEN 0 AND 1",
            ),
            _number("kept", "share of them whose persona is an old one", check="kept BETWEEN 0 AND 1"),
            _integer(
                "users_ordered",
                "users with a pair that is predicted unequal, of whom pairwise_accuracy is the mean",
                check="users_ordered BETWEEN 0 AND users",
            ),
            _ACCURACY,
            _number(
                "ties",
                "mean over users of the share of their pairs that are predicted equal",
                nullable=True,
                check="ties BETWEEN 0 AND 1",
            ),
            _number("paper_mae", "the paper's figure (Tables 13–17); NULL where it has none", nullable=True),
            _number(
                "gap_high",
                "highest upper end of the 95 % intervals of its error minus each floor's; of several"
                " trainings, that of their mean, with the first; NULL for floors",
                nullable=True,
            ),
        ),
        key=("domain", "method", "round"),
    ),
    Table(
        "comparison_table",
        (
            _text("method", "update method, control or ceiling"),
            _KIND,
            _ROUND,
            _integer("trainings", "trainings of the recipe behind these figures", check="trainings >= 1"),
            _integer("users", "evaluation users whose error is known in all of them", check="users >= 0"),
            _number(
                "mae", "macro average of their errors, mean of the trainings, rating points", nullable=True
            ),
            _number(
                "training_sd",
                "standard deviation of that average between trainings, rating points; NULL of one training",
                nullable=True,
            ),
            _number("mae_low", "lower end of its 95 % interval, over users and trainings", nullable=True),
            _number("mae_high", "upper end of that interval", nullable=True),
            _text("against", "method it is compared with, on the same users", nullable=True),
            _number(
                "difference",
                "its macro average minus that one's; below 0 where it errs less, rating points",
                nullable=True,
            ),
            _number("difference_low", "lower end of its 95 % interval", nullable=True),
            _number("difference_high", "upper end of that interval", nullable=True),
            _ACCURACY,
            _number("pairwise_low", "lower end of its 95 % bootstrap interval", nullable=True),
            _number("pairwise_high", "upper end of that interval", nullable=True),
        ),
        key=("method", "round"),
    ),
    Table(
        "chat_usage",
        (
            _text("asset", "asset (or the computation of several) that asked; may be empty"),
            _text("domain", "domain that it asked for; may be empty"),
            _text("asking_run_id", "Dagster run that asked; may be empty"),
            _text("model", "chat model that was asked"),
            _long("requests", "answers that were paid for", check="requests >= 0"),
            _long("hits", "answers that the journal held already", check="hits >= 0"),
            _long("unreadable", "of the requests, refused, filtered, or cut off"),
            _long("retries", "requests that came to nothing, and were sent again"),
            _long("input_tokens", "tokens of prompts, as the server counted them"),
            _long("cached_tokens", "of these, what the server had read before"),
            _long("output_tokens", "tokens of answers"),
            _number("cost_usd", "what the requests cost, US dollars; 0 without prices"),
            _number("saved_usd", "what the hits had cost when they were paid for"),
            _number("unsure_usd", "the most that unanswered requests may have been charged"),
        ),
        key=("asset", "domain", "asking_run_id", "model"),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *_RATINGS_AND_PERSONAS,
        Table("base_policy", _FILES, key=("file",)),
        Table("training_windows", _WINDOWS, ("domain", "user_id", "window", "place"), partition=("domain",)),
        *_samples(1, _TEMPLATE),
        *_preferences(1),
        *_samples(2, _RECIPE),
        *_preferences(2),
        *_EVALUATION,
        *_CONTROLS,
        *_TRUTH,
        *_RESULTS,
    )
}
