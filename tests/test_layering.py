"""Who may import whom, read from the source: nothing is imported to find out."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import skhier

ROOT = Path(skhier.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
HEAVY = {"arviz", "jax", "narwhals", "numpy", "numpyro", "pandas", "scipy", "sklearn"}

# a room may use those above it, and of its own modules those that stand before
ROOMS = {
    "utils": (
        "callers words answer_budget data_budget sampling_budget budget hermite slices forks "
        "memory imports crps diagnostics notes cells table categories columns labels nesting "
        "level_union pareto lazy_engines pipelines rank uniformity convergence validation "
        "named_columns side_column schema levels features group_means design wanted_means "
        "settling training identifiability noise_by"
    ),
    "statistics": (
        "records sums products mean_sd units padding plan elimination addition reduction "
        "row_noise problem rows level_roots group_means data_warnings folds slopes subtraction "
        "contents fold_sums arrow arrow_reading group_statistics lazy_checks polars_batches "
        "lazy_sums lazy lazy_rows partitions hashed_folds"
    ),
    "kernels": (
        "records user_units linalg bartlett cholesky flat distributions covariance "
        "prior_programs normal.level_sums normal.collapse normal.models normal.eliminate "
        "normal.conditional normal.moments normal.effects normal.line_distribution "
        "normal.information normal.left_out "
        "normal.left_out_of_several normal.new_rows normal.level_noise normal.level_noise_models "
        "normal.given_noise normal.level_precision rows.models rows.blocks "
        "rows.partly_centered rows.jointly_centered rows.logarithm rows.modes "
        "rows.rules rows.at_nodes rows.moments rows.directions rows.around rows.quadrature"
    ),
    "inference": (
        "options runtime statement checks separation estimates mode importance starts signs "
        "bartlett results "
        "target nuts chains size_classes theta centring reach engines prior quadrature_target "
        "quadrature_theta quadrature_engine row_target level_moments row_theta row_information "
        "joint_information "
        "row_frame_target row_frame row_joint row_engines row_scores noise_target noise_theta "
        "noise_engine dispatch"
    ),
    "posterior": (
        "designs drawn mixture reached own_nodes line_grid noise_sums response_quantiles skewed "
        "rule few row_lines lines moment_components posterior row_posterior level_noises "
        "noise_posterior joint_noise predictive within_between prior_draws sensitivity shares "
        "tables arviz elpd leaving_out fitted"
    ),
    "estimators": (
        "_group_tables _new_rows _base _reports _scores _statistics _model _classifier _compare "
        "_regressor _splits _scoring _candidates _left_out _refits _race _search _fold_race "
        "_folds _cv _classifier_cv"
    ),
    "plotting": (
        "_fit _style _text _replicates _choices _numerics _panels _group_coef _shrinkage "
        "_fitted_lines _posterior_predictive _rootogram _class_calibration _correlation "
        "_variance_shares _predictive_calibration _trace"
    ),
    "calibration": "_report _rows _simulations",
}
LEAVES = {"presets", "priors", "responses"}  # which everything from statistics on may see
TOMBS = {"utils": {"groups"}, "estimators": {"_posterior"}}  # of version 0.1.0, with a message
OUTSIDE = {"metrics", "datasets", "frames"}
NO_JAX = {"utils", "statistics", "posterior", "responses", "estimators", "plotting", "calibration"}


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


def room_and_module(name):
    """``skhier.kernels.normal.collapse`` is ("kernels", "normal.collapse")."""
    _, room, *module = name.split(".")
    return room, ".".join(module)


def used_modules(path):
    """Modules of skhier that a file imports, as (room, module)."""
    modules = {module_name(file) for file in FILES}
    for name in imports_of(path):
        while name.startswith("skhier.") and name not in modules:
            name = name.rpartition(".")[0]
        if name.startswith("skhier."):
            yield room_and_module(name)


def modules_of(room):
    """Modules of a room that hold code."""
    return {
        room_and_module(module_name(path))[1]
        for path in (ROOT / room).rglob("*.py")
        if path.stem != "__init__"
    }


@pytest.mark.parametrize("room", list(ROOMS))
def test_layering_knows_every_module(room):
    assert modules_of(room) - TOMBS.get(room, set()) == set(ROOMS[room].split())


def test_layering_knows_every_room():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "_"}
    files = {path.stem for path in ROOT.glob("[!_]*.py")}
    assert folders | files == {*ROOMS, *LEAVES, *OUTSIDE}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_run_one_way(path):
    """A room uses those that stand before it in ROOMS, a module those before it in its room."""
    if path.parent == ROOT:
        return
    room, module = room_and_module(module_name(path))
    if room not in ROOMS or path.stem == "__init__":
        return
    rooms, before = list(ROOMS), [*ROOMS[room].split(), *TOMBS.get(room, ())]
    lower = set(rooms[: rooms.index(room)]) | (LEAVES if room != "utils" else set())
    for other, used in used_modules(path):
        if other == room and used:
            assert before.index(used) < before.index(module), f"{module} uses {used}"
        else:
            assert other in {room, *lower}, f"{room}.{module} uses {other}.{used}"


def test_priors_responses_and_datasets_know_no_rooms():
    bad = {f"skhier.{room}" for room in ROOMS if room != "utils"}
    for leaf in ("skhier.pri", "skhier._pri", "skhier.pre"):
        assert offenders(leaf, bad) == []
    assert offenders("skhier.datasets", bad) == []
    assert offenders("skhier.responses", bad) == []


@pytest.mark.parametrize("room", sorted(NO_JAX))
def test_rooms_of_numpy_know_no_jax(room):
    assert offenders(f"skhier.{room}", {"jax", "numpyro"}) == []


@pytest.mark.parametrize("name", ["eliminate", "conditional", "given_noise", "moments", "left_out"])
def test_kernels_in_numpy_know_no_jax(name):
    assert offenders(f"skhier.kernels.normal.{name}", {"jax", "numpyro"}) == []


def test_kernels_know_no_frames():
    assert offenders("skhier.kernels", {"sklearn", "pandas", "arviz", "narwhals"}) == []


def test_numpyro_appears_where_a_model_is_stated_or_sampled():
    using = {found.split(":")[0] for found in offenders("skhier", {"numpyro"})}
    assert using <= {
        "skhier._prior_values",
        "skhier.presets",
        "skhier.priors",
        "skhier.kernels.covariance",
        "skhier.kernels.distributions",
        "skhier.kernels.flat",
        "skhier.kernels.prior_programs",
        "skhier.kernels.normal.level_noise_models",
        "skhier.kernels.normal.models",
        "skhier.kernels.rows.models",
        "skhier.inference.nuts",
    }


@pytest.mark.parametrize("name", ["mode", "importance"])
def test_samplers_of_few_parameters_know_no_jax(name):
    assert offenders(f"skhier.inference.{name}", {"jax"}) == []


def private_parts(path):
    """Private attributes that a file asks of anything but ``self`` and ``cls``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
            owner = getattr(node.value, "id", None)
            if owner not in {"self", "cls"}:
                yield node.attr


@pytest.mark.parametrize("room", ["plotting", "calibration"])
def test_one_module_sees_an_estimators_private_parts(room):
    asked = {
        module_name(path): set(private_parts(path)) - {"_replace"}  # of named tuples
        for path in (ROOT / room).glob("*.py")
    }
    assert {name for name, parts in asked.items() if parts} <= {"skhier.plotting._fit"}


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


def constants(path):
    """Names in capitals that a module assigns, a leading underscore left out."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for part in (part for target in targets if target for part in ast.walk(target)):
            if isinstance(part, ast.Name) and re.fullmatch("_?[A-Z][A-Z_0-9]+", part.id):
                yield part.id.removeprefix("_")


def test_no_two_modules_have_a_constant_of_one_name():
    """One name is one quantity: whoever means the same imports it."""
    own = {"HOMES"}  # where a package's public names live, read by that package's __getattr__ alone
    modules = defaultdict(set)
    for path in FILES:
        for name in constants(path):
            modules[name].add(module_name(path))
    assert {name: at for name, at in modules.items() if len(at) > 1 and name not in own} == {}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_source_evaluates_no_strings(path):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"eval", "exec", "compile", "__import__"} == set()
