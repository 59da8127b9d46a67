"""Records what the exposer says, and what Prometheus makes of it."""

import asyncio
import json
import shutil
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.histograms import RECORDED
from tests.histograms.servers import answered, exposer, reference

ACCEPT = {
    "body.pb": (
        "/metrics", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
    "body.openmetrics": ("/text", "application/openmetrics-text;version=1.0.0"),
    "body.text": ("/text", "text/plain;version=0.0.4"),
}  # fmt: skip


def ask(url: str, accept: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        said: bytes = answer.read()
        return said


async def record() -> None:
    with TemporaryDirectory() as folder:
        async with exposer(Path(folder)) as source:
            async with reference(source.url.removeprefix("http://"), Path(folder)) as at:
                answer = await answered(at, counted=51)
            shutil.rmtree(RECORDED, ignore_errors=True)
            RECORDED.mkdir()
            for name, (path, accept) in ACCEPT.items():
                (RECORDED / name).write_bytes(await asyncio.to_thread(ask, source.url + path, accept))
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in answer)
    (RECORDED / "answer.json").write_text(f"[\n{lines}\n]\n")


asyncio.run(record())
