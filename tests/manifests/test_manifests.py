"""What is deployed agrees with the code: settings, metrics, secrets, and the copies that Kubernetes needs of files in deploy/.

Reads files only. What needs tools (kustomize, schemas, checkov) is in run.sh.
"""

import re
from pathlib import Path

import pytest
import yaml

from pianofarm_common.queue import CLASSES
from pianofarm_common.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
K8S = REPOSITORY / "k8s"
DEPLOYED = ("k8s", "deploy", "docker", "tests/compose")
DASHBOARDS = sorted((REPOSITORY / "deploy/grafana/dashboards").glob("*.json"))
#: Kustomize's own files, its patches without a kind, and configuration of the programs that run there.
NOT_OBJECTS = re.compile(r"kustomization\.yaml|small-volumes\.yaml|\.checkov\.yaml|.*\.yml|redis\.conf")


def deployed_files():
    for folder in DEPLOYED:
        yield from (path for path in (REPOSITORY / folder).rglob("*") if path.is_file() and "secrets/" not in str(path))


def objects():
    for path in sorted(K8S.rglob("*.yaml")):
        if not NOT_OBJECTS.fullmatch(path.name):
            yield path, list(yaml.safe_load_all(path.read_text()))


def deployments():
    found = ((path, item) for path, (item, *_) in objects() if item["kind"] == "Deployment")
    return {item["metadata"]["name"]: item for path, item in found if path.parent.name == "base"}


def compose():
    return yaml.safe_load((REPOSITORY / "deploy/compose.yaml").read_text())


def scaled_objects():
    return [item for _, (item, *_) in objects() if item["kind"] == "ScaledObject"]


def test_every_pianofarm_variable_that_is_deployed_is_a_setting():
    known = {f"PIANOFARM_{name.upper()}" for name in Settings.model_fields}
    # Arguments of the scripts themselves.
    known |= {"PIANOFARM_BASE_SUITE", "PIANOFARM_DEB_CACHE"}
    found = {}
    for path in deployed_files():
        for name in re.findall(r"\bPIANOFARM_[A-Z0-9_]*[A-Z0-9]", path.read_text(errors="replace")):
            found.setdefault(name, path.relative_to(REPOSITORY))
    assert len(found) > 10
    unknown = {name: str(path) for name, path in found.items() if name not in known}
    assert not unknown


def test_every_setting_in_a_manifest_has_a_value_that_the_settings_accept():
    (item,) = yaml.safe_load_all((K8S / "base/settings.yaml").read_text())
    fields = {name.removeprefix("PIANOFARM_").lower(): value for name, value in item["data"].items()}
    made = Settings(_env_file=None, **fields)
    assert made.soft_shutdown_s == float(item["data"]["PIANOFARM_SOFT_SHUTDOWN_S"])


def test_one_object_a_file_and_each_file_is_used():
    for path, found in objects():
        assert len(found) == 1, path
        assert {"apiVersion", "kind", "metadata"} <= set(found[0]), path
        kustomization = yaml.safe_load((path.parent / "kustomization.yaml").read_text())
        named = [*kustomization.get("resources", []), *(patch["path"] for patch in kustomization.get("patches", []))]
        assert path.name in named, f"{path} is not in its kustomization.yaml"


def test_no_manifest_holds_a_secret():
    for path, (item, *_) in objects():
        assert item["kind"] != "Secret", f"{path}: secrets are made by the operator and referred to by name"
    for path in deployed_files():
        text = path.read_text(errors="replace")
        assert not re.search(r"(?i)(password|secret_key|secretkey)\"?\s*[:=]\s*[\"']?[A-Za-z0-9+/]{12,}", text), path


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("redis/redis.conf", "redis.conf"),
        ("monitoring/alertmanager.yml", "alertmanager/alertmanager.yml"),
        ("monitoring/alerts.yml", "prometheus/rules/alerts.yml"),
        ("monitoring/recording.yml", "prometheus/rules/recording.yml"),
        ("monitoring/grafana-providers.yml", "grafana/provisioning/dashboards/pianofarm.yml"),
        ("monitoring/grafana-datasources.yml", "grafana/provisioning/datasources/prometheus.yml"),
        *((f"monitoring/{path.name}", f"grafana/dashboards/{path.name}") for path in DASHBOARDS),
    ],
)
def test_a_copy_for_kubernetes_is_the_original(copy, original):
    assert (K8S / "components" / copy).read_bytes() == (REPOSITORY / "deploy" / original).read_bytes(), "make copies"


