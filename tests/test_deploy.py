"""Dashboard, alerts and docs/metrics.md name what is really exported."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as read_text
from redis.exceptions import ResponseError

from redisutils._command_table import TABLE
from redisutils.metrics import PARTS
from redisutils.monitor.catalogue import BUCKETS, CATALOGUE
from redisutils.monitor.prometheus import exposition
from redisutils.testing import EmbeddedServer

from .ours import pool_at
from .promql import SCRAPED, Exported, problems_of

ROOT = Path(__file__).parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "redisutils.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
SCRAPE = ROOT / "deploy" / "prometheus" / "prometheus.yml"
PAGE = ROOT / "docs" / "metrics.md"

# Variables of Grafana stand for what the tests need not know.
VARIABLES = {
    "$__rate_interval": "5m",
    "$job": "x",
    "$instance": "x",
    "$endpoint": "x",
}


@pytest.fixture
async def exported(clean_server: EmbeddedServer) -> Exported:
    async with pool_at(clean_server) as pool:
        await pool.client.set("k", "text")
        with pytest.raises(ResponseError):
            await pool.client.lpush("k", "x")
        pool.server.metrics.measures.refused("LPUSH", "WRONGTYPE")
        async with pool.get() as conn:
            await conn.execute("PING")
        found: dict[str, dict[str, set[str]]] = {}
        for family in read_text(exposition(pool)[0].decode()):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)
        found["up"] = {}  # Prometheus' own
        return found


def asked(expression: str) -> str:
    """An expression of the dashboard without Grafana's variables."""
    for variable, text in VARIABLES.items():
        expression = expression.replace(variable, text)
    return expression


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> list[Any]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[Any]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    assert [group["name"] for group in groups] == ["redisutils-page", "redisutils-ticket"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(redisutils_gone_total[5m])", "redisutils_gone_total is not exported"),
        ("rate(redisutils_commands_total[5m]", "is not closed"),
        ("rate(redisutils_commands_total[5m]))", "closes nothing"),
        ('redisutils_commands_total{lane="x"}', "has no label lane"),
        ('redisutils_breaker_state{state="broken"}', "is never 'broken'"),
        ("sum by (lane) (redisutils_commands_total)", "has the label lane"),
        ("redisutils_commands_total{endpoint}", "does not compare"),
        ("median(redisutils_commands_total)", "median is no function"),
        ("rate(redisutils_commands_total[5m)", "is not PromQL"),
        ("redisutils_commands_total ; 1", "is not PromQL"),
        ('redisutils_commands_total{lane="x}', "is not PromQL"),
    ],
)
async def test_a_mistake_is_seen(expression: str, problem: str, exported: Exported) -> None:
    assert any(problem in found for found in problems_of(expression, exported))


async def test_the_dashboard_asks_for_what_there_is(exported: Exported) -> None:
    expressions = [
        *(target["expr"] for panel in panels() for target in panel["targets"]),
        *(each["expr"] for each in dashboard()["annotations"]["list"] if "expr" in each),
    ]
    assert len(expressions) > 40
    for expression in expressions:
        assert not list(problems_of(asked(expression), exported)), expression
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            values = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert values is not None
            assert values[2] in SCRAPED | {"endpoint"}
            assert not list(problems_of(asked(values[1]), exported))


async def test_every_metric_is_on_the_dashboard(exported: Exported) -> None:
    drawn = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    missing = {
        each.name for each in CATALOGUE if not re.search(rf"\b{each.name}(_\w+)?\b", drawn)
    } - {"redisutils_connections_recycled"}  # a good sign, and nothing to watch
    assert not missing


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert variables == {"datasource", "job", "instance", "endpoint"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another"
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), panel["title"]
    titles = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert len(titles) == 7


async def test_alerts_ask_for_what_there_is(exported: Exported) -> None:
    for rule in rules():
        assert not list(problems_of(rule["expr"], exported)), rule["alert"]


