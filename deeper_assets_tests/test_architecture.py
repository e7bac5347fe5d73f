"""Who may import whom, read from the source with `ast`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import deeper_assets

PACKAGE = Path(deeper_assets.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = {"method", "sources", "engines", "store", "assets", "checks", "reports"}
HEAVY = {"torch", "transformers", "trl", "peft", "vllm", "openai"}

CUTTING = {Path("method/cutting.py"), Path("method/induction/cutting.py")}
"""Where histories and logs are cut, in SQL."""

LAZY = {"deeper_assets.engines.bounded_client"} | {
    f"deeper_assets.engines.training.{name}" for name in ("batches", "losses", "policies", "trainer")
}
"""Modules that import something heavy at their top: others import them inside functions, where they start."""


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module a file imports, and whether it does so at the top level."""
    tree = ast.parse(path.read_text())
    top = set(ast.walk(tree)) - {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or "", node in top
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node in top


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "deeper_assets" and parts[1] in ROOMS else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_to_the_plan(path: Path) -> None:
    place = path.relative_to(PACKAGE)
    room = place.parts[0] if len(place.parts) > 1 else None
    for name, at_top in imports(path):
        root, target = name.split(".")[0], room_of(name)
        if room == "method":
            allowed = root in sys.stdlib_module_names or root in {"pandas", "numpy"}
            allowed = allowed or (root == "duckdb" and place in CUTTING)
            allowed = allowed or (root in {"scipy", "sklearn"} and not at_top)
            assert allowed or target == "method", f"{place} imports {name}"
        if room in {"sources", "engines", "store", "reports"}:
            assert target in {None, room, "method"}, f"{place} imports {name}"
            if place != Path("store/io_manager.py"):
                pipes = place == Path("engines/training/__main__.py") and root == "dagster_pipes"
                assert pipes or not root.startswith("dagster"), f"{place} imports {name}"
        if (
            room is not None
            and target is None
            and root == "deeper_assets"
            and room not in {"assets", "checks"}
        ):
            assert name in {"deeper_assets", f"deeper_assets.{room}"}, f"{place} imports {name}"
        if root in HEAVY:
            assert room == "engines", f"{place} imports {name}"
        if (root in HEAVY or name in LAZY) and module_of(path) not in LAZY:
            assert not at_top, f"{place} imports {name} at the top"
        if place not in {Path("crew.py"), Path("estimating.py")}:
            assert not name.startswith("deeper_assets.definitions"), f"{place} imports {name}"
        assert name != "__future__.annotations" or "dagster" not in path.read_text(), place


def test_a_module_is_lazy_only_where_it_imports_something_heavy() -> None:
    for path in (path for path in MODULES if module_of(path) in LAZY):
        assert any(at_top and name.split(".")[0] in HEAVY for name, at_top in imports(path)), path
    assert set(map(module_of, MODULES)) >= LAZY


def modules_after(code: str) -> list[set[str]]:
    """What each line that the code prints says is loaded, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}"], check=True, capture_output=True, text=True
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_a_training_reads_its_job_before_anything_heavy_is_loaded() -> None:
    (loaded,) = modules_after("import deeper_assets.engines.training.__main__; print(*sys.modules)")
    assert "deeper_assets.engines.training.train" in loaded
    assert not loaded & (HEAVY | LAZY)


def test_no_module_imports_one_that_imports_it() -> None:
    paths = {module_of(path): path for path in MODULES}
    TopologicalSorter(
        {name: {other for other, _ in imports(path)} & paths.keys() for name, path in paths.items()}
    ).prepare()  # raises CycleError


def test_the_code_location_loads_nothing_heavy() -> None:
    """The two seconds go to Dagster; pandas and DuckDB wait until it is loaded, torch until it is needed."""
    imported, built = modules_after(
        "import deeper_assets.definitions as d; print(*sys.modules); d.defs(); print(*sys.modules)"
    )
    assert not imported & (HEAVY | {"pandas", "duckdb", "matplotlib"})
    assert "deeper_assets.assets.models" in built
    assert not built & (HEAVY | LAZY | {"tokenizers", "datasets", "accelerate"})


def test_every_file_is_listed_in_its_room() -> None:
    assert {path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE} <= ROOMS
