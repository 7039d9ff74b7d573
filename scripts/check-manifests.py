"""Holds rendered manifests against Kubernetes' schemas and against what is claimed of them; and each claim against manifests that break it,
so that a claim that cannot fail is noticed. Arguments: files that kustomize rendered."""

import copy
import ipaddress
import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
# The oldest and the newest that is promised; `matchLabelKeys` and the like must be in both.
VERSIONS = ["1.30", "1.36"]
# Of an operator, not of Kubernetes: there is no schema.
FOREIGN = {"Certificate"}
GRACE_SECONDS = 25
# Settings of this product that are not in the README's table yet.
COMING = {
    "UNBLOCK_TLS_CERT",
    "UNBLOCK_TLS_KEY",
    "UNBLOCK_TLS_CLIENT_CA",
    "UNBLOCK_TLS_CLIENT_AUTH",
}


def main(files):
    for file in files:
        resources = [resource for resource in yaml.safe_load_all(Path(file).read_text()) if resource]
        wrong = in_schema(resources) + [f"{name(claim)}: {what}" for claim in CLAIMS for what in claim(resources)]
        if wrong:
            sys.exit(f"{file}\n  " + "\n  ".join(wrong))
        noticed = every_claim_can_fail(resources)
        print(f"{file}: {len(resources)} resources, {len(CLAIMS)} claims hold, {noticed} damages noticed")


