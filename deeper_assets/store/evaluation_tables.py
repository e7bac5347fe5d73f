"""The tables of evaluation: rounds, controls, planted truth, and the results over all of them."""

from deeper_assets.store.columns import (
    ATTEMPTS,
    DOMAIN,
    MODEL,
    NOTE,
    PERSONA,
    PLACE,
    PLACED,
    PREDICTED,
    USER,
    WINDOW,
    Table,
)
from deeper_assets.store.columns import integer as _integer
from deeper_assets.store.columns import long as _long
from deeper_assets.store.columns import moment as _moment
from deeper_assets.store.columns import number as _number
from deeper_assets.store.columns import text as _text

_METHOD = _text("method", "how personas are updated, e.g. inc_update")
_CONTROL = _text("control", "what stands in the persona's place, e.g. control_habit")
_ROUND = _integer("round", "evaluation round, 0-based: round r has r updates behind it", check='"round" >= 0')
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
    WINDOW,
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

EVALUATION = (
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
        (DOMAIN, _METHOD, USER, _ROUND, PERSONA, NOTE, ATTEMPTS, MODEL),
        key=("domain", "method", "user_id", "round"),
        partition=("domain", "method"),
    ),
    Table(
        "round_predictions",
        (DOMAIN, _METHOD, USER, _ROUND, WINDOW, PLACE, PREDICTED, PLACED, NOTE, ATTEMPTS, MODEL),
        key=("domain", "method", "user_id", "round", "place"),
        partition=("domain", "method"),
    ),
    Table(
        "round_errors",
        (DOMAIN, _METHOD, USER, _ROUND, *_MEASURED, _KEPT),
        key=("domain", "method", "user_id", "round"),
        partition=("domain", "method"),
    ),
)

CONTROLS = (
    Table(
        "control_predictions",
        (
            *(DOMAIN, _CONTROL, USER, _ROUND, WINDOW, PLACE),
            _text("persona_of", "user whose persona it is, where another's is used", nullable=True),
            *(PREDICTED, PLACED, NOTE, ATTEMPTS, MODEL),
        ),
        key=("domain", "control", "user_id", "round", "place"),
        partition=("domain", "control"),
    ),
    Table(
        "control_errors",
        (DOMAIN, _CONTROL, USER, _ROUND, *_MEASURED),
        key=("domain", "control", "user_id", "round"),
        partition=("domain", "control"),
    ),
)

TRUTH = (
    Table(
        "planted_truth",
        (
            DOMAIN,
            USER,
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
            DOMAIN,
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
            DOMAIN,
            _text("ceiling", "what predicts: the planted truth, or what is said of it"),
            *(USER, _ROUND, *_MEASURED),
        ),
        key=("domain", "ceiling", "user_id", "round"),
        partition=("domain",),
    ),
)

RESULTS = (
    Table(
        "floors_table",
        (
            DOMAIN,
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
            _text("model", "chat model or embedder that was asked"),
            _long("requests", "answers that were paid for; of an embedder, texts", check="requests >= 0"),
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
