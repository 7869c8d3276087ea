"""Checks the objects that kustomize builds from `base` and `example`: each object against its schema, and rules that are in no schema.

    python3 -m venv target/kubernetes && target/kubernetes/bin/pip install --no-deps -r infra/kubernetes/requirements.txt
    target/kubernetes/bin/python infra/kubernetes/check.py

It needs `kubectl` or `kustomize`, and no cluster or network. With `WORKER=target/debug/ecs-slack-alerts`, `check` of that program also
validates the example's configuration.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pydantic
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

HERE = Path(__file__).parent
NAME = "ecs-slack-alerts"
# The oldest and the newest supported release. Every field must exist in both.
KUBERNETES = ("1.30", "1.37")
CUSTOM = {model.__name__: model for model in (ScaledObject, TriggerAuthentication, PodMonitor, PrometheusRule)}
DEFAULT_GRACE = "25s"

faults = []


def expect(condition, fault):
    if not condition:
        faults.append(fault)


def build(folder):
    kustomize = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    built = subprocess.run([*kustomize, HERE / folder], capture_output=True, text=True)
    if built.returncode != 0 or built.stderr:
        sys.exit(f"{folder}: {' '.join(kustomize)}: {built.stderr}")
    objects = [found for found in yaml.safe_load_all(built.stdout) if found]
    named = {(found["kind"], found["metadata"]["name"]): found for found in objects}
    optional = [*CUSTOM, "NetworkPolicy", "PodDisruptionBudget", "PriorityClass"]
    wanted = ["Deployment", "ServiceAccount"] + (optional if folder == "example" else [])
    faults.extend(f"{folder}: there is no {kind} {NAME}" for kind in wanted if (kind, NAME) not in named)
    return named


def check_schema(place, found):
    """Finds unknown fields, missing fields and wrong types. The metadata of a KEDA scaler is in no schema."""
    if model := CUSTOM.get(found["kind"]):
        try:
            model.model_validate_json(json.dumps(found), strict=True, extra="forbid")
        except pydantic.ValidationError as error:
            faults.extend(f"{place}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{place}: {'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})")
        except kubernetes_validate.SchemaNotFoundError as error:
            faults.append(f"{place}: {error.message}")


def check_hardening(place, pod):
    container = pod["containers"][0]
    security = {**pod["securityContext"], **container["securityContext"]}
    expect(security.get("runAsNonRoot") and security.get("runAsUser", 0) > 0, f"{place}: may run as root")
    expect(security.get("readOnlyRootFilesystem"), f"{place}: its root file system is writable")
    expect(security.get("capabilities") == {"drop": ["ALL"]}, f"{place}: has capabilities")
    expect(security.get("allowPrivilegeEscalation") is False, f"{place}: may gain privileges")
    expect(security.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{place}: has no seccomp profile")


def check_whole(objects):
    """Checks references between objects. There is one Deployment, and every other object belongs to it."""
    deployment = objects["Deployment", NAME]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    expect(("ServiceAccount", pod["serviceAccountName"]) in objects, "the Deployment's ServiceAccount is missing")
    expect(container["image"] != NAME, "the image has no registry")
    for probe in ("livenessProbe", "readinessProbe"):
        expect(container[probe]["httpGet"]["port"] in ports, f"the {probe} names no port")

    config = objects.get(("ConfigMap", container["envFrom"][0]["configMapRef"]["name"]))
    if not config:
        faults.append("the Deployment's ConfigMap is missing")
        return
    environment = config["data"]
    grace = environment.get("SHUTDOWN_GRACE", DEFAULT_GRACE)
    seconds = re.fullmatch(r"(\d+)s", grace)
    expect(seconds, f"SHUTDOWN_GRACE {grace!r}: write it in seconds, such as 25s")
    if seconds:
        expect(pod["terminationGracePeriodSeconds"] > int(seconds[1]), f"the pod is killed before its drain of {grace} ends")
    if worker := os.environ.get("WORKER"):
        checked = subprocess.run([worker, "check"], env=environment, capture_output=True, text=True)
        expect(checked.returncode == 0, f"the configuration is invalid: {checked.stderr}")

    scaled = objects["ScaledObject", NAME]["spec"]
    trigger = scaled["triggers"][0]
    expect(("Deployment", scaled["scaleTargetRef"]["name"]) in objects, "the ScaledObject names no Deployment")
    expect(scaled["minReplicaCount"] >= 1, "the ScaledObject may leave no worker")
    share = scaled["maxReplicaCount"] == 1 or environment.get("INCIDENTS_TABLE")
    expect(share, "the ScaledObject starts several workers, which need INCIDENTS_TABLE to share incidents")
    expect(("TriggerAuthentication", trigger["authenticationRef"]["name"]) in objects, "the ScaledObject's TriggerAuthentication is missing")
    for key, variable in (("queueURL", "QUEUE_URL"), ("awsRegion", "AWS_REGION")):
        expect(trigger["metadata"][key] == environment[variable], f"KEDA's {key} is not the worker's {variable}")

    monitor = objects["PodMonitor", NAME]["spec"]
    expect(monitor["selector"]["matchLabels"].items() <= labels.items(), "the PodMonitor selects no pod")
    expect(monitor["jobLabel"] in labels, "the PodMonitor's jobLabel is not a label of the pod")
    for endpoint in monitor["podMetricsEndpoints"]:
        expect(endpoint["port"] in ports, "the PodMonitor names no port")

    check_place(objects, pod, labels, ports)


def check_place(objects, pod, labels, ports):
    """Checks where the pod may run, which clients may reach it, and what it may reach."""
    for constraint in pod["topologySpreadConstraints"]:
        expect(constraint["labelSelector"]["matchLabels"].items() <= labels.items(), "a topology spread constraint does not select the worker's pods")
        expect(constraint["whenUnsatisfiable"] == "ScheduleAnyway", "a topology spread constraint may leave the worker unscheduled: use ScheduleAnyway")
    expect(("PriorityClass", pod["priorityClassName"]) in objects, "the pod's PriorityClass is missing")

    budget = objects["PodDisruptionBudget", NAME]["spec"]
    expect(budget["selector"]["matchLabels"].items() <= labels.items(), "the PodDisruptionBudget selects no pod")
    expect(budget.get("maxUnavailable") == 1, "the PodDisruptionBudget must have maxUnavailable: 1, or the node of a single worker cannot be drained")

    policy = objects["NetworkPolicy", NAME]["spec"]
    expect(policy["podSelector"]["matchLabels"].items() <= labels.items(), "the NetworkPolicy selects no pod")
    expect(sorted(policy["policyTypes"]) == ["Egress", "Ingress"], "the NetworkPolicy must limit both ingress and egress")
    reached = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    expect(reached <= ports and reached, f"the NetworkPolicy allows ingress to the ports {reached}; the pod has {ports}")
    anywhere = {(port["protocol"], port["port"]) for rule in policy["egress"] if "to" not in rule for port in rule["ports"]}
    expect(anywhere == {("TCP", 443), ("UDP", 53), ("TCP", 53)}, f"the NetworkPolicy allows egress to {sorted(anywhere)} instead of HTTPS and DNS")


def main():
    built = {folder: build(folder) for folder in ("base", "example")}
    for folder, objects in built.items():
        for (kind, name), found in objects.items():
            check_schema(f"{folder}: {kind}/{name}", found)
    # The other checks need fields that the schemas guarantee.
    if not faults:
        for folder, objects in built.items():
            check_hardening(folder, objects["Deployment", NAME]["spec"]["template"]["spec"])
        check_whole(built["example"])
    if faults:
        sys.exit("\n".join(faults))
    count = sum(map(len, built.values()))
    print(f"{count} objects are valid (Kubernetes {' and '.join(KUBERNETES)}, KEDA, Prometheus Operator)")


main()
