"""All commands, by the groups in which `lakehouse --help` shows them.

A command imports what is heavy only when it runs, so that help and completion come at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated

import typer

from lakehouse.cli import (
    check,
    inspection,
    maintenance,
    model,
    receipts,
    registering,
    review,
    running,
    serving,
    starting,
)
from lakehouse.cli.command import Answer, answering
from lakehouse.cli.stopping import leaving_at_once

GROUPS: dict[str, tuple[Callable[..., Answer], ...]] = {
    "Run a job": (running.score, running.backfill, running.replay, running.promote, check.check),
    "Review before publishing": (review.diff, review.publish, review.discard),
    "Look at runs and tables": (
        inspection.status,
        inspection.runs,
        inspection.report,
        inspection.quarantine,
        inspection.compare,
        inspection.sql,
    ),
    "Make scores again": (receipts.explain, receipts.verify),
    "Answer requests": (serving.serve, serving.parity),
    "Prove scores": (receipts.prove, receipts.check_proof),
    "Keep tables in order": (
        maintenance.rollback,
        maintenance.recall,
        maintenance.maintain,
        maintenance.sweep,
        maintenance.reconcile,
    ),
    "Get started": (starting.demo, starting.init, starting.schema, starting.jars),
}
MODEL: dict[str, Callable[..., Answer]] = {"inspect": model.inspect, "import": model.import_}
"""The commands below `lakehouse model`."""
REGISTER: dict[str, Callable[..., Answer]] = {"athena": registering.athena}
"""Those below `lakehouse register`."""
_PACKAGES = ("pyspark", "delta-spark", "deltalake", "mlflow")

app = typer.Typer(
    name="lakehouse",
    help="Batch scoring for the lakehouse: features in, one atomic commit of scored rows out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _group, _functions in GROUPS.items():
    for _function in _functions:
        app.command(rich_help_panel=_group)(answering(_function))
_models = typer.Typer(help="Models' files: look into one, register it in MLflow.", no_args_is_help=True)
for _name, _command in MODEL.items():
    _models.command(_name)(answering(_command))
app.add_typer(_models, name="model", rich_help_panel="Get started")
_catalogs = typer.Typer(help="Put a job's tables and views into another system's catalog.", no_args_is_help=True)
for _name, _command in REGISTER.items():
    _catalogs.command(_name)(answering(_command))
app.add_typer(_catalogs, name="register", rich_help_panel="Look at runs and tables")


def _print_versions(asked: bool) -> None:
    """Print this package's version, and those of the packages that decide most, which are not imported for it."""
    if not asked:
        return
    from importlib import metadata

    from lakehouse import __version__

    typer.echo(f"lakehouse {__version__}")
    for package in _PACKAGES:
        try:
            typer.echo(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package} isn't installed as a package")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_versions, help="print versions and exit")
    ] = False,
) -> None:
    """Options of the program itself, which stand before a command."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, the process's own by default; it ends with the command's exit code."""
    with leaving_at_once() if arguments is None else nullcontext():
        app(args=arguments, prog_name="lakehouse")
