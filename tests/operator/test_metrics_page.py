"""What the operator answers at /metrics, with a stack behind it, as promtool reads it."""

import asyncio
import subprocess

import pytest

from tests.operator.conftest import Running, resource, until
from tests.peers.programs import program

pytestmark = [pytest.mark.control_plane, pytest.mark.peers]


async def test_promtool_finds_nothing_wrong_with_the_operators_metrics(operator: Running) -> None:
    await operator.apply(resource("MonitoringStack", "main", {}))

    async def metrics() -> str:
        async with operator.session.get(f"https://{operator.address}/metrics") as response:
            assert response.status == 200
            return await response.text()

    async def full() -> str:
        text = await metrics()
        return text if 'bellbuoy_operator_reconciles_total{outcome="' in text else ""

    await until("a reconcile is counted", full)
    assert (await operator.ask("changes?timeout=0"))[0] == 200
    text = await metrics()
    checked = await asyncio.to_thread(
        subprocess.run, [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.stdout + checked.stderr, checked.returncode) == ("", 0)
    assert 'bellbuoy_http_requests_total{code="200"' in text
