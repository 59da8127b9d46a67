"""The demo's stack is the example's, with links that this machine opens, and stays so when the example is applied."""

from typing import TYPE_CHECKING

import pytest

from deploy.demo.__main__ import EXAMPLES, Place, apply_stack

if TYPE_CHECKING:
    from tests.conftest import Kubernetes

pytestmark = pytest.mark.control_plane


def test_the_demos_links_lead_to_addresses_that_this_machine_reaches(bellbuoy: "Kubernetes") -> None:
    place = Place(bellbuoy.kubeconfig, "127.0.0.1")
    try:
        addresses = apply_stack(place)
        # As the demo does; a second run of it, after a change of the example, finds this owner there.
        place.kubectl("apply", "--server-side", f"--filename={EXAMPLES / 'stack.yaml'}")
        assert apply_stack(place) == addresses
        stack = place.get("--namespace=monitoring", "monitoringstack", "main")["spec"]
        services = {
            part: place.get("--namespace=monitoring", "service", f"demo-{part}")["spec"]["clusterIP"]
            for part in ("server", "alertmanager")
        }
    finally:
        place.kubectl("delete", "--namespace=monitoring", "monitoringstacks,services", "--all", "--wait=false")
    assert addresses == {
        "server": f"http://{services['server']}:9090",
        "alertmanager": f"http://{services['alertmanager']}:9093",
    }
    assert {part: stack[part]["externalUrl"] for part in addresses} == addresses
    assert stack["server"]["retention"] == "7d"
