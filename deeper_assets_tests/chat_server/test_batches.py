"""The chat server's Batch API, through OpenAI's own client."""

import asyncio
import json
from hashlib import blake2b
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from deeper_assets_tests.chat_server.completions import Completions
from deeper_assets_tests.chat_server.faults import Faults
from deeper_assets_tests.chat_server.process import chat_server
from deeper_assets_tests.chat_server.test_chat_server import ask, body, offline, prediction

ENDPOINT = "/v1/chat/completions"


def line(number: int, custom_id: str | None = None) -> dict[str, Any]:
    return {
        "custom_id": custom_id or f"request-{number}",
        "method": "POST",
        "url": ENDPOINT,
        "body": body(prediction(number)),
    }


async def create(client: AsyncOpenAI, lines: list[Any], **more: Any) -> Any:
    content = "".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in lines)
    file = await client.files.create(file=("requests.jsonl", content.encode()), purpose="batch")
    assert (await client.files.retrieve(file.id)).bytes == len(content.encode())
    assert (await client.files.content(file.id)).text == content
    return await client.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", **more
    )


async def ended(client: AsyncOpenAI, id_: str) -> Any:
    while (batch := await client.batches.retrieve(id_)).status in {"in_progress", "cancelling"}:
        await asyncio.sleep(0.05)
    return batch


async def written(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(text) for text in (await client.files.content(file_id)).text.splitlines()]


def test_a_batch_is_in_progress_and_then_answered() -> None:
    async def asking(client: AsyncOpenAI) -> None:
        batch = await create(client, [line(number) for number in range(20)], metadata={"run": "7"})
        assert (batch.status, batch.metadata, batch.output_file_id) == ("in_progress", {"run": "7"}, None)
        batch = await ended(client, batch.id)
        assert (batch.status, batch.error_file_id) == ("completed", None)
        assert batch.completed_at >= batch.in_progress_at >= batch.created_at
        assert (batch.request_counts.total, batch.request_counts.completed) == (20, 20)
        answers = await written(client, batch.output_file_id)
        ids = [answer["custom_id"] for answer in answers]
        assert sorted(ids) == sorted(f"request-{number}" for number in range(20)) != ids
        for answer in answers:
            number = int(answer["custom_id"].removeprefix("request-"))
            assert answer["error"] is None
            assert answer["response"]["status_code"] == 200
            text = answer["response"]["body"]["choices"][0]["message"]["content"]
            assert text == offline(prediction(number))

    with chat_server("--batch-seconds", 0.3) as server:
        ask(server, asking)
        counted = server.stats()
        # A body is the same one in a batch and by itself.
        ask(server, lambda client: client.chat.completions.create(**body(prediction(3))))
        assert server.stats()["paid_again"] == 1
    assert (counted["requests"], counted["paid"], counted["paid_again"]) == (0, 20, 0)


def test_faults_of_lines_end_in_the_error_file_with_their_status() -> None:
    shares = "rejected=0.2,refused=0.2,batch_line=0.3"
    faults = Faults.parse(shares)
    questions = [
        Completions(faults).read(json.dumps(body(prediction(number))).encode()) for number in range(40)
    ]
    rejected = {number for number in range(40) if questions[number].fault == "rejected"}
    refused = {number for number in range(40) if questions[number].fault == "refused"}
    failed = {number for number, one in enumerate(questions) if not one.fault and faults.of_line(one.key, 0)}
    assert all((rejected, refused, failed))

    async def asking(client: AsyncOpenAI) -> None:
        batch = await create(client, [line(number, str(number)) for number in range(40)])
        batch = await ended(client, batch.id)
        errors = await written(client, batch.error_file_id)
        assert {int(one["custom_id"]): one["response"]["status_code"] for one in errors} == {
            **dict.fromkeys(rejected, 400),
            **dict.fromkeys(failed, 500),
        }
        assert (batch.status, batch.request_counts.failed) == ("completed", len(rejected | failed))
        answers = {int(one["custom_id"]): one for one in await written(client, batch.output_file_id)}
        assert answers.keys() == set(range(40)) - rejected - failed
        for number in refused:
            assert answers[number]["response"]["body"]["choices"][0]["message"]["refusal"] is not None

    with chat_server("--batch-seconds", 0, "--faults", shares) as server:
        ask(server, asking)
        counted = server.stats()
    assert counted["paid"] == 40 - len(rejected | failed)
    assert counted["faults"] == {
        "batch_line": len(failed),
        "refused": len(refused),
        "rejected": len(rejected),
    }


