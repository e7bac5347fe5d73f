"""The offline policy's tokenizer: whole phrases of the language are tokens, most title words are none.

Sampling on a CPU pays by the token: a prompt of 200 words comes down to about 60 tokens, a persona of 80
words to about 20.
"""

import re
from functools import cache
from typing import Any

from deeper_assets.engines.offline.language import PATTERNS, REMARKS
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

_NUMBERS = tuple(f"{half / 2:g}" for half in range(21))
_LINES = (
    *(tag for block in ("persona", "comparison", "ratings") for tag in (f"<{block}>\n", f"\n</{block}>")),
    *(f"{before}{mark}\n" for before in (", actual ", ": rated ") for mark in _NUMBERS),
    *(f": predicted {mark}" for mark in _NUMBERS),
)
_PLACEHOLDER = re.compile(r"\$\w+")


@cache
def phrases() -> tuple[str, ...]:
    """The language's fixed phrases, with the spaces around them: each becomes one token."""
    patterns = [*PATTERNS, BUILT_IN["refinement"], BUILT_IN["inc_update"], QUESTION, *_LINES]
    texts = [part for pattern in patterns for part in _PLACEHOLDER.split(pattern)]
    texts += [f" {phrase}" for _, phrase in PHRASES] + list(REMARKS.values())
    texts += [kind.person for kind in kinds()] + [one for kind in kinds() for one in kind.item_types]
    texts += [text for kind in kinds() for theme in kind.themes for text in (theme.phrase, theme.why)]
    texts += [LITERAL, ", ", ", and ", " as well as ", *(str(scale) for scale in SCALES)]
    # What begins a sentence takes the space before it along. At the end of the one before, a space would
    # tell that another follows, and the choice of a sentence would be the choice to go on.
    texts += [f" {text}" for text in texts if text[:1].isupper()]
    return tuple(dict.fromkeys(text for text in texts if text.strip()))


@cache
def words() -> tuple[str, ...]:
    """The title words it knows: a few for each theme, and those that make a theme of their own.

    All of them would be four times as many tokens, and half of the work of training would go to tokens that
    no persona ever holds.
    """
    signals = {word for kind in kinds() for theme in kind.themes for word in theme.foremost}
    return tuple(sorted(signals | {word for kind in kinds() for word in kind.words or ()}))


def build_tokenizer() -> Any:
    """A tokenizer of phrases, numbers and title words; whatever else stands in a text it does not see."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<|unknown|>", END, USER, ASSISTANT, *words()]
    vocabulary = {text: i for i, text in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    some_word = "|".join(sorted(map(re.escape, words()), key=len, reverse=True))
    pattern = Regex(rf"\b(?:{some_word})(?=(?:'?s|es)?\b)")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in (END, USER, ASSISTANT)]
    )
    tokenizer.add_tokens(
        [
            AddedToken(text, normalized=False, single_word=text[0].isalnum() and text[-1].isalnum())
            for text in phrases()
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
