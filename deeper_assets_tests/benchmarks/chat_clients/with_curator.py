"""Asks all prompts by bespokelabs-curator, its cache in HOME. Run by an interpreter that has it.

Left at its defaults but for the concurrency, limits per minute out of the way, a timeout (ten minutes by
default) and leave to give up on requests, so that those do not cost it all others.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

# It counts tokens with tiktoken, which would download its table; litellm brings a copy.
litellm = importlib.util.find_spec("litellm")
assert litellm is not None and litellm.origin is not None
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers")

from bespokelabs import curator  # noqa: E402


class Predictor(curator.LLM):
    """Keeps prompt and answer side by side."""

    def prompt(self, row: dict[str, str]) -> str:
        return row["prompt"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        return {"prompt": row["prompt"], "answer": response}


def main() -> None:
    """Arguments: base URL, file of prompts, home, file for the answers, concurrency, timeout (seconds)."""
    url, prompts, home, answers, concurrency, timeout = sys.argv[1:]
    asked = json.loads(Path(prompts).read_text())
    llm = Predictor(
        model_name="local",
        backend="openai",
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_concurrent_requests": int(concurrency),
            "max_requests_per_minute": 1_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "request_timeout": int(timeout),
            "require_all_responses": False,
        },
    )
    started = time.monotonic()
    rows = llm([{"prompt": prompt} for prompt in asked], working_dir=home).dataset
    seconds = time.monotonic() - started
    by_prompt = dict(zip(rows["prompt"], rows["answer"], strict=True))
    texts = [by_prompt.get(prompt) for prompt in asked]
    Path(answers).write_text(json.dumps({"seconds": seconds, "answers": texts}))


if __name__ == "__main__":
    main()
