"""Asks all prompts by this project's client, its journal in HOME."""

import json
import sys
import time
from pathlib import Path

from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.openai_chat import OpenAIChat


def main() -> None:
    """Arguments: base URL, file of prompts, home, file for the answers, concurrency, timeout (seconds)."""
    url, prompts, home, answers, concurrency, timeout = sys.argv[1:]
    asked = json.loads(Path(prompts).read_text())
    endpoint = Endpoint(model="local", base_url=url, concurrency=int(concurrency), timeout=float(timeout))
    chat = OpenAIChat(endpoint, Journal(Path(home) / "journal.sqlite"))
    started = time.monotonic()
    texts = [answer.text for answer in chat.answer(asked)]
    seconds = time.monotonic() - started
    Path(answers).write_text(json.dumps({"seconds": seconds, "answers": texts}))


if __name__ == "__main__":
    main()
