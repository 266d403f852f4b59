"""What the packages say of themselves: versions and dependencies."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from weave_gossip import __version__

ROOT = Path(__file__).resolve().parents[2]
PYPROJECTS = [
    path for path in sorted(ROOT.glob("**/pyproject.toml")) if (path.parent / "src").is_dir()
]
PACKAGES = [str(path.parent.relative_to(ROOT)) for path in PYPROJECTS]


def project(package: str) -> dict[str, Any]:
    with (ROOT / package / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table


def imported_modules(package: str) -> Iterator[str]:
    """Yield the top-level names a package imports, inside functions too."""
    for source in (ROOT / package / "src").glob("**/*.py"):
        for node in ast.walk(ast.parse(source.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def test_all_packages_have_one_version() -> None:
    assert {project(package)["version"] for package in PACKAGES} == {__version__}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_declares_what_it_imports(package: str) -> None:
    declared = {project(package)["name"], *project(package)["dependencies"]}
    providers = {
        module: {name.replace("_", "-").lower() for name in names}
        for module, names in packages_distributions().items()
    }

    foreign = set(imported_modules(package)) - sys.stdlib_module_names
    undeclared = {module for module in foreign if declared.isdisjoint(providers.get(module, set()))}

    assert not undeclared


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_declares_is_locked(package: str) -> None:
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, flags=re.MULTILINE))
    ours = {project(other)["name"] for other in PACKAGES}

    assert set(project(package)["dependencies"]) <= locked | ours
