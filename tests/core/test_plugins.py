"""The plugins room: one door, a broken guest never takes the house down, and everything refused is explained."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le, Lt
from pydantic import Field

from mlops_core.contracts import KINDS, Choice, Run
from mlops_core.entries import installed
from mlops_core.errors import PluginError
from mlops_core.hookspecs import hookimpl
from mlops_core.options import check_options, make, options_of, type_words
from mlops_core.plugins import Plugins


@dataclasses.dataclass(frozen=True)
class Layer:
    width: Annotated[int, Ge(1)] = 8
    act: Literal["relu", "tanh"] = "relu"


@dataclasses.dataclass(frozen=True)
class Net:
    """A small network.

    lr: step size of the optimiser,
      per batch
    steps: how many
    """

    steps: int
    lr: Annotated[float, Field(gt=0, le=1)] = 0.1
    folder: Path = Path("here")
    hidden: tuple[int, ...] = (4,)
    pair: tuple[int, str] = (1, "a")
    layers: tuple[Layer, ...] = ()
    head: Layer | None = None
    either: int | tuple[int, ...] = 1
    named: Mapping[str, Layer] = dataclasses.field(default_factory=dict)
    share: Annotated[float, Ge(0), Lt(1)] | None = None
    made: int = dataclasses.field(default=3, init=False)
    note: str = dataclasses.field(default="", metadata={"doc": "free words"})

    def __post_init__(self) -> None:
        if self.steps == 13:
            raise ValueError("steps must not be 13")


NET_OPTIONS = "either, folder, head, hidden, layers, lr, named, note, pair, share, steps"


def module(name: str, **hooks: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    for hook, value in hooks.items():
        setattr(made, hook, hookimpl(value) if callable(value) else value)
    return made


def offering(name: str, kind: str, **classes: type) -> types.ModuleType:
    made = module(name)
    exec(f"def mlops_{kind}(): return classes", {"classes": classes}, vars(made))
    hookimpl(getattr(made, f"mlops_{kind}"))
    return made


def found(key_message: list[Any]) -> dict[str, str]:
    return {p.key: p.message + (f"; {p.suggestion}" if p.suggestion else "") for p in key_message}


def install(site: Path, dist: str, entries: dict[str, str], version: str = "1.0") -> Path:
    info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n\nName: not-this\n")
    lines = [
        "[console_scripts]",
        "x = y:z",
        "[mlops_core]",
        *(f"{k} = {v}" for k, v in entries.items()),
        "[other]",
        "a=b",
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return info


# --- finding ---------------------------------------------------------------------------------------------------


def test_our_own_plugins_come_through_the_same_door() -> None:
    entries = {e.name: e.distribution for e in installed("mlops_core")}
    assert {"tabular", "lightning", "ray", "local", "drift", "dvc"} <= set(entries)
    assert entries["drift"] == "mlops-core-framework"
    plugins = Plugins()
    assert plugins.broken == []
    assert plugins.offer("monitor", "drift").package == "mlops_drift"


def test_entry_points_agree_with_importlib_metadata() -> None:
    import importlib.metadata

    for group in ("mlops_core", "console_scripts", "pytest11"):
        expected = {(e.name, e.value.split("[")[0].strip()) for e in importlib.metadata.entry_points(group=group)}
        assert {(e.name, e.value) for e in installed(group)} == expected


def test_entry_points_of_a_folder(tmp_path: Path) -> None:
    install(tmp_path / "a", "My.Plugin", {"one": "json:loads", "two": "collections.abc [extra]"})
    install(tmp_path / "b", "my-plugin", {"one": "shadowed"}, version="2.0")
    (tmp_path / "zip").write_text("no folder")
    install(tmp_path / "a", "other", {})
    (tmp_path / "a" / "other-1.0.dist-info" / "entry_points.txt").write_bytes("[caf\u00e9]\nx = y\n".encode("latin-1"))
    entries = list(installed("mlops_core", [str(tmp_path / p) for p in ("none", "zip", "a", "b")]))
    assert [(e.name, e.value, e.distribution, e.version) for e in entries] == [
        ("one", "json:loads", "My.Plugin", "1.0"),
        ("two", "collections.abc", "My.Plugin", "1.0"),
    ]
    assert entries[0].load() is __import__("json").loads
    assert entries[1].load() is importlib.import_module("collections.abc")


FINDING = """
import sys
import mlops_core.plugins as room
opened = []
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
found = room.Plugins()
assert found.all(), found.broken
print(*opened, sep="\\n")
print("--")
print(*sys.modules, sep="\\n")
"""
NEEDLESS = {"torch", "ray", "pandas", "polars", "numpy", "pandera", "dvc", "sklearn", "hydra", "omegaconf", "pydantic",
            "sqlalchemy", "onnxruntime", "uvicorn", "starlette", "zipfile", "importlib.metadata", "pyarrow", "rich",
            "http.client", "ssl", "asyncio", "multiprocessing", "concurrent.futures.process"}  # fmt: skip


def test_finding_plugins_is_cheap_and_imports_nothing_heavy() -> None:
    """What it may read and import; the seconds are those of `tests/benchmarks/run.py startup`."""
    done = subprocess.run([sys.executable, "-P", "-B", "-c", FINDING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    opened, _, modules = (part.split("\n") for part in done.stdout.partition("--\n"))
    assert not NEEDLESS & set(modules)
    files = [path for path in opened if path and not path.endswith((".py", ".pyc"))]
    lists = {path for path in files if path.endswith("entry_points.txt")}
    others = [path for path in files if path not in lists]
    assert len(lists) + len(others) == len(files), "a list of entry points was read twice"
    offering = {entry.distribution for entry in installed("mlops_core")}
    assert len(others) == len(offering) and {Path(path).name for path in others} <= {"METADATA", "PKG-INFO"}, others


# --- surviving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("gone", None, "ModuleNotFoundError: No module named 'stranger_gone'"),
        ("needy", "import not_installed_xyz", "ModuleNotFoundError: No module named 'not_installed_xyz'"),
        ("syntax", "def (", "SyntaxError"),
        ("quits", "raise SystemExit(3)", "SystemExit: 3"),
        ("raises", "@hookimpl\ndef mlops_trainer(): raise RuntimeError('no disk')", "RuntimeError: no disk"),
        (
            "wrong",
            "@hookimpl\ndef mlops_trainer(): return ['a']",
            "hook 'mlops_trainer' must return a mapping of name to class, not list",
        ),
        (
            "plain",
            "class T: pass\n@hookimpl\ndef mlops_trainer(): return {'t': T}",
            "trainer 't' must be a dataclass whose fields are its options, not T",
        ),
        (
            "object",
            "@hookimpl\ndef mlops_trainer(): return {'t': 3}",
            "trainer 't' must be a dataclass whose fields are its options, not 3",
        ),
        (
            "name",
            "@hookimpl\ndef mlops_trainer(): return {'my trainer': int}",
            "trainer name 'my trainer' must be letters, digits and underscores, as it is typed in YAML",
        ),
        (
            "reserved",
            "@dataclass\nclass D:\n    split: int = 0\n    a: int = 1\n@hookimpl\ndef mlops_data(): return {'d': D}",
            "data 'd' has option split, which the declaration keeps for itself",
        ),
        (
            "misspelt",
            "@hookimpl\ndef mlops_trainr(): return {}",
            "unknown hook 'mlops_trainr' in stranger_misspelt; did you mean 'mlops_trainer'?",
        ),
        (
            "argument",
            "@hookimpl\ndef mlops_started(run, stge): pass",
            "hook 'mlops_started' in stranger_argument has no argument 'stge'; did you mean 'stage'?",
        ),
        (
            "wrapper",
            "@hookimpl(wrapper=True)\ndef mlops_trainer():\n    return (yield)",
            "stranger_wrapper wraps hook 'mlops_trainer'; a plugin offers or watches, it wraps nothing",
        ),
    ],
)
def test_a_broken_plugin_is_told_and_the_rest_works(
    name: str, body: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "from dataclasses import dataclass\nfrom mlops_core import hookimpl\n"
    if body is not None:
        (tmp_path / f"stranger_{name}.py").write_text(head + body + "\n")
    (tmp_path / "stranger_good.py").write_text(
        head + "@dataclass\nclass G: pass\n@hookimpl\ndef mlops_exporter(): return {'good': G}\n"
    )
    install(tmp_path, "stranger-bad", {name: f"stranger_{name}"})
    install(tmp_path, "stranger-good", {"good": "stranger_good"})
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins()
    assert [(b.entry, b.distribution) for b in plugins.broken] == [(name, "stranger-bad")]
    assert plugins.broken[0].reason.startswith(reason)
    assert plugins.offer("exporter", "good").distribution == "stranger-good"
    assert "drift" in plugins.names("monitor")
    assert plugins.names("trainer") == Plugins(()).names("trainer")
    with pytest.raises(PluginError) as error:
        plugins.offer("trainer", "t_stranger")
    assert f"plugin {name!r} of stranger-bad could not be used: {reason}" in str(error.value)


def test_a_module_offered_by_two_entry_points_is_used_once() -> None:
    twice = offering("twice", "tuner", mine=Layer)
    plugins = Plugins([("twice", twice), ("again", twice)])
    assert plugins.offer("tuner", "mine").cls is Layer
    assert [(b.entry, b.reason) for b in plugins.broken] == [("again", "twice is registered already")]


# --- naming and refusing ---------------------------------------------------------------------------------------


def test_a_name_claimed_twice_is_refused_naming_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "from dataclasses import dataclass\nfrom mlops_core import hookimpl\n"
    body += "@dataclass\nclass M: pass\n@hookimpl\ndef mlops_monitor(): return {'same': M}\n"
    for name, version in (("first", "1.0"), ("second", "2.1")):
        (tmp_path / f"stranger_{name}.py").write_text(body)
        install(tmp_path, f"{name}-dist", {name: f"stranger_{name}"}, version)
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins()
    with pytest.raises(PluginError) as error:
        plugins.build("monitor", Choice(plugin="same"))
    claims = "first-dist 1.0 (stranger_first) and second-dist 2.1 (stranger_second)"
    assert str(error.value) == f"monitor 'same' is claimed by {claims}; uninstall one of them"
    assert sum(o.name == "same" for o in plugins.all()) == 2
    assert plugins.names("monitor").count("same") == 1


def test_one_name_may_stand_in_two_kinds() -> None:
    plugins = Plugins([("a", offering("a", "tuner", thing=Layer)), ("b", offering("b", "exporter", thing=Net))])
    assert plugins.offer("tuner", "thing").cls is Layer
    assert plugins.offer("exporter", "thing").cls is Net
    kinds = [o.kind for o in plugins.all()]
    assert kinds == sorted(kinds, key=KINDS.index)


def test_unknown_names_are_told_the_nearest() -> None:
    plugins = Plugins([("a", offering("a", "exporter", github=Layer, gitlab=Layer))])
    with pytest.raises(PluginError, match=r"^unknown exporter 'gitlb'; did you mean 'gitlab'\?$"):
        plugins.offer("exporter", "gitlb")
    with pytest.raises(PluginError, match=r"^unknown exporter 'zzz'; expected one of: github, gitlab$"):
        plugins.offer("exporter", "zzz")


def test_without_any_plugin_the_user_is_told_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_core.plugins.installed", lambda group: iter(()))
    with pytest.raises(
        PluginError, match=r"no plugins are installed: run 'python -m pip install mlops-core-framework'"
    ):
        Plugins().offer("trainer", "sklearn")


# --- options ---------------------------------------------------------------------------------------------------


def test_options_are_built_from_plain_data() -> None:
    net = Plugins([("n", offering("n", "trainer", net=Net))]).build(
        "trainer",
        Choice(
            plugin="net",
            options={
                "steps": 3, "lr": 1, "folder": "x/y", "hidden": [1, 2], "pair": [2, "b"], "layers": [{"width": 2}],
                "head": {"act": "tanh"}, "either": [1], "named": {"a": {"width": 9}}, "share": None,
            },
        ),
    )  # fmt: skip
    expected = Net(
        steps=3, lr=1.0, folder=Path("x/y"), hidden=(1, 2), pair=(2, "b"), layers=(Layer(2),), head=Layer(act="tanh"),
        either=(1,), named={"a": Layer(9)},
    )  # fmt: skip
    assert net == expected
    assert isinstance(net.layers[0], Layer)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"steps": "missing mandatory value, expected whole number"}),
        ({"steps": "3"}, {"steps": 'expected whole number, got "3"'}),
        ({"steps": 1.5}, {"steps": "expected whole number, got 1.5"}),
        ({"steps": True}, {"steps": "expected whole number, got true"}),
        ({"steps": None}, {"steps": "expected whole number, got null"}),
        ({"steps": 1, "lr": 0}, {"lr": "expected number, more than 0, at most 1, got 0"}),
        ({"steps": 1, "lr": 2.5}, {"lr": "expected number, more than 0, at most 1, got 2.5"}),
        ({"steps": 1, "lr": "fast"}, {"lr": 'expected number, more than 0, at most 1, got "fast"'}),
        ({"steps": 1, "share": 1}, {"share": "expected number, at least 0, less than 1 or null, got 1"}),
        ({"steps": 1, "stepz": 1}, {"stepz": "unknown option; did you mean 'steps'?"}),
        ({"steps": 1, "made": 1}, {"made": f"unknown option; expected one of: {NET_OPTIONS}"}),
        ({"steps": 1, "hidden": 4}, {"hidden": "expected list of whole number, got 4"}),
        ({"steps": 1, "hidden": [4, "x"]}, {"hidden.1": 'expected whole number, got "x"'}),
        ({"steps": 1, "layers": [{}, {"widht": 3}]}, {"layers.1.widht": "unknown option; did you mean 'width'?"}),
        ({"steps": 1, "layers": [{"width": 0}]}, {"layers.0.width": "expected whole number, at least 1, got 0"}),
        ({"steps": 1, "head": {"act": "rely"}}, {"head.act": "unknown value 'rely'; did you mean 'relu'?"}),
        ({"steps": 1, "head": {"act": "zzzz"}}, {"head.act": "unknown value 'zzzz'; expected one of: relu, tanh"}),
        ({"steps": 1, "head": 3}, {"head": "expected mapping or null, got 3"}),
        ({"steps": 1, "named": {"a": {"x": 1}}}, {"named.a.x": "unknown option; expected one of: act, width"}),
        ({"steps": 1, "either": "x"}, {"either": 'expected whole number or list of whole number, got "x"'}),
        ({"steps": 1, "either": ["x"]}, {"either": 'expected whole number or list of whole number, got ["x"]'}),
        ({"steps": 1, "folder": 3}, {"folder": "expected path, got 3"}),
        ({"steps": 13}, {"": "steps must not be 13"}),
        (
            {"lr": -1, "stepz": 1, "hidden": "a"},
            {
                "lr": "expected number, more than 0, at most 1, got -1",
                "stepz": "unknown option; did you mean 'steps'?",
                "hidden": 'expected list of whole number, got "a"',
                "steps": "missing mandatory value, expected whole number",
            },
        ),
    ],
)
def test_wrong_options_are_all_told_in_words(options: dict[str, Any], expected: dict[str, str]) -> None:
    assert found(check_options(Net, options)) == expected


def test_build_tells_every_wrong_option_and_builds_nothing() -> None:
    plugins = Plugins([("n", offering("n", "trainer", net=Net))])
    choice = Choice(plugin="net", options={"lr": 2, "stepz": 1})
    with pytest.raises(PluginError) as error:
        plugins.build("trainer", choice)
    assert str(error.value).splitlines()[0] == "trainer 'net' cannot be built"
    assert "stepz: unknown option; did you mean 'steps'?" in str(error.value).splitlines()
    assert len(plugins.problems("trainer", choice)) == 3


def test_a_plugins_own_check_is_told() -> None:
    @dataclasses.dataclass(frozen=True)
    class Picky:
        a: int = 0

        def __post_init__(self) -> None:
            raise PluginError("option a needs option b")

    assert found(check_options(Picky, {})) == {"": "option a needs option b"}


def test_the_manual_of_options() -> None:
    options = {o.name: o for o in options_of(Net)}
    assert "made" not in options
    assert options["steps"].required
    assert options["steps"].default is None
    assert options["lr"].doc == "step size of the optimiser, per batch"
    assert options["steps"].doc == "how many"
    assert options["note"].doc == "free words"
    assert options["named"].default == {}
    assert options["lr"].type == "number, more than 0, at most 1"


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "whole number"), (float, "number"), (str, "text"), (bool, "true or false"), (Path, "path"),
        (Any, "any value"), (list[str], "list of text"), (tuple[Layer, ...], "list of mapping"), (dict, "mapping"),
        (dict[str, Any], "mapping"),
        (Mapping[str, float], "mapping of number"), (int | None, "whole number or null"), (Layer, "mapping"),
        (Literal["a", 1], "one of 'a', 1"), (Annotated[int, Ge(1), Le(9)], "whole number, at least 1, at most 9"),
        (Annotated[str, Field(min_length=2, pattern="a+")], "text, at least 2 long, matching 'a+'"),
    ],
)  # fmt: skip
def test_types_in_words(hint: Any, words: str) -> None:
    assert type_words(hint) == words


def test_make_is_strict_about_text_and_numbers() -> None:
    assert make(Layer, {"width": 3}) == Layer(3)
    assert found(check_options(Layer, {"width": "3"}))
    assert found(check_options(Layer, {"act": 1}))


# --- watching --------------------------------------------------------------------------------------------------

RUN = Run(id="r", name="n", started="now")


class Notes:
    def __init__(self, book: list[Any], name: str) -> None:
        self.book, self.name = book, name

    @hookimpl
    def mlops_started(self, stage: str) -> None:
        self.book.append((self.name, stage))


class First(Notes):
    @hookimpl(tryfirst=True)
    def mlops_started(self, run: Run, stage: str) -> None:
        self.book.append((self.name, run.id, stage))


class Loud:
    @hookimpl
    def mlops_started(self) -> None:
        raise RuntimeError("no network")


def test_watchers_are_told_in_order_only_what_they_ask_for() -> None:
    book: list[Any] = []
    plugins = Plugins()
    plugins.watch([Notes(book, "a"), Notes(book, "b"), First(book, "c")])
    assert plugins.tell("mlops_started", run=RUN, stage="data", cause="new") == []
    assert book == [("c", "r", "data"), ("a", "data"), ("b", "data")]


def test_a_watcher_that_raises_stops_nothing() -> None:
    book: list[Any] = []
    plugins = Plugins()
    plugins.watch([Loud(), Notes(book, "after")])
    said = plugins.tell("mlops_started", run=RUN, stage="data", cause="new")
    assert said == ["observer Loud: RuntimeError: no network"]
    assert book == [("after", "data")]


def test_a_misspelt_watching_hook_is_refused_and_not_kept() -> None:
    class Typo:
        @hookimpl
        def mlops_finishd(self) -> None: ...

    plugins = Plugins()
    with pytest.raises(PluginError, match=r"unknown hook 'mlops_finishd' in Typo; did you mean 'mlops_finished'\?"):
        plugins.watch([Typo()])
    plugins.watch([Notes([], "fine")])


def test_the_same_observer_twice_is_two_watchers() -> None:
    book: list[Any] = []
    plugins = Plugins()
    plugins.watch([Notes(book, "a"), Notes(book, "b")])
    assert {n for n, _ in plugins.manager.list_name_plugin() if n.startswith("Notes")} == {"Notes", "Notes 2"}
