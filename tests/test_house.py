"""The house keeps its shape: imports point one way, importing does nothing, public names are the promised ones."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import convolve

SOURCE = Path(convolve.__file__).parent

# Each room and what it may import besides itself; the ground floor (errors, locks, atomic, cache, ...) is open to all.
HOUSE = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "house.py"))  # which draws the map of it
GROUND, imports_of = HOUSE["GROUND"], HOUSE["imports_of"]
MAY_IMPORT = {
    "formats": set(),
    "transforms": {"formats"},
    "recipe_values": {"transforms"},
    "torch_optim": set(),
    "specs": {"formats", "recipe_values", "torch_optim", "transforms"},
    "recipe": {"recipe_values", "specs", "transforms"},
    "data": {"cntk_random", "formats", "recipe", "specs", "transforms"},
    "registry": set(),
    "cntk_random": set(),
    "models": {"cntk_random", "registry", "specs"},
    "records": {"notebook"},
    "training": {"environment", "models", "notebook", "recipe", "recipe_values", "records", "specs", "torch_optim"},
    "distributed": {"data", "formats", "recipe", "specs", "training"},
    "environment": set(),
    "graph": {"models", "records"},
    "importers": {
        "cntk_random",
        "export",
        "formats",
        "graph",
        "models",
        "recipe",
        "recipe_values",
        "records",
        "registry",
        "specs",
        "transforms",
    },
    "recipes": {"formats", "models", "recipe", "registry", "specs", "transforms", "weights"},
    "prepare": {"data", "formats", "transforms"},
    "checking": {"data", "environment", "formats", "model", "training", "transforms"},
    "templates": set(),
    "model_card": {"graph", "importers", "records", "specs", "templates", "training", "transforms"},
    "model_folder": {
        "data",
        "graph",
        "model_card",
        "models",
        "recipe_values",
        "records",
        "specs",
        "training",
        "transforms",
    },
    "export": {"data", "records", "templates", "transforms"},
    "pictures": set(),
    "notebook": {"pictures", "templates"},
    "prediction": {"formats", "notebook"},
    "explanation": {"data", "model", "notebook", "records"},
    "model": {
        "data",
        "export",
        "formats",
        "graph",
        "model_card",
        "model_folder",
        "models",
        "network",
        "notebook",
        "prediction",
        "records",
        "training",
        "transforms",
    },
    "network": {"export", "graph", "importers", "model_folder"},
    "smaller": {"data", "environment", "export", "model", "model_card", "records"},
    "several_heads": {"formats", "graph", "importers", "loading", "model", "prediction"},
    "loading": {
        "export",
        "graph",
        "importers",
        "model",
        "model_folder",
        "models",
        "records",
        "training",
        "transforms",
        "weights",
    },
    "confidence": {"data", "fitted_head", "model", "recipe", "records", "training"},
    "initial": {
        "data",
        "graph",
        "importers",
        "loading",
        "model",
        "models",
        "recipe",
        "specs",
        "training",
        "transforms",
    },
    "weights": set(),
    "inputs": {
        "data",
        "graph",
        "initial",
        "model",
        "models",
        "recipe",
        "recipes",
        "records",
        "specs",
        "training",
        "transforms",
    },
    "fitted_head": {"data", "graph", "initial", "model", "records", "specs", "training", "transforms"},
    "outcome": {"confidence", "data", "fitted_head", "loading", "model", "notebook", "records", "training"},
    "distillation": {"data", "loading", "model", "recipe", "specs", "training", "transforms"},
    "run": {
        "data",
        "distillation",
        "distributed",
        "fitted_head",
        "initial",
        "inputs",
        "model",
        "outcome",
        "recipe",
        "recipes",
        "training",
    },
    "cross_validation": {
        "data",
        "inputs",
        "outcome",
        "recipe",
        "recipe_values",
        "run",
        "training",
    },
    "find_lr": {"data", "inputs", "recipe", "recipe_values", "run", "specs", "training"},
    "run_config": {
        "data",
        "distributed",
        "formats",
        "graph",
        "importers",
        "loading",
        "model",
        "outcome",
        "recipe",
        "records",
        "run",
        "training",
        "transforms",
    },
    "cntk": {
        "cntk_random",
        "data",
        "distributed",
        "environment",
        "export",
        "formats",
        "graph",
        "importers",
        "models",
        "specs",
        "training",
        "transforms",
    },
    "signing": {"model_card", "model_folder", "records"},
    "tracking": {"recipe", "records", "registry", "training"},
    "reproduce": {"data", "loading", "recipe", "recipe_values", "records", "training"},
    "report": {
        "checking",
        "data",
        "find_lr",
        "formats",
        "pictures",
        "recipe",
        "recipe_values",
        "records",
        "templates",
        "training",
    },
    "serve": {
        "environment",
        "explanation",
        "export",
        "formats",
        "loading",
        "model",
        "records",
        "templates",
        "training",
        "transforms",
    },
    "web": {"export", "formats", "loading", "model", "records", "serve", "smaller", "training"},
    "cli": {
        "atomic",
        "checking",
        "cntk",
        "cross_validation",
        "data",
        "distributed",
        "environment",
        "export",
        "find_lr",
        "formats",
        "graph",
        "importers",
        "loading",
        "model",
        "model_folder",
        "models",
        "network",
        "outcome",
        "prediction",
        "prepare",
        "recipe",
        "recipe_values",
        "recipes",
        "records",
        "report",
        "reproduce",
        "run",
        "run_config",
        "serve",
        "several_heads",
        "signing",
        "smaller",
        "specs",
        "tracking",
        "training",
        "transforms",
        "weights",
        "web",
    },
    "__main__": {"cli"},
    "__init__": {
        "errors",
        "explanation",
        "loading",
        "model",
        "network",
        "outcome",
        "prediction",
        "recipe",
        "report",
        "run",
    },
}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room in GROUND:
        allowed = GROUND
    else:
        assert room in MAY_IMPORT, f"a new room: give {room} its row in MAY_IMPORT"
        allowed = MAY_IMPORT[room] | GROUND | {room}
    assert imports_of(path) <= allowed


def test_the_map_of_the_house_is_of_today() -> None:
    text = HOUSE["PAGE"].read_text(encoding="utf-8")
    assert text == HOUSE["rewritten"](text), "python docs/house.py draws it anew"
    for room in HOUSE["rooms"]():
        assert re.search(rf"^\| `{room}(/|\.py)` \| \w", text, re.MULTILINE), f"{room} has no docstring"


def test_formats_know_no_torch() -> None:
    for path in (SOURCE / "formats").glob("*.py"):
        assert "import torch" not in path.read_text(encoding="utf-8"), path


def test_nothing_is_unpickled_but_by_the_allow_list() -> None:
    """`torch.load` could be made to overwrite memory even with weights_only=True (CVE-2026-24747)."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loads = {f"{ast.unparse(node.value)}.{node.attr}" for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not loads & {"torch.load", "torch.jit.load", "pickle.load", "pickle.loads", "pickle.Unpickler"}, path
        names = {
            name.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names
        }
        assert "pickle" not in names or path.name == "allowed_pickle.py", path


