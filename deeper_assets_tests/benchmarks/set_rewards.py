"""Whether the rewards of sets of personas mean something: their rank correlation with the planted truth.

    python -m deeper_assets_tests.benchmarks.set_rewards

Of training users of generated domains, sets of personas are made and corrupted: planted personas, clusters,
and both with some merged, split, dropped, mixed or made up; and three that games would find: every memory a
persona, all memories in one, and each planted persona twice. For each user, every component and recipe is
ranked against the planted F1 (Spearman). Printed are the mean over users, with a 95 % interval from a
bootstrap over users; the planted F1 of the set that it likes best; and how often it likes a game best.
"""

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.engines.offline.word_vectors import WordVectors
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import find_domain
from deeper_assets.method.induction import rewards as worth
from deeper_assets.method.induction.claims import alignment_and_truthfulness, claims_of, judge
from deeper_assets.method.induction.clusters import Counts, centres_of, clusters_of, members_of
from deeper_assets.method.induction.events import events_of_log
from deeper_assets.method.induction.induce import parse_label, users_of
from deeper_assets.method.induction.memories import read_sessions
from deeper_assets.method.induction.scores import events_with_themes, planted_f1
from deeper_assets.method.induction.set_recipes import COMPONENTS, SET_RECIPES, total
from deeper_assets.method.induction.sets import Remembered
from deeper_assets.method.prompts import Prompts
from deeper_assets.method.windows import UserSampling
from deeper_assets.settings import Settings
from deeper_assets.sources.people import PlantedPeople, planted_log, planted_personas_of

GAMES = ("lone", "one", "twice")
REACH = WordVectors().reach
WINDOW = 4
"""After which sets are made."""

RECIPES = ("foreseeing", "grounded")


