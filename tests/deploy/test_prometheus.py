"""The files for Prometheus and Grafana: promtool takes them, each alert does what it says, and nothing asks for a
metric that the product does not have."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client

from monitoring import metrics
from monitoring.alerting import rules
from tests.deploy.programs import DEPLOY, program

PROMETHEUS = DEPLOY / "prometheus"
RULES = [PROMETHEUS / "clawdbot.rules.yml", PROMETHEUS / "clawdbot.alerts.yml"]
DASHBOARD = json.loads((DEPLOY / "grafana/clawdbot.json").read_text())
NOT_OURS = {"up", "ALERTS", "process_resident_memory_bytes"}
NAME = re.compile(r"\b(clawdbot[a-z_:0-9]*|django_[a-z_]+|process_[a-z_]+|up)\b(?!\s*=)")
# Opened by something else than a look, and told to Prometheus as ClawdBot's own critical alerts; or of no series.
TOLD_OTHERWISE = {"audit.forwarding", "audit.purge", "audit.tampered", "keys.unavailable", "listener.gone"}
TOLD_OTHERWISE |= {"packages.scan", "platform.clock"}


def promtool(*words: str) -> str:
    done = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules_and_the_example() -> None:
    assert promtool("check", "rules", *map(str, RULES)).count("SUCCESS") == 2
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_each_alert_fires_above_its_threshold_and_is_silent_below() -> None:
    promtool("test", "rules", *map(str, sorted((PROMETHEUS / "tests").glob("*.yml"))))


def test_every_alert_has_a_test_and_every_rule_of_the_product_an_alert() -> None:
    alerts = RULES[1].read_text()
    tested = "".join(path.read_text() for path in (PROMETHEUS / "tests").glob("*.yml"))
    names = re.findall(r"- alert: (\w+)", alerts)

    assert [name for name in names if f'alertname="{name}"' not in tested] == []
    named = set(re.findall(r"rule: ([a-z_.0-9]+)", alerts))
    assert {rule.name for rule in rules.all_rules()} - named == TOLD_OTHERWISE


# -- what is asked for --


def expressions() -> Iterator[str]:
    for path in RULES:
        text = path.read_text()
        yield from re.findall(r"expr: '(.*)'$", text, re.MULTILINE)
        yield from re.findall(r"expr: ([a-z].*)$", text, re.MULTILINE)
        yield from re.findall(r"expr: >-\n((?: {10}.*\n)+)", text)
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def exported() -> set[str]:
    """Names of series: of the collectors, of the gauges, of our recording rules."""
    names: set[str] = set(metrics.GAUGES)
    for family in prometheus_client.REGISTRY.collect():
        kinds = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "summary": ["_count", "_sum"]}
        names |= {family.name + suffix for suffix in kinds.get(family.type, [""])}
    return names | set(re.findall(r"record: (\S+)", RULES[0].read_text())) | NOT_OURS


def test_nothing_asks_for_a_series_that_nobody_has() -> None:
    without_labels = [re.sub(r"\{[^}]*\}|by \([^)]*\)|on \([^)]*\)", "", text) for text in expressions()]
    asked = {name for text in without_labels for name in NAME.findall(text)}

    assert len(asked) > 40
    assert asked - exported() == set()


def test_the_dashboard_can_be_provisioned(tmp_path: Path) -> None:
    """Grafana wants unique ids and a data source to choose; promtool reads every expression."""
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(places) == len(set(places))
    recorded = [
        f"  - record: panel:{number}\n    expr: {json.dumps(text)}" for number, text in enumerate(expressions())
    ]
    path = tmp_path / "panels.yml"
    path.write_text("groups:\n- name: panels\n  rules:\n" + "\n".join(recorded) + "\n")
    promtool("check", "rules", str(path))