def test_alerts_say_what_to_do() -> None:
    seen = set()
    for rule in rules():
        name = rule["alert"]
        assert re.fullmatch(r"Redis[A-Z]\w+", name)
        assert name not in seen
        seen.add(name)
        assert re.fullmatch(r"\d+[smh]", rule["for"]), name
        assert rule["labels"]["severity"] in ("page", "ticket")
        annotations = rule["annotations"]
        assert annotations.keys() == {"summary", "description", "runbook"}
        for text in annotations.values():
            assert len(text) > 20
            assert text.count("{{") == text.count("}}")
            # An alert may only tell what its expression has left: none of ours sums these away.
            for label in re.findall(r"\$labels\.(\w+)", text):
                assert label in SCRAPED | {"endpoint"}, name
                assert " by (" not in rule["expr"]
        for metric in re.findall(r"redisutils_\w+", " ".join(annotations.values())):
            names = {f"{each.name}{'_total' * (each.kind == 'counter')}" for each in CATALOGUE}
            assert metric in names, name
    assert len(seen) >= 10


def test_a_pool_of_one_is_not_nearly_full() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "RedisPoolNearlyFull")
    assert "(redisutils_pool_max_connections > 1)" in rule["expr"]


def test_what_cannot_be_scraped_is_an_alert() -> None:
    asked_for = [rule["expr"] for rule in rules() if rule["labels"]["severity"] == "page"]
    job = yaml.safe_load(SCRAPE.read_text(encoding="utf-8"))["scrape_configs"][0]["job_name"]
    assert f'up{{job="{job}"}} == 0' in asked_for
    assert "absent(redisutils_info)" in asked_for


def test_percentiles_leave_out_the_commands_that_block_and_no_others() -> None:
    asked = {
        pattern
        for expression in (
            *(target["expr"] for panel in panels() for target in panel["targets"]),
            *(rule["expr"] for rule in rules()),
        )
        for pattern in re.findall(r'command!~"([^"]*)"', expression)
    }
    (pattern,) = asked
    for name, row in TABLE.items():
        assert bool(re.fullmatch(pattern, name)) == (row.timeout is not None), name


def test_the_example_of_scraping() -> None:
    example = yaml.safe_load(SCRAPE.read_text(encoding="utf-8"))
    assert example["rule_files"] == [ALERTS.name]
    (job,) = example["scrape_configs"]
    assert job["metrics_path"] == "/metrics"


# -- docs/metrics.md ---------------------------------------------------------------------


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_metric_and_no_other() -> None:
    every = {}
    for each in CATALOGUE:
        end = {"counter": "_total", "info": "_info"}.get(each.kind, "")
        labels = "{" + ",".join(each.labels) + "}" if each.labels else ""
        every[f"{each.name}{end}"] = labels
    tables = page().split("## Every metric")[1].split("## How latency is measured")[0]
    told = dict(re.findall(r"^\| `(redisutils_\w+)(\{[a-z,]+\})?`", tables, re.MULTILINE))
    assert told == every
    assert set(re.findall(r"\bredisutils_\w+", page())) == every.keys()


def test_the_page_has_opentelemetrys_names() -> None:
    names = {each.otel for each in CATALOGUE if each.otel is not None}
    rows = re.findall(r"^\| `redisutils_.*?\|", page(), re.MULTILINE)
    assert set(re.findall(r"`(redisutils\.[a-z_.]+)`", "\n".join(rows))) == names


async def test_the_page_names_fields_that_there_are(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        metrics = pool.metrics()
    rows = re.findall(r"^\| `redisutils_[^|]*\| ([^|]*) \|", page(), re.MULTILINE)
    fields = re.findall(r"`([a-z_]+)(?:\[…\])?(?:\.([a-z_]+))?`", "\n".join(rows))
    assert len(fields) > 30
    for field, within in fields:
        value = getattr(metrics, field)
        if within:
            if field in ("lanes", "nodes"):
                (value,) = value
            elif field == "by_command":
                value = value["PING"]
            assert hasattr(value, within), (field, within)


def test_the_page_knows_the_buckets_and_the_parts() -> None:
    text = page()
    for part in PARTS:
        assert f"| `{part}` |" in text
    told = re.search(r"have the buckets (.*?) s\.", text, re.DOTALL)
    assert told is not None
    bounds, scale = [], {"µs": 1e-6, "ms": 1e-3, "s": 1.0}
    for amounts, unit in re.findall(r"((?:[\d.]+(?:, | and | )?)+)(µs|ms|s)", f"{told[1]} s"):
        bounds += [float(n) * scale[unit] for n in re.findall(r"[\d.]+", amounts)]
    assert bounds == pytest.approx(list(BUCKETS))


def test_links_on_the_page_lead_somewhere() -> None:
    text = page()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings
        else:
            assert (PAGE.parent / target).exists(), target