def test_an_expired_batch_keeps_the_answers_it_has() -> None:
    async def asking(client: AsyncOpenAI) -> None:
        batch = await ended(client, (await create(client, [line(number) for number in range(7)])).id)
        assert (batch.status, batch.completed_at) == ("expired", None)
        assert (batch.request_counts.completed, batch.request_counts.failed) == (3, 4)
        answers = await written(client, batch.output_file_id)
        assert {answer["custom_id"] for answer in answers} == {f"request-{number}" for number in range(3)}
        errors = await written(client, batch.error_file_id)
        assert {error["custom_id"] for error in errors} == {f"request-{number}" for number in range(3, 7)}
        assert all(
            error["error"]["code"] == "batch_expired" and error["response"] is None for error in errors
        )

    with chat_server("--batch-seconds", 0, "--faults", "batch_expired=1") as server:
        ask(server, asking)
        assert (server.stats()["paid"], server.stats()["faults"]) == (3, {"batch_expired": 1})


def test_a_batch_can_be_cancelled_once() -> None:
    async def asking(client: AsyncOpenAI) -> None:
        created = await create(client, [line(number) for number in range(4)])
        assert (await client.batches.cancel(created.id)).status == "cancelling"
        batch = await ended(client, created.id)
        assert batch.status == "cancelled"
        assert len(await written(client, batch.output_file_id)) == 2
        errors = await written(client, batch.error_file_id)
        assert [error["error"]["code"] for error in errors] == ["batch_cancelled"] * 2
        assert (await client.batches.cancel(created.id)).status == "cancelled"

    with chat_server("--batch-seconds", 600) as server:
        ask(server, asking)


def test_batches_that_make_no_sense_fail_and_the_list_goes_page_by_page() -> None:
    async def asking(client: AsyncOpenAI) -> None:
        wrong: list[tuple[list[Any], str, int | None]] = [
            ([line(0), "{no json"], "invalid_json_line", 2),
            ([line(0), line(1) | {"url": "/v1/embeddings"}], "invalid_request", 2),
            ([line(0, "same"), line(1, "same")], "duplicate_custom_id", None),
            ([], "empty_file", None),
        ]
        batches = [await create(client, lines) for lines, _, _ in wrong]
        for batch, (_, code, number) in zip(batches, wrong, strict=True):
            assert batch.status == "failed"
            assert [(error.code, error.line) for error in batch.errors.data] == [(code, number)]
        newest_first = [batch.id for batch in reversed(batches)]
        page = await client.batches.list(limit=3)
        assert [batch.id for batch in page.data] == newest_first[:3]
        assert page.has_more
        assert [batch.id async for batch in client.batches.list(limit=3)] == newest_first
        with pytest.raises(BadRequestError, match="There is no batch 'batch_0'"):
            await client.batches.list(after="batch_0")
        with pytest.raises(BadRequestError, match="No such file"):
            await client.batches.create(input_file_id="file-0", endpoint=ENDPOINT, completion_window="24h")
        for unknown in (client.batches.retrieve, client.batches.cancel, client.files.retrieve):
            with pytest.raises(NotFoundError):
                await unknown("batch_0")

    with chat_server() as server:
        ask(server, asking)


def test_a_full_queue_fails_a_batch_until_it_is_sent_again() -> None:
    faults = Faults(seed=1, batch_failed=0.5)
    key = blake2b(json.dumps(line(0)).encode() + b"\n", digest_size=16).hexdigest()
    expected = ["failed" if faults.of_batch(key, times) else "in_progress" for times in range(12)]
    assert set(expected) == {"failed", "in_progress"}

    async def asking(client: AsyncOpenAI) -> list[str]:
        return [(await create(client, [line(0)])).status for _ in range(12)]

    with chat_server("--faults", "batch_failed=0.5", "--seed", 1) as server:
        assert ask(server, asking) == expected
        assert server.stats()["faults"] == {"batch_failed": expected.count("failed")}
