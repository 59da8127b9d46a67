"""`make demo`: a cluster, the operator, a stack, a sample app, a rule that fires, the message that Slack gets.

With a container engine the cluster is kind's, else our own local one. Messages go to a server in Slack's shape on this
machine (`relay`) and are printed as Slack would show them; with SLACK_WEBHOOK_URL in the environment they go on to the
real Slack. All stays up until `python -m deploy.demo down`.
"""

import argparse
import functools
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bellbuoy.alertmanager import render_text
from deploy.demo import relay
from deploy.local import binaries, cluster, images, machine, paths
from deploy.local.shell import LocalClusterError, run, say, wait_for

NAME = "demo"
EXAMPLES = paths.CHECKOUT / "examples"
SAMPLE_APP = Path(__file__).parent / "sample-app.yaml"
ENTRANCES = Path(__file__).parent / "entrances.yaml"
# It has no archive, whose image is large.
PARTS = [part for part in images.PARTS if part != "server-archive"]
SLACK_PORT = 8025
ALERT = "SampleAppHot"
HOT, COOL = 40, 20


@dataclass(frozen=True)
class Place:
    """The cluster that the demo runs on."""

    kubeconfig: Path | None
    """None: kubectl's own choice, which kind has set."""
    gateway: str
    """This machine, as pods reach it."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        program = binaries.path("kubectl") if self.kubeconfig else Path("kubectl")
        chosen = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else ["--context=kind-bellbuoy"]
        return run(program, *chosen, *arguments, stdin=None if stdin is None else stdin.encode())

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))


def main() -> int:
    """Run one command; what goes wrong is one message, and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description="From nothing to a Slack message.")
    parser.add_argument("command", choices=["up", "down"], help="up: run the demo; down: remove all of it")
    try:
        return {"up": up, "down": down}[parser.parse_args().command]()
    except LocalClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; make demo-down removes what is there")
        return 130


def step(text: str) -> None:
    """Say what is being done, with the time since the start."""
    say(f"[{time.monotonic() - STARTED:5.1f} s] {text}")


STARTED = time.monotonic()


def up() -> int:
    """Run the demo to the Slack message."""
    relay.webhook()
    place = _place()
    webhook = relay.start(place.gateway, SLACK_PORT, alert=ALERT)
    step("the operator, and the kinds of resources it knows")
    place.kubectl("apply", "--server-side", "--kustomize", str(paths.CHECKOUT / "deploy/base"))
    place.kubectl("--namespace=bellbuoy-system", "rollout", "status", "deployment/bellbuoy-operator", "--timeout=180s")
    step("a stack: server, node exporters, alertmanager, pushgateway")
    addresses = apply_stack(place)
    _secret(place, webhook)
    place.kubectl("apply", "--server-side", f"--filename={SAMPLE_APP}")
    place.kubectl("apply", "--server-side", f"--filename={EXAMPLES}")
    _wait("the stack to be ready", lambda: _condition(place, "Ready"), seconds=240)
    step("the sample app's pods are discovered and scraped")
    _wait("the targets to be up", lambda: _is_up(place), seconds=120)
    for address in addresses.values():
        _wait(f"{address} to answer", functools.partial(_answers, address), seconds=30)
    sample = place.get("--namespace=shop", "pods", "--selector=app=sample-app")["items"][0]
    step(f"{sample['metadata']['name']} gets hot: a rule fires in some 10 seconds")
    _heat(place, sample["metadata"]["name"], HOT)
    message, outcome = _wait("the Slack message", lambda: relay.found(webhook, ALERT), seconds=120)
    _wait("the receiver's status to tell of the message", lambda: _is_told(place), seconds=60)
    print(place.kubectl("get", "monitoringstacks,scrapetargets,alertrules,alertreceivers", "--all-namespaces"))
    print(render_text(message))
    if outcome:
        step(outcome)
    step("done; it stays up until: make demo-down")
    print(f"\nThe web UI:    {addresses['server']}")
    print(f"The alerts:    {addresses['alertmanager']}")
    if place.kubeconfig:
        print(f"kubectl:       export KUBECONFIG={place.kubeconfig}")
        print(f"Make it cool:  kubectl -n shop exec {sample['metadata']['name']} -- {' '.join(_set(COOL))}")
    return 0


def down() -> int:
    """Remove everything of the demo."""
    relay.stop()
    if cluster.down(NAME):
        say("the demo's cluster is removed")
    if _has_engine():
        run("kind", "delete", "cluster", "--name=bellbuoy")
    return 0


