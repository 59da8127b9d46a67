"""A scrape over HTTP: what is asked for, in which form, and what happens when a collector fails."""

import argparse
import asyncio
import contextlib
import gzip
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bellbuoy.errors import OptionsError
from bellbuoy.exposition import Page, parse
from bellbuoy.node_exporter import Options, add_arguments, options, run
from bellbuoy.node_exporter.collectors import FACTORIES
from bellbuoy.node_exporter.options import COLLECTORS
from bellbuoy.node_exporter.scrape import Scraper


@contextlib.asynccontextmanager
async def exporter(wanted: Options) -> AsyncIterator[str]:
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(wanted, stop, listening=address.set_result))
    await asyncio.wait([task, address], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield f"http://{await address}"
    finally:
        stop.set()
        await task


def given(*flags: str) -> Options:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options(parser.parse_args(["--web.listen-address=127.0.0.1:0", *flags]))


async def get(url: str, **headers: str) -> tuple[int, str, str]:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.get(url, headers=said) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_text_openmetrics_and_gzip_as_asked() -> None:
    async with exporter(given()) as url:
        status, kind, text = await get(url + "/metrics")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "# TYPE node_cpu_seconds_total counter\n" in text
        _, kind, text = await get(url + "/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert kind.startswith("application/openmetrics-text; version=1.0.0")
        read = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
        families = {family.name: family.type for family in read}
        assert families["node_cpu_seconds"] == "counter"
        assert families["node_load1"] == "gauge"
        assert families["node_vmstat_pgfault"] == "unknown"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(url + "/metrics", headers={"Accept-Encoding": "gzip"}) as answer,
        ):
            assert answer.headers["Content-Encoding"] == "gzip"
            assert b"node_load1 " in gzip.decompress(await answer.read())


async def test_collectors_are_chosen_by_the_request_and_by_flags() -> None:
    async with exporter(given("--no-collector.arp", "--web.disable-exporter-metrics")) as url:
        _, _, text = await get(url + "/metrics?collect[]=loadavg&collect[]=uname")
        names = {name.removeprefix("node_") for name in parse(text)}
        assert names == {
            "load1",
            "load5",
            "load15",
            "uname_info",
            "scrape_collector_duration_seconds",
            "scrape_collector_success",
        }
        _, _, text = await get(url + "/metrics?exclude[]=cpu")
        assert "node_load1 " in text
        assert "node_cpu_seconds_total" not in text
        for query in ("collect[]=arp", "collect[]=nonsense", "collect[]=cpu&exclude[]=arp"):
            assert (await get(f"{url}/metrics?{query}"))[0] == 400


def test_flags_are_node_exporters() -> None:
    only = given("--collector.disable-defaults", "--collector.cpu", "--collector.loadavg")
    assert only.collectors == {"cpu", "loadavg"}
    assert given().collectors == {name for name, on in COLLECTORS.items() if on}
    assert given().collectors == Options().collectors
    assert given() == Options(listen="127.0.0.1:0")
    chosen = given("--collector.diskstats.device-include=^sd")
    assert (chosen.disks.keeps("sda1"), chosen.disks.keeps("vda")) == (True, False)
    assert not given("--collector.netdev.device-exclude=^veth").netdev_devices.keeps("veth12")
    machine = given("--path.procfs=/host/proc", "--path.sysfs=/host/sys", "--path.rootfs=/host/root").machine
    assert (machine.procfs, machine.sysfs, machine.rootfs) == ("/host/proc", "/host/sys", "/host/root")
    assert (machine.root("/x"), machine.strip_root("/host/root"), machine.strip_root("/host/rootless")) == (
        "/host/root/x",
        "/",
        "/host/rootless",
    )


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--collector.vmstat.fields=("], "write a regular expression"),
        (["--collector.netdev.device-include=a", "--collector.netdev.device-exclude=b"], "give one of them"),
        (["--collector.filesystem.mount-timeout=soon"], "cannot read duration"),
        (["--collector.filesystem.mount-timeout=0s"], "above zero"),
        (["--collector.filesystem.stat-workers=0"], "give 1 or more"),
        (["--web.telemetry-path=metrics"], "begin it with a slash"),
    ],
)
def test_a_bad_flag_is_named_with_its_cure(flags: list[str], reason: str) -> None:
    with pytest.raises(OptionsError, match=reason):
        given(*flags)


def test_every_flag_has_help_with_its_default() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    for action in parser._actions:
        assert action.help, action.option_strings
        assert "default: " in action.help, action.option_strings


def test_one_collector_that_fails_does_not_fail_the_rest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = True

    def collect(page: Page) -> None:
        page.gauge("node_entropy_available_bits", "Bits of available entropy.", 1)
        if broken:
            raise ValueError("the kernel speaks in tongues")

    monkeypatch.setitem(FACTORIES, "entropy", lambda machine, options: collect)
    scraper = Scraper(Options())

    def successes() -> dict[str, float]:
        families = parse(scraper.scrape().text())
        return {dict(s.labels)["collector"]: s.value for s in families["node_scrape_collector_success"].samples}

    with caplog.at_level(logging.INFO):
        first, _ = successes(), successes()
        broken = False
        last = successes()
    assert (first["entropy"], first["cpu"], first["meminfo"], last["entropy"]) == (0, 1, 1, 1)
    assert [record.message for record in caplog.records] == ["collector fails", "collector succeeds again"]


async def test_too_many_scrapes_at_once_are_told_to_come_later() -> None:
    async with exporter(given("--web.max-requests=1")) as url:
        statuses = [status for status, _, _ in await asyncio.gather(*(get(url + "/metrics") for _ in range(20)))]
    assert set(statuses) == {200, 503}


async def test_files_of_others_are_added_and_bad_ones_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, text in {
        "a.prom": '# HELP backup_seconds When.\n# TYPE backup_seconds gauge\nbackup_seconds{db="x"} 12\n',
        "b.prom": '# TYPE took histogram\ntook_bucket{le="+Inf"} 1\ntook_sum 1\ntook_count 1\n',
        "bad.prom": "this is no metric\n",
        "clash.prom": "# TYPE backup_seconds counter\nbackup_seconds 1\n",
        "late.prom": "late 1 1700000000000\n",
        "ours.prom": "node_load1 99\n",
        "twice.prom": 'other 1\nbackup_seconds{db="x"} 13\n',
        "unread.txt": "unread 1\n",
    }.items():
        (tmp_path / name).write_text(text)
    async with exporter(given(f"--collector.textfile.directory={tmp_path}")) as url:
        _, _, text = await get(url + "/metrics")
        families = parse(text)
        assert 'backup_seconds{db="x"} 12.0\n' in text
        assert (families["took"].type, families["backup_seconds"].help) == ("histogram", "When.")
        assert families["node_textfile_scrape_error"].samples[0].value == 1
        files = {dict(s.labels)["file"] for s in families["node_textfile_mtime_seconds"].samples}
        assert files == {str(tmp_path / "a.prom"), str(tmp_path / "b.prom")}
        assert not {"late", "other", "unread"} & families.keys()
        await get(url + "/metrics")
    told = [record for record in caplog.records if record.message == "cannot use metrics of a file"]
    assert len(told) == 5, "once for each, not once a scrape"
