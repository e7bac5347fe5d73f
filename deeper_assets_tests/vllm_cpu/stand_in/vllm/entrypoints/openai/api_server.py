"""What `python -m vllm.entrypoints.openai.api_server` runs where this folder is on the path, in vLLM's stead.

With STAND_IN_FOR that is vLLM's own server, in the environment of this interpreter. Else it is a fake: a
process with a child, as vLLM's, that takes STAND_IN_LOADS seconds to load and STAND_IN_WRITES seconds a text.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Becomes the server."""
    if python := os.environ.get("STAND_IN_FOR"):
        del os.environ["PYTHONPATH"]
        os.execv(python, [python, "-m", "vllm.entrypoints.openai.api_server", *sys.argv[1:]])
    from deeper_assets_tests.vllm_cpu.fake_server import FakeServer, Listener

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given, _ = parser.parse_known_args()
    child = subprocess.Popen(["sleep", "600"])
    if not (given.model / "config.json").exists():
        sys.exit(f"ValueError: no model in {given.model}")
    time.sleep(float(os.environ.get("STAND_IN_LOADS", "0")))
    pause = float(os.environ.get("STAND_IN_WRITES", "0.005"))
    key = os.environ["VLLM_API_KEY"]
    server = FakeServer(str(given.model), key=key, max_length=4096, pause=pause)
    print(f"loaded; its child is {child.pid}", flush=True)
    Listener(server, given.port).serve_forever()


if __name__ == "__main__":
    main()