def corrupted(sets: Sequence[Counts], memories: int, chance: random.Random) -> list[Counts]:
    """A set with up to six changes: two merged, one split, dropped or made up, or some memories moved."""
    personas = [list(map(int, places)) for places in sets]
    for _ in range(chance.randint(0, 6)):
        change = chance.choice(("merge", "split", "drop", "move", "invent"))
        if change == "merge" and len(personas) > 1:
            one = personas.pop(chance.randrange(len(personas)))
            personas[chance.randrange(len(personas))] += one
        elif change == "split" and personas:
            one = personas.pop(chance.randrange(len(personas)))
            chance.shuffle(one)
            personas += [part for part in (one[: len(one) // 2], one[len(one) // 2 :]) if part]
        elif change == "drop" and personas:
            personas.pop(chance.randrange(len(personas)))
        elif change == "move" and personas:
            held = [place for one in personas for place in one]
            for place in chance.sample(held, max(1, len(held) // 5)):
                personas = [[other for other in one if other != place] for one in personas]
                personas[chance.randrange(len(personas))].append(place)
            personas = [one for one in personas if one]
        elif change == "invent":
            free = sorted(set(range(memories)) - {place for one in personas for place in one})
            if free:
                personas.append(chance.sample(free, min(len(free), chance.randint(1, 6))))
    return [np.array(sorted(one), dtype=np.int64) for one in personas]


def candidates(
    user: Remembered, themes: Sequence[str | None], number: int, chance: random.Random
) -> list[tuple[str, list[Counts]]]:
    """Named sets of one user: games, and others."""
    known = sorted({theme for theme in themes if theme})
    true = [np.flatnonzero([own == theme for own in themes]) for theme in known]
    clusters = [own for own in members_of(clusters_of(user.vectors, REACH)) if len(own) > 1]
    halves = [part for own in true for part in (own[::2], own[1::2]) if len(part)]
    made: list[tuple[str, list[Counts]]] = [
        ("lone", [np.array([place]) for place in range(len(user.memory))]),
        ("one", [np.arange(len(user.memory))]),
        ("twice", halves),
        *(("planted", true), ("clusters", clusters)),
    ]
    for _ in range(number):
        few = chance.sample(clusters, chance.randint(min(1, len(clusters)), len(clusters)))
        made.append(("corrupted", corrupted(chance.choice((true, few)), len(user.memory), chance)))
    return made


def study(name: str, seed: int, noise: float, number: int, users: int) -> pd.DataFrame:
    """A row a set: user, kind, planted F1 and every component."""
    settings, domain = Settings(), find_domain(name)
    chat = ChatSetup(OfflineChatModel(), Prompts(), 1)
    people = PlantedPeople(domain, seed, 120, noise)
    sampling = UserSampling(seed, settings.train_share, 60, 40, True, settings.short_users)
    events = events_of_log(planted_log(people), domain, settings.session_silence, sampling)
    read = read_sessions(events, domain, chat)
    remembered, told = users_of(read.memories, read.memory_events, events, WordVectors())
    planted = events_with_themes(planted_log(people), events)
    theme_of = {(row.user_id, row.session, row.event): row.theme for row in planted.itertuples()}
    cited = {
        (str(user), int(memory)): list(zip(own["session"], own["event"], strict=True))
        for (user, memory), own in read.memory_events.groupby(["user_id", "memory"])
    }
    holds = _holding(planted_personas_of(people), events)
    trainers = [(user, own) for user, own in zip(remembered, told, strict=True) if user.trains]
    after = {user.user_id: user.at(np.flatnonzero(user.window == WINDOW + 1)) for user, _ in trainers}
    label = partial(_claims, chat, domain)
    chance, rows = random.Random(seed), []
    for user, intents in trainers[:users]:
        truth = [_events_of(theme, user.user_id, planted, events) for theme in holds.get(user.user_id, ())]
        if not truth:
            continue
        now = user.up_to(WINDOW)
        shown = [cited[user.user_id, int(memory)] for memory in now.memory]
        themes = [_theme(user.user_id, own, theme_of, holds[user.user_id]) for own in shown]
        others = [(one.vectors, one.events) for other, one in after.items() if other != user.user_id]
        sets = candidates(now, themes, number, chance)
        claims = [[label([intents[place] for place in places]) for places in own] for _, own in sets]
        every = sorted({claim for own in claims for some in own for claim in some})
        [answers] = judge(chat, domain, [(every, intents[: len(now.memory)])])
        verdicts = {claim: verdict for claim, (verdict, _) in answers.items()}
        for (kind, own), said in zip(sets, claims, strict=True):
            centres = centres_of(now.vectors, own)
            evidence = [(some, frozenset(map(int, places))) for some, places in zip(said, own, strict=True)]
            following = after[user.user_id]
            components = (
                worth.cohesion(now.vectors, own),
                worth.separation(now.vectors, own),
                *alignment_and_truthfulness(evidence, verdicts),
                worth.lift(centres, (following.vectors, following.events), others, REACH),
                worth.recurrence(centres, following.vectors, REACH),
            )
            found = [{event for place in places for event in shown[place]} for places in own]
            rows.append((f"{name} {user.user_id}", kind, planted_f1(found, truth), *components))
    table = pd.DataFrame(rows, columns=["user", "kind", "planted_f1", *COMPONENTS])
    return table.assign(**{recipe: total(table, SET_RECIPES[recipe]) for recipe in RECIPES})


def _claims(chat: ChatSetup, domain: Any, intents: Sequence[str]) -> list[str]:
    """What the stand-in says of these memories; nothing where it cannot say what they are."""
    [answer] = chat.model.answer([chat.prompts.persona_label(domain, intents)])
    return claims_of(parse_label(answer.text).description) if answer.text else []


def _holding(personas: pd.DataFrame, events: pd.DataFrame) -> dict[str, list[str]]:
    """The planted personas of each user that hold after WINDOW."""
    ends = events[events["window"] <= WINDOW].groupby("user_id")["happened_at"].max()
    known = personas.merge(ends.rename("now"), on="user_id")
    now = known[(known["since"] <= known["now"]) & ~(known["until"] <= known["now"])]
    return {str(user): list(own) for user, own in now.groupby("user_id")["theme"]}


def _events_of(theme: str, user: str, planted: pd.DataFrame, events: pd.DataFrame) -> set[tuple[int, int]]:
    last = events.loc[(events["user_id"] == user) & (events["window"] <= WINDOW), "session"].max()
    own = planted[(planted["user_id"] == user) & (planted["theme"] == theme) & (planted["session"] <= last)]
    return set(zip(own["session"], own["event"], strict=True))


def _theme(
    user: str,
    shown: Sequence[tuple[int, int]],
    theme_of: Mapping[Any, str | None],
    holds: Sequence[str],
) -> str | None:
    """The planted persona that most events of a memory belong to, if it still holds."""
    themes = [theme_of[(user, *event)] for event in shown]
    counts = pd.Series([theme for theme in themes if theme]).value_counts()
    return str(counts.index[0]) if len(counts) and counts.index[0] in holds else None


def over_users(table: pd.DataFrame, of: Callable[[pd.DataFrame], float], seed: int) -> tuple[float, ...]:
    """The mean over users of a figure of their sets, and its 95 % interval; some users may have none."""
    figures = pd.Series({user: of(own) for user, own in table.groupby("user")}).dropna().to_numpy()
    draws = np.random.default_rng(seed).choice(figures, (2000, len(figures))).mean(axis=1)
    return float(figures.mean()), *map(float, np.quantile(draws, (0.025, 0.975)))


def rank_correlation(own: pd.DataFrame, name: str) -> float:
    """Spearman's, NaN where either is the same for all."""
    if own[name].nunique() < 2 or own["planted_f1"].nunique() < 2:
        return np.nan
    return float(own[name].corr(own["planted_f1"], method="spearman"))


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=Settings().seed)
    parser.add_argument("--domains", default="book,grocery,movielens")
    parser.add_argument("--noise", default="0,0.2,0.4,0.6")
    parser.add_argument("--sets", type=int, default=14, help="corrupted sets a user")
    parser.add_argument("--users", type=int, default=40, help="users a domain")
    given = parser.parse_args()
    for noise in map(float, given.noise.split(",")):
        parts = [study(name, given.seed, noise, given.sets, given.users) for name in given.domains.split(",")]
        table = pd.concat(parts, ignore_index=True)
        sys.stdout.write(f"noise {noise:g}, {table['user'].nunique()} users, {len(table)} sets\n")
        for name in (*COMPONENTS, *RECIPES):
            mean, low, high = over_users(table, partial(rank_correlation, name=name), given.seed)
            best = table.loc[table.groupby("user")[name].idxmax()]
            games = ", ".join(f"{game} {(best['kind'] == game).mean():.1%}" for game in GAMES)
            there = table.groupby("user")["planted_f1"].max().mean()
            liked = f"best {best['planted_f1'].mean():.2f} of {there:.2f}  wins: {games}"
            sys.stdout.write(f"  {name:<13} {mean:6.2f} [{low:5.2f}, {high:5.2f}]  {liked}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
