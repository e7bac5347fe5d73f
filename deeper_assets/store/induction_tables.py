"""The tables of several personas a person: events, memories, sets of personas, and what was planted."""

from deeper_assets.store.columns import ATTEMPTS, DOMAIN, MODEL, NOTE, USER, WINDOW, Table
from deeper_assets.store.columns import integer as _integer
from deeper_assets.store.columns import long as _long
from deeper_assets.store.columns import moment as _moment
from deeper_assets.store.columns import number as _number
from deeper_assets.store.columns import text as _text
from deeper_assets.store.set_tables import SET_TRAINING

_SESSION = _integer("session", "session of the user, 0-based, in order of time", check="session >= 0")
_EVENT = _integer("event", "place of the event in its session, 0-based", check="event >= 0")
_MEMORY = _integer("memory", "number of the memory among the user's, 0-based", check="memory >= 0")
_INDUCER = _text("inducer", "how memories become personas, e.g. clusters")
_PERSONA = _integer("persona", "the persona's id among the user's, which lasts", check="persona >= 0")
_FIGURES = (
    _integer("memories", "memories of its own", check="memories >= 1"),
    _integer("sessions", "sessions in which it shows", check="sessions >= 1"),
    _number(
        "share",
        "of the events that the user's memories cite, those cited near it; NULL where it is not measured",
        nullable=True,
        check="share BETWEEN 0 AND 1",
    ),
    _number(
        "chance",
        "the same share of other people, on average; NULL where it is not measured",
        nullable=True,
        check="chance BETWEEN 0 AND 1",
    ),
    _number(
        "p_value",
        "probability of that share, or a larger one, by chance; NULL where it is not measured",
        nullable=True,
        check="p_value BETWEEN 0 AND 1",
    ),
)
_CHANGE = _text(
    "change",
    "begins: a persona is there within two windows; ends: none is any longer; stays: it keeps its id",
    check="change IN ('begins', 'ends', 'stays')",
)
_SET = ("domain", "inducer", "user_id", "window")
_RANKER = _text("ranker", "how items are ranked, e.g. personas_popular")
_SHARES = (
    ("hit_10", "of the next window's items that are ranked, the share among the first ten"),
    ("ndcg_10", "of each of these items 1 / log2(rank + 1) if it is among the first ten; their mean"),
    ("mrr", "the mean of 1 / rank of each of these items"),
)
_RANKED = (
    *(DOMAIN, _RANKER, USER, WINDOW),
    _integer("catalogue", "items that were ranked", check="catalogue >= 0"),
    _integer("items", "items of the window after it, each once", check="items >= 1"),
    _integer("unseen", "of these, those that are not ranked, and in no measure", check="unseen >= 0"),
    _integer(
        "fallback",
        "1 where nothing was known of the user, so it ranked by popularity",
        check="fallback IN (0, 1)",
    ),
    _number(
        "temperature",
        "what likeness was divided by, beside popularity; NULL of rankers that mix nothing",
        nullable=True,
        check="temperature > 0",
    ),
    *(
        _number(name, f"{meaning}; NULL where none is ranked", nullable=True, check=f"{name} BETWEEN 0 AND 1")
        for name, meaning in _SHARES
    ),
)

