"""Commands on models' files: model inspect, model import."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import AsJson, ProjectDir
from lakehouse.errors import ConfigError, nearest

if TYPE_CHECKING:
    from lakehouse.models.importing.inspected import Inspected

File = Annotated[Path, typer.Argument(metavar="FILE", help="the model's file, such as model.pkl")]


def inspect(file: File, as_json: AsJson = False, project_dir: ProjectDir = None) -> Answer:
    """Say what a model's file holds and what importing it takes, without loading it; exit 4 where it is refused."""
    from lakehouse.engines import scratch
    from lakehouse.models.importing import files

    with scratch.folder() as folder:
        return _shown(files.inspect(file, folder))


def import_(
    file: File,
    name: Annotated[str | None, typer.Option(help="required: the registered model's name")] = None,
    features: Annotated[
        str | None, typer.Option(metavar="TABLE", help="required: the Delta table or Parquet folder of its features")
    ] = None,
    method: Annotated[str | None, typer.Option(help="what is called: predict (default) or predict_proba")] = None,
    trust: Annotated[list[str] | None, typer.Option(help="accept it: pickle, if you trust whoever made it")] = None,
    alias: Annotated[str | None, typer.Option(help="point this alias at the new version, such as champion")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", "--keys", metavar="COLUMN", help="a column that is no feature")
    ] = None,
    label: Annotated[str | None, typer.Option("--target", metavar="COLUMN", help="the label's column")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's tracking URI; default: as MLflow finds it")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="as model inspect: nothing is loaded")] = False,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Register a model from its file (pickle, joblib, XGBoost, LightGBM, CatBoost, Keras, ONNX) in MLflow.

    Exit codes: 0 registered, 2 usage, 4 the file is refused, 5 MLflow can't be reached.
    """
    from lakehouse.engines import scratch
    from lakehouse.models.importing import files

    words = _words(trust or (), method)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch.folder())
        found = files.inspect(file, folder)
        if dry_run:
            return _shown(found)
        from lakehouse.config import Model
        from lakehouse.models.importing import registering

        if name is None or features is None:
            raise ConfigError(
                f"{'--name' if name is None else '--features'} is missing: see lakehouse model import --help"
            )
        excluded = tuple(column for text in exclude or () for column in text.split(","))
        wish = registering.Wish(name, features, method, alias, excluded, label, words)
        config = Model(uri=f"models:/{name}", tracking_uri=tracking_uri)
        done = registering.register(found, wish, config, folder)
    uri = f"models:/{name}@{alias}" if alias else f"models:/{name}/{done.version}"
    tracking = ["--tracking-uri", tracking_uri] if tracking_uri else []
    then = jobs.command_line(["init", uri, features, *tracking], project_dir=project_dir)
    lines = [f"registered {name} v{done.version}{f' as {alias}' if alias else ''}, stored as {done.stored}: it answers "
             f"{done.rows:,} rows of {features} as {file} does", *done.notes]  # fmt: skip
    if done.trust:
        lines.append(f"a job that scores with it needs model: {{trust: [{', '.join(done.trust)}]}}")
    return Answer({**asdict(done), "uri": uri, "next": then}, lambda: "\n".join([*lines, f"next: {then}"]))


def _words(trust: Any, method: str | None) -> tuple[str, ...]:
    """The words of --trust. Raises ConfigError for one that is none, and for a method that no job can call."""
    known = ("pickle", "code", "python_function")
    words = tuple(word for text in trust for word in text.split(","))
    if unknown := next((word for word in words if word not in known), None):
        raise ConfigError(f"--trust: {unknown!r} is unknown, {nearest(unknown, known)}")
    if method not in (None, "predict", "predict_proba"):
        raise ConfigError(f"--method: {method!r} is unknown, {nearest(method, ('predict', 'predict_proba'))}")
    return words


def _shown(found: Inspected) -> Answer:
    """What is known of a file, with the exit code that an import by a person who trusts it would end with at most."""
    from lakehouse.models.importing import versions
    from lakehouse.views import imported, planned

    rows = versions.compare(found)
    refused = bool(found.objections) or any(row.wrong for row in rows)
    content = {**asdict(found), "compared": [asdict(row) for row in rows], "refused": refused}
    content.pop("content")
    return Answer(
        content, lambda: imported.inspected_text(found, rows, planned.terminal_width()), code=4 if refused else 0
    )
