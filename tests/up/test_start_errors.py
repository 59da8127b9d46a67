"""What keeps a part from starting is one line that names the thing and the cure; a mistake of ours keeps its trace."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.up.program import EXAMPLES, Program, Up, environment, free_ports, run_to_end, wait_for

ANY_PORT = "--web.listen-address=127.0.0.1:0"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
"""


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


def check(part: str, *arguments: str | Path, says: str, status: int = 1, webhook: str = "") -> None:
    """The part does not start, and says so in one line, this one."""
    ended = run_to_end(part, "--log.level=error", *arguments, SLACK_WEBHOOK_URL=webhook)
    told = [line for line in ended.stderr.splitlines() if not line.startswith("ts=")]
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    assert len(told) == 1, ended.stderr
    assert told[0].startswith(f"bellbuoy {part}: cannot "), told[0]
    assert says in told[0]


def test_a_server_with_a_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("scrape_configs: [{job_name: a, scrape_intervall: 5s}]")
    where = [ANY_PORT, f"--storage.path={tmp_path / 'data'}"]
    file = f"--config.file={tmp_path / 'prometheus.yml'}"
    check("server", *where, file, says='scrape_configs[0]: unknown field "scrape_intervall"; did you mean')
    check("server", *where, "--config.file=/none.yml", says="cannot read /none.yml: ")


def test_a_port_that_is_in_use_and_an_address_that_is_none(taken_port: int) -> None:
    use = f"cannot listen at 127.0.0.1:{taken_port}: the port is in use; end what listens there, or choose another port"
    check("node-exporter", f"--web.listen-address=127.0.0.1:{taken_port}", says=use)
    check("node-exporter", "--web.listen-address=9100", says="cannot listen at 9100: it is no address; write HOST:PORT")
    check("node-exporter", "--web.listen-address=192.0.2.1:0", says="192.0.2.1:0: cannot assign requested address; ch")


def test_a_data_folder_that_another_process_holds(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("scrape_configs: []")
    arguments = [f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.path={tmp_path / 'data'}", ANY_PORT]
    with Program(["server", *arguments]) as first:
        wait_for("the first server", lambda: "storage is open" in first.logged)
        check("server", *arguments, says=f"cannot open {tmp_path / 'data'}: another process uses this data folder")
        assert first.end() == 0


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "prometheus.yml").write_text("scrape_configs: []")
    config = f"--config.file={tmp_path / 'prometheus.yml'}"
    says = f"cannot use {tmp_path / 'file' / 'data'}: it, or what it lies in, is no folder; name another"
    check("server", ANY_PORT, config, f"--storage.path={tmp_path / 'file' / 'data'}", says=says)
    says = f"cannot use folder {tmp_path / 'file'}: File exists; set --storage.path to one that we may write"
    check("alertmanager", ANY_PORT, f"--storage.path={tmp_path / 'file'}", says=says)
    says = f"cannot keep groups in {tmp_path / 'none' / 'groups'}: its folder does not exist; make it"
    check("pushgateway", ANY_PORT, f"--persistence.file={tmp_path / 'none' / 'groups'}", says=says)


def test_an_operator_without_an_api_server(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    listen = [ANY_PORT, "--web.config-listen-address=127.0.0.1:0"]
    check("operator", *listen, f"--kubeconfig={tmp_path / 'kubeconfig'}", says="see whether the API server runs")
    check("operator", *listen, "--kubeconfig=/none", says="kubeconfig /none: no such file or directory")


def test_flags_that_contradict_each_other_end_it_with_status_2() -> None:
    both = ["--config.file=a", "--config-url=https://b"]
    check("alertmanager", *both, says="cannot use --config.file with --config-url: keep one of them", status=2)
    check(
        "up", "--manifests", EXAMPLES, "--server.port=1", "--alertmanager.port=1", status=2, says="cannot use port 1 "
    )
    says = "SLACK_WEBHOOK_URL of the environment: it is no http or https URL; copy the webhook's whole URL"
    check("up", "--manifests", EXAMPLES, says=says, status=2, webhook="hooks.slack.com/services/SECRET")


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("kind: [", "a.yaml: cannot read it: while parsing"),
        (
            "apiVersion: bellbuoy.io/v1alpha1\nkind: AlertRuel\nmetadata: {name: a}",
            "no such kind; did you mean AlertRule",
        ),
        (
            "apiVersion: bellbuoy.io/v1alpha1\nkind: AlertRule\nmetadata: {name: a}\nspec: {expr: up, labels: 5}",
            "a.yaml: cannot use AlertRule default/a, spec: labels: must be a mapping; write lines of key: ",
        ),
    ],
)
def test_manifests_of_which_none_can_be_used(tmp_path: Path, manifest: str, says: str) -> None:
    (tmp_path / "a.yaml").write_text(manifest)
    check("up", "--manifests", tmp_path, "--data", tmp_path / "data", says=says)


def test_manifests_and_data_that_are_not_there(tmp_path: Path) -> None:
    check(
        "up", "--manifests", "/none", "--data", tmp_path, says="cannot read manifests in /none: there is no such file"
    )
    (tmp_path / "file").write_text("")
    says = f"cannot use folder {tmp_path / 'file'}: File exists; set --data to one that we may write"
    check("up", "--manifests", EXAMPLES, "--data", tmp_path / "file", says=says)


def test_up_names_the_part_that_cannot_start_and_ends_the_others(tmp_path: Path, taken_port: int) -> None:
    ports = dict(zip(("server", "alertmanager", "node-exporter"), free_ports(3), strict=True))
    arguments = ["--manifests", str(EXAMPLES), "--data", str(tmp_path / "data"), f"--pushgateway.port={taken_port}"]
    arguments += [f"--{part}.port={port}" for part, port in ports.items()]
    says = f"cannot run the pushgateway: cannot listen at 127.0.0.1:{taken_port}: the port is in use"
    check("up", *arguments, says=says)


def test_a_second_up_on_the_same_data_leaves_the_first_alone(tmp_path: Path) -> None:
    with Up.on(EXAMPLES, tmp_path / "data") as first:
        wait_for("the greeting", lambda: "Ctrl-C ends it." in first.printed)
        second = Up.on(EXAMPLES, tmp_path / "data").arguments
        says = f"cannot use folder {tmp_path / 'data'}: another process holds it; end it, or set --data to another"
        check(*second, says=says)
        assert first.end() == 0


def test_a_mistake_of_ours_keeps_its_trace(tmp_path: Path) -> None:
    (tmp_path / "mistaken.py").write_text(
        "def add_arguments(parser): pass\n"
        "def options(args): return None\n"
        "async def run(options, stop): raise RuntimeError('BUG: the invariant')\n"
    )
    program = "from bellbuoy import cli; cli.PARTS['mistaken'] = ('mistaken', '', 'fails'); cli.main(['mistaken'])"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment({"PYTHONPATH": str(tmp_path)}), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "mistaken.py" in ended.stderr
    assert ended.stderr.rstrip().endswith("RuntimeError: BUG: the invariant")


def test_help_shows_every_part_and_where_to_begin() -> None:
    ended = run_to_end("--help")
    assert ended.returncode == 0
    for words in ("  up ", "  server ", "  operator ", "bellbuoy up --manifests examples/"):
        assert words in ended.stdout
    misplaced = run_to_end("--log.level", "debug", "up")
    assert misplaced.returncode == 2
    assert "flags stand behind the part" in misplaced.stderr