INDUCTION = (
    Table(
        "events",
        (
            DOMAIN,
            USER,
            _text("split", "train, eval or short, as in rating_windows"),
            _SESSION,
            _EVENT,
            WINDOW,
            _text("text", "what it was about", check="trim(text) <> ''"),
            _text("item_id", "the source's own id of the item", nullable=True),
            _text("kind", "what was done: rating, or as the log says (view, search, buy)", nullable=True),
            _integer("sign", "1 liked, -1 disliked, 0 neither or not known", check="sign IN (-1, 0, 1)"),
            _moment("happened_at", "when, UTC; NULL where the source only orders", nullable=True),
            _text("file", "file or query it was read from", nullable=True),
            _long("line", "1-based line (or record) in that file", nullable=True),
        ),
        key=("domain", "user_id", "session", "event"),
        partition=("domain",),
    ),
    Table(
        "rejected_events",
        (
            DOMAIN,
            _text("user_id", "the source's own id of the user; NULL where none can be used", nullable=True),
            _long("row", "order of the event in the source; NULL: the whole user is rejected", nullable=True),
            _text("text", "what it was about; NULL where that cannot be read", nullable=True),
            _text("file", "file or query it was read from"),
            _long("line", "1-based line (or record) in that file"),
            _text("reason", "why it cannot be used", check="reason <> ''"),
            _text("detail", "what was read in the place of what was expected", nullable=True),
            _long("events", "1 of an event; 0 of a user, who has none left", check="events IN (0, 1)"),
        ),
        key=("domain", "row", "user_id"),
        partition=("domain",),
    ),
    Table(
        "event_accounts",
        (
            DOMAIN,
            _text(
                "part",
                "of everything that was read of a log: used; rejected; not_sampled; left_over (events of used"
                " users beyond their last window)",
                check="part IN ('read', 'used', 'rejected', 'not_sampled', 'left_over')",
            ),
            _long("users", "how many users", check="users >= 0"),
            _long("events", "how many events", check="events >= 0"),
        ),
        key=("domain", "part"),
        partition=("domain",),
    ),
    Table(
        "memories",
        (DOMAIN, USER, _MEMORY, _SESSION, WINDOW, _text("intent", "what the user was after, in a few words")),
        key=("domain", "user_id", "memory"),
        partition=("domain",),
    ),
    Table(
        "memory_events",
        (DOMAIN, USER, _MEMORY, _SESSION, _EVENT),
        key=("domain", "user_id", "memory", "session", "event"),
        partition=("domain",),
    ),
    Table(
        "session_readings",
        (
            *(DOMAIN, USER, _SESSION, WINDOW),
            _integer("events", "events of the session", check="events >= 1"),
            *(NOTE, ATTEMPTS, MODEL),
        ),
        key=("domain", "user_id", "session"),
        partition=("domain",),
    ),
    Table(
        "persona_sets",
        (
            *(DOMAIN, _INDUCER, USER, WINDOW, _PERSONA),
            _text(
                "state",
                "of its memories, since the window before: new, same, changed (others), or ended",
                check="state IN ('new', 'same', 'changed', 'ended')",
            ),
            _text("label", "what it is called; NULL where no answer could be used", nullable=True),
            _text("description", "what it says; NULL where no answer could be used", nullable=True),
            *(*_FIGURES, NOTE, ATTEMPTS, MODEL),
        ),
        key=(*_SET, "persona"),
        partition=("domain", "inducer"),
    ),
    Table(
        "persona_memories",
        (DOMAIN, _INDUCER, USER, WINDOW, _PERSONA, _MEMORY),
        key=(*_SET, "persona", "memory"),
        partition=("domain", "inducer"),
    ),
    Table(
        "dropped_personas",
        (
            *(DOMAIN, _INDUCER, USER, WINDOW),
            _integer("number", "number of the cluster among those dropped, 0-based", check="number >= 0"),
            *_FIGURES,
            _text(
                "reason",
                "chance: other people do as much of it; once: it shows in a single session; alone: there is"
                " nobody else to compare with; left_out: the policy does not call it a persona; not_shown:"
                " there were too many groups to show it to the policy",
                check="reason IN ('chance', 'once', 'alone', 'left_out', 'not_shown')",
            ),
        ),
        key=(*_SET, "number"),
        partition=("domain", "inducer"),
    ),
    Table(
        "set_writings",
        (
            *(DOMAIN, _INDUCER, USER, WINDOW),
            _text("text", "what the policy wrote, at its last attempt"),
            *(NOTE, ATTEMPTS, MODEL),
        ),
        key=_SET,
        partition=("domain", "inducer"),
    ),
    Table(
        "planted_personas",
        (
            DOMAIN,
            USER,
            _text("theme", "generator's theme that the person is after"),
            _moment("since", "event from which on it holds, UTC"),
            _moment(
                "until", "event from which on it does not hold any more; NULL: to the end", nullable=True
            ),
        ),
        key=("domain", "user_id", "theme"),
        partition=("domain",),
    ),
    Table(
        "planted_events",
        (
            *(DOMAIN, USER, _SESSION, _EVENT),
            _text("theme", "persona that the event belongs to; NULL where it is noise", nullable=True),
        ),
        key=("domain", "user_id", "session", "event"),
        partition=("domain",),
    ),
    Table(
        "planted_scores",
        (
            *(DOMAIN, _INDUCER, USER),
            _text("split", "train or eval"),
            WINDOW,
            _integer("personas", "personas of the set", check="personas >= 0"),
            _integer(
                "planted", "planted personas that hold by then, and have not ended", check="planted >= 0"
            ),
            _number(
                "planted_f1",
                "agreement of the two by their events, 0 to 1, each counted; NULL where both are none",
                nullable=True,
                check="planted_f1 BETWEEN 0 AND 1",
            ),
        ),
        key=(*_SET,),
        partition=("domain", "inducer"),
    ),
    Table(
        "planted_changes",
        (
            *(DOMAIN, _INDUCER, USER),
            _text("split", "train or eval"),
            _text("theme", "generator's theme of the planted persona"),
            _CHANGE,
            WINDOW,
            _integer("noticed", "1: the sets show it as they should; 0: not", check="noticed IN (0, 1)"),
        ),
        key=("domain", "inducer", "user_id", "theme", "change"),
        partition=("domain", "inducer"),
    ),
    Table(
        "changes_table",
        (
            _INDUCER,
            _CHANGE,
            _integer("personas", "planted personas that this can be said of"),
            _number(
                "noticed",
                "share of them, mean over domains and users; NULL where a domain lacks any",
                nullable=True,
            ),
            _number("noticed_low", "its 95 % interval over users, lower end", nullable=True),
            _number("noticed_high", "its 95 % interval over users, upper end", nullable=True),
        ),
        key=("inducer", "change"),
    ),
    Table(
        "induction_table",
        (
            _INDUCER,
            WINDOW,
            _integer("users", "evaluation users", check="users >= 0"),
            _number("personas", "personas of a user, on average"),
            _number("single", "share of the personas that have one memory", nullable=True),
            _integer("scored", "of the users, those with planted personas"),
            _number(
                "planted_f1", "mean of planted_f1 over domains and users; NULL where none", nullable=True
            ),
            _number("planted_f1_low", "its 95 % interval over users, lower end", nullable=True),
            _number("planted_f1_high", "its 95 % interval over users, upper end", nullable=True),
            _integer("aimless", "of the users, those with no planted persona ever"),
            _number("aimless_personas", "personas of one of them, on average", nullable=True),
        ),
        key=("inducer", "window"),
    ),
    *(
        Table(name, _RANKED, key=("domain", "user_id", "window", "ranker"), partition=("domain",))
        for name in ("next_item_scores", "planted_next_items")
    ),
    Table(
        "next_items_table",
        (
            _RANKER,
            _text("measure", "hit_10, ndcg_10 or mrr"),
            _integer("users", "evaluation users with a next window of which an item is ranked"),
            _integer("windows", "next windows of theirs"),
            _number("mean", "over a user's windows, a domain's users, and domains", nullable=True),
            _number("low", "its 95 % interval over users, lower end", nullable=True),
            _number("high", "its 95 % interval over users, upper end", nullable=True),
            *(
                _number(f"over_{rival}{end}", f"{meaning}; NULL of itself", nullable=True)
                for rival in ("popularity", "one_persona_popular")
                for end, meaning in (
                    ("", f"mean minus that of {rival}, on the same users"),
                    ("_low", "its 95 % interval over users, lower end"),
                    ("_high", "its 95 % interval over users, upper end"),
                )
            ),
            _number("unseen", "share of the next items that were not ranked"),
            _number("fallback", "share of the windows in which it ranked by popularity"),
        ),
        key=("ranker", "measure"),
    ),
    *SET_TRAINING,
)
