"""Dashboards, alerts, runbooks and metrics belong together: what one names the others have."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from pianofarm_common.ledger import Depth
from pianofarm_common.ledger.census import Census, ClassCensus
from pianofarm_common.metrics import FarmMetrics, SweeperMetrics, WorkerMetrics
from pianofarm_common.renders import PriorityClass
from pianofarm_common.speedometer import Speedometer
from pianofarm_worker.device_stats import DeviceStats
from pianofarm_worker.exporter import FarmCollector
from pianofarm_worker.metering import watch_device

REPOSITORY = Path(__file__).resolve().parents[3]
DEPLOY = REPOSITORY / "deploy"
RULES = DEPLOY / "prometheus" / "rules"


def rules(kind: str) -> dict[str, dict]:
    found = [
        rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    return {rule[kind]: rule for rule in found if kind in rule}


ALERTS = rules("alert")
RECORDS = rules("record")


class Empty:
    """Answers like a ledger of an empty farm."""

    def take(self) -> Census:
        nothing = ClassCensus(Depth(0, 0.0, 0, 0.0), 0, 0.0)
        return Census(0.0, dict.fromkeys(PriorityClass, nothing), 0, 0, 0, 1, 0, 0)

    def workers(self) -> list:
        return []

    def read(self) -> DeviceStats:
        return DeviceStats(1, 2, 0.5)


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Names of all series that exporter, workers and sweepers have."""
    farm, worker, sweeper = FarmMetrics(), WorkerMetrics(), SweeperMetrics()
    farm.registry.register(FarmCollector(Empty(), Empty(), Speedometer(1.0)))
    watch_device(worker, Empty())
    names = set()
    for registry in (farm.registry, worker.registry, sweeper.registry):
        for family in registry.collect():
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
            names |= {family.name + suffix for suffix in suffixes}
    return names


def named_in(query: str) -> set[str]:
    return set(re.findall(r"\bpianofarm[a-z0-9_:]+", re.sub(r'"[^"]*"', "", query)))


def test_the_dashboards_are_those_that_the_script_makes():
    specification = importlib.util.spec_from_file_location("make_dashboards", DEPLOY / "grafana" / "make_dashboards.py")
    module = importlib.util.module_from_spec(specification)
    import sys

    sys.modules["make_dashboards"] = module
    specification.loader.exec_module(module)

    for path, text in module.texts().items():
        assert path.read_text() == text, f"run python deploy/grafana/make_dashboards.py: {path.name} is old"
    assert {path.name for path in (DEPLOY / "grafana" / "dashboards").iterdir()} == {p.name for p in module.texts()}


def test_every_query_names_series_that_exist(exported):
    queries = [rule["expr"] for rule in (*ALERTS.values(), *RECORDS.values())]
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        queries += [target["expr"] for panel in json.loads(path.read_text())["panels"] for target in panel["targets"]]

    unknown = {name for query in queries for name in named_in(query)} - exported - set(RECORDS)
    assert unknown == set()


def test_panels_do_not_overlap_and_say_what_they_show():
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        taken = set()
        for panel in json.loads(path.read_text())["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{path.name}: {panel['title']}"
            assert place["x"] + place["w"] <= 24
            assert len(panel["description"]) > 10
            taken |= cells


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    pages = {path.stem for path in (REPOSITORY / "docs" / "runbooks").glob("Pianofarm*.md")}

    assert pages == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_alert_is_tested_to_fire_and_to_be_silent():
    tests = yaml.safe_load((DEPLOY / "prometheus" / "tests" / "alerts_test.yml").read_text())["tests"]
    for name in ALERTS:
        expectations = [
            bool(case["exp_alerts"])
            for test in tests
            for case in test.get("alert_rule_test", [])
            if case["alertname"] == name
        ]
        assert set(expectations) == {False, True}, name


def test_runbooks_name_only_settings_that_exist():
    from pianofarm_common.settings import Settings

    known = {f"PIANOFARM_{name.upper()}" for name in Settings.model_fields}
    for path in (REPOSITORY / "docs" / "runbooks").glob("*.md"):
        assert set(re.findall(r"PIANOFARM_[A-Z0-9_]+", path.read_text())) <= known, path.name
