"""Where an archive lies: a folder, or a bucket of S3 or what speaks its protocol.

A file has its name when it is whole: in a folder it is renamed after it was synced, a bucket shows an object only
when its last part is there. pyarrow's file systems do the talking, with the AWS SDK in them: it is what writes the
Parquet, too.
"""

import configparser
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from bellbuoy.archive.errors import ArchiveError
from bellbuoy.archive.options import ArchiveOptions

CONNECT_SECONDS = 10.0
# A service that takes longer for one part will not do.
REQUEST_SECONDS = 30.0
# The SDK's own tries, for what is over in a moment; what lasts is tried again after the archive's waits.
ATTEMPTS = 3
COPY_BYTES = 8 << 20


class Store(Protocol):
    """What an archive needs of the place where it lies."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file. Raises ArchiveError."""

    def put(self, path: Path, name: str, *, check: Callable[[], None]) -> None:
        """Copy a file there; what has the name is replaced. Raises ArchiveError, and what `check` raises, which is
        called now and then: then no such file is there.
        """

    def delete(self, name: str) -> None:
        """Delete a file, if it is there. Raises ArchiveError."""


def open_store(options: ArchiveOptions) -> Store:
    """The store at the URL. Raises ArchiveError when its keys cannot be read."""
    split = urlsplit(options.url)
    if split.scheme == "file":
        return FolderStore(Path(unquote(split.path)))
    return BucketStore(options)


class FolderStore:
    """A folder, made when the first file comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self._folder / name).exists()

    def put(self, path: Path, name: str, *, check: Callable[[], None]) -> None:
        """Copy, sync, rename."""
        target, temporary = self._folder / name, self._folder / f".{name}.new"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, temporary.open("wb") as copy:
                _copy(source, copy, check)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.rename(target)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as e:
            raise ArchiveError(
                f"cannot write {target}: {(e.strerror or str(e)).lower()}; let this process's user write there, or "
                "free space"
            ) from e

    def delete(self, name: str) -> None:
        """Delete the file."""
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as e:
            raise ArchiveError(
                f"cannot delete {self._folder / name}: {e.strerror}; let this process's user do it"
            ) from e


class BucketStore:
    """Objects below a prefix."""

    def __init__(self, options: ArchiveOptions) -> None:
        split = urlsplit(options.url)
        self._base = f"{split.netloc}{unquote(split.path)}".rstrip("/")
        arguments: dict[str, Any] = _keys(options.credentials_file) if options.credentials_file else {}
        if options.region:
            arguments["region"] = options.region
        if options.endpoint:
            endpoint = urlsplit(options.endpoint)
            arguments |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
        self._files = fs.S3FileSystem(
            **arguments,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            return bool(self._info(name).type != fs.FileType.NotFound)
        except OSError as e:
            raise self._failed("look for", name, e) from e

    def put(self, path: Path, name: str, *, check: Callable[[], None]) -> None:
        """Upload in parts; the object is there when the last one is."""
        whole = False
        try:
            with path.open("rb") as source, self._files.open_output_stream(f"{self._base}/{name}") as upload:
                _copy(source, upload, check)
                whole = True
            found = self._info(name).size
        except OSError as e:
            raise self._failed("write", name, e) from e
        finally:
            if not whole:
                # The stream's end has made an object of what there was.
                self.delete(name)
        if found != path.stat().st_size:
            raise ArchiveError(f"cannot write s3://{self._base}/{name}: {found} bytes arrived; it will be tried again")

    def delete(self, name: str) -> None:
        """Delete the object."""
        try:
            if self._info(name).type != fs.FileType.NotFound:
                self._files.delete_file(f"{self._base}/{name}")
        except OSError as e:
            raise self._failed("delete", name, e) from e

    def _info(self, name: str) -> Any:
        return self._files.get_file_info(f"{self._base}/{name}")

    def _failed(self, verb: str, name: str, error: OSError) -> ArchiveError:
        return ArchiveError(
            f"cannot {verb} s3://{self._base}/{name}: {error}; see that the endpoint answers, and that the keys may "
            "read, write and delete there"
        )


def _copy(source: BinaryIO, target: Any, check: Callable[[], None]) -> None:
    while piece := source.read(COPY_BYTES):
        check()
        target.write(piece)


def _keys(path: Path) -> dict[str, str]:
    """What the file says, as the SDK's arguments; errors quote nothing of it."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["default"]
        keys = {"access_key": section["aws_access_key_id"], "secret_key": section["aws_secret_access_key"]}
    except OSError as e:
        raise ArchiveError(f"cannot read {path}: {(e.strerror or str(e)).lower()}; see that this process may") from e
    except (configparser.Error, KeyError, UnicodeDecodeError):
        raise ArchiveError(
            f"cannot use {path}: it wants a section [default] with aws_access_key_id and aws_secret_access_key"
        ) from None
    if token := section.get("aws_session_token"):
        keys["session_token"] = token
    return keys
