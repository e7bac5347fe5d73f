"""The script for a GPU machine, with its tiny model."""

import re

import pytest

from deeper_assets_tests.benchmarks.training_8b import LLAMA_8B, main, parameters


def test_it_is_the_architecture_of_llama_8b() -> None:
    assert parameters(LLAMA_8B) == 8_030_261_248


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_small_it_prints_speed_and_memory_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--small", "--steps", "1"])
    printed = capsys.readouterr().out
    before, each = printed.split("reference in every step:")
    assert "reference before training:" in before
    assert "scoring the reference took" in before
    for part in (before, each):
        (packed, twice) = re.findall(r"([\d,]+) tokens/s; ([\d,]+) with", part)[0]
        assert 1.3 < float(twice.replace(",", "")) / float(packed.replace(",", "")) < 1.7
        (six, four) = map(float, re.findall(r"([\d.]+)% ", part))
        assert six == pytest.approx(1.5 * four, abs=0.2)
        assert re.search(r"memory: [\d.]+ [MG]B at most; memory of a device: about [\d.]+ MB needed", part)
