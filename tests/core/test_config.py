"""Declarations that are right: composition, presets, overrides, defaults, origins, secrets, the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_core import config
from mlops_core.config import cache
from mlops_core.contracts import Choice, Declaration, Distribution, GateRule, plain, restore
from mlops_core.errors import DeclarationError, UsageError

GUESTS = Path(__file__).parent / "guests"
CONFIG = """\
defaults:
  - base
  - data: guest_table
  - trainer: guest_net
  - tuner: guest_search
  - deployer: guest_host
  - monitor: guest_watch
  - _self_
name: credit
data:
  path: data/credit.csv
  target: status
  contract: contracts/credit.yaml
trainer: {epochs: 30, model: {hidden: [8]}}
tuner:
  space:
    trainer.lr: loguniform(1e-4, 1e-1)
metric: auroc
gate:
  - {metric: auroc, at_least: 0.8}
  - {metric: auroc, versus: champion, at_least: -0.005}
slices: [sex]
"""


@pytest.fixture(autouse=True)
def guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GUESTS))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for folder in ("conf", "data", "contracts"):
        (root / folder).mkdir(parents=True)
    (root / "conf" / "config.yaml").write_text(CONFIG)
    (root / "data" / "credit.csv").write_text("age,sex,status\n")
    (root / "contracts" / "credit.yaml").write_text("columns:\n  age: {range: [0, 120]}\n")
    return root


def preset(root: Path, name: str, text: str) -> Path:
    path = root / "conf" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_declaration_is_composed(project: Path) -> None:
    found = config.declare(project)
    assert found.name == "credit" and found.seed == 0 and found.target == "status" and found.metric == "auroc"
    assert found.data == Choice(plugin="guest_table", options={"path": str(project / "data/credit.csv"), "also": []})
    assert found.trainer.options == {
        "lr": 0.01,
        "epochs": 30,
        "optimizer": "adam",
        "model": {"hidden": [8], "dropout": 0.0},
        "extra": {},
    }
    assert found.tuner == Choice(plugin="guest_search", options={"trials": 10})
    assert found.space == {"trainer.lr": Distribution(kind="loguniform", args=(1e-4, 1e-1))}
    assert found.gate[1] == GateRule(metric="auroc", versus="champion", at_least=-0.005)
    assert found.contract == {"columns": {"age": {"range": [0, 120]}}}
    assert found.slices == ("sex",) and found.split.strategy == "stratified"
    assert found.deployer == Choice(plugin="guest_host", options={"port": 0})
    assert yaml.safe_load(found.text)["trainer"]["model"] == {"hidden": [8], "dropout": 0.0}
    assert restore(Declaration, json.loads(json.dumps(plain(found)))) == found


def test_the_smallest_declaration_needs_no_defaults_list(project: Path) -> None:
    (project / "conf" / "config.yaml").write_text(
        "name: tiny\nmetric: rmse\ndata: {plugin: guest_table, path: data/credit.csv, target: age}\n"
        "trainer: {plugin: guest_net}\n"
    )
    found = config.declare(project)
    assert found.tuner is None and found.deployer is None and found.gate == () and found.contract == {}


def test_overrides_need_no_plus(project: Path) -> None:
    found = config.declare(
        project, ["trainer.lr=0.5", "+trainer.extra.deep.x=1", "++seed=3", "tuner.trials=2", "data.split.test=0.2"]
    )
    assert found.trainer.options["lr"] == 0.5 and found.trainer.options["extra"] == {"deep": {"x": 1}}
    assert found.seed == 3 and found.tuner and found.tuner.options == {"trials": 2} and found.split.test == 0.2


def test_a_group_is_chosen_whether_the_defaults_list_has_it_or_not(project: Path) -> None:
    text = CONFIG.replace("  - monitor: guest_watch\n", "")
    (project / "conf" / "config.yaml").write_text(text)
    assert config.declare(project).monitor is None
    assert config.declare(project, ["monitor=guest_watch"]).monitor == Choice(
        plugin="guest_watch", options={"alpha": 0.01}
    )


@pytest.mark.parametrize("override", ["~tuner", "tuner=null"])
def test_a_section_is_taken_away_with_what_is_written_inline(project: Path, override: str) -> None:
    found = config.declare(project, [override])
    assert found.tuner is None and found.space == {}


def test_a_key_is_taken_away_with_dots_in_its_name(project: Path) -> None:
    found = config.declare(project, ["tuner.space.trainer.epochs=[1, 2]", "~tuner.space.trainer.lr", "~slices"])
    assert list(found.space) == ["trainer.epochs"] and found.slices == ()


def test_a_search_space_is_overridden_key_by_key_unquoted(project: Path) -> None:
    found = config.declare(
        project, ["tuner.space.trainer.lr=uniform(0.1, 1)", "tuner.space.trainer.model.dropout=interval(0,0.5)"]
    )
    assert found.space == {
        "trainer.lr": Distribution(kind="uniform", args=(0.1, 1)),
        "trainer.model.dropout": Distribution(kind="uniform", args=(0, 0.5)),
    }


def test_the_projects_preset_goes_over_the_plugin_and_under_what_is_inline(project: Path) -> None:
    preset(project, "trainer/guest_net", "lr: 0.2\nepochs: 7\n")
    options = config.declare(project).trainer.options
    assert options["lr"] == 0.2 and options["epochs"] == 30
    assert config.declare(project).trainer.plugin == "guest_net"


def test_a_preset_of_any_name_names_its_plugin(project: Path) -> None:
    preset(project, "trainer/quick", "plugin: guest_net\nlr: 0.3\n")
    assert config.declare(project, ["trainer=quick"]).trainer.options["lr"] == 0.3


def test_a_stranger_brings_presets(project: Path) -> None:
    text = CONFIG.replace("trainer: guest_net", "trainer: guest_small").replace("epochs: 30, ", "")
    (project / "conf" / "config.yaml").write_text(text)
    found = config.declare(project)
    assert found.trainer.plugin == "guest_net" and found.trainer.options["epochs"] == 2
    place = config.origins(project)["trainer.epochs"].place
    assert place == f"{GUESTS / 'config_guest/conf/trainer/guest_small.yaml'}:3:9"


def test_a_folder_with_blanks_and_commas_in_its_name(tmp_path: Path, project: Path) -> None:
    odd = tmp_path / "my project, two"
    shutil.copytree(project, odd)
    assert config.declare(odd).name == "credit"


def test_experiment_files_of_the_user(project: Path) -> None:
    preset(project, "experiment/fast", "# @package _global_\ntrainer: {epochs: 1}\nseed: 5\n")
    found = config.declare(project, ["experiment=fast"])
    assert found.trainer.options["epochs"] == 1 and found.seed == 5
    assert config.origins(project, ["experiment=fast"])["seed"].place == "conf/experiment/fast.yaml:3:7"


def test_observers_are_named_with_their_options(project: Path) -> None:
    found = config.declare(project, ["observers.guest_hook.url=http://localhost"])
    assert found.observers == (Choice(plugin="guest_hook", options={"url": "http://localhost"}),)


def test_paths_are_made_absolute_and_urls_are_not(project: Path) -> None:
    found = config.declare(project, ["data.also=[a.csv, /b.csv, 's3://bucket/c.csv']"])
    assert found.data.options["also"] == [str(project / "a.csv"), "/b.csv", "s3://bucket/c.csv"]
    assert "- a.csv" in found.text


def test_origins(project: Path) -> None:
    preset(project, "trainer/guest_net", "lr: 0.2\nextra: {x: 1}\n")
    found = config.origins(project, ["tuner.trials=4", "trainer.extra.y='${seed}'", "tuner.space.trainer.epochs=[1,2]"])
    places = {k: (o.value, o.place, o.kind) for k, o in found.items()}
    assert places["name"] == ("credit", "conf/config.yaml:9:7", "file")
    assert places["data.plugin"] == ("guest_table", "conf/config.yaml:3:11", "file")
    assert places["trainer.lr"] == (0.2, "conf/trainer/guest_net.yaml:1:5", "preset")
    assert places["trainer.extra.x"] == (1, "conf/trainer/guest_net.yaml:2:12", "preset")
    assert places["trainer.extra.y"] == (0, "command line, override 2", "interpolation")
    assert places["trainer.model.hidden"] == ([8], "conf/config.yaml:14:39", "file")
    assert places["trainer.model.dropout"] == (0.0, "default of trainer 'guest_net'", "default")
    assert places["tuner.trials"] == (4, "command line, override 1", "override")
    assert places["tuner.space.trainer.lr"] == ("loguniform(1e-4, 1e-1)", "conf/config.yaml:17:17", "file")
    assert places["tuner.space.trainer.epochs"] == ([1, 2], "command line, override 3", "override")
    assert places["gate.1.versus"] == ("champion", "conf/config.yaml:21:29", "file")
    assert places["data.split.test"] == (0.15, "default of mlops_core", "default")
    assert places["data.contract.columns.age.range"] == ([0, 120], "contracts/credit.yaml:2:16", "file")
    assert places["seed"][2] == "preset" and places["seed"][1].endswith("conf/base.yaml:2:7")


def test_a_chosen_group_is_an_override(project: Path) -> None:
    text = CONFIG.replace("trainer: {epochs: 30, model: {hidden: [8]}}", "trainer: {estimator: SVC}")
    (project / "conf" / "config.yaml").write_text(text.replace("    trainer.lr: loguniform(1e-4, 1e-1)", "    {}"))
    found = config.origins(project, ["trainer=guest_forest", "~tuner"])
    assert (found["trainer.plugin"].value, found["trainer.plugin"].place, found["trainer.plugin"].kind) == (
        "guest_forest",
        "command line, override 1",
        "override",
    )


def test_secrets_stay_references(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUEST_PASSWORD", "s3kret-word")
    monkeypatch.setenv("GUEST_EPOCHS", "9")
    overrides = [
        "store.ledger=postgresql://u:${oc.env:GUEST_PASSWORD}@h/d",
        "store.objects='${store.ledger}/objects'",
        "trainer.epochs=${oc.decode:${oc.env:GUEST_EPOCHS}}",
        "trainer.extra.who=${oc.env:GUEST_NOBODY,nobody}",
    ]
    for _ in range(2):  # composed, then from the cache
        found = config.declare(project, overrides)
        assert found.store["objects"] == "postgresql://u:s3kret-word@h/d/objects"
        assert found.trainer.options["epochs"] == 9 and found.trainer.options["extra"] == {"who": "nobody"}
        for kept in (found.text, json.dumps(plain(found)), repr(found), cache.place(project).read_text()):
            assert "s3kret-word" not in kept and "GUEST_PASSWORD" in kept
        assert "ledger: postgresql://u:${oc.env:GUEST_PASSWORD}@h/d" in found.text
    value = config.origins(project, overrides)["store.ledger"].value
    assert value == "postgresql://u:${oc.env:GUEST_PASSWORD}@h/d"
    with pytest.raises(DeclarationError) as error:
        config.declare(project, ["trainer.optimizer=${oc.env:GUEST_PASSWORD}"])
    assert "s3kret-word" not in str(error.value)


@pytest.mark.parametrize("words", ["${ oc.env:GUEST_PASSWORD}", "${oc.decode: ${oc.env : GUEST_PASSWORD} }"])
def test_a_secret_stays_one_however_its_reference_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("GUEST_PASSWORD", "s3kret-word")
    preset(project, "trainer/guest_net", f"extra: {{who: '{words}'}}\n")
    for _ in range(2):
        found = config.declare(project)
        assert found.trainer.options["extra"] == {"who": "s3kret-word"}
        for kept in (found.text, json.dumps(plain(found)), repr(found), cache.place(project).read_text()):
            assert "s3kret-word" not in kept and "oc.env:GUEST_PASSWORD" in kept


def test_a_path_from_the_environment_counts_from_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUEST_DATA", "data/credit.csv")
    monkeypatch.chdir(project.parent)
    for _ in range(2):
        found = config.declare(project, ["data.path=${oc.env:GUEST_DATA}"])
        assert found.data.options["path"] == str(project / "data" / "credit.csv")
        assert plain(found)["data"]["options"]["path"] == "${oc.env:GUEST_DATA}"


def test_what_a_list_refers_to_is_filled_in(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUEST_PASSWORD", "s3kret-word")
    overrides = ["slices=['${data.target}',sex]", "trainer.extra={who: ['${metric}','${oc.env:GUEST_PASSWORD}']}"]
    found = config.declare(project, overrides)
    assert found.slices == (found.target, "sex") and found.trainer.options["extra"] == {"who": ["auroc", "s3kret-word"]}
    assert "s3kret-word" not in found.text and config.origins(project, overrides)["slices"].kind == "override"


def test_a_changed_environment_is_seen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["trainer.epochs=${oc.decode:${oc.env:GUEST_EPOCHS}}"]
    monkeypatch.setenv("GUEST_EPOCHS", "9")
    assert config.declare(project, overrides).trainer.options["epochs"] == 9
    monkeypatch.setenv("GUEST_EPOCHS", "11")
    assert config.declare(project, overrides).trainer.options["epochs"] == 11
    monkeypatch.delenv("GUEST_EPOCHS")
    with pytest.raises(DeclarationError, match="the environment variable GUEST_EPOCHS is not set"):
        config.declare(project, overrides)


def test_an_unchanged_declaration_is_not_composed_again(project: Path) -> None:
    first = config.declare(project)
    assert cache.load(project, []) == first == config.declare(project)
    assert cache.load(project, ["seed=1"]) is None


def test_whatever_a_declaration_is_made_of_makes_it_stale(project: Path) -> None:
    quick = preset(project, "trainer/guest_net", "lr: 0.2\n")
    changes = (
        lambda: quick.write_text("lr: 0.3\n"),
        lambda: (project / "contracts" / "credit.yaml").write_text("columns: {}\n"),
        lambda: preset(project, "trainer/another", "plugin: guest_net\n"),
        lambda: (project / "conf" / "config.yaml").write_text(CONFIG + "seed: 4\n"),
    )
    for change in changes:
        config.declare(project)
        assert cache.load(project, []) is not None
        change()
        assert cache.load(project, []) is None
    found = config.declare(project)
    assert found.trainer.options["lr"] == 0.3 and found.contract == {"columns": {}} and found.seed == 4


def test_an_edit_that_keeps_size_and_time_is_seen(project: Path) -> None:
    path = project / "conf" / "config.yaml"
    before = path.stat()
    config.declare(project)
    path.write_text(CONFIG.replace("epochs: 30", "epochs: 31"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert config.declare(project).trainer.options["epochs"] == 31


def test_a_damaged_cache_is_no_error(project: Path) -> None:
    first = config.declare(project)
    for text in ("", "[]", "{", '{"x": 1}', cache.place(project).read_text().replace('"seen"', '"sen"')):
        cache.place(project).write_text(text)
        assert config.declare(project) == first


def test_a_cache_that_cannot_be_written_is_no_error(project: Path) -> None:
    (project / ".mlops").write_text("in the way")
    assert config.declare(project) == config.declare(project)


HIT = """
import sys
from pathlib import Path
sys.path.insert(0, {guests!r})
from mlops_core import config
opened = []
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
config.declare(Path({root!r}))
print(sorted({{"hydra", "omegaconf", "pydantic", "yaml", "pluggy", "numpy", "polars"}} & set(sys.modules)))
print(*opened, sep="\\n")
"""


def test_a_hit_imports_nothing_heavy_and_reads_one_file(project: Path) -> None:
    """What makes it cheap; the milliseconds are those of `tests/benchmarks/run.py startup`."""
    code = HIT.format(root=str(project), guests=str(GUESTS))
    runs = [
        subprocess.run(
            [sys.executable, "-P", "-B", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd=project,
        )
        for _ in range(2)
    ]
    heavy, *opened = runs[1].stdout.splitlines()
    assert heavy == "[]"
    assert [Path(path).name for path in opened if not path.endswith((".py", ".pyc"))] == ["declaration.json"]


def test_a_project_is_found_from_any_folder_inside(project: Path) -> None:
    inner = project / "data" / "deep"
    inner.mkdir()
    assert config.find_root(inner) == config.find_root(project) == project
    with pytest.raises(UsageError, match=r"no project here: neither .* nor a folder above it has conf/config\.yaml"):
        config.find_root(project.parent)


def test_hydra_is_left_as_it_was(project: Path) -> None:
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    before = json.dumps(sorted(ConfigStore.instance().repo))
    config.check(project)
    assert json.dumps(sorted(ConfigStore.instance().repo)) == before
    assert not GlobalHydra.instance().is_initialized()


PLAIN = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda t: t not in ("null", "true", "false", "inf")),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.one_of(PLAIN, st.lists(PLAIN, max_size=3)))
def test_a_value_on_the_command_line_arrives_as_it_is(project: Path, value: object) -> None:
    found = config.declare(project, [f"trainer.extra.x={json.dumps(value)}"])
    assert found.trainer.options["extra"] == {"x": value}
    assert yaml.safe_load(found.text)["trainer"]["extra"] == {"x": value}
