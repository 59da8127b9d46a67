"""An API server that cannot be found or reached is one line that says why, and never what a kubeconfig holds."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bellbuoy.errors import explain
from bellbuoy_operator import Options, run
from bellbuoy_operator.cluster import Cluster, ClusterError

TOKEN = "hush-hush"
GOOD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": TOKEN}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}
CASES: dict[str, tuple[Any, str]] = {
    "syntax": (f"users: [{{token: {TOKEN}", "it is no YAML, see line 1"),
    "text": (TOKEN, "it is no mapping"),
    "empty": ({}, "Expected key current-context"),
    "context": ({**GOOD, "current-context": "y"}, "Expected object with name y"),
    "clusters": ({**GOOD, "clusters": 5}, "a field of it is of a wrong form"),
    "user": ({**GOOD, "users": [{"name": "u", "usr": {"token": TOKEN}}]}, "Expected key user"),
    "certificate": ({**GOOD, "users": [{"name": "u", "user": {"client-certificate": "/nope"}}]}, "/nope"),
    "authority": (
        {**GOOD, "clusters": [{"name": "c", "cluster": {"server": "https://a", "certificate-authority-data": "aGk="}}]},
        "no certificate",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_kubeconfig_that_cannot_be_used_is_named_with_the_reason(case: str, tmp_path: Path) -> None:
    content, reason = CASES[case]
    path = tmp_path / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ClusterError) as caught:
        await Cluster.connect(path)
    text = explain(caught.value)
    assert text is not None
    assert re.fullmatch(f"cannot use the kubeconfig {path}: .*; see what kubectl --kubeconfig={path} .* says", text)
    assert reason in text
    assert TOKEN not in text


async def test_a_kubeconfig_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"config: no such file or directory; see what"):
        await Cluster.connect(tmp_path / "config")


async def test_without_a_pod_and_a_kubeconfig_the_flag_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterError, match=r"cannot find the API server: .*give --kubeconfig"):
        await Cluster.connect(None)


async def test_an_api_server_that_does_not_answer_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(GOOD))
    options = Options(kubeconfig=path, config_listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1.*; see whether the API server runs"):
        await run(options, asyncio.Event())
