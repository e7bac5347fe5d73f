"""Writes one format: `python -m deeper_assets_tests.benchmarks.generated_files FORMAT --rows N FOLDER`.

The format `log` is a log of one's own, `films.csv`.
"""

import argparse
from pathlib import Path

from deeper_assets_tests.benchmarks.generated_files import FORMATS, write
from deeper_assets_tests.benchmarks.generated_files.log import write_log


def main() -> None:
    """Parses the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format", choices=sorted([*FORMATS, "log"]))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, required=True, help="ratings, or lines")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.format == "log":
        given.folder.mkdir(parents=True, exist_ok=True)
        write_log(given.rows, given.folder / "films.csv", given.seed)
    else:
        write(given.format, given.rows, given.folder, given.seed)
    for path in sorted(given.folder.iterdir()):
        print(f"{path.stat().st_size / 1e6:10,.1f} MB  {path}")


if __name__ == "__main__":
    main()
