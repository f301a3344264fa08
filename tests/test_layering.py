"""Who may import whom, read from the source: nothing is imported to find out."""

import ast
from pathlib import Path

import pytest

import skhier

ROOT = Path(skhier.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
HEAVY = {"arviz", "jax", "narwhals", "numpy", "numpyro", "pandas", "scipy", "sklearn"}

# within kernels, what each module may import of the others
KERNELS = {
    "types": set(),
    "linalg": {"types"},
    "stats": {"types"},
    "layout": {"types", "stats"},
    "effects": {"types", "layout", "linalg"},
    "conditional": {"effects", "linalg"},
    "moments": {"conditional", "effects", "linalg"},
    "factor": set(),
    "marginal": {"types", "factor", "layout"},
    "models": {"types", "marginal", "layout"},
    "flat": set(),
    "targets": {"types", "marginal", "models", "flat"},
    "nuts": {"targets"},
    "laplace": set(),
    "importance": {"laplace"},
    "information": {"conditional"},
    "loo": {"conditional", "effects", "importance", "information", "linalg"},
    "runtime": set(),
}


def module_name(path):
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(tree, package):
    """Full names a file imports, wherever in it; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package.split(".")[: 1 - node.level or None] if node.level else []
            source = ".".join([*home, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def imports_of(path):
    package = module_name(path if path.stem == "__init__" else path.parent)
    return set(imported(ast.parse(path.read_text()), package))


def offenders(folder, forbidden):
    """``file: import`` for each import in the folder that starts with a forbidden name."""
    return [
        f"{module_name(path)}: {name}"
        for path in FILES
        if module_name(path).startswith(folder)
        for name in sorted(imports_of(path))
        if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)
    ]


def test_layering_sees_every_folder():
    folders = {part for path in FILES for part in module_name(path).split(".")[1:2]}
    assert {"estimators", "kernels", "utils", "priors", "datasets"} <= folders


def test_utils_know_no_kernels_and_no_jax():
    bad = {"skhier.kernels", "skhier.estimators", "skhier.priors", "jax", "numpyro", "arviz"}
    assert offenders("skhier.utils", bad) == []


def test_kernels_know_no_frames_and_no_estimators():
    bad = {"skhier.utils", "skhier.estimators", "skhier.priors", "sklearn", "pandas", "arviz"}
    assert offenders("skhier.kernels", bad) == []


def test_priors_and_datasets_know_no_estimators():
    bad = {"skhier.kernels", "skhier.estimators"}
    assert offenders("skhier.priors", bad) + offenders("skhier.datasets", bad) == []


def test_numpyro_appears_in_four_files():
    using = {found.split(":")[0] for found in offenders("skhier", {"numpyro"})}
    kernels = {f"skhier.kernels.{name}" for name in ("flat", "models", "nuts")}
    assert using <= {*kernels, "skhier.priors"}


def test_samplers_of_few_parameters_know_no_jax():
    assert offenders("skhier.inference.mode", {"jax"}) == []
    assert offenders("skhier.inference.importance", {"jax"}) == []


@pytest.mark.parametrize(
    "name", ["layout", "effects", "conditional", "moments", "information", "loo"]
)
def test_kernels_in_numpy_know_no_jax(name):
    assert offenders(f"skhier.kernels.{name}", {"jax", "numpyro"}) == []


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_kernel_imports_follow_the_order(path):
    prefix = "skhier.kernels."
    used = {name[len(prefix) :].split(".")[0] for name in imports_of(path) if prefix in name}
    assert used <= KERNELS[path.stem]


def test_package_imports_nothing_heavy():
    def top_level(node):
        """Statements run on import; the typing block is not."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child
            elif not isinstance(child, ast.FunctionDef | ast.ClassDef) and not (
                isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            ):
                yield from top_level(child)

    body = list(top_level(ast.parse((ROOT / "__init__.py").read_text())))
    names = set(imported(ast.Module(body=body, type_ignores=[]), "skhier"))
    assert {name.split(".")[0] for name in names} & (HEAVY | {"skhier"}) == set()


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_source_evaluates_no_strings(path):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"eval", "exec", "compile", "__import__"} == set()
