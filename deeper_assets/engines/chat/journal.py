"""The journal: every answer that was paid for, and what all of them cost.

An answer is written before it is used. Its key is the hash of the full request (the endpoint and the body)
and the number of the attempt, so no process and no run pays for the same question twice. All processes of a
home share one SQLite file.

A request that is on its way stands in `pending`, with the most that it may cost. The spending cap counts this
cost in, and other processes that have the same question wait for the answer.

A request without an answer (a timeout, a dropped connection, a killed process) may have been charged all the
same. Its highest cost goes to `unsure_usd`, and the cap counts that too: so the provider's bill cannot go
beyond the cap.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from deeper_assets.engines.chat.entries import (
    PURPOSE,
    Batch,
    Claim,
    Entry,
    Key,
    Purpose,
    Usage,
    believed,
)
from deeper_assets.engines.chat.journal_file import (
    ANSWER,
    IS_DAMAGED,
    NOBODY,
    checksum,
    connection,
    is_alive,
    own_name,
    packed,
    reading,
    unpacked,
    writing,
)
from deeper_assets.method.exceptions import DeeperError

_KEYS = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each({})"
"""Keys as one JSON value, which may hold any number. For (VALUES …) SQLite would scan the table."""


@dataclass(frozen=True)
class Journal:
    """The journal in one file; it is made when something is first written.

    Attributes:
        path: the SQLite file.
        cap_usd: no request is granted that could take the cost of all in the file beyond it; None for no cap.
    """

    path: Path
    cap_usd: float | None = None

    # ------------------------------------------------------------------------------------------ answers

    def answers(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Those of `keys` that have been answered.

        Raises:
            DeeperError: one is not what was written.
        """
        with reading(self.path):
            rows = list(self._select(f"checksum, {ANSWER}", "answers", keys))
        return {(row[1], row[2]): self._entry(row) for row in rows}

    def claim(self, key: Key, model: str, most_usd: float | None) -> Claim:
        """Asks to send a request that may cost `most_usd` at most; None where prices are not known.

        Returns:
            `granted`; or the answer, if there is one already; `taken` while another process waits for the
            answer; `no room yet` while requests on their way may still leave room under the cap, once they
            are answered for less than their most; `over the cap` where the cap cannot allow it.
        """
        return self.claim_all({key: most_usd}, model)[key]

    def claim_all(self, requests: Mapping[Key, float | None], model: str) -> dict[Key, Claim]:
        """Asks to send several requests (key → the most that it may cost), each for itself; see `claim`."""
        with writing(self.path):
            self._book_killed()
            return {key: self._claim(key, model, most_usd or 0.0) for key, most_usd in requests.items()}

    def record(self, key: Key, model: str, request: Mapping[str, Any], entry: Entry) -> None:
        """Keeps an answer and books it, unless there is one already."""
        self.record_all({key: (request, entry)}, model)

    def record_all(self, answered: Mapping[Key, tuple[Mapping[str, Any], Entry]], model: str) -> None:
        """Keeps several answers (key → request and answer), all of them or none; see `record`."""
        with writing(self.path):
            for key, (request, entry) in answered.items():
                self._record(key, model, packed(request), entry, PURPOSE.get())

    def release(self, *keys: Key, unsure: bool) -> None:
        """Takes back claims of requests that got no answer; `unsure`: they may have been charged."""
        with writing(self.path):
            self._give_up(keys, unsure)

    def book_hits(self, entries: Iterable[Entry], model: str) -> None:
        """Books answers that need not be paid for again."""
        saved = [entry.cost_usd or 0.0 for entry in entries]
        if saved:
            with writing(self.path):
                self._book(PURPOSE.get(), model, hits=len(saved), saved_usd=sum(saved))

    # ------------------------------------------------------------------------------------------ batches

    def open_batch(
        self, name: str, base_url: str, model: str, requests: Mapping[Key, Mapping[str, Any]], most_usd: float
    ) -> list[Key]:
        """Claims requests (key → body) for a batch that is about to be handed in.

        Each may cost `most_usd` at most.

        Returns:
            Those that were granted, in order; the cap, or another process, may leave none.
        """
        with writing(self.path) as db:
            self._book_killed()
            keys = list(requests)
            taken = self._pending(keys) | self.answers(keys).keys()
            granted: list[tuple[Key, bytes]] = []
            room = self.room()
            for key, body in requests.items():
                if key not in taken and (len(granted) + 1) * most_usd <= room:
                    granted.append((key, packed(body)))
            if granted:
                values = (name, own_name(), base_url, _now())
                db.execute("INSERT INTO batches (name, owner, endpoint, made_at) VALUES (?, ?, ?, ?)", values)
                self._insert_pending(granted, model, most_usd, name)
            return [key for key, _ in granted]

    def name_batch(self, name: str, provider_id: str) -> None:
        """Notes what the provider calls a batch."""
        with writing(self.path) as db:
            db.execute("UPDATE batches SET provider_id = ? WHERE name = ?", (provider_id, name))

    def abandon_batch(self, name: str) -> None:
        """Notes that handing a batch in has failed. The provider may have begun it all the same."""
        with writing(self.path) as db:
            db.execute("UPDATE batches SET owner = ? WHERE name = ?", (NOBODY, name))

    def batches(self, base_url: str) -> list[Batch]:
        """Batches that have been opened and not closed, the oldest first."""
        with reading(self.path) as db:
            rows = db.execute(
                "SELECT name, provider_id, owner, made_at FROM batches WHERE endpoint = ?"
                " ORDER BY made_at, name",
                (base_url,),
            ).fetchall()
        now = datetime.now(UTC)
        return [
            Batch(name, theirs, not is_alive(owner), (now - datetime.fromisoformat(made_at)).total_seconds())
            for name, theirs, owner, made_at in rows
        ]

    def holding(self, keys: Sequence[Key]) -> set[str]:
        """Names of the open batches that hold any of these requests."""
        with reading(self.path):
            return {row[0] for row in self._select("batch", "pending", keys) if row[0] is not None}

    def record_batch(self, batch: str, entries: Mapping[Key, Entry], *, unsure: bool = False) -> None:
        """Keeps answers of a batch and closes it; its other requests may be asked anew.

        `unsure`: those may have been charged all the same.
        """
        with writing(self.path) as db:
            rows = db.execute(
                "SELECT key, attempt, request, model, asset, domain, run_id FROM pending WHERE batch = ?",
                (batch,),
            ).fetchall()
            for key, attempt, request, model, *purpose in rows:
                if entry := entries.get((key, attempt)):
                    self._record((key, attempt), model, request, entry, Purpose(*purpose))
            self._give_up([(row[0], row[1]) for row in rows], unsure)
            db.execute("DELETE FROM batches WHERE name = ?", (batch,))

    # -------------------------------------------------------------------------------------------- money

    def usage(self) -> list[Usage]:
        """What has been asked, by purpose and model."""
        names = ", ".join(Usage.__dataclass_fields__)
        with reading(self.path) as db:
            rows = db.execute(f"SELECT {names} FROM usage ORDER BY asset, domain, run_id, model")
            return [Usage(*row) for row in rows]

    def committed_usd(self) -> tuple[float, float]:
        """What is spent (all that may have been charged counted in), and the most that is on its way."""
        # In one statement: between two, an answer could move from what is on its way to what is spent.
        with reading(self.path) as db:
            [(spent, on_its_way)] = db.execute(
                "SELECT (SELECT COALESCE(SUM(cost_usd + unsure_usd), 0) FROM usage),"
                " (SELECT COALESCE(SUM(most_usd), 0) FROM pending)"
            )
        return spent, on_its_way

    def room(self) -> float:
        """What may still be spent (US dollars), with everything on its way at its dearest."""
        return float("inf") if self.cap_usd is None else self.cap_usd - sum(self.committed_usd())

    def cap_error(self) -> DeeperError:
        """The error of a cap that is reached."""
        spent, _ = self.committed_usd()
        return DeeperError(
            f"max_cost_usd {self.cap_usd:g} is reached: {spent:.4f} are spent in {self.path}, and the next "
            "request could go beyond; what was answered is kept. Raise it and run again to go on"
        )

    # ------------------------------------------------------------------------------------- housekeeping

    def size(self) -> tuple[int, int]:
        """How many answers it holds, and its bytes on disk."""
        if not self.path.exists():
            return 0, 0
        with reading(self.path) as db:
            [(answers,)] = db.execute("SELECT COUNT(*) FROM answers")
        files = self.path.parent.glob(self.path.name + "*")
        return answers, sum(file.stat().st_size for file in files)

    def damaged(self) -> int:
        """Answers that are not what was written: a disk or a program has changed bytes of the file."""
        if not self.path.exists():
            return 0
        with reading(self.path) as db:
            [(damaged,)] = db.execute(f"SELECT COUNT(*) FROM answers WHERE {IS_DAMAGED}")
            return int(damaged)

    def prune(self, before: datetime | None, model: str | None, *, damaged: bool = False) -> int:
        """Deletes answers, makes the file smaller, and returns how many are gone. Their cost stays booked.

        Only those from before `before`, of `model`, and if `damaged` those that are not what was written any
        more; None stands for any.
        """
        given = (None if before is None else before.astimezone(UTC).isoformat(), model)
        which = "(?1 IS NULL OR answered_at < ?1) AND (?2 IS NULL OR model = ?2)"
        with writing(self.path) as db:
            which += f" AND {IS_DAMAGED}" if damaged else ""
            gone = db.execute(f"DELETE FROM answers WHERE {which}", given).rowcount
        with suppress(sqlite3.OperationalError):  # another process is at work: the file stays as large
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def export(self) -> Iterator[dict[str, Any]]:
        """Every answer with its request, the oldest first.

        Raises:
            DeeperError: one is not what was written.
        """
        with reading(self.path) as db:
            for row in db.execute(f"SELECT checksum, {ANSWER} FROM answers ORDER BY answered_at, key"):
                entry = self._entry(row)
                _, key, attempt, model, request, answered_at, *_ = row
                identity = {"key": key, "attempt": attempt, "model": model, "answered_at": answered_at}
                yield {**identity, **asdict(entry), "request": unpacked(request)}

    # ------------------------------------------------------------------------------------------ SQLite

    @property
    def _db(self) -> sqlite3.Connection:
        return connection(self.path)

    def _select(
        self, columns: str, table: Literal["answers", "pending"], keys: Sequence[Key]
    ) -> Iterator[tuple[Any, ...]]:
        wanted = f"(key, attempt) IN ({_KEYS.format('?')})"
        return self._db.execute(f"SELECT {columns} FROM {table} WHERE {wanted}", [json.dumps(keys)])

    def _entry(self, row: Sequence[Any]) -> Entry:
        """An answer from its checksum, None where it has none, and the values of `ANSWER`."""
        written, *answer = row
        if written is not None and written != checksum(*answer):
            key, attempt, model = answer[:3]
            raise DeeperError(
                f"journal {self.path} is damaged: the answer of {model} to request {key[:12]} (attempt"
                f" {attempt}) is not what was written. `deeper journal prune --damaged` forgets such answers;"
                " those that are needed again are paid for again"
            )
        return Entry(*answer[5:])

    def _pending(self, keys: Sequence[Key]) -> set[Key]:
        """Those of `keys` that are on their way."""
        return {(row[0], row[1]) for row in self._select("key, attempt", "pending", keys)}

    def _claim(self, key: Key, model: str, most_usd: float) -> Claim:
        if answered := self.answers([key]).get(key):
            return answered
        if self._pending([key]):
            return "taken"
        if refused := self._over_cap(most_usd):
            return refused
        self._insert_pending([(key, None)], model, most_usd, None)
        return "granted"

    def _over_cap(self, most_usd: float) -> Literal["no room yet", "over the cap"] | None:
        if self.cap_usd is None or most_usd <= self.room():
            return None
        spent, on_its_way = self.committed_usd()
        hopeless = spent + most_usd > self.cap_usd or not on_its_way
        return "over the cap" if hopeless else "no room yet"

    def _book_killed(self) -> None:
        """Books what killed processes had on its way as spent, because it may have been charged."""
        owners = self._db.execute("SELECT DISTINCT owner FROM pending WHERE batch IS NULL").fetchall()
        for (owner,) in owners:
            if not is_alive(owner):
                rows = self._db.execute(
                    "SELECT key, attempt FROM pending WHERE owner = ? AND batch IS NULL", (owner,)
                )
                self._give_up(rows.fetchall(), unsure=True)

    def _insert_pending(
        self, requests: Iterable[tuple[Key, bytes | None]], model: str, most_usd: float, batch: str | None
    ) -> None:
        shared = (own_name(), batch, most_usd, *astuple(PURPOSE.get()), model)
        self._db.executemany(
            "INSERT INTO pending"
            " (key, attempt, request, owner, batch, most_usd, asset, domain, run_id, model)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*key, body, *shared) for key, body in requests],
        )

    def _record(self, key: Key, model: str, request: bytes, entry: Entry, purpose: Purpose) -> None:
        gone = self._db.execute(
            "DELETE FROM pending WHERE key = ? AND attempt = ? RETURNING most_usd", key
        ).fetchone()
        entry = believed(entry, gone[0] if gone else 0.0)
        values = (*key, model, request, _now(), *astuple(entry))
        new = self._db.execute(
            f"INSERT OR IGNORE INTO answers ({ANSWER}, checksum) VALUES ({', '.join('?' * len(values))}, ?)",
            (*values, checksum(*values)),
        ).rowcount
        if new:
            self._book(
                purpose,
                model,
                requests=1,
                unreadable=int(entry.reason is not None),
                input_tokens=entry.input_tokens,
                cached_tokens=entry.cached_tokens,
                output_tokens=entry.output_tokens,
                cost_usd=entry.cost_usd or 0.0,
            )

    def _give_up(self, keys: Iterable[Key], unsure: bool) -> None:
        for key in keys:
            row = self._db.execute(
                "SELECT most_usd, model, asset, domain, run_id FROM pending WHERE key = ? AND attempt = ?",
                key,
            ).fetchone()
            if row is not None:
                self._db.execute("DELETE FROM pending WHERE key = ? AND attempt = ?", key)
                most_usd, model, *purpose = row
                self._book(Purpose(*purpose), model, retries=1, unsure_usd=most_usd if unsure else 0.0)

    def _book(self, purpose: Purpose, model: str, **amounts: float) -> None:
        names = ", ".join(amounts)
        values = ", ".join("?" * len(amounts))
        added = ", ".join(f"{name} = {name} + excluded.{name}" for name in amounts)
        self._db.execute(
            f"INSERT INTO usage (asset, domain, run_id, model, {names}) VALUES (?, ?, ?, ?, {values}) "
            f"ON CONFLICT (asset, domain, run_id, model) DO UPDATE SET {added}",
            (*astuple(purpose), model, *amounts.values()),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()
