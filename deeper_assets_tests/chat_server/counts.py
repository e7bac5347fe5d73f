"""What the chat server counts: a test sees there what a client did, not only what it reports."""

from collections import Counter
from typing import Any

from deeper_assets_tests.chat_server.completions import Reply


class Counts:
    """Counts of everything since the start or the last reset, in one thread."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything but what is in flight: faults start anew too, as if nothing had been sent."""
        self.most_in_flight = self.in_flight
        self.requests = self.abandoned = self.followed = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.created: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()

    def enter(self) -> None:
        """A chat request has come."""
        self.requests += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def leave(self) -> None:
        """A chat request has ended, with an answer or without."""
        self.in_flight -= 1

    def times_sent(self, key: str) -> int:
        """How often the body `key` was sent before; this time is counted."""
        self.sent[key] += 1
        return self.sent[key] - 1

    def times_created(self, key: str) -> int:
        """How often a batch was created from the file `key` before; this time is counted."""
        self.created[key] += 1
        return self.created[key] - 1

    def spoiled(self, status: int) -> None:
        """An answer goes out that nobody could use; it is not paid for."""
        self.statuses[status] += 1

    def answered(self, key: str, reply: Reply) -> None:
        """A reply goes out; only completions are paid for."""
        self.statuses[reply.status] += 1
        if reply.status == 200:
            self.paid[key] += 1
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens

    def as_json(self) -> dict[str, Any]:
        """Everything by name.

        `requests` came for a chat completion; everything else counts lines of batches too. There were as many
        different `bodies`; `statuses` is what they got. `paid` were answered with a completion, and
        `paid_again` of them for a body that had been paid for before. `abandoned` lost their client before
        the answer was ready, and are not paid; `followed` came under the name of another server, to which
        they had been redirected. `faults` were made on purpose, or by the limit on requests
        (`over_rate`). Tokens are those of paid answers.
        """
        paid = self.paid.total()
        return {
            "requests": self.requests,
            "bodies": len(self.sent),
            "paid": paid,
            "paid_bodies": len(self.paid),
            "paid_again": paid - len(self.paid),
            "abandoned": self.abandoned,
            "followed": self.followed,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "faults": dict(sorted(self.faults.items())),
        }
