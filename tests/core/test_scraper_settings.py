"""What else a pool may ask for: more about each scrape, a log of failures, ends of timestamped series, exemplars."""

import json
import time
from datetime import datetime
from pathlib import Path

from bellbuoy._core import Scraper, Storage
from tests.core.formats import OPENMETRICS
from tests.core.scraping import Exporter, eventually, last_error, only, series, settings, target, values


def test_extra_metrics_tell_a_scrape_s_limits(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    asked = settings(extra_scrape_metrics=True, sample_limit=5, body_size_limit=20)
    scraper.set_pool("p", asked, [target(exporter)])
    eventually(lambda: values(storage, "scrape_body_size_bytes"))
    assert values(storage, "scrape_timeout_seconds")[0] == 0.1
    assert values(storage, "scrape_sample_limit")[0] == 5.0
    assert values(storage, "scrape_body_size_bytes")[0] == float(len(exporter.body))
    exporter.body = b"a 1\n" * 10
    assert last_error(scraper) == "body size limit exceeded"
    eventually(lambda: values(storage, "scrape_body_size_bytes")[-1] == -1.0)
    exporter.body, exporter.status = b"a 1\n", 500
    eventually(lambda: values(storage, "scrape_body_size_bytes")[-1] == 0.0)
    # Who does not ask for them has none, and those of a pool that asks no longer end.
    scraper.set_pool("p", settings(), [target(exporter)])
    exporter.status = 200
    eventually(lambda: values(storage, "scrape_body_size_bytes")[-1] == "stale")


def test_failures_are_logged_as_lines_of_json(
    exporter: Exporter, tmp_path: Path, storage: Storage, scraper: Scraper
) -> None:
    log = tmp_path / "failed.log"
    scraper.set_pool("p", settings(scrape_failure_log_file=str(log)), [target(exporter)])
    eventually(lambda: values(storage, "up"))
    assert not log.exists()
    exporter.status = 500
    eventually(lambda: log.exists() and log.read_text().count("\n") >= 2)
    first = json.loads(log.read_text().splitlines()[0])
    assert abs(time.time() - datetime.fromisoformat(first.pop("time")).timestamp()) < 60
    want = {"level": "ERROR", "msg": "server returned HTTP status 500 Internal Server Error"}
    assert first == want | {"scrape_pool": "p", "target": exporter.url}
    # Rotated: the next line makes a new file.
    log.rename(tmp_path / "failed.log.1")
    eventually(lambda: log.exists())
    scraper.set_pool("p", settings(scrape_failure_log_file=str(tmp_path / "no" / "log")), [target(exporter)])
    eventually(lambda: "and cannot write scrape_failure_log_file" in only(scraper)["last_error"])


def test_timestamped_series_end_where_that_is_asked_for(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    def check(*, tracked: bool) -> None:
        name = f"b_{tracked}"
        exporter.status = 200
        now_ms = int(time.time() * 1000)
        exporter.body = f'{name}{{x="1"}} 1 {now_ms}\n{name}{{x="2"}} 1 {now_ms}\n{name}{{x="3"}} 1\n'.encode()
        scraper.set_pool("p", settings(track_timestamps_staleness=tracked), [target(exporter)])
        eventually(lambda: len(series(storage, name)) == 3)
        exporter.body = f'{name}{{x="2"}} 1 {now_ms + 1}\n'.encode()

        def ends() -> dict[str, bool]:
            return {labels["x"]: samples[-1][1] == "stale" for labels, samples in series(storage, name)}

        eventually(lambda: ends() == {"1": tracked, "2": False, "3": True})
        exporter.status = 500
        eventually(lambda: values(storage, "up")[-1] == 0.0)
        assert ends() == {"1": tracked, "2": tracked, "3": True}

    check(tracked=False)
    check(tracked=True)


def exemplars(storage: Storage) -> list[tuple[dict[str, str], dict[str, str], float, int]]:
    found = storage.exemplars([], -(1 << 62), 1 << 62)
    return [(labels, *one) for labels, held in found for one in held]


def test_exemplars_are_kept_once_each(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.content_type = OPENMETRICS
    one = b'# {trace_id="abc"} 0.5 1700000000.25'
    exporter.body = b'h_bucket{le="1"} 1 %s\nh_bucket{le="2"} 2 # {} 1.5\nbad 1 # {x} 1\n# EOF\n' % one
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "bad")) >= 3)
    exporter.body = exporter.body.replace(b"h_bucket", b"new 1\nh_bucket", 1)
    eventually(lambda: values(storage, "new"))
    found = exemplars(storage)
    bucket = {"__name__": "h_bucket", "job": "j", "instance": "i"}
    assert [(labels, about, value) for labels, about, value, _ in found] == [
        ({**bucket, "le": "1"}, {"trace_id": "abc"}, 0.5),
        ({**bucket, "le": "2"}, {}, 1.5),
    ]
    assert found[0][3] == 1700000000250
    assert abs(found[1][3] - time.time() * 1000) < 60_000
    assert (scraper.stats()["exemplars"], scraper.stats()["exemplars_rejected"]) == (2, 1)
    exporter.body = exporter.body.replace(b"abc", b"def")
    eventually(lambda: len(exemplars(storage)) == 3)
    assert exemplars(storage)[1][:2] == ({**bucket, "le": "1"}, {"trace_id": "def"})
