"""An archive in a bucket is what one in a folder is, and its keys are seen nowhere."""

from pathlib import Path

import pytest

from bellbuoy import cli
from bellbuoy.archive import ArchiveError
from bellbuoy.archive.errors import InterruptedByUserError
from bellbuoy.archive.options import ArchiveOptions
from bellbuoy.archive.store import open_store
from bellbuoy.errors import OptionsError
from bellbuoy.server import options as server_options
from tests.archive.conftest import Bucket, Source, read_archive
from tests.tsdb_tools.conftest import tsdb


def run(source: Source, bucket: Bucket, prefix: str, credentials: Path) -> None:
    source.storage.close()
    tsdb(
        *("archive", "--storage.path", source.folder, "--url", f"s3://{bucket.name}/{prefix}"),
        *("--endpoint", bucket.endpoint, "--region", "us-east-1", "--credentials-file", credentials),
    )


def read(bucket: Bucket, prefix: str) -> object:
    return read_archive(
        f"s3://{bucket.name}/{prefix}",
        aws_endpoint_url=bucket.endpoint,
        aws_allow_http="true",
        aws_access_key_id=bucket.key,
        aws_secret_access_key=bucket.secret,
        aws_region="us-east-1",
    )


def test_polars_finds_each_sample_once_in_the_bucket(source: Source, bucket: Bucket, tmp_path: Path) -> None:
    source.rows(0, 7)
    source.late(0.5)
    want = source.finished()
    credentials = bucket.credentials(tmp_path / "keys")
    for _ in range(2):
        run(source, bucket, "a/server-0", credentials)
        assert read(bucket, "a/server-0") == want


def test_an_object_that_is_there_has_a_name_and_can_be_deleted(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 20_000_000)
    store = open_store(
        ArchiveOptions(f"s3://{bucket.name}/b", bucket.endpoint, "us-east-1", bucket.credentials(tmp_path / "keys"))
    )
    assert not store.exists("large")
    store.put(tmp_path / "file", "large", check=lambda: None)
    assert store.exists("large")
    calls = iter(range(3))

    def stop() -> None:
        if next(calls) == 2:
            raise InterruptedByUserError("stop")

    with pytest.raises(InterruptedByUserError):
        store.put(tmp_path / "file", "half", check=stop)
    assert not store.exists("half")
    store.delete("large")
    store.delete("large")
    assert not store.exists("large")


def test_what_the_service_says_is_told_without_the_keys(
    source: Source, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.rows(0, 3)
    credentials = bucket.credentials(tmp_path / "keys")
    none = Bucket(bucket.endpoint, "no-such-bucket", bucket.key, bucket.secret)
    with pytest.raises(
        ArchiveError, match=r"cannot write s3://no-such-bucket/a/2023.*: .*; see that the endpoint"
    ) as e:
        run(source, none, "a", credentials)
    said = capsys.readouterr()
    assert bucket.secret not in f"{e.value}{said.out}{said.err}"
    credentials.write_text(f"aws_secret_access_key = {bucket.secret}\n")
    with pytest.raises(ArchiveError, match="it wants a section") as e:
        run(source, bucket, "a", credentials)
    assert bucket.secret not in str(e.value)
    credentials.unlink()
    with pytest.raises(ArchiveError, match=r"cannot read .*keys: no such file"):
        run(source, bucket, "a", credentials)


def chosen(*words: str) -> ArchiveOptions | None:
    return server_options(cli.parser("server").parse_args(["server", *words])).archive


def test_the_servers_flags_say_where_and_how_persistently(tmp_path: Path) -> None:
    assert chosen() is None
    words = ("--storage.archive.url", "s3://bucket/prefix/", "--storage.archive.endpoint", "https://minio:9000")
    more = ("--storage.archive.region", "eu-1", "--storage.archive.credentials-file", "/keys")
    waits = ("--storage.archive.interval", "5m", "--storage.archive.retry-delay", "1s")
    assert chosen(*words, *more, *waits, "--storage.archive.retry-max-delay", "1h") == ArchiveOptions(
        "s3://bucket/prefix", "https://minio:9000", "eu-1", Path("/keys"), 300.0, 1.0, 3600.0
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:secret@bucket/prefix", "keys stand in a file"),
        ("s3://bucket/prefix?secret", "keys stand in a file"),
        ("s3:///prefix", "it names no bucket"),
        ("gs://bucket", "it begins with none of file://, s3://"),
        ("/folder", "it begins with none of"),
        ("file://folder", "write file:///FOLDER"),
        ("file:///", "write file:///FOLDER"),
        ("s3://bucket:x/secret", "mend it"),
    ],
)
def test_a_url_that_cannot_be_is_refused_and_not_repeated(url: str, said: str) -> None:
    with pytest.raises(OptionsError, match=said) as e:
        chosen("--storage.archive.url", url)
    assert "secret" not in str(e.value)
    with pytest.raises(OptionsError, match="endpoint: it begins with none of http://, https://"):
        chosen("--storage.archive.url", "s3://bucket", "--storage.archive.endpoint", "minio:9000")
    with pytest.raises(OptionsError, match="without its URL"):
        chosen("--storage.archive.region", "x")
