"""The tables of policies that write sets of personas: what they see and write, and what that is worth."""

from deeper_assets.method.induction.set_recipes import COMPONENTS
from deeper_assets.store.columns import (
    DOMAIN,
    ENDED,
    FILES,
    MODEL,
    NOTE,
    PROMPT,
    USER,
    VALIDATION,
    WINDOW,
    Column,
    Table,
)
from deeper_assets.store.columns import integer as _integer
from deeper_assets.store.columns import number as _number
from deeper_assets.store.columns import text as _text

_PLACE = (DOMAIN, USER, WINDOW)
_KEY = ("domain", "user_id", "window")
_CANDIDATE = _integer(
    "candidate", "number of the first sample with this text, 0-based", check="candidate >= 0"
)
_RECIPE = _text("set_recipe", "how the policy of sets is trained, e.g. foreseeing")
_MEANINGS = {
    "cohesion": "mean cosine of two memories of a persona, over personas; a lone memory has 1",
    "separation": "mean silhouette of the memories; a lone memory has 0",
    "alignment": "share of the claims that memories of their own persona show, and none contradicts",
    "truthfulness": "share of the claims that any memory shows and none contradicts",
    "lift": "share of the next window that is near a persona, minus the same of other people",
    "recurrence": "share of the personas that show in the next window and repeat no other of the set",
}


def _component(name: str) -> Column:
    return _number(name, f"{_MEANINGS[name]}; NULL where unknown", nullable=True)


SET_TRAINING = (
    Table("base_set_policy", FILES, key=("file",)),
    Table(
        "set_contexts",
        (*_PLACE, _integer("groups", "groups that it shows", check="groups >= 1"), PROMPT),
        key=_KEY,
        partition=("domain",),
    ),
    Table(
        "set_groups",
        (
            *_PLACE,
            _integer("group", "number of the group in the prompt, 0-based", check='"group" >= 0'),
            _integer("memory", "number of the memory among the user's, 0-based", check="memory >= 0"),
        ),
        key=(*_KEY, "group", "memory"),
        partition=("domain",),
    ),
    Table(
        "set_candidates",
        (
            *_PLACE,
            _CANDIDATE,
            _text("text", "what the policy wrote"),
            _integer("copies", "samples with this text", check="copies >= 1"),
            _integer("tokens", "tokens that the policy took for it"),
            _text("unusable", "why it is no set; NULL where it is one", nullable=True),
            MODEL,
        ),
        key=(*_KEY, "candidate"),
        partition=("domain",),
    ),
    Table(
        "judged_claims",
        (
            *_PLACE,
            _text("claim", "a sentence that some set says of the person"),
            _text("shown_by", "numbers of the memories that show it; NULL where unknown", nullable=True),
            _integer(
                "contradicted",
                "1: memories speak against it; NULL where unknown",
                nullable=True,
                check="contradicted IN (0, 1)",
            ),
            *(NOTE, MODEL),
        ),
        key=(*_KEY, "claim"),
        partition=("domain",),
    ),
    Table(
        "set_rewards",
        (*_PLACE, _CANDIDATE, *map(_component, COMPONENTS)),
        key=(*_KEY, "candidate"),
        partition=("domain",),
    ),
    Table(
        "set_preferences",
        (
            *(_RECIPE, *_PLACE, _CANDIDATE, PROMPT),
            _text("completion", "the set, as the policy wrote it"),
            _number("reward", "the recipe's weighted sum of components"),
            VALIDATION,
        ),
        key=(*_KEY, "candidate"),
        partition=("set_recipe",),
    ),
    Table(
        "set_policies",
        (
            _text("inducer", "whose sets it writes"),
            _text("set_recipe", "how it was trained; NULL of the untrained policy", nullable=True),
            _text("model", "identity of base and adapter"),
            _text("file", "path inside the adapter's folder; NULL without an adapter", nullable=True),
            _text("sha256", "SHA-256 of the file; NULL without an adapter", nullable=True),
        ),
        key=("inducer", "file"),
        partition=("inducer",),
    ),
    Table("set_models", (_RECIPE, *FILES, ENDED), ("set_recipe", "file"), ("set_recipe",)),
)
