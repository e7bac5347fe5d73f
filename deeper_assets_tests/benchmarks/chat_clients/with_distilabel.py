"""Asks all prompts by distilabel, its cache in HOME. Run by an interpreter that has it.

It asks batch by batch and everything within a batch at once, so the size of a batch is its concurrency. The
rest is left at its defaults but for a timeout (two minutes by default) and the length of answers.
Killed and run again it may wait for ever for the batch that was at work (argilla-io/distilabel issue 1065).
"""

import json
import sys
import time
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    """Arguments: base URL, file of prompts, home, file for the answers, concurrency, timeout (seconds)."""
    url, prompts, home, answers, concurrency, timeout = sys.argv[1:]
    asked = json.loads(Path(prompts).read_text())
    with Pipeline(name="load", cache_dir=home) as pipeline:
        rows = LoadDataFromDicts(
            data=[{"instruction": prompt} for prompt in asked], batch_size=int(concurrency)
        )
        llm = OpenAILLM(
            model="local",
            base_url=url,
            api_key="none",
            timeout=int(timeout),
            generation_kwargs={"max_new_tokens": 1024},
        )
        rows >> TextGeneration(llm=llm, input_batch_size=int(concurrency))
    started = time.monotonic()
    made = pipeline.run(use_cache=True)["default"]["train"]
    seconds = time.monotonic() - started
    by_prompt = dict(zip(made["instruction"], made["generation"], strict=True))
    texts = [by_prompt.get(prompt) for prompt in asked]
    Path(answers).write_text(json.dumps({"seconds": seconds, "answers": texts}))


if __name__ == "__main__":
    main()
