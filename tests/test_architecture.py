"""The shape of the house: imports point down, one door for weights, public names and options as agreed."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

import panderm
from panderm.benches.benchmark import benchmark
from panderm.classifying.predict import predict
from panderm.cli import app
from panderm.data.artefacts.table import flag_artefacts
from panderm.data.layouts.imported import import_images
from panderm.data.mapping import map_table
from panderm.data.sources.prepare import prepare
from panderm.data.table import read_table
from panderm.embeddings.derive.describe import describe_embeddings
from panderm.embeddings.derive.export import export_embeddings
from panderm.embeddings.derive.merge import merge_embeddings
from panderm.embeddings.derive.select import select_embeddings
from panderm.exported.export import export
from panderm.finetuning.finetune import finetune
from panderm.gate.check import check
from panderm.gate.split import split
from panderm.lesions.measuring import measure_lesions
from panderm.models.check import check_weights
from panderm.models.convert import convert
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.pulling import pull
from panderm.pipeline import demo, run
from panderm.predictions import FileColumns
from panderm.predictions.masks import read_masks
from panderm.predictions.recalibrated import recalibrate
from panderm.pretraining.pretrain import pretrain
from panderm.report import Report
from panderm.report.curve.curve import curve
from panderm.report.map.embedding_map import EmbeddingMap, map_embeddings
from panderm.scores import evaluate
from panderm.scores.compare import compare
from panderm.scores.masks import evaluate_masks
from panderm.scores.masks_compared import compare_masks
from panderm.segmenting.learning.repeats import repeat_segmenter
from panderm.segmenting.learning.train import train_segmenter
from panderm.segmenting.predicting.predict import predict_masks
from panderm.tasks.probe import probe

SRC = Path(panderm.__file__).parent
FLOORS = [
    *(
        "errors",
        "storage",
        "provenance",
        "progress",
        "statistics",
        "data",
        "lesions",
        "embeddings",
        "fitted",
        "predictions",
    ),
    *(
        "weights",
        "models",
        "cluster",
        "training",
        "probing",
        "gate",
        "tasks",
        "classifying",
        "exported",
        "scores",
        "published",
        "report",
        "pretraining",
        "finetuning",
        "segmenting",
        "pipeline",
        "benches",
        "cli",
    ),
]


def name_of(file: Path) -> str:
    """Return a file's module, ``panderm.data.table``."""
    parts = ["panderm", *file.relative_to(SRC).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(SRC.rglob("*.py"))}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def is_for_types_only(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node at any depth, functions included, but nothing that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if is_for_types_only(child):
            for other in child.orelse:  # type: ignore[attr-defined]
                yield from [other, *walk(other)]
            continue
        yield child
        yield from walk(child)


def imports(tree: ast.AST, module: str, *, package: bool) -> set[str]:
    """Return every module that is imported, as full names; of ``from a import b`` both ``a`` and ``a.b``."""
    found = set()
    for node in walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.split(".")
                up = up[: len(up) - node.level + package]
                base = ".".join([*up, *([base] if base else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def edges() -> dict[str, set[str]]:
    """Return for each module of ours the modules of ours it imports."""
    found = {}
    for module, file in MODULES.items():
        named = imports(ast.parse(file.read_text("utf-8")), module, package=file.name == "__init__.py")
        found[module] = {name for name in named if name in MODULES and name != module}
    return found


EDGES = edges()


def offences(graph: dict[str, set[str]]) -> list[str]:
    """Name the edges that point up, or from one task to another."""
    found = []
    for module, targets in graph.items():
        if room(module) in ("", "__main__"):  # the front doors stand above all floors
            continue
        here = FLOORS.index(room(module))
        for target in sorted(targets):
            if not room(target):
                found.append(f"{module} imports the front door {target}")
            elif FLOORS.index(room(target)) > here:
                found.append(f"{module} imports {target}, a floor above")
            elif room(module) == room(target) == "tasks" and target != "panderm.tasks":
                found.append(f"{module} imports another task, {target}")
    return found


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return all that is imported with a module: what it names, their packages, and so on."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        module = todo.pop()
        if module in seen or module == "panderm":
            continue
        seen.add(module)
        todo += graph.get(module, set())
        todo += [module.rpartition(".")[0]] if "." in module else []
    return seen


def test_every_room_has_its_floor() -> None:
    rooms = {room(module) for module in MODULES} - {"", "__main__"}
    assert rooms == set(FLOORS), f"rooms and floors differ: {sorted(rooms ^ set(FLOORS))}"


def test_imports_point_down() -> None:
    assert offences(EDGES) == []


def test_the_checker_sees_an_edge_that_points_up() -> None:
    hidden = "def f():\n    from panderm.models.load import load_encoder\n"
    relative = "from ..models import load\n"
    dynamic = "import importlib\nimportlib.import_module('panderm.models.load')\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import panderm.models.load\n"
    for text, wanted in ((hidden, 1), (relative, 1), (dynamic, 1), (typed, 0)):
        named = imports(ast.parse(text), "panderm.data.table", package=False) & set(MODULES)
        graph = {"panderm.data.table": named - {"panderm.models"}}
        assert len(offences(graph)) == wanted, text
    above = "panderm.data.table imports panderm.models.load, a floor above"
    assert offences({"panderm.data.table": {"panderm.models.load"}}) == [above]
    assert offences({"panderm.tasks.probe": {"panderm.tasks.retrieve"}}) == [
        "panderm.tasks.probe imports another task, panderm.tasks.retrieve"
    ]


@pytest.mark.parametrize("start", ["panderm.scores", "panderm.statistics", "panderm.predictions"])
def test_a_referee_never_reaches_the_models(start: str) -> None:
    modules = [m for m in MODULES if m == start or m.startswith(start + ".")]
    seen = set().union(*(reached(EDGES, module) for module in modules))
    assert not {m for m in seen if room(m) == "models"}


def test_reaching_is_seen_through_other_modules() -> None:
    graph = {"panderm.scores": {"panderm.x"}, "panderm.x": {"panderm.models.load"}}
    assert "panderm.models.load" in reached(graph, "panderm.scores")


def test_pytorchs_own_reader_opens_no_file() -> None:
    """Not even in its safe mode: weights files are described, not built (weights/pickled.py)."""
    assert not [m for m, file in MODULES.items() if "torch.load" in file.read_text("utf-8")]


def test_nothing_is_unpickled() -> None:
    for module, file in MODULES.items():
        tree = ast.parse(file.read_text("utf-8"))
        named = imports(tree, module, package=file.name == "__init__.py")
        bad = {n for n in named if n.split(".")[0] in {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}}
        assert not bad, f"{module} imports {bad}"
        assert "allow_pickle=True" not in file.read_text("utf-8"), module


def test_no_room_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "lib"}
    assert not [m for m in MODULES if drawers & set(m.split("."))]


def test_rooms_are_small() -> None:
    long = {m: n for m, file in MODULES.items() if (n := len(file.read_text("utf-8").splitlines())) > 450}
    assert not long


# Public names


def test_the_front_door_names_what_it_opens() -> None:
    tree = ast.parse(MODULES["panderm"].read_text("utf-8"))
    typed = [node for node in tree.body if is_for_types_only(node)]
    for_checkers = {a.asname for n in ast.walk(typed[0]) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert for_checkers == set(panderm.__all__) - {"__version__"}
    assert dir(panderm) == sorted(panderm.__all__)
    for name in panderm.__all__:
        assert getattr(panderm, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'probee'"):
        _ = panderm.probee


# An error is raised, not called. The other two still owe theirs: who adds one takes the name off this list.
WITHOUT_EXAMPLE = {"PandermError", "PandermWarning"}


@pytest.mark.parametrize("name", [n for n in panderm.__all__ if n != "__version__"])
def test_every_public_name_shows_an_example(name: str) -> None:
    thing = getattr(panderm, name)
    texts = [thing.__doc__ or ""]
    if inspect.isclass(thing):
        texts += [member.__doc__ or "" for k, member in vars(thing).items() if k[0] != "_"]
    shown = any("Example:" in text and ">>>" in text for text in texts)
    assert texts[0], f"panderm.{name} has no docstring"
    assert shown == (name not in WITHOUT_EXAMPLE), (
        f"panderm.{name} {'shows' if shown else 'lacks'} an example"
    )


@pytest.mark.parametrize("words", [[], ["--help"], ["run", "--help"], ["--version"]])
def test_the_front_door_is_light(words: list[str]) -> None:
    """``import panderm`` and the help do not wait for torch."""
    code = (
        "import sys, json, contextlib\n"
        "import panderm\n"
        f"words = {words!r}\n"
        "if words:\n"
        "    from panderm.cli import main\n"
        "    sys.argv = ['panderm', *words]\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()\n"
        "heavy = ['torch', 'sklearn', 'matplotlib', 'timm', 'scipy', 'pandas', 'pyarrow', 'PIL']\n"
        "print('LOADED', json.dumps([m for m in heavy if m in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.rpartition("LOADED ")[2]) == []


# The command line

COMMAND = typer.main.get_command(app)
assert isinstance(COMMAND, click.Group) or hasattr(COMMAND, "commands")
VERBS: dict[str, click.Command] = {}
for _name, _verb in COMMAND.commands.items():  # type: ignore[attr-defined]
    VERBS[_name] = _verb
    VERBS |= {f"{_name} {below}": one for below, one in getattr(_verb, "commands", {}).items()}

ROLES = "images image-column label split-column patient group classes skip-bad max-megapixels"
CHECKED = ROLES.replace("skip-bad ", "")  # bad rows are what is looked for
EYE = "encoder weights card pool image-size precision compile device"
OPTIONS = {
    "run": f"table {EYE} {ROLES} out engine batch-size workers exact recipe test percent-data draws seed "
    "image-free image-free-columns finetune finetune-epochs published-csv overwrite json quiet",
    "embed": f"table {EYE} {ROLES} out engine batch-size workers actors ray-address exact tokens overwrite "
    "json quiet",
    "probe": "embeddings out kind recipe train val test percent-data C k class-weight sample-weight pooling "
    "unit unit-pool float64 device calibrate folds test-on with allow-leaky-columns labels separator "
    "fold-column folds-of test-split level taxonomy test-taxonomy indeterminate label-map keep-absent "
    "allow-overlap seed overwrite json quiet",
    "evaluate": "predictions out truth proba predicted patient group image split-column split val fold "
    "classes name validation positive at prevalence diagnosis hierarchy coverage prior by columns "
    "image-column bands scores-only interval stratified draws seed published-csv overwrite json quiet",
    "compare": "predictions out truth proba patient group image classes "
    "score pairs common margin draws permutations seed overwrite json quiet",
    "recalibrate": "predictions out method truth proba predicted patient group image split-column split val "
    "fold classes name validation prior overwrite json quiet",
    "report": "predictions out tables pdf scores truth proba patient group image classes "
    "by columns image-column bands image-free image-free-columns embeddings attention weights card "
    "overwrite json quiet",
    "pretrain": "source out student teacher teacher-weights teacher-card teacher-tokens teacher-precision "
    "init images image-column split split-column patient exclude exclude-images exclude-split "
    "exclude-patients no-near epochs batch-size micro-batch-size lr min-lr warmup-epochs weight-decay "
    "clip-grad drop-path mask mask-ratio cls-weight visible-weight masked-weight crop-scale flip "
    "vertical-flip turn color-jitter hue student-jitter views targets probe probe-images probe-label "
    "probe-every precision device workers grad-checkpointing fsdp checkpoint-minutes save-every tensorboard "
    "name seed overwrite json quiet",
    "finetune": f"table out {EYE.replace('compile ', '')} {ROLES} labels separator percent-data allow-leaks "
    "recipe epochs batch-size micro-batch-size lr min-lr warmup-epochs weight-decay clip-grad layer-decay "
    "drop-path freeze lora head mixup cutmix smoothing sampler class-weight prior-correction ema "
    "monitor patience sweep repeats tta calibrate draws workers checkpoint-minutes tensorboard name "
    "seed overwrite json quiet",
    "demo": "out n seed overwrite json quiet",
    "curve": "embeddings out percent shots repeats published-subset kind recipe C k class-weight train val "
    "test use-val score draws seed workers overwrite json quiet",
    "predict": "model sources out images image-column weights card at positive coverage by-class tta "
    "skip-bad max-megapixels precision engine device batch-size workers exact overwrite json quiet",
    "benchmark": "tables encoders out published data list kind recipe score reference draws permutations "
    "seed device batch-size workers overwrite json quiet",
    "check": f"table {CHECKED} embeddings shortcuts shortcut-columns out workers draws seed "
    "overwrite json quiet",
    "split": "table images out test val folds seed image-column label patient group balance split-column "
    "keep-test embeddings no-images skip-bad max-megapixels verify overwrite json quiet",
    "artefacts": "table out images image-column masks mask-column max-megapixels workers overwrite json "
    "quiet",
    "map": "embeddings out color columns image-column only-color method n-neighbors min-dist metric pca seed "
    "thumbnails no-thumbnails png csv workers overwrite json quiet",
    "export": "encoder out weights card pool image-size int8 with overwrite json quiet",
    "convert": "source out encoder card pool to overwrite json",
    "evaluate-masks": "predicted against truth truth-column predicted-column columns image-column patient "
    "group by bands mm-per-pixel mm-column tolerance score common out per-image report images "
    "max-megapixels workers draws permutations seed overwrite json quiet",
    "models": "json",
    "models list": "json",
    "models show": "name card json",
    "models check": "path encoder card keys json",
    "models pull": "name accept-licence json quiet",
    "data": "json",
    "data list": "json",
    "data show": "name json",
    "data prepare": "name from out skip-missing overwrite json quiet",
    "data map": "table out label from to column indeterminate allow-unmapped overwrite json",
    "data import": "layout from out overwrite json quiet",
    "embeddings": "",
    "embeddings info": "embeddings verify json quiet",
    "embeddings export": "embeddings to out tokens overwrite json quiet",
    "embeddings merge": "embeddings out overwrite json quiet",
    "embeddings select": "embeddings out where rows image-column skip-missing overwrite json quiet",
    "segment": "",
    "segment train": "table out masks mask-column images image-column split-column patient group skip-bad "
    "max-megapixels percent-data allow-leaks encoder weights card decoder taps width image-size "
    "finetune-encoder recipe epochs epoch-images batch-size micro-batch-size lr min-lr warmup-epochs "
    "weight-decay clip-grad layer-decay drop-path cross-entropy dice boundary ema monitor patience largest "
    "fill-holes "
    "seeds folds percent draws precision device workers checkpoint-minutes tensorboard seed overwrite json "
    "quiet",
    "segment predict": "model sources out images image-column threshold tta tiles overlap min-area largest "
    "fill-holes overlays contours confidence uncertainty depth skip-bad max-megapixels precision device "
    "batch-size workers box point prompts refine pad whole-image saliency weights card image-size "
    "overwrite json quiet",
    "segment measure": "source out images masks image-column mask-column pieces mm-per-pixel mm-column ruler "
    "picture skip-bad max-megapixels workers overwrite json quiet",
}


def options_of(verb: str) -> set[str]:
    found = set()
    for parameter in VERBS[verb].params:
        longest = max(parameter.opts, key=len).lstrip("-")
        if longest != "help":
            found.add(longest)
    return found


def test_the_verbs_are_these() -> None:
    assert list(VERBS) == list(OPTIONS)


@pytest.mark.parametrize("verb", OPTIONS)
def test_the_options_of_a_verb_are_these(verb: str) -> None:
    assert options_of(verb) == set(OPTIONS[verb].split())


@pytest.mark.parametrize("verb", OPTIONS)
def test_help_shows_an_example_that_names_real_options(verb: str) -> None:
    text = " ".join((VERBS[verb].help or "").split())
    assert f"Example: panderm {verb} " in text
    used = {word.lstrip("-") for word in text.split("Example:")[1].split() if word.startswith("--")}
    assert used <= options_of(verb)
    for parameter in VERBS[verb].params:
        assert getattr(parameter, "help", None), f"{verb} {parameter.name} has no help"


def parameters(*functions: object) -> set[str]:
    """Return the parameter names of functions as the command line spells them."""
    names = {n for f in functions for n in inspect.signature(f).parameters}  # type: ignore[arg-type]
    return {n.replace("_", "-") for n in names - {"self"}}


# What only a command line has, and what it calls by another name.
ONLY_CLI = {"json", "quiet", "overwrite"}
SAME = {
    "run": ({"note", "progress"}, run),
    "embed": ({"name", "path", "note", "progress", "decode"}, read_table, load_encoder, Encoder.embed),
    "probe": ({"progress"}, probe),
    "evaluate": ({"progress"}, evaluate),
    "compare": ({"progress"}, compare),
    "evaluate-masks": ({"masks", "names", "keep", "progress"}, read_masks, evaluate_masks, compare_masks),
    "recalibrate": (set(), recalibrate),
    "report": ({"path", "progress"}, Report.__init__, Report.save),
    "pretrain": ({"progress", "ranks"}, pretrain),
    "finetune": ({"progress", "ranks"}, finetune),
    "demo": ({"progress"}, demo),
    "curve": ({"progress"}, curve),
    "predict": ({"progress"}, predict),
    "benchmark": ({"progress"}, benchmark),
    "check": ({"progress"}, check),
    "split": ({"progress"}, split),
    "artefacts": ({"progress"}, flag_artefacts),
    "map": ({"path", "progress"}, map_embeddings, EmbeddingMap.save),
    "export": (
        {"name", "precision", "engine", "device", "compile", "download", "progress", "probe"},
        load_encoder,
        export,
    ),
    "convert": (set(), convert),
    "models check": (set(), check_weights),
    "models pull": ({"ask", "progress"}, pull),
    "data prepare": ({"folder", "progress"}, prepare),
    "data map": ({"taxonomy"}, map_table),
    "data import": ({"folder", "progress"}, import_images),
    "embeddings info": ({"progress"}, describe_embeddings),
    "embeddings export": ({"progress"}, export_embeddings),
    "embeddings merge": ({"progress"}, merge_embeddings),
    "embeddings select": ({"progress"}, select_embeddings),
    "segment train": ({"training", "progress", "ranks"}, train_segmenter, repeat_segmenter),
    "segment predict": ({"progress"}, predict_masks),
    "segment measure": ({"progress"}, measure_lesions),
}
# evaluate and report write where Python has .save(path) and write_published_csv.
WRITES = {
    "artefacts": {"out"},
    "evaluate": {"out", "published-csv"} | parameters(FileColumns),
    "compare": {"out"} | parameters(FileColumns),
    "evaluate-masks": {"out", "per-image", "report", "images"},
    "recalibrate": parameters(FileColumns),
    "report": {"out", "tables", "pdf"} | parameters(FileColumns),
    "embed": {"table", "encoder", "actors", "ray-address"},
    "map": {"out", "png", "csv", "no-thumbnails"},
    "export": {"with"},
    "probe": {
        *("folds", "test-on", "with", "allow-leaky-columns", "labels", "fold-column", "folds-of"),
        *("test-split", "level", "taxonomy", "separator"),
        *("test-taxonomy", "indeterminate", "label-map", "keep-absent", "allow-overlap"),
    },
    "benchmark": {"list"},
    "check": {"out"},
    "split": {"verify"},
    "segment predict": {
        *("box", "point", "prompts", "refine", "pad", "whole-image"),
        *("saliency", "weights", "card", "image-size"),
    },
    "models check": {"keys"},
    "data prepare": {"from"},
    "data map": {"from", "allow-unmapped"},
    "data import": {"from"},
}


@pytest.mark.parametrize("verb", SAME)
def test_one_arrow_has_one_set_of_names(verb: str) -> None:
    only_python, *functions = SAME[verb]
    ours = options_of(verb) - ONLY_CLI - WRITES.get(verb, set())
    theirs = parameters(*functions) - only_python - {"overwrite"}
    assert ours == theirs - WRITES.get(verb, set())


@pytest.mark.parametrize("verb", SAME)
def test_one_arrow_has_one_set_of_defaults(verb: str) -> None:
    _, *functions = SAME[verb]
    defaults = {
        name: parameter.default
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()  # type: ignore[arg-type]
        if parameter.default is not parameter.empty
    }
    for parameter in VERBS[verb].params:
        name = "C" if parameter.name == "strength" else parameter.name
        if name in defaults and name != "self":
            given = parameter.default
            if isinstance(given, Path):
                given = str(given)
            assert given == defaults[name], f"{verb} --{name}"
