"""The offline policy's tokenizer: whole phrases of the language are tokens, and of titles what they signal.

A model of so few parameters cannot learn which words belong together, as a large one has; the lexicon tells
it: every word that signals a theme is the token of that theme. Sampling on a CPU pays by the token: a prompt
of 200 words comes down to about 60 tokens, a persona of 100 words to about 30.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from deeper_assets.engines.offline.language import PATTERNS
from deeper_assets.engines.offline.lessons import PHRASES, QUESTION, SCALES
from deeper_assets.engines.offline.themes import LITERAL, kinds
from deeper_assets.method.prompts import BUILT_IN

LONGEST = 1024
"""Tokens of prompt and persona together that the model has positions for."""

END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{{% if message.role == 'user' %}}{USER}{{{{ message.content }}}}"
    f"{{% else %}}{ASSISTANT}{{{{ message.content }}}}{END}{{% endif %}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
)

_MARKS = tuple(dict.fromkeys(f"{half / 2:g}" for half in (*range(11), *range(12, 21, 2))))
RATED = (
    *(f"- rated {mark}:" for mark in _MARKS),
    *(f"- predicted {guess}, actual {mark}:" for guess in _MARKS for mark in _MARKS),
)
"""How the line of a rated item begins, with any mark: each is one token."""

_TAGS = tuple(
    tag for block in ("persona", "comparison", "ratings") for tag in (f"<{block}>\n", f"\n</{block}>")
)
_PLACEHOLDER = re.compile(r"\$\w+")


@cache
def phrases() -> tuple[str, ...]:
    """The language's fixed phrases, with the spaces around them: each becomes one token."""
    patterns = [*PATTERNS, BUILT_IN["refinement"], BUILT_IN["inc_update"], QUESTION, *_TAGS, *RATED]
    texts = [part for pattern in patterns for part in _PLACEHOLDER.split(pattern)]
    texts += [f" {phrase}" for _, phrase in PHRASES]
    texts += [kind.person for kind in kinds()] + [one for kind in kinds() for one in kind.item_types]
    texts += [text for kind in kinds() for theme in kind.themes for text in (theme.phrase, theme.why)]
    texts += [LITERAL, *(str(scale) for scale in SCALES)]
    # What begins a sentence takes the space before it along. At the end of the one before, a space would
    # tell that another follows, and the choice of a sentence would be the choice to go on.
    texts += [f" {text}" for text in texts if text[:1].isupper()]
    return tuple(dict.fromkeys(text for text in texts if text.strip()))


@cache
def signals() -> dict[tuple[str, ...], tuple[str, ...]]:
    """What titles signal, and how they spell it: phrases of themes → words (or pairs of words) of a title.

    A word may signal themes of several kinds of item. A word that is a theme of its own signals itself.
    """
    phrases: dict[str, list[str]] = {}
    for kind in kinds():
        for theme in kind.themes:
            for word in sorted(theme.words):
                phrases.setdefault(word, []).append(theme.phrase)
    for word in sorted({word for kind in kinds() for word in kind.words or ()} - phrases.keys()):
        phrases[word] = [word]
    words: dict[tuple[str, ...], list[str]] = {}
    for word, named in phrases.items():
        words.setdefault(tuple(sorted(named)), []).append(word)
    return {named: tuple(words[named]) for named in sorted(words)}


def build_tokenizer(fixed: Sequence[str] | None = None) -> Any:
    """A tokenizer of `fixed` phrases and title words; whatever else stands in a text it does not see.

    The phrases are those of the language of refinement where none are given.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    themes = sorted({phrase for named in signals() for phrase in named})
    known = ["<|unknown|>", END, USER, ASSISTANT, *themes]
    vocabulary = {text: i for i, text in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    # By way of numbers: the words of a phrase put in for one word would be taken for signals themselves.
    numbered = [(f"§{number}§", named, words) for number, (named, words) in enumerate(signals().items())]
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            # Pairs of words first: a pair is gone once one of its words has been replaced.
            *(
                normalizers.Replace(Regex(_spelt(some)), number)
                for pairs in (True, False)
                for number, _, words in numbered
                if (some := [word for word in words if (" " in word) == pairs])
            ),
            *(normalizers.Replace(number, " ".join(named)) for number, named, _ in numbered),
        ]
    )
    some_theme = "|".join(sorted(map(re.escape, themes), key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"\b(?:{some_theme})\b"), "removed", invert=True)
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in (END, USER, ASSISTANT)]
    )
    tokenizer.add_tokens(
        [
            AddedToken(text, normalized=False, single_word=text[0].isalnum() and text[-1].isalnum())
            for text in (phrases() if fixed is None else fixed)
        ]
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        eos_token=END,
        pad_token=END,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def _spelt(words: Sequence[str]) -> str:
    """A pattern for lower-case words of titles, in singular or plural; a decade is any of its years."""
    decades = [rf"\({word[:3]}\d\)" for word in words if word[0].isdigit()]
    plain = [word for word in words if not word[0].isdigit()]
    stems = sorted(map(_stem, plain), key=len, reverse=True)
    spelt = [rf"\b(?:{'|'.join(stems)})\b"] if plain else []
    return "|".join([*spelt, *decades])


def _stem(words: str) -> str:
    """A pattern for a word, or pair, as `themes.title_words` gives it, in all spellings it stands for."""
    return r"[\W_]+".join(map(_stem_of_one, words.split()))


def _stem_of_one(word: str) -> str:
    if word.endswith("y"):
        return re.escape(word[:-1]) + "(?:y|ies?)(?:['’]?s)?"
    if word.endswith(("sh", "ch", "ss", "x", "o")):
        return re.escape(word) + "(?:es?|['’]?s)?"
    return re.escape(word) + "(?:['’]?s)?"
