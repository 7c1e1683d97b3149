"""Great Expectations' suites, as far as they can be evaluated on Arrow batches while these are scored. Pure.

Great Expectations' own answers on Spark are the measure; an expectation whose answer could differ isn't compiled.
Nothing here decides whether a run may be published: that is `checks.verdict`.
"""

from lakehouse.checks.rules.catalogue import how_evaluated
from lakehouse.checks.rules.checks import RowRule
from lakehouse.checks.rules.compiling import (
    Compiled,
    Delegated,
    columns_as_spelled,
    compile_suite,
    delegate_overflowed,
    require_engine,
)
from lakehouse.checks.rules.counters import CounterState, add_up, dump, merge, observe, start
from lakehouse.checks.rules.evaluation import observed, unexpected
from lakehouse.checks.rules.outcomes import Outcome, RowCount, row_outcome, table_outcome
from lakehouse.checks.rules.row_conditions import Condition, engine_text, mask, to_gx_condition
from lakehouse.checks.rules.suite import Expectation, read_suite
from lakehouse.checks.rules.tables import TableRule

__all__ = [
    "Compiled",
    "Condition",
    "CounterState",
    "Delegated",
    "Expectation",
    "Outcome",
    "RowCount",
    "RowRule",
    "TableRule",
    "add_up",
    "columns_as_spelled",
    "compile_suite",
    "delegate_overflowed",
    "dump",
    "engine_text",
    "how_evaluated",
    "mask",
    "merge",
    "observe",
    "observed",
    "read_suite",
    "require_engine",
    "row_outcome",
    "start",
    "table_outcome",
    "to_gx_condition",
    "unexpected",
]
