"""Judges a rendered overlay: `check_rendered.py FILE`. Core objects by the published schemas, KEDA's by its models, ours by our rules.

Runs in the operators' environment (tests/manifests/tools.txt), not in the project's.
"""

import sys
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

PROBES = ("livenessProbe", "readinessProbe")
LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by")
PODS = ("Deployment", "StatefulSet")
VERSION = "1.32"


def same(given, read, where):
    """Raise where `read` lacks something of `given`: the models drop keys they do not know."""
    if isinstance(given, dict):
        for key, value in given.items():
            if key not in read:
                raise ValueError(f"{where}.{key}: no such field")
            same(value, read[key], f"{where}.{key}")
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            same(one, other, f"{where}[{number}]")


def by_schema(item):
    if item["apiVersion"].startswith("keda.sh/"):
        read = ScaledObject.model_validate(item).model_dump(by_alias=True, exclude_none=True, mode="json")
        same(item["spec"], read["spec"], "spec")
        return
    kubernetes_validate.validate(item, VERSION, strict=True)


def by_our_rules(item, everything):
    kind, name = item["kind"], item["metadata"]["name"]
    if kind not in ("Namespace", "PriorityClass", "ConfigMap", "ServiceAccount"):
        for label in LABELS:
            yield label in item["metadata"].get("labels", {}), f"label {label}"
    if kind in PODS:
        pod = item["spec"]["template"]["spec"]
        yield pod.get("serviceAccountName") == "pianofarm", "the service account without rights"
        yield pod.get("automountServiceAccountToken") is False, "no token of the API"
        yield pod["securityContext"].get("runAsNonRoot") is True, "non-root"
        yield "priorityClassName" in pod, "a priority class"
        for container in pod["containers"]:
            closed = container.get("securityContext", {})
            yield closed.get("readOnlyRootFilesystem") is True, "a read-only root"
            yield closed.get("capabilities", {}).get("drop") == ["ALL"], "no capabilities"
            for probe in PROBES:
                yield probe in container, probe
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            yield {"cpu", "memory", "ephemeral-storage"} <= set(limits) & set(requests), "requests and limits"
            yield ":" in container["image"].rpartition("/")[2], "an image with a tag or digest"
            for variable in container.get("env", []):
                yield "secret" not in str(variable).lower(), f"no secret in the environment ({variable['name']})"
        if item["metadata"]["labels"].get("app.kubernetes.io/component") == "worker":
            settings = next(one["data"] for one in everything if one["metadata"]["name"] == "pianofarm-settings")
            soft_s = float(settings["PIANOFARM_SOFT_SHUTDOWN_S"])
            yield pod["terminationGracePeriodSeconds"] > soft_s, "a grace period longer than the soft shutdown"
            yield "topologySpreadConstraints" in pod, "a topology spread"
            on_gpu = item["metadata"]["labels"].get("pianofarm.dev/device") == "gpu"
            gpus = pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
            yield gpus == ("1" if on_gpu else None), f"one GPU a pod, or none on a CPU (found {gpus})"
            budgets = [one for one in everything if one["kind"] == "PodDisruptionBudget"]
            yield (
                any(one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == name for one in budgets),
                "a budget",
            )
    if kind == "ScaledObject":
        target = item["spec"]["scaleTargetRef"]["name"]
        found = next(
            (one for one in everything if one["kind"] == "Deployment" and one["metadata"]["name"] == target), None
        )
        yield found is not None, f"a target that exists ({target})"
        yield found is None or "replicas" not in found["spec"], "a target whose replicas nobody else sets"


def selectors_meet_pods(everything):
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in everything if one["kind"] in PODS]
    for item in everything:
        selector = (
            item.get("spec", {}).get("selector", {}) if item["kind"] in ("Service", "PodDisruptionBudget") else {}
        )
        wanted = selector.get("matchLabels", selector)
        met = any(wanted.items() <= labels.items() for labels in pods)
        yield not wanted or met, f"{item['kind']} {item['metadata']['name']}: a selector that meets a pod"


def main(path):
    everything = [item for item in yaml.safe_load_all(path.read_text()) if item]
    problems = []
    for item in everything:
        name = f"{item['kind']} {item['metadata']['name']}"
        try:
            by_schema(item)
        except Exception as error:
            problems.append(f"{name}: {str(error).splitlines()[0]}")
        problems += [f"{name}: needs {what}" for well, what in by_our_rules(item, everything) if not well]
    problems += [f"needs {what}" for well, what in selectors_meet_pods(everything) if not well]
    for problem in problems:
        print(f"{path.stem}: {problem}")
    print(f"{path.stem}: {len(everything)} objects, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