def in_schema(resources):
    wrong = []
    for resource in resources:
        if resource["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(resource, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                wrong.append(f"{version} {resource['kind']} {resource['metadata']['name']}: {error}")
    return wrong


# What is claimed: each yields what breaks it.


def pods_ask_for_nothing(resources):
    """The restricted profile, and more: no token of the service account, nothing to write to."""
    for of, pod in pods(resources):
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0 or context.get("runAsGroup", 0) == 0:
            yield f"{of} may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{of} has no seccomp profile"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{of} has a token of Kubernetes"
        if any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{of} shares a namespace of its host"
        if any(set(volume) - {"name"} > set() and not {"secret", "configMap"} & set(volume) for volume in pod.get("volumes", [])):
            yield f"{of} has a volume that is neither a secret nor a config map"
        for container in containers(pod):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{of} may gain privileges"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{of} may write to its image"
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
                yield f"{of} has capabilities"
            if not all(mount.get("readOnly") for mount in container.get("volumeMounts", [])):
                yield f"{of} may write to a volume"


def pods_are_bounded(resources):
    for of, pod in pods(resources):
        for container in containers(pod):
            limits = container.get("resources", {})
            if not limits.get("requests", {}).get("cpu") or not limits.get("requests", {}).get("memory"):
                yield f"{of} asks for no CPU or memory"
            if not limits.get("limits", {}).get("memory"):
                yield f"{of} has no limit of memory"


def images_are_pinned(resources):
    for of, pod in pods(resources):
        for container in containers(pod):
            if not re.search(r"@sha256:[0-9a-f]{64}$", container["image"]):
                yield f"{of} runs {container['image']}, which can be moved"


def secrets_are_files(resources):
    """No secret is in a manifest or in a variable."""
    for resource in of_kind(resources, "Secret"):
        yield f"Secret {resource['metadata']['name']} stands in a manifest"
    for of, pod in pods(resources):
        for container in containers(pod):
            refers = [entry for entry in container.get("envFrom", []) if "secretRef" in entry]
            refers += [entry for entry in container.get("env", []) if "secretKeyRef" in entry.get("valueFrom", {})]
            if refers:
                yield f"{of} has a secret in a variable"
        for volume in pod.get("volumes", []):
            if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o007:
                yield f"{of}: anybody reads {volume['secret']['secretName']}"
    for variable, value in variables(resources):
        if re.search(r"(SECRET|TOKEN|DATABASE_URL)$", variable):
            yield f"{variable} holds a secret"
        if re.search(r"://[^/]*:[^/]*@", str(value)):
            yield f"{variable} holds a password"


def only_the_migration_owns_the_tables(resources):
    for of, pod in pods(resources):
        owns = any(volume.get("secret", {}).get("secretName") == "pingone-unblock-owner" for volume in pod.get("volumes", []))
        if owns != (of == "Job pingone-unblock-migrate"):
            yield f"{of} {'has' if owns else 'lacks'} the owner's password"
    if dict(variables(resources)).get("UNBLOCK_MIGRATE") != "false":
        yield "servers change the tables themselves"


def servers_survive_a_node_and_a_stop(resources):
    for deployment in of_kind(resources, "Deployment"):
        of, spec = deployment["metadata"]["name"], deployment["spec"]
        pod = spec["template"]["spec"]
        scaled = [s for s in of_kind(resources, "HorizontalPodAutoscaler") if s["spec"]["scaleTargetRef"]["name"] == of]
        least = scaled[0]["spec"]["minReplicas"] if scaled else spec.get("replicas", 1)
        if least < 2 or (scaled and "replicas" in spec):
            yield f"{of} has {least} replicas, or two that say how many"
        if pod.get("terminationGracePeriodSeconds", 30) <= GRACE_SECONDS + 5:
            yield f"{of} is killed before it has drained"
        labels = spec["template"]["metadata"]["labels"]
        if not any(selects(b["spec"]["selector"], labels) for b in of_kind(resources, "PodDisruptionBudget")):
            yield f"{of} has no disruption budget"
        spread = {s["topologyKey"] for s in pod.get("topologySpreadConstraints", []) if selects(s["labelSelector"], labels)}
        if spread != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{of} is not spread over zones and hosts"
        for container in containers(pod):
            paths = [container.get(p, {}).get("httpGet", {}).get("path") for p in ("startupProbe", "livenessProbe", "readinessProbe")]
            if paths != ["/livez", "/livez", "/readyz"]:
                yield f"{of} is probed at {paths}"


def callers_reach_what_answers_and_nothing_else(resources):
    answering = [d for d in of_kind(resources, "Deployment") if role(resources, d) in ("all", "api")]
    for service in of_kind(resources, "Service"):
        spec = service["spec"]
        if spec.get("clusterIP") != "None":
            yield "a client would stay with one replica"
        if [(port["name"], port["targetPort"]) for port in spec["ports"]] != [("grpc", "grpc")]:
            yield "the Service gives access to more than gRPC"
        chosen = [d for d in of_kind(resources, "Deployment") if selects({"matchLabels": spec["selector"]}, template_labels(d))]
        if chosen != answering or not chosen:
            yield "the Service leads elsewhere than to the servers that answer"
    admin = {port["containerPort"] for d in of_kind(resources, "Deployment") for c in containers(d["spec"]["template"]["spec"])
             for port in c["ports"] if port["name"] == "admin"}
    if {f"0.0.0.0:{port}" for port in admin} != {dict(variables(resources))["UNBLOCK_ADMIN_LISTEN"]}:
        yield "probes ask another port than the one that answers"


def the_network_is_closed(resources):
    policies = of_kind(resources, "NetworkPolicy")
    for of, labels in [(f"{r['kind']} {r['metadata']['name']}", template_labels(r)) for r in of_kind(resources, "Deployment", "Job")]:
        own = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], labels)]
        if not any(set(spec.get("policyTypes", [])) == {"Ingress", "Egress"} for spec in own):
            yield f"{of} may reach, or be reached by, anybody"
    for spec in (policy["spec"] for policy in policies):
        for rule in spec.get("ingress", []) + spec.get("egress", []):
            peers = rule.get("from", rule.get("to", []))
            if not peers or not rule.get("ports") or {} in peers:
                yield "a rule lets anybody in or out"
            blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
            if blocks and [port["port"] for port in rule["ports"]] != [443]:
                yield "more than HTTPS goes to addresses"
            for address in ("169.254.169.254", "10.1.2.3", "172.20.0.1", "192.168.1.1", "fd00::1", "fe80::1"):
                if any(within(address, block) for block in blocks):
                    yield f"{address} can be reached"
        for rule in spec.get("ingress", []):
            ports = {port["port"] for port in rule["ports"]}
            namespaces = [peer.get("namespaceSelector", {}).get("matchLabels", {}) for peer in rule["from"]]
            if "admin" in ports and namespaces != [{"kubernetes.io/metadata.name": "monitoring"}]:
                yield "the admin port is open to others than monitoring"
            if ports - {"admin", "grpc"} or len(ports) != 1:
                yield f"ports {ports} are open together"