def test_each_class_has_a_pool_that_serves_it_and_what_is_more_urgent():
    for number, name in enumerate(CLASSES):
        pod = deployments()[f"worker-{name}"]["spec"]["template"]["spec"]
        assert pod["containers"][0]["args"] == [str(served) for served in CLASSES[: number + 1]]
        assert pod["containers"][0]["livenessProbe"]["exec"]["command"][4:] == pod["containers"][0]["args"]
        assert pod["priorityClassName"] == f"pianofarm-{name}"


def test_the_grace_period_is_longer_than_the_soft_shutdown():
    (settings,) = yaml.safe_load_all((K8S / "base/settings.yaml").read_text())
    (pod,) = yaml.safe_load_all((K8S / "base/worker-pod.yaml").read_text())
    grace_s = pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > float(settings["data"]["PIANOFARM_SOFT_SHUTDOWN_S"])
    for name in ("worker-cpu", "worker-gpu"):
        service = compose()["services"][name]
        soft_s = float(service["environment"]["PIANOFARM_SOFT_SHUTDOWN_S"])
        assert float(service["stop_grace_period"].removesuffix("s")) > soft_s
    unit = (REPOSITORY / "deploy/systemd/pianofarm-worker.service").read_text()
    stop_s, soft_s = re.search(r"TimeoutStopSec=(\d+)", unit), re.search(r"PIANOFARM_SOFT_SHUTDOWN_S=(\d+)", unit)
    assert float(stop_s[1]) > float(soft_s[1])


def test_the_autoscaler_asks_for_the_work_of_its_own_class_by_metrics_that_the_exporter_has():
    documented = set(re.findall(r"`(pianofarm_[a-z_]+)`", (REPOSITORY / "docs/metrics.md").read_text()))
    assert len(scaled_objects()) == len(CLASSES)
    for item in scaled_objects():
        (trigger,) = item["spec"]["triggers"]
        query = trigger["metadata"]["query"]
        target = item["spec"]["scaleTargetRef"]["name"]
        assert target in deployments()
        assert set(re.findall(r'class="(\w+)"', query)) == {target.removeprefix("worker-")}
        assert set(re.findall(r"pianofarm_\w+", query)) <= documented
        assert trigger["metricType"] == "AverageValue"
        assert trigger["metadata"]["ignoreNullValues"] == "false", "no answer must not read as no work"
        assert "replicas" not in deployments()[target]["spec"], "two would set it"


def test_bulk_scales_to_zero_and_somebody_always_stands_by_for_interactive():
    least = {item["metadata"]["name"]: item["spec"]["minReplicaCount"] for item in scaled_objects()}
    assert least["worker-bulk"] == 0
    assert least["worker-interactive"] >= 1


def test_everything_not_named_is_closed():
    policies = {
        item["metadata"]["name"]: item["spec"] for _, (item, *_) in objects() if item["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, spec in policies.items():
        for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
            assert rule.get("ports"), f"{name}: every opening names its port"
            assert rule.get("from") or rule.get("to"), f"{name}: every opening names its other end"


def test_compose_publishes_on_loopback_only_and_closes_what_is_ours():
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
        for variable in service.get("environment", {}):
            assert not re.search(r"PASSWORD$|SECRET|_KEY$|REDIS_URL", variable), f"{name}: {variable} belongs in a file"
        if name != "seaweedfs":
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
    assert compose()["services"]["prometheus"]["healthcheck"]


def test_redis_keeps_every_key_and_every_write():
    text = (REPOSITORY / "deploy/redis.conf").read_text()
    for line in ("maxmemory-policy noeviction", "appendonly yes"):
        assert re.search(f"^{line}$", text, re.MULTILINE)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docker").glob("*.Dockerfile")), ids=lambda path: path.name)
def test_an_image_is_made_of_hashed_packages_and_ends_as_nobody(path):
    text = path.read_text()
    assert "# syntax" not in text, "a builder without a registry cannot fetch a front end"
    installs = re.findall(r"pip install .*|pip --python \S+ install .*", text)
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line, line
    users = re.findall(r"^USER (.*)$", text, re.MULTILINE)
    assert users
    assert all(user == "10001:10001" for user in users)
    for target in re.findall(r"^FROM runtime AS (\w+)$", text, re.MULTILINE):
        stage = text.split(f"FROM runtime AS {target}\n")[1].split("\nFROM ")[0]
        assert "org.opencontainers.image.licenses" in stage, target
    assert "HEALTHCHECK" in text


def test_hashed_requirement_files_name_no_registry():
    for path in [*(REPOSITORY / "docker").glob("*.txt"), *(REPOSITORY / "tests/compose").glob("*.txt")]:
        text = path.read_text()
        assert "--hash=sha256:" in text, path
        assert "://" not in text, path
        assert "index-url" not in text.split("\n", 2)[2], path
