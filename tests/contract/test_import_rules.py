"""The import rules must not only pass, they must be able to fail."""

import pytest
from grimp import ImportGraph

from scripts.import_contracts import PureContract


def graph_with_import(importer: str, imported: str) -> ImportGraph:
    graph = ImportGraph()
    for module in ("weave_a", "weave_a.core", "weave_a.core.ring", "weave_a.loop", "weave_model"):
        graph.add_module(module)
    if imported not in graph.modules:
        graph.add_module(imported, is_squashed=True)
    graph.add_import(importer=importer, imported=imported, line_number=3, line_contents="import")
    return graph


def is_kept(graph: ImportGraph) -> bool:
    options = {"pure_modules": ["*.core"], "allowed_modules": ["weave_model", "dataclasses"]}
    contract = PureContract("cores are pure", session_options={}, contract_options=options)
    return contract.check(graph, verbose=False).kept


@pytest.mark.parametrize("imported", ["asyncio", "time", "grpc", "weave_a.loop", "weave_a"])
def test_a_core_may_not_import_the_outside(imported: str) -> None:
    assert not is_kept(graph_with_import("weave_a.core.ring", imported))


@pytest.mark.parametrize("imported", ["dataclasses", "weave_model", "weave_a.core"])
def test_a_core_may_import_pure_code(imported: str) -> None:
    assert is_kept(graph_with_import("weave_a.core.ring", imported))


def test_a_shell_may_import_the_outside() -> None:
    assert is_kept(graph_with_import("weave_a.loop", "asyncio"))
