"""A contract for import-linter that lists what pure code may import, instead of what it may not.

A list of forbidden modules always misses one; the list of the allowed ones is short. Every module
below `pure_modules` may import the pure package it belongs to and `allowed_modules`, nothing else.
As the allowed modules of ours are pure themselves, only direct imports have to be looked at.
"""

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.domain.helpers import module_expressions_to_modules
from importlinter.domain.imports import Module


class PureContract(Contract):
    type_name = "pure"

    pure_modules = fields.SetField(subfield=fields.ModuleExpressionField())
    allowed_modules = fields.SetField(subfield=fields.ModuleField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002
        roots = module_expressions_to_modules(graph, self.pure_modules)  # type: ignore[arg-type]
        violations = []
        for root in sorted(roots, key=str):
            allowed = {root, *self.allowed_modules}  # type: ignore[misc]
            for importer in sorted({root.name} | graph.find_descendants(root.name)):
                for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                    if not any(Module(imported).is_in_package(package) for package in allowed):
                        details = graph.get_import_details(importer=importer, imported=imported)
                        lines = sorted(detail["line_number"] for detail in details)
                        violations.append((importer, imported, lines))
        return ContractCheck(kept=not violations, metadata={"violations": violations})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported, lines in check.metadata["violations"]:
            where = ", ".join(f"l.{line}" for line in lines)
            output.print_error(
                f"{importer} must stay pure, but imports {imported} ({where})", bold=False
            )
        output.new_line()
