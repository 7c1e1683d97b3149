"""The README is true: its job file is the demo's, its commands and options exist, its links lead somewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import typer.main
import yaml

from lakehouse import cli
from lakehouse.config import load_job

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # a group has commands


def test_the_job_file_is_the_demos(tmp_path, monkeypatch):
    [shown] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "games.yaml").write_text(shown)
    given = load_job(tmp_path / "games.yaml", date="2026-01-02", environ=os.environ)
    monkeypatch.chdir(ROOT)
    demo = load_job("conf/games.yaml", date="2026-01-02", environ=os.environ, overrides=["model.tracking_uri=null"])
    assert given.model_dump() == demo.model_dump()


@pytest.mark.parametrize("line", sorted(set(re.findall(r"lakehouse (\w+ [^\n`]*?)(?:\s+#[^\n]*)?(?=\n|`|\)\")", TEXT))))
def test_a_command_exists_with_its_options(line):
    name, *words = line.split()
    known = {option for p in COMMANDS[name].params for option in p.opts}
    assert {word for word in words if re.fullmatch(r"--[a-z-]+", word)} <= known


def test_links_and_files_exist():
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    named = re.findall(r"(?<![\w/.-])((?:conf|jobs|notebooks|lakehouse)/[\w./-]+\.(?:py|yaml|conf|json|ipynb))", TEXT)
    made = {"conf/my_model.yaml"}
    assert [path for path in {*linked, *named} - made if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make (\w+)", TEXT))))
def test_a_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_committed_schema_is_the_one_that_is_printed():
    from lakehouse.config import json_schema

    assert yaml.safe_load((ROOT / "conf/job.schema.json").read_text()) == json_schema()
