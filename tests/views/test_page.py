"""The page about a run: its facts, what it does without some of them, and how it looks in a real browser."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lakehouse.views.page import render
from tests import pages
from tests.browser import Browser, browser

EXAMPLES = (pages.published, pages.warned, pages.blocked, pages.compared, pages.held, pages.hostile)
# The texts whose contrast to what is behind them is less than WCAG 2 AA asks for.
FAINT = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return parts(colour)[3] === 0 && node.parentElement ? behind(node.parentElement) : colour;
  };
  return [...document.querySelectorAll("body *")].filter((node) => {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) return false;
    const [low, high] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05) < 4.5;
  }).map((node) => node.outerHTML.slice(0, 80));
})()"""


class Page(HTMLParser):
    """A page's text without its style, its tags, and its tags' attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._style = False
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.parts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        self.parts += [] if self._style else [data]
        self._style = False


def read(run: dict[str, Any]) -> Page:
    return Page(render(json.loads(json.dumps(run))))


@pytest.mark.parametrize(
    "fact",
    [
        "Other models on the rows that were scored; what they answer is in lake/scores/games_challengers.",
        "challenger boosted_games v4 96,688 rows. Mean purchase_probability 0.447 → 0.461. buys agrees in 97.89%, 2,043 rows get",
        "It took 4.1 s in the model, the published one 1.4 s (2.91 times as long).",
        "of which it failed on 1,187 (1.23%) , such as: model_raised: ValueError: level is beyond what was trained on.",
        "purchase_probability FR 31,000 – 0.452 0.481 +0.0291 0.31", "buys FR 31,000 95.84% – – – –",
        "challenger: false challenger: true published: false 51,200 1,711 published: true 332 43,445",
        "Comparison lake/scores/games_challengers v12", "96,688 scored lake/scores/games v12 312",
    ],
)  # fmt: skip
def test_a_page_tells_how_challengers_compare(fact: str) -> None:
    assert fact in read(pages.compared()).text


@pytest.mark.parametrize(
    "fact",
    [
        "games_purchase", "2026-11-23", "finished 2026-11-24 01:00:21 UTC",
        "96,688 rows for 2026-11-23 are live in lake/scores/games; 312 rows were set aside, within the budget.",
        "97,000 read lake/features/games v17", "96,688 scored lake/scores/games v12", "312 0.32% set aside lake/quarantine/games v9",
        "312 set aside; up to 970 allowed (1% of the rows).", "not null sessions_7d 204", "between 0 and 120 age 97",
        "between 0 and 120 age 100037 417 4.25 2026-11-23 FR", "2 more sample rows",
        "All 5 passed.", "expect_column_values_to_be_between · min_value=0, max_value=120", "97 of 97,000 0.1% ≥ 99% critical",
        "enough rows", "97,000 critical, blocks", "0.4471", "e.g. 417, -3, 999, 201",
        "baseline: training", "purchase_probability: share of rows by value", "0.4 – 0.5",
        "0 of 5 columns drifted; the threshold is PSI 0.2 and going over it warns.", "spend_30d 0.087", "0.13% was 0.1%",
        "logit_games v3 models:/logit_games@champion Pipeline.predict_proba, sklearn 1.9.1 sha256:9f2c4e1b7a60d3c5", "event_date = '2026-11-23'",
        "Run 01JD9ZK7Q4W8R2V5T6", "spark, files carrier", "18.4 s from 2026-11-24 01:00:03 UTC; 5,272 rows/s",
        "2 processor seconds for a million rows: reading 30%, checking 20%, the model 40%, writing 10%",
        "score 13.1 s", "record 50 ms",
    ],
)  # fmt: skip
def test_a_page_tells(fact: str) -> None:
    page = read(pages.published())
    assert fact in page.text or fact in " ".join(value for _, value in page.attributes)


@pytest.mark.parametrize(
    ("make", "title", "why", "then"),
    [
        (pages.published, "PUBLISHED", "live in lake/scores/games; 312 rows", "Nothing has to be done"),
        (pages.warned, "PUBLISHED WITH WARNINGS", "are live in lake/scores/games, but 2 rules failed and 2 columns drifted.",
         "Look at them below"),
        (pages.blocked, "BLOCKED", "Nothing was published: 8,810 of 97,000 rows had to be set aside, only 970 may be, and "
         "1 rule failed (“enough rows”). What was live before still is.", "checks.quarantine.max_fraction"),
    ],
)  # fmt: skip
def test_the_verdict_stands_on_top(make: Callable[[], dict[str, Any]], title: str, why: str, then: str) -> None:
    text = read(make()).text
    top = text[: text.index(" Rows ")]
    assert f" {title} " in top.split("UTC")[1]
    assert why in top
    assert then in top


def test_a_blocked_run_tells_each_cause() -> None:
    run = pages.blocked()
    del run["budget"]
    run["rules"][3] |= {"success": True}
    run["drift"] |= {"action": "block"}
    run["drift"]["columns"][0] |= {"drifted": True}
    assert "Nothing was published: 1 column drifted beyond the threshold." in read(run).text
    run["drift"]["columns"][0] |= {"drifted": False}
    text = read(run).text
    assert "Nothing was published: a check did not pass." in text
    assert run["message"] in text


def test_a_blocked_run_is_told_by_what_it_says_stood_against_it() -> None:
    """Not by what can be guessed: its failed rule only had rows set aside, its budget and its keys stood against it."""
    run = pages.blocked()
    rule = next(rule for rule in run["rules"] if rule.get("blocks"))
    rule |= {"blocks": False, "set_aside": True, "success": False}
    run["causes"] = [
        {"kind": "budget", "said": "…", "remedy": ""},
        {"kind": "keys", "said": "merge: 3 keys occur more than once in this run, such as id=1 ×2", "remedy": ""},
    ]
    text = read(run).text
    assert (
        "Nothing was published: 8,810 of 97,000 rows had to be set aside, only 970 may be, and merge: 3 keys occur more "
        "than once in this run, such as id=1 ×2. What was live before still is."
    ) in text
    assert "rule failed" not in text
    run["budget"] |= {"quarantined": 97000}
    assert "Nothing was published: not one of 97,000 rows could be scored" in read(run).text


def test_a_rule_whose_rows_are_within_the_budget_is_no_warning() -> None:
    run = pages.published()
    run["rules"][0] |= {"success": False, "blocks": False, "set_aside": True, "severity": "critical"}
    text = read(run).text
    assert "PUBLISHED WITH WARNINGS" not in text
    assert "312 rows were set aside, within the budget." in text
    assert "4 of 5 passed, 1 set aside." in text


def test_what_needs_attention_comes_first() -> None:
    text = read(pages.warned()).text
    drift = text[text.index(" Drift ") :]
    shown = [
        "sessions_7d ▲ drifted 0.412",
        "purchase_probability score ▲ drifted 0.268",
        "spend_30d 0.087",
        "age 0.012",
    ]
    places = [drift.index(fact) for fact in (*shown, "country 0.004", "6 more columns")]
    assert places == sorted(places)
    assert text.index("unique players") < text.index("3 passed") < text.index("known countries")
    assert "3 of 6 passed, 2 warnings, 1 not evaluated." in text


def test_without_bad_rows_nothing_is_to_be_done() -> None:
    run = pages.published() | {"rows_scored": 97000, "rows_quarantined": 0, "reasons": [], "samples": []}
    run["budget"]["quarantined"] = 0
    text = read(run).text
    assert "97,000 rows for 2026-11-23 are live in lake/scores/games. Next Nothing to do." in text
    assert "set aside" not in text


def test_without_a_baseline_scores_stand_alone() -> None:
    run = pages.published()
    run["drift"]["baseline"] = None
    for column in run["drift"]["columns"]:
        column |= {"psi": None, "js": None, "ks": None}
        column["bins"] = [{**one, "baseline_fraction": None} for one in column["bins"]]
    page = read(run)
    assert "There is no baseline to compare with yet." in page.text
    assert " PSI " not in page.text
    assert "path" in page.tags
    assert ("class", "base") not in page.attributes


@pytest.mark.parametrize(
    "run", [{}, {"status": "published"}, {"status": "blocked"}, {"status": "failed", "message": "no space left"}]
)
def test_an_almost_empty_record_makes_a_page(run: dict[str, Any]) -> None:
    page = read(run)
    assert run.get("status", "unknown").upper() in page.text
    assert run.get("message", "") in page.text
    assert "This run checked no rules and no drift." in page.text


@pytest.mark.parametrize("make", [pages.warned, pages.blocked])
def test_any_part_may_be_missing(make: Callable[[], dict[str, Any]]) -> None:
    for path in _paths({name: part for name, part in make().items() if name != "samples"}):
        run = make()
        part: Any = run
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = None
        html = render(run)
        assert not re.search(r"\bNone\b|\b[Uu]ndefined\b|\bnan\b", html), path
        if len(path) == 1:
            del run[path[0]]
            assert render(run) == html


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each member of each mapping; of lists, the first two members stand for all."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield (*path, name)
            yield from _paths(member, (*path, name))
    elif isinstance(value, list):
        for number, member in enumerate(value[:2]):
            yield from _paths(member, (*path, number))


def test_samples_show_what_is_there() -> None:
    run = pages.published()
    run["samples"] = [
        {"id": 1, "a": None, "b": [1, None], **{f"c{i}": True for i in range(20)}, "z": float("nan"),
         "_reasons": [{"rule": "number", "column": "z", "observed": None}]},
        {"id": 2, "_reasons": [{"rule": "at most 1", "column": "score", "observed": 1.25}]},
        {"id": 3, "_reasons": None},
    ]  # fmt: skip
    text = read(run).text
    assert "Why id z a b c0 c1 c2 c3 c4 c5 number z 1 nan null [1, null] true" in text
    assert "at most 1 score : 1.25 2" in text
    assert "14 more columns are in the quarantine table" in text


def test_numbers_that_are_none_draw_nothing() -> None:
    run = pages.warned()
    run["drift"]["columns"][0] |= {"psi": float("nan"), "bins": [{"label": "x", "fraction": float("nan")}]}
    run["drift"]["columns"][1] |= {"psi": "Infinity", "bins": []}
    run["seconds"] = {"score": None, "plan": float("inf")}
    html = render(run)
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)


def test_every_value_is_escaped() -> None:
    page = read(pages.hostile())
    assert not {"script", "img", "iframe", "object", "embed", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "sessions_7d<script>alert('x')</script>" in page.text
    assert "\ud800" not in render({"job": "half \ud800 a pair"})


def test_a_page_needs_nothing_else() -> None:
    for make in EXAMPLES[:3]:
        html = render(make())
        assert not re.search(r"https?:|//|@import|url\(|<script|\bsrc=", html)
        assert [value for name, value in Page(html).attributes if name == "href"] == ["data:,"]


def test_a_run_is_left_as_it_was() -> None:
    run = pages.warned()
    before = copy.deepcopy(run)
    assert render(run) == render(run)
    assert run == before


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("pandas", "numpy", "pyarrow", "mlflow", "great_expectations", "pyspark", "pydantic")
    code = f"import sys, lakehouse.views.page; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).strip() == "[]"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("make", EXAMPLES, ids=lambda make: str(make.__name__))
def test_a_browser_shows_it(
    tab: Browser, tmp_path: Path, make: Callable[[], dict[str, Any]], width: int, dark: bool
) -> None:
    page = tmp_path / "run.html"
    page.write_text(render(make()), encoding="utf-8")
    tab.open(page, width, dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.querySelector('h1').getBoundingClientRect().bottom") < 250
    assert tab.evaluate(FAINT) == []
    tab.screenshot(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 20_000
    tab.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    asked = {event["request"]["url"] for event in tab.named("Network.requestWillBeSent")}
    assert asked - {"data:,"} == {page.as_uri()}
    assert not tab.named("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


def test_it_prints(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    page.write_text(render(pages.blocked()), encoding="utf-8")
    tab.open(page, 1280, dark=True)
    tab.pdf(tmp_path / "run.pdf")
    assert (tmp_path / "run.pdf").read_bytes().startswith(b"%PDF")
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.querySelector('details table').checkVisibility({contentVisibilityAuto: true})")
