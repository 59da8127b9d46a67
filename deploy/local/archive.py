"""Container images as files, in the OCI layout that `ctr images import` reads: no engine, no daemon, no registry.

A layer is a tar of a folder, made so that equal content gives equal bytes: times and owners are dropped, names sorted.
It is named by its digest, so containerd unpacks it once, however many images share it. Layers are not compressed: they
never leave the machine, and packing would take longer than all the rest.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KINDS = "application/vnd.oci.image"


@dataclass(frozen=True)
class Layer:
    """A tar file and its digest."""

    file: Path
    digest: str

    @classmethod
    def of(cls, file: Path) -> "Layer":
        with file.open("rb") as opened:
            return cls(file, "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest())


@dataclass(frozen=True)
class Image:
    """What one image is made of and how it starts."""

    name: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str]
    user: str = ""
    environment: Sequence[str] = field(default_factory=tuple)
    labels: Mapping[str, str] = field(default_factory=dict)


def write_layer(file: Path, entries: Iterable[tuple[str, Path]]) -> Layer:
    """A layer of these `(path in the image, path here)`; the same content gives the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".part")
    parents: set[str] = set()
    with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, source in sorted(entries):
            _add_parents(tar, name, parents)
            if source.is_dir() and not source.is_symlink():
                if name in parents:
                    continue
                parents.add(name)
            tar.add(source, name, recursive=False, filter=_plain)
    fresh.rename(file)
    return Layer.of(file)


def write_archive(file: Path, images: Sequence[Image]) -> None:
    """One archive with all of the images; what they share is in it once."""
    blobs: dict[str, Path | bytes] = {}
    manifests = []
    for image in images:
        blobs |= {layer.digest: layer.file for layer in image.layers}
        manifests.append(_manifest(image, blobs))
    index = {"schemaVersion": 2, "mediaType": f"{_KINDS}.index.v1+json", "manifests": manifests}
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".part")
    with tarfile.open(fresh, "w") as tar:
        _put(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _put(tar, "index.json", _json(index))
        for digest, content in blobs.items():
            _put(tar, f"blobs/sha256/{digest.removeprefix('sha256:')}", content)
    fresh.rename(file)


def _manifest(image: Image, blobs: dict[str, Path | bytes]) -> dict[str, Any]:
    """Add the image's configuration and manifest to the blobs; the index's entry for it."""
    start = {
        "Env": [_PATH, *image.environment],
        "Entrypoint": list(image.entrypoint),
        "WorkingDir": "/",
        "User": image.user,
        "Labels": dict(image.labels),
    }
    differences = [layer.digest for layer in image.layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": start,
        "rootfs": {"type": "layers", "diff_ids": differences},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KINDS}.manifest.v1+json",
        "config": _blob(blobs, _json(config), f"{_KINDS}.config.v1+json"),
        "layers": [
            {"mediaType": f"{_KINDS}.layer.v1.tar", "digest": layer.digest, "size": layer.file.stat().st_size}
            for layer in image.layers
        ],
    }
    annotations = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
    }
    entry = _blob(blobs, _json(manifest), f"{_KINDS}.manifest.v1+json")
    return {**entry, "platform": {"architecture": "amd64", "os": "linux"}, "annotations": annotations}


def _blob(blobs: dict[str, Path | bytes], content: bytes, kind: str) -> dict[str, Any]:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _put(tar: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        return
    entry.size = content.stat().st_size
    with content.open("rb") as opened:
        tar.addfile(entry, opened)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without times and owners; devices and sockets stay out, a container gets its own."""
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        return None
    entry.mtime = 0
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _add_parents(tar: tarfile.TarFile, name: str, known: set[str]) -> None:
    parts = name.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        folder = "/".join(parts[:count])
        if folder not in known:
            known.add(folder)
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)


def walk(folder: Path, *, below: str = "", keep: Callable[[Path], bool] = lambda _: True) -> Iterable[tuple[str, Path]]:
    """A folder's entries for `write_layer`, placed below a path of the image."""
    for source in sorted(folder.rglob("*")):
        if keep(source):
            yield str(Path(below) / source.relative_to(folder)), source
