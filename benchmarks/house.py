"""How the code is built: entries, circles, imports that run up, and how much a line says.

python benchmarks/house.py

Every import counts, also one inside a function or under TYPE_CHECKING. ``tests/test_floor_plan.py`` holds the code to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dclip"

# Who may import whom: an entry of dclip/ imports from its own line's left neighbours and from the lines above.
FLOORS = """
errors files
config
types losses
runtime record
data diffusion models text
run metrics encode edits methods
prepare
pretrain pages pipeline study
extend api cli
"""

LIMITS = {
    "entries at the top": 24,
    "circles": 0,
    "imports that run up": 1,
    "functions: median lines": 12,
    "functions: 90 % have at most": 40,
    "functions: longest": 90,
    "lines over 100, in %": 3,
    "comprehensions per 1,000 lines": 25,
    "conditional expressions per 1,000 lines": 15,
}

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def module_name(path: Path) -> str:
    """The name under which a file of the package is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def parse(package: Path = PACKAGE) -> dict[str, ast.Module]:
    """Every module of the package, by name."""
    files = sorted(package.rglob("*.py"))
    return {module_name(path): ast.parse(path.read_text("utf-8")) for path in files}


# ------------------------------------------------------------ imports


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of what a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def import_graph(modules: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Which modules of the package each of them imports."""
    graph = {}
    for name, tree in modules.items():
        targets = set()
        for target in imported(tree):
            if target not in modules:  # a name inside a module
                target = target.rpartition(".")[0]
            if target in modules and target != name:
                targets.add(target)
        graph[name] = targets
    return graph


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """What a node leads to, over any number of arrows."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(graph[node])
    return seen


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that all lead to each other."""
    reach = {node: reachable(graph, node) for node in graph}
    groups = set()
    for node in graph:
        group = frozenset(other for other in reach[node] if node in reach[other])
        if group:
            groups.add(group)
    return sorted(sorted(group) for group in groups)


def entry_of(module: str) -> str:
    """The entry of ``dclip/`` in which a module lies."""
    return (module + ".__init__").split(".")[1]


def upward(graph: Mapping[str, set[str]], floors: str = FLOORS) -> list[str]:
    """Imports against the floor plan, as ``importer -> imported``."""
    height = {entry: place for place, entry in enumerate(floors.split())}
    height["__init__"] = -1  # of the package: everything imports it first
    arrows = []
    for module, targets in sorted(graph.items()):
        for target in sorted(targets):
            if height[entry_of(target)] > height[entry_of(module)]:
                arrows.append(f"{module} -> {target}")
    return arrows


def entries(package: Path = PACKAGE) -> list[str]:
    """What lies at the top of the package, but for weights and what Python leaves there."""
    hidden = ("_", ".")
    names = {path.stem for path in package.iterdir() if not path.name.startswith(hidden)}
    return sorted(names - {"weights", "py"})


# ------------------------------------------------------------ lines


@dataclass
class Density:
    """How long functions are, and how much a line says."""

    lines: int = 0
    long_lines: int = 0
    comprehensions: int = 0
    conditionals: int = 0
    functions: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        """Count one module."""
        lines = text.splitlines()
        self.lines += len(lines)
        self.long_lines += sum(len(line) > 100 for line in lines)
        for node in ast.walk(ast.parse(text)):
            self.comprehensions += isinstance(node, COMPREHENSIONS)
            self.conditionals += isinstance(node, ast.IfExp)
            if isinstance(node, FUNCTIONS):
                last = node.end_lineno or node.lineno
                self.functions[f"{name}:{node.name}"] = last - node.lineno + 1


def density(folder: Path = PACKAGE) -> Density:
    """Count every module below a folder."""
    counted = Density()
    for path in sorted(folder.rglob("*.py")):
        counted.add(str(path.relative_to(folder.parent)), path.read_text("utf-8"))
    return counted


# ------------------------------------------------------------ all of it


def figures() -> dict[str, float]:
    """Every figure that has a limit."""
    graph, counted = import_graph(parse()), density()
    lengths = sorted(counted.functions.values())
    thousands = counted.lines / 1000
    return {
        "entries at the top": len(entries()),
        "circles": len(circles(graph)),
        "imports that run up": len(upward(graph)),
        "functions: median lines": median(lengths),
        "functions: 90 % have at most": lengths[int(0.9 * (len(lengths) - 1))],
        "functions: longest": lengths[-1],
        "lines over 100, in %": 100 * counted.long_lines / counted.lines,
        "comprehensions per 1,000 lines": counted.comprehensions / thousands,
        "conditional expressions per 1,000 lines": counted.conditionals / thousands,
    }


def main() -> None:
    """Print the figures beside their limits, then what stands behind those that are exceeded."""
    for name, value in figures().items():
        verdict = "" if value <= LIMITS[name] else "  too many"
        print(f"{name:40} {value:6.1f}  of {LIMITS[name]}{verdict}")
    graph = import_graph(parse())
    for circle in circles(graph):
        print("circle:", ", ".join(circle))
    for arrow in upward(graph):
        print("runs up:", arrow)
    for function, length in density().functions.items():
        if length > LIMITS["functions: longest"]:
            print(f"long: {function}, {length} lines")


if __name__ == "__main__":
    main()