def settings_exist(resources):
    readme = (ROOT / "README.md").read_text()
    known = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", readme))
    for variable in {variable for variable, _ in variables(resources)}:
        if variable.startswith("OTEL_") or variable in known - COMING:
            continue
        if variable not in COMING:
            yield f"{variable} is no setting"
        elif variable in known:
            yield f"{variable} is in the README's table: take it from COMING"


CLAIMS = [
    pods_ask_for_nothing,
    pods_are_bounded,
    images_are_pinned,
    secrets_are_files,
    only_the_migration_owns_the_tables,
    servers_survive_a_node_and_a_stop,
    callers_reach_what_answers_and_nothing_else,
    the_network_is_closed,
    settings_exist,
]

# Claims, tried.

SERVER, JOB, NETWORK = "Deployment", "Job", "NetworkPolicy"
POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
DELETE = object()
DAMAGES = [
    (pods_ask_for_nothing, SERVER, (*POD, "securityContext", "runAsNonRoot"), False),
    (pods_ask_for_nothing, SERVER, (*POD, "securityContext", "runAsUser"), 0),
    (pods_ask_for_nothing, JOB, (*POD, "securityContext", "seccompProfile"), DELETE),
    (pods_ask_for_nothing, JOB, (*POD, "automountServiceAccountToken"), DELETE),
    (pods_ask_for_nothing, SERVER, (*POD, "hostNetwork"), True),
    (pods_ask_for_nothing, SERVER, (*POD, "volumes", 0), {"name": "secrets", "hostPath": {"path": "/"}}),
    (pods_ask_for_nothing, SERVER, (*CONTAINER, "securityContext", "allowPrivilegeEscalation"), DELETE),
    (pods_ask_for_nothing, SERVER, (*CONTAINER, "securityContext", "readOnlyRootFilesystem"), False),
    (pods_ask_for_nothing, JOB, (*CONTAINER, "securityContext", "capabilities", "add"), ["NET_RAW"]),
    (pods_ask_for_nothing, SERVER, (*CONTAINER, "volumeMounts", 0, "readOnly"), False),
    (pods_are_bounded, SERVER, (*CONTAINER, "resources", "limits", "memory"), DELETE),
    (pods_are_bounded, JOB, (*CONTAINER, "resources", "requests"), DELETE),
    (images_are_pinned, SERVER, (*CONTAINER, "image"), "registry.example.com/pingone-unblock:latest"),
    (secrets_are_files, SERVER, (*CONTAINER, "envFrom"), [{"secretRef": {"name": "pingone-unblock"}}]),
    (secrets_are_files, SERVER, (*POD, "volumes", 0, "secret", "defaultMode"), 0o644),
    (secrets_are_files, "ConfigMap", ("data", "PINGONE_CLIENT_SECRET"), "hunter2"),
    (secrets_are_files, "ConfigMap", ("data", "A"), "postgres://u:hunter2@host/d"),
    (only_the_migration_owns_the_tables, SERVER, (*POD, "volumes", 0, "secret", "secretName"), "pingone-unblock-owner"),
    (only_the_migration_owns_the_tables, "ConfigMap", ("data", "UNBLOCK_MIGRATE"), "true"),
    (servers_survive_a_node_and_a_stop, SERVER, (*POD, "terminationGracePeriodSeconds"), 30),
    (servers_survive_a_node_and_a_stop, SERVER, ("spec", "replicas"), 1),
    (servers_survive_a_node_and_a_stop, SERVER, (*POD, "topologySpreadConstraints", 0), DELETE),
    (servers_survive_a_node_and_a_stop, "PodDisruptionBudget", ("spec", "selector", "matchLabels"), {"a": "b"}),
    (servers_survive_a_node_and_a_stop, SERVER, (*CONTAINER, "livenessProbe", "httpGet", "path"), "/readyz"),
    (callers_reach_what_answers_and_nothing_else, "Service", ("spec", "clusterIP"), DELETE),
    (callers_reach_what_answers_and_nothing_else, "Service", ("spec", "ports", 0, "targetPort"), "admin"),
    (callers_reach_what_answers_and_nothing_else, "Service", ("spec", "selector"), {"a": "b"}),
    (callers_reach_what_answers_and_nothing_else, "ConfigMap", ("data", "UNBLOCK_ADMIN_LISTEN"), "127.0.0.1:9464"),
    (the_network_is_closed, NETWORK, ("spec", "policyTypes"), ["Ingress"]),
    (the_network_is_closed, NETWORK, ("spec", "podSelector", "matchLabels"), {"a": "b"}),
    (the_network_is_closed, NETWORK, ("spec", "ingress", 0, "from"), [{}]),
    (the_network_is_closed, NETWORK, ("spec", "ingress", 1, "from", 0, "namespaceSelector"), {}),
    (the_network_is_closed, NETWORK, ("spec", "egress", 2, "to", 0, "ipBlock", "except"), ["10.0.0.0/8"]),
    (the_network_is_closed, NETWORK, ("spec", "egress", 2, "ports", 0, "port"), 80),
    (settings_exist, "ConfigMap", ("data", "UNBLOCK_LISTNE"), "x"),
]


