"""Options and arguments that several commands take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

Conf = Annotated[str, typer.Argument(metavar="CONF", help="the job file, such as conf/games.yaml")]


def day(text: str | None) -> str | None:
    """A date as it was given, today and yesterday as the dates that they are in UTC."""
    days = {"today": 0, "yesterday": 1}.get(text or "")
    return text if days is None else str(datetime.now(UTC).date() - timedelta(days=days))


Date = Annotated[
    str | None,
    typer.Option(
        "--date",
        metavar="YYYY-MM-DD",
        callback=day,
        help="the run's logical date, {date}; also today or yesterday, by UTC",
    ),
]
Engine = Annotated[str, typer.Option(help="spark, or local: the same worker without a JVM")]
Target = Annotated[str | None, typer.Option("--target", metavar="NAME", help="overrides of conf/lakehouse.yaml")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, such as source.version=3")
]
ProjectDir = Annotated[
    str | None,
    typer.Option(
        "--project-dir", metavar="DIR", help="relative paths begin in this folder; default: the working directory"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout, everything else on stderr")]
LogFormat = Annotated[
    str,
    typer.Option(
        "--log-format",
        metavar="FORMAT",
        envvar="LAKEHOUSE_LOG_FORMAT",
        help="what stderr gets: text, or json: one object a line",
    ),
]
MaxBody = Annotated[int, typer.Option(metavar="MB", min=1, help="the largest body")]
MaxRows = Annotated[int, typer.Option(metavar="N", min=1, help="the most rows of a request")]
Timeout = Annotated[float, typer.Option(metavar="S", min=0.1, help="seconds a request may take")]
Rate = Annotated[
    float | None, typer.Option(metavar="N", min=0.01, help="requests a second of a client; default: any number")
]
