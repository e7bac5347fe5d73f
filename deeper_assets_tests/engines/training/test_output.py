from pathlib import Path

from deeper_assets.engines.training.output import COMPLETE, last_checkpoint


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, complete in ((2, True), (10, True), (12, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if complete:
            (folder / COMPLETE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
