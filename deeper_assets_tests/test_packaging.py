"""The recorded versions, against what the package asks for."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]
CONSTRAINTS = REPOSITORY / ".ci" / "constraints.txt"


def requirements() -> list[Requirement]:
    """All that the package asks for, but for vLLM: that asks for other versions than the newest."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = [lines for extra, lines in project["optional-dependencies"].items() if extra != "gpu"]
    return [Requirement(line) for lines in (project["dependencies"], *extras) for line in lines]


def pins() -> dict[str, Version]:
    """The recorded versions for the Python that runs this."""
    exact = {}
    for line in CONSTRAINTS.read_text().splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert isinstance(specifier, Specifier)
        assert specifier.operator == "==", line
        if pin.marker is None or pin.marker.evaluate():
            assert canonicalize_name(pin.name) not in exact, line
            exact[canonicalize_name(pin.name)] = Version(specifier.version)
    return exact


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_a_version_is_recorded_that_the_package_allows(requirement: Requirement) -> None:
    """Where this fails, `.ci/lock` records versions anew."""
    recorded = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(recorded)


def test_recorded_versions_fit_every_build() -> None:
    """A local label ("+cpu") would shut out all other builds of the same version."""
    assert [name for name, version in pins().items() if version.local] == []


def test_the_readme_installs_the_recorded_versions() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    installs = [line for line in readme.splitlines() if line.startswith("python3 -m venv .venv")]
    assert len(installs) == 2
    assert all(".venv/bin/pip install -c .ci/constraints.txt -e" in line for line in installs)