def every_claim_can_fail(resources):
    for claim, kind, path, value in DAMAGES:
        damaged = copy.deepcopy(resources)
        place = of_kind(damaged, kind)[0]
        for step in path[:-1]:
            place = place[step]
        if value is DELETE:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        if not list(claim(damaged)):
            sys.exit(f"{name(claim)}: {kind} {'.'.join(map(str, path))} was damaged, and nobody noticed")
    unproved = [name(claim) for claim in CLAIMS if claim not in {damage[0] for damage in DAMAGES}]
    if unproved:
        sys.exit(f"never seen to fail: {unproved}")
    return len(DAMAGES)


# How manifests are read.


def of_kind(resources, *kinds):
    return [resource for resource in resources if resource["kind"] in kinds]


def pods(resources):
    for resource in of_kind(resources, "Deployment", "Job"):
        yield f"{resource['kind']} {resource['metadata']['name']}", resource["spec"]["template"]["spec"]


def containers(pod):
    return pod["containers"] + pod.get("initContainers", [])


def template_labels(resource):
    return resource["spec"]["template"]["metadata"]["labels"]


def variables(resources):
    for _, pod in pods(resources):
        for container in containers(pod):
            for entry in container.get("env", []):
                yield entry["name"], entry.get("value", "")
            for source in container.get("envFrom", []):
                named = [m for m in of_kind(resources, "ConfigMap") if m["metadata"]["name"] == source.get("configMapRef", {}).get("name")]
                for found in named:
                    yield from found["data"].items()


def role(resources, deployment):
    own = [e["value"] for e in containers(deployment["spec"]["template"]["spec"])[0].get("env", []) if e["name"] == "UNBLOCK_ROLE"]
    return own[0] if own else "all"


def selects(selector, labels):
    wanted = selector.get("matchLabels", {})
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def within(address, block):
    address = ipaddress.ip_address(address)
    contains = lambda cidr: address.version == ipaddress.ip_network(cidr).version and address in ipaddress.ip_network(cidr)
    return contains(block["cidr"]) and not any(contains(cidr) for cidr in block.get("except", []))


def name(claim):
    return claim.__name__.replace("_", " ")


if __name__ == "__main__":
    main(sys.argv[1:])
