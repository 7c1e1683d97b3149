"""What moto's Athena lacks, in the process of s3_server.py: a view that it is told to create is then in Glue, as in AWS.

moto takes every statement and runs none. Here CREATE VIEW becomes an entry of Glue in the form that Athena gives it:
the query as a parser prints it anew, in base64. One over tables or columns that Glue doesn't have fails, as in Athena.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import sqlglot
from moto.athena.models import AthenaBackend
from moto.athena.responses import AthenaResponse
from moto.glue.models import GlueBackend, glue_backends
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

_refused: dict[str, str] = {}
"""Why statements failed, by their execution."""


def install() -> None:
    """Let moto's Athena create views."""
    start, told = AthenaBackend.start_query_execution, AthenaResponse.get_query_execution

    def start_query_execution(self: AthenaBackend, query: str, context: Any, *rest: Any, **more: Any) -> str:
        begun = start(self, query, context, *rest, **more)
        try:
            create_view(glue_backends[self.account_id][self.region_name], query, context["Database"])
        except (LookupError, SqlglotError) as error:
            _refused[begun] = f"SYNTAX_ERROR: {error}"
        return begun

    def get_query_execution(self: AthenaResponse) -> str:
        answer = json.loads(told(self))
        if why := _refused.get(answer["QueryExecution"]["QueryExecutionId"]):
            answer["QueryExecution"]["Status"] |= {"State": "FAILED", "StateChangeReason": why}
        return json.dumps(answer)

    AthenaBackend.start_query_execution = start_query_execution
    AthenaResponse.get_query_execution = get_query_execution


def create_view(glue: GlueBackend, query: str, database: str) -> None:
    tree = sqlglot.parse_one(query, read="athena")
    if not isinstance(tree, exp.Create) or tree.kind != "VIEW":
        return
    tables = glue.databases[database].tables
    schema = {name: columns(table.as_dict()) for name, table in tables.items()}
    asked = tree.expression.copy()
    unknown = {t.name for t in asked.find_all(exp.Table)} - {cte.alias for cte in asked.find_all(exp.CTE)} - set(schema)
    if unknown:
        raise LookupError(f"Table {database}.{min(unknown)} does not exist")
    qualify(asked, schema=schema, dialect="athena")
    name = tree.this.name
    if name in tables and not tree.args["replace"]:
        raise LookupError(f"View {name} already exists")
    definition = {"originalSql": tree.expression.sql("trino", pretty=True), "schema": database}
    text = base64.b64encode(json.dumps(definition).encode()).decode()
    given = {
        "Name": name, "TableType": "VIRTUAL_VIEW", "ViewOriginalText": f"/* Presto View: {text} */",
        "ViewExpandedText": "/* Presto View */", "Parameters": {"presto_view": "true", "comment": "Presto View"},
        "StorageDescriptor": {"Columns": [{"Name": c, "Type": "string"} for c in asked.named_selects], "Location": ""},
    }  # fmt: skip
    if name in tables:
        glue.update_table(database, name, given)
    else:
        glue.create_table(database, name, given)


def columns(table: dict[str, Any]) -> dict[str, str]:
    held = [*table["StorageDescriptor"]["Columns"], *table.get("PartitionKeys", ())]
    return {column["Name"]: column["Type"] for column in held}