def _has_engine() -> bool:
    try:
        run("kind", "version")
        run("docker", "info")
    except LocalClusterError:
        return False
    return True


def _place() -> Place:
    if _has_engine():
        return _kind()
    machine.install_packages()
    binaries.build_all()
    problems = machine.problems()
    if problems:
        raise LocalClusterError(
            "no container engine with kind is here, and no local cluster can run:\n" + "\n".join(problems)
        )
    step("the images of the parts")
    archive = images.build(PARTS)
    step("a Kubernetes of two nodes on this machine")
    found = cluster.find(NAME)
    started = found if found is not None and found.running else cluster.up(name=NAME, nodes=2)
    started.load(archive)
    return Place(started.kubeconfig, started.addresses.gateway)


def _kind() -> Place:
    """The thin path: not run by us, see docs/local-cluster.md."""
    step("kind: a Kubernetes in containers")
    if "bellbuoy" not in run("kind", "get", "clusters").split():
        run("kind", "create", "cluster", f"--config={paths.CHECKOUT / 'kind-config.yaml'}")
    for part in PARTS:
        tag = f"bellbuoy.io/{part}:dev"
        file = paths.CHECKOUT / "deploy/images/Containerfile"
        run("docker", "build", f"--file={file}", f"--target={part}", f"--tag={tag}", str(paths.CHECKOUT))
        run("kind", "load", "docker-image", "--name=bellbuoy", tag)
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return Place(None, run("docker", "network", "inspect", "kind", f"--format={form}").strip())


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _secret(place: Place, webhook: str) -> None:
    """The webhook's URL, for the operator to take; the value goes by standard input, not by a flag."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "slack", "namespace": "monitoring", "labels": {"bellbuoy.io/allow": "true"}},
        "stringData": {"url": webhook},
    }
    place.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(secret))


def apply_stack(place: Place) -> dict[str, str]:
    """The example's stack, with links that this machine can open; the addresses of server and alertmanager."""
    example = {one["kind"]: one for one in yaml.safe_load_all((EXAMPLES / "stack.yaml").read_text())}
    place.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(example["Namespace"]))
    place.kubectl("apply", "--server-side", f"--filename={ENTRANCES}")
    stack, addresses = example["MonitoringStack"], {part: _address(place, part) for part in ("server", "alertmanager")}
    for part, address in addresses.items():
        stack["spec"].setdefault(part, {})["externalUrl"] = address
    # Under a name of its own, so that the example itself, applied later, does not take the two fields away.
    owner = ("--field-manager=bellbuoy-demo", "--force-conflicts")
    place.kubectl("apply", "--server-side", *owner, "--filename=-", stdin=json.dumps(stack))
    return addresses


def _address(place: Place, part: str) -> str:
    """A part as this machine reaches it: the local cluster has a route to services, kind one to its nodes."""
    service = place.get("--namespace=monitoring", "service", f"demo-{part}")["spec"]
    if place.kubeconfig:
        return f"http://{service['clusterIP']}:{service['ports'][0]['port']}"
    every = place.get("nodes")["items"][0]["status"]["addresses"]
    node = next(one["address"] for one in every if one["type"] == "InternalIP")
    return f"http://{node}:{service['ports'][0]['nodePort']}"


def _condition(place: Place, kind: str) -> bool:
    stack = place.get("--namespace=monitoring", "monitoringstack", "main")
    conditions = stack.get("status", {}).get("conditions", [])
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def _is_up(place: Place) -> bool:
    status = place.get("--namespace=shop", "scrapetarget", "sample-app").get("status", {})
    return bool(status.get("up")) and status["up"] == status.get("matched")


def _is_told(place: Place) -> bool:
    """Whether the receiver's status has a notification, or why there was none: it follows some seconds behind."""
    status = place.get("--namespace=monitoring", "alertreceiver", "slack").get("status", {})
    return bool(status.get("lastNotification") or status.get("lastError"))


def _set(value: int) -> list[str]:
    code = f"import urllib.request as r; r.urlopen('http://127.0.0.1:8000/set?value={value}', b'')"
    return ["python3", "-c", f'"{code}"']


def _heat(place: Place, pod: str, value: int) -> None:
    command = _set(value)
    place.kubectl("--namespace=shop", "exec", pod, "--", *command[:2], command[2].strip('"'))


def _wait(what: str, condition: Callable[[], Any], *, seconds: float) -> Any:
    try:
        return wait_for(what, condition, seconds=seconds)
    except LocalClusterError as error:
        raise LocalClusterError(
            f"{error}; look with kubectl get events --all-namespaces, then make demo-down"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
