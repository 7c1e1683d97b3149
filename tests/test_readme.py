"""The documentation is true: commands, options, links, job file, snippets and messages are those of the code."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import re
import shutil
from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path
from typing import Annotated

import mlflow
import numpy as np
import pandas as pd
import pytest
import typer.main
import yaml
from deltalake import write_deltalake
from mlflow.models import infer_signature
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

import lakehouse
from lakehouse import cli
from lakehouse.config import json_schema, load_job, reference
from lakehouse.config.values import Section
from lakehouse.demo.data import write_games
from lakehouse.demo.train import train
from lakehouse.errors import LakehouseError

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(page for f in ("conf", "jobs", "lakehouse", "tests") for page in (ROOT / f).rglob("*.md")),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(PAGES)}
README = TEXTS["README.md"]
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # a group has commands
BELOW = [below for command in COMMANDS.values() for below in getattr(command, "commands", {}).values()]
INSIDE = TEXTS["lakehouse/README.md"]


def test_the_pages_are_there():
    assert set(TEXTS) >= {
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "conf/README.md", "conf/TROUBLESHOOTING.md",
        "conf/expectations/README.md", "jobs/README.md", "lakehouse/README.md",
        "lakehouse/connectors/snowflake/README.md", "tests/README.md",
    }  # fmt: skip
    assert len(README.splitlines()) <= 160, "the README is a way in: put the rest beside what it is about"


@pytest.mark.parametrize("name", TEXTS)
def test_a_heading_stands_apart_from_what_is_above_it(name):
    prose = re.sub(r"^```.*?^```", "", TEXTS[name], flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?<!\n)\n(#+ .*)", prose) == []


def test_no_line_stands_twice():
    """Merges may leave both of two like entries."""
    for name in ("CHANGELOG.md", "conf/TROUBLESHOOTING.md"):
        entries = re.findall(r"^(?:\* .*(?:\n  .*)*|\| `[^|]*)", TEXTS[name], re.MULTILINE)
        assert [entry for entry in set(entries) if entries.count(entry) > 1] == []


def test_the_job_file_is_the_demos(tmp_path, monkeypatch):
    [shown] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "games.yaml").write_text(shown)
    given = load_job(tmp_path / "games.yaml", date="2026-01-02", environ=os.environ)
    monkeypatch.chdir(ROOT)
    demo = load_job("conf/games.yaml", date="2026-01-02", environ=os.environ, overrides=["model.tracking_uri=null"])
    assert given.model_dump() == demo.model_dump()


OF_MANY = TEXTS["conf/README.md"].partition("## Many models")[2].partition("\n## ")[0]


def test_the_job_file_with_many_models_is_whole(tmp_path):
    [shown] = re.findall(r"```yaml\n(job: .*?)```", OF_MANY, re.DOTALL)
    (tmp_path / "churn.yaml").write_text(shown)
    job = load_job(tmp_path / "churn.yaml", date=None, environ={})
    assert (job.model.by, job.model.uri) == ("segment", "models:/churn_{segment}@champion")


OF_MESSAGES = TEXTS["conf/README.md"].partition("## Messages: ")[2].partition("\n## ")[0]


@pytest.mark.parametrize("source", re.findall(r"```yaml\n(source:.*?)```", OF_MESSAGES, re.DOTALL))
def test_the_job_files_that_read_messages_are_whole(tmp_path, source):
    [shown] = re.findall(r"```yaml\n(job: .*?)```", OF_MESSAGES, re.DOTALL)
    (tmp_path / "games_live.yaml").write_text(yaml.safe_dump({**yaml.safe_load(shown), **yaml.safe_load(source)}))
    assert load_job(tmp_path / "games_live.yaml", date=None, environ={}).source.IN_RANGES


LINES = sorted(
    {
        line
        for text in TEXTS.values()
        for line in re.findall(r"(?<![\w./-])lakehouse (\w+ [^\n`]*?)(?:\s+#[^\n]*)?(?=\n|`|\)\")", text)
        if line.split()[0] in COMMANDS or "--" in line
    }
)


@pytest.mark.parametrize("line", LINES)
def test_a_command_exists_with_its_options(line):
    name, *words = line.split()
    command = COMMANDS[name]
    command = command.commands[words[0]] if hasattr(command, "commands") else command
    known = {option for p in command.params for option in p.opts}
    assert {word for word in words if re.fullmatch(r"--[a-z-]+", word)} <= known


@pytest.mark.parametrize("page", TEXTS)
def test_an_option_that_is_named_alone_is_one_of_some_command(page):
    known = {option for command in (*COMMANDS.values(), *BELOW) for p in command.params for option in p.opts}
    known |= {"--version", "--install-completion", "--help"}
    assert set(re.findall(r"`(--[a-z-]+)\b", TEXTS[page])) <= known


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    for link in re.findall(r"\]\((?!http)([^)]+)\)", TEXTS[page]):
        path, _, heading = link.partition("#")
        there = (folder / path).resolve() if path else ROOT / page
        assert there.exists(), link
        assert not heading or heading in headings(there / "README.md" if there.is_dir() else there), link


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


@pytest.mark.parametrize("page", TEXTS)
def test_files_that_are_named_exist(page):
    folders = "conf|jobs|notebooks|lakehouse|tests"
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]+\.(?:py|yaml|conf|json|ipynb))", TEXTS[page])
    assert [
        path for path in set(named) - {"conf/churn.yaml", "conf/games_live.yaml"} if not (ROOT / path).exists()
    ] == []


TARGETS = {
    t for text in TEXTS.values() for t in re.findall(r"(?:^|[`(])(?:\w+=\S+ )?make ([\w-]+)", text, re.MULTILINE)
}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_committed_schema_is_the_one_that_is_printed():
    assert yaml.safe_load((ROOT / "conf/job.schema.json").read_text()) == json_schema()


def test_the_reference_of_keys_is_made_of_the_models():
    again = "make it anew: python -m lakehouse.config.reference conf/README.md"
    assert TEXTS["conf/README.md"] == reference.with_reference(TEXTS["conf/README.md"]), again
    without = re.findall(r"^\| `\w+` \|[^|]*\|[^|]*\|\s*\|.*$", reference.reference(), re.MULTILINE)
    assert without == [], "give the key an example: Field(…, examples=[…])"


@pytest.mark.parametrize("page", [page for page in TEXTS if not page.startswith(("lakehouse/README", "tests"))])
def test_keys_of_the_job_file_that_are_named_exist(page):
    known = set[str]()
    for part in reference.reference().split("### ")[1:]:
        section = "" if part.startswith("The job") else re.findall(r"`([\w.]+)`", part)[0] + "."
        known |= {section + key for key in re.findall(r"^\| `(\w+)` ", part, re.MULTILINE)}
    tops = "|".join(key for key in known if "." not in key)
    assert set(re.findall(rf"`((?:{tops})\.[a-z_.]+)", TEXTS[page])) <= known


def sections(of: type[Section] = Section) -> Iterator[type[Section]]:
    """All models of sections of the job file."""
    for part in of.__subclasses__():
        yield part
        yield from sections(part)


KEYS = [(m.__name__, name, f) for m in sections() for name, f in m.model_fields.items()]


@pytest.mark.parametrize(("model", "key", "field"), KEYS)
def test_an_example_of_a_key_is_valid(model, key, field):
    kind = reduce(lambda kind, note: Annotated[kind, note], field.metadata, field.annotation)
    section = isinstance(kind, type) and issubclass(kind, BaseModel)  # which is strict by itself
    refused = {}
    for example in field.examples or ():
        try:
            TypeAdapter(kind, config=None if section else ConfigDict(strict=True)).validate_python(example)
        except ValidationError as error:
            refused[str(example)] = str(error)
    assert refused == {}


def test_the_folders_are_in_the_order_that_the_import_contracts_hold():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    layers = re.findall(r"^\s*([(\w].*)$", setup["importlinter:contract:layers"]["layers"], re.MULTILINE)
    height = {name: n for n, layer in enumerate(reversed(layers)) for name in re.findall(r"\w+", layer)}
    cells = re.findall(r"^\| (`\w+(?:/|\.py)`.*?) \|", INSIDE, re.MULTILINE)
    told = [name for cell in cells for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)]
    folders = {path.parent.name for path in (ROOT / "lakehouse").glob("*/__init__.py")}
    assert set(told) == folders | {path.stem for path in (ROOT / "lakehouse").glob("[a-z]*.py")}
    assert [height[name] for name in told] == sorted(height[name] for name in told)


_TOP = "|".join(path.stem for path in (ROOT / "lakehouse").iterdir() if not path.name.startswith("_"))
NAMED = sorted(set(re.findall(rf"`((?:{_TOP})(?:\.\w+)+)`", INSIDE)))


@pytest.mark.parametrize("name", [name for name in NAMED if not name.endswith(".py")])
def test_what_the_way_of_a_row_names_is_there(name):
    found, rest = lakehouse, name.split(".")
    while rest:
        try:
            found = importlib.import_module(f"{found.__name__}.{rest[0]}")
        except (ModuleNotFoundError, AttributeError):
            break
        rest.pop(0)
    for part in rest:
        assert hasattr(found, part), f"{name}: {found} has no {part}"
        found = getattr(found, part)


def test_the_glossary_stays_short():
    terms = re.findall(r"^\| ([^|`]+) \| .* \|$", INSIDE.partition("## Glossary")[2], re.MULTILINE)
    assert 1 < len(terms) - 1 <= 25  # less the table's head


MESSAGES = [
    (code, message)
    for code, part in re.findall(r"^## (?:Exit (\d))?(.*?)(?=^## |\Z)", TEXTS["conf/TROUBLESHOOTING.md"], re.M | re.S)
    for message in re.findall(r"^\| ``?(.*?)``? \|", part, re.MULTILINE)
]


@pytest.mark.parametrize(("code", "message"), MESSAGES)
def test_a_message_is_one_of_the_codes_and_ends_so(code, message):
    parts = ".*".join(re.escape(part) for part in message.split("…") if part)
    raisers = {raiser for text, raiser in texts() if re.search(parts, text, re.DOTALL)}
    assert raisers
    codes = {str(kind.exit_code) for kind in kinds() if kind.__name__ in raisers}
    assert not codes or code in codes


def kinds(of: type[LakehouseError] = LakehouseError) -> Iterator[type[LakehouseError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


@cache
def texts() -> list[tuple[str, str]]:
    """All texts in the code, with a null where a value is put in; and what is called with them, "" for others."""
    found = list[tuple[str, str]]()
    for file in (ROOT / "lakehouse").rglob("*.py"):
        tree = ast.parse(file.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        within = {part: ast.unparse(call.func) for call in calls for a in call.args for part in ast.walk(a)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)
                found.append((text, within.get(node, "")))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append((node.value, within.get(node, "")))
    return found


def test_every_folder_says_what_is_in_it():
    for file in (ROOT / "lakehouse").rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(file.read_text())) or ""
        assert len(said.split()) >= 20, f"{file}: say in a few sentences what is here, and what isn't"


def test_the_hooks_run_what_make_check_runs():
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks[0]["hooks"]] == re.findall(
        r"\$\(BIN\)/(.*)", recipe
    )


def test_the_python_example_runs(workspace, tracking_uri, capsys):
    write_games("lake", rows_per_date=300, training_rows=500, seed=1)
    train("lake/training/games", tracking_uri)
    shutil.copytree(ROOT / "conf", "conf")
    Path("conf/lakehouse.yaml").write_text(f"defaults: {{model: {{tracking_uri: '{tracking_uri}'}}}}")
    [example] = re.findall(r"```python\n(import lakehouse.*?)```", README, re.DOTALL)
    shown: dict[str, object] = {}
    exec(example, shown)
    assert len(shown["rows"]) == 5
    assert capsys.readouterr().out.startswith("published ")


def test_the_training_lines_and_init_run(workspace, tracking_uri, monkeypatch):
    [lines] = re.findall(r"```python\n(info = .*?)```", README, re.DOTALL)
    commands = re.findall(r"^lakehouse (init|score) (.*?) *(?:#.*)?$", README, re.MULTILINE)
    x = pd.DataFrame({"a": np.arange(8.0), "b": np.arange(8.0) % 3})
    pipeline = make_pipeline(LogisticRegression()).fit(x, np.arange(8) % 2)
    write_deltalake("lake/features/customers", x.assign(id=range(8)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    # Finding out what the model needs takes half a minute, and says nothing about these lines.
    monkeypatch.setattr("mlflow.models.infer_pip_requirements", lambda *_, **__: ["scikit-learn"])
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        folder = Path(tracking_uri.removeprefix("sqlite:///")).parent / "artifacts"
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("readme", folder.as_uri()))
        exec(lines, {"mlflow": mlflow, "infer_signature": infer_signature, "X": x, "pipeline": pipeline})
    finally:
        mlflow.set_tracking_uri(before)
    assert [name for name, _ in commands] == ["init", "score", "score"]
    for name, options in commands:
        engine = ["--engine", "local"] if name == "score" else []
        done = CliRunner().invoke(cli.app, [name, *options.split(), *engine])
        assert done.exit_code == 0, done.output
