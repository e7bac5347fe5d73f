"""Files and batches of chat completions, held in memory, as OpenAI's Batch API shows them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from uuid import uuid4

from deeper_assets_tests.chat_server.completions import Completions, Reply, problem
from deeper_assets_tests.chat_server.counts import Counts
from deeper_assets_tests.chat_server.faults import Faults

ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
_DAY = 24 * 60 * 60
_AT_ONCE = 50
"""Lines answered before others get their turn: live requests share the event loop."""

_NOT_EXECUTED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was executed."),
}


@dataclass(frozen=True)
class StoredFile:
    """A file that was uploaded, or written by a batch."""

    id: str
    name: str
    purpose: str
    content: bytes
    created_at: int

    def as_json(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass(frozen=True)
class _Batch:
    """A batch: OpenAI's batch object as it is now, and what is known of it besides."""

    shown: dict[str, Any]
    lines: list[dict[str, Any]]
    fault: str | None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def becomes(self, status: str) -> None:
        """Changes the status and notes the time."""
        self.shown["status"] = status
        self.shown[f"{status}_at"] = int(time.time())


class Batches:
    """Answers files of requests, each batch after the same number of seconds.

    Output lines come in another order than input lines: OpenAI promises none either.

    Args:
        completions: answers the lines.
        faults: those of batches among them are made here.
        counts: answered lines are counted as paid.
        seconds: from a batch's creation to its end.
    """

    def __init__(self, completions: Completions, faults: Faults, counts: Counts, seconds: float) -> None:
        self._completions, self._faults, self._counts = completions, faults, counts
        self._seconds = seconds
        self._files: dict[str, StoredFile] = {}
        self._batches: dict[str, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def store(self, name: str, purpose: str, content: bytes) -> StoredFile:
        """Keeps a file."""
        stored = StoredFile(f"file-{uuid4().hex}", name, purpose, content, int(time.time()))
        self._files[stored.id] = stored
        return stored

    def file(self, id_: str) -> StoredFile | None:
        """A file that was stored; None where there is none."""
        return self._files.get(id_)

    def create(self, request: Mapping[str, Any]) -> dict[str, Any] | Reply:
        """Starts a batch: OpenAI's batch object, or an error if the request makes no sense.

        What is wrong with the file shows later, in a batch that has failed.
        """
        source = self._files.get(str(request.get("input_file_id")))
        if source is None:
            return problem(400, f"No such file: {request.get('input_file_id')!r}.", param="input_file_id")
        for name, only in (("endpoint", ENDPOINT), ("completion_window", WINDOW)):
            if request.get(name) != only:
                return problem(400, f"Invalid {name}: {request.get(name)!r}; {only!r} is known.", param=name)
        key = blake2b(source.content, digest_size=16).hexdigest()
        lines, errors = _lines(source.content)
        fault = self._faults.of_batch(key, self._counts.times_created(key))
        if fault == "batch_failed":
            errors = [_error("token_limit_exceeded", "Enqueued token limit reached; try again later.", None)]
        batch = _Batch(_created(request, len(lines)), lines, fault)
        self._batches[batch.shown["id"]] = batch
        if fault is not None:
            self._counts.faults[fault] += 1
        if errors:
            batch.shown["errors"] = {"object": "list", "data": errors}
            batch.becomes("failed")
        else:
            batch.becomes("in_progress")
            self._in_background(self._work(batch))
        return batch.shown

    def batch(self, id_: str) -> dict[str, Any] | None:
        """OpenAI's batch object as it is now; None where there is none."""
        return self._batches[id_].shown if id_ in self._batches else None

    def cancel(self, id_: str) -> dict[str, Any] | None:
        """Stops a batch that is in progress, with half its lines answered; others stay as they are."""
        if (batch := self._batches.get(id_)) is None:
            return None
        if batch.shown["status"] == "in_progress":
            batch.becomes("cancelling")
            batch.stop.set()
        return batch.shown

    def newest(self, after: str | None, limit: int) -> dict[str, Any]:
        """A page of batches, the newest first; from the one after the batch `after` on, if that is given."""
        shown = [batch.shown for batch in reversed(self._batches.values())]
        ids = [one["id"] for one in shown]
        start = 0 if after is None else ids.index(after) + 1
        page = shown[start : start + limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + limit < len(shown),
        }

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _work(self, batch: _Batch) -> None:
        try:
            await asyncio.wait_for(batch.stop.wait(), self._seconds)
            end = "cancelled"
        except TimeoutError:
            end = "expired" if batch.fault == "batch_expired" else "completed"
        share = len(batch.lines) if end == "completed" else len(batch.lines) // 2
        output: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for place, line in enumerate(batch.lines[:share]):
            status, written = self._answered(line)
            (output if status == 200 else errors).append(written)
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)
        errors += [_not_executed(line, *_NOT_EXECUTED[end]) for line in batch.lines[share:]]
        batch.shown["request_counts"].update(completed=len(output), failed=len(errors))
        for which, lines in (("output", output), ("error", errors)):
            if lines:
                stored = self.store(f"{batch.shown['id']}_{which}.jsonl", "batch_output", _jsonl(lines))
                batch.shown[f"{which}_file_id"] = stored.id
        batch.becomes(end)

    def _answered(self, line: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        question = self._completions.read(json.dumps(line["body"]).encode())
        reply, fault = question.reply, question.fault
        times = self._counts.times_sent(question.key)
        if fault is None and self._faults.of_line(question.key, times):
            reply, fault = (
                problem(500, "The server had an error while processing this request."),
                "batch_line",
            )
        if fault is not None:
            self._counts.faults[fault] += 1
        self._counts.answered(question.key, reply)
        response = {
            "status_code": reply.status,
            "request_id": uuid4().hex,
            "body": json.loads(reply.body),
        }
        return reply.status, _result(line, response, None)


def _created(request: Mapping[str, Any], lines: int) -> dict[str, Any]:
    now = int(time.time())
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    return {
        "id": f"batch_{uuid4().hex}",
        "object": "batch",
        "endpoint": ENDPOINT,
        "errors": None,
        "input_file_id": request["input_file_id"],
        "completion_window": WINDOW,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "expires_at": now + _DAY,
        **{f"{status}_at": None for status in times},
        "request_counts": {"total": lines, "completed": 0, "failed": 0},
        "metadata": request.get("metadata"),
    }


def _lines(content: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests of a file, and what is wrong with it; with anything wrong there are no requests."""
    lines, errors = [], []
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            errors.append(_error("invalid_json_line", "This line is no JSON.", number))
            continue
        match line:
            case {"custom_id": str(), "method": "POST", "url": url, "body": dict()} if url == ENDPOINT:
                lines.append(line)
            case _:
                errors.append(
                    _error("invalid_request", f"No custom_id, POST, {ENDPOINT} and body here.", number)
                )
    counts = Counter(line["custom_id"] for line in lines)
    for custom_id, times in counts.items():
        if times > 1:
            errors.append(_error("duplicate_custom_id", f"{times} lines have {custom_id!r}.", None))
    if not content.strip():
        errors.append(_error("empty_file", "The file holds no requests.", None))
    return ([] if errors else lines), errors


def _error(code: str, message: str, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "line": line}


def _not_executed(line: Mapping[str, Any], code: str, message: str) -> dict[str, Any]:
    return _result(line, None, {"code": code, "message": message})


def _result(line: Mapping[str, Any], response: object, error: object) -> dict[str, Any]:
    return {
        "id": f"batch_req_{uuid4().hex}",
        "custom_id": line["custom_id"],
        "response": response,
        "error": error,
    }


def _jsonl(lines: Iterable[Mapping[str, Any]]) -> bytes:
    def shuffled(line: Mapping[str, Any]) -> bytes:
        return blake2b(line["custom_id"].encode(errors="replace")).digest()

    return b"".join(json.dumps(line).encode() + b"\n" for line in sorted(lines, key=shuffled))