def test_public_names() -> None:
    """`__all__` is what is public: every name resolves, and nothing else is offered."""
    assert sorted(convolve.__all__) == sorted(convolve._HOMES)
    for name in convolve.__all__:
        assert getattr(convolve, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = convolve.nothing_of_the_kind


def loaded_by(statement: str) -> set[str]:
    """The modules in memory after `statement` in a fresh interpreter."""
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_import_is_light() -> None:
    assert not loaded_by("import convolve") & {"torch", "numpy", "cv2", "typer"}
    assert not loaded_by("import convolve.cli") & {"torch", "numpy", "cv2", "matplotlib"}
    assert "torch" not in loaded_by("import convolve.report, convolve.importers.brainscript.job")


FUNCTION_LINES, FILE_LINES, POSITIONAL, NESTING = 40, 400, 5, 3


def too_large(path: Path) -> list[str]:
    """Where a file breaks the style sheet's measures.

    A command's signature is the table of its options, so of a command the body counts.
    """
    source = path.read_text(encoding="utf-8")
    found = [f"{len(source.splitlines())} lines"] if len(source.splitlines()) > FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_command = path.parent.name == "cli" and node.name.strip("_") == path.stem
            first = node.body[0].lineno if is_command else node.lineno
            lines = (node.end_lineno or 0) - first + 1
            if lines > FUNCTION_LINES:
                found.append(f"line {node.lineno}: {node.name} has {lines} lines")
            if depth(node) > NESTING:
                found.append(f"line {node.lineno}: {node.name} is nested {depth(node)} deep")
        elif isinstance(node, ast.Call) and len(node.args) > POSITIONAL:
            found.append(f"line {node.lineno}: {ast.unparse(node.func)} gets {len(node.args)} arguments without a name")
    return found


def depth(node: ast.AST) -> int:
    """How many blocks lie within each other; `elif` is no further one, `with` and `try` are none."""
    inside = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        block = isinstance(child, ast.If | ast.For | ast.While | ast.Match) and not is_elif
        inside = max(inside, depth(child) + block)
    return inside


def test_files_and_functions_stay_short() -> None:
    broken = [
        f"{path.relative_to(SOURCE)}: {what}" for path in sorted(SOURCE.rglob("*.py")) for what in too_large(path)
    ]
    assert not broken


def test_the_road_is_short() -> None:
    """From a recipe to an update: a newcomer reads these files, and one source."""
    files = ("run.py", "data/open.py", "data/sources/map_file.py", "data/dataset.py", "data/loader.py")
    lines = {name: len((SOURCE / name).read_text().splitlines()) for name in (*files, "training/trainer.py")}
    assert lines["run.py"] < 120 and sum(lines.values()) <= 700, lines


def test_nothing_is_there_for_tests_alone() -> None:
    """What a command, a benchmark, an example or a template needs is named there or in another part of the package."""
    root = Path(__file__).parents[1]
    defined: dict[str, Path] = {}
    named = {
        "forward",
        "extra_repr",
        "find_class",
        "persistent_load",
        "from_module",
        "is_leaf_module",
        "call_module",
        "handleError",
        "get_next",
        "repr_int",
        "readinto",
        "seekable",
        "collect_usage_pieces",
        "format_options",
        "format_commands",
    }  # PyTorch, pickle, logging, onnxruntime, typer and users call these
    for path in [*SOURCE.rglob("*.py"), *(root / "benchmarks").rglob("*.py"), *(root / "examples").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                is_ours = SOURCE in path.parents and SOURCE / "cntk" not in path.parents
                defined |= {node.name: path} if is_ours and not node.name.startswith("_") else {}
            elif isinstance(node, ast.Name | ast.Attribute):
                named.add(node.id if isinstance(node, ast.Name) else node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    for path in SOURCE.rglob("*.html"):
        named |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    assert {name: str(path) for name, path in defined.items() if name not in named} == {}


def test_archives_of_strangers_are_opened_in_one_place() -> None:
    """Where what they take of memory is bounded."""
    opens = re.compile(r"zipfile\.(ZipFile|Path)\(|tarfile\.(open|is_tarfile|TarFile)\(|yaml\.(safe_|full_)?load\(")
    places = {"formats/zip_archive.py", "formats/tar.py", "recipes/__init__.py", "serve/openapi.py"}
    found = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if opens.search(path.read_text("utf-8"))}
    assert found <= places
