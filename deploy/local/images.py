"""The images of Bellbuoy's parts for the local cluster: the content of deploy/images/Containerfile, without an engine.

Each image is a pile of layers, from what changes least to what changes most: Debian's Python, the packages that every
part needs, those of one part, our own code. A layer is kept in the cache under a hash of what it is made from, so after
a change of our code alone only that small layer is made. Modules are compiled beforehand: a container that is not root
on a read-only file system could not keep what it compiles, and would start slowly each time.
"""

import compileall
import hashlib
import json
import os
import py_compile
import shutil
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from deploy.local import archive, paths
from deploy.local.archive import Image, Layer, walk, write_layer
from deploy.local.shell import LocalClusterError, locked, run, say

USER = "65532:65532"
SITE = "usr/local/lib/python3.11/dist-packages"
SUITE = "bookworm"
# libstdc++6: numpy is written in C++.
DEBIAN_PACKAGES = ("python3", "libstdc++6", "ca-certificates", "tzdata")
DEBIAN_MIRROR = "http://deb.debian.org/debian"
# Left out of Debian's part: nobody reads manuals in a container.
_UNUSED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/lib/apt",
    "var/cache",
    "var/log",
)
SAMPLE_APP = paths.CHECKOUT / "tests" / "apps" / "sample_app.py"


@dataclass(frozen=True)
class Part:
    """One image: `bellbuoy.io/NAME:dev`."""

    name: str
    extra: str = ""
    """The extra of pyproject.toml that says what it needs."""
    more: str = ""
    """Another extra, in a layer of its own."""
    command: str = ""
    """What it runs; its name when empty."""
    packages: tuple[str, ...] = ("agents/bellbuoy",)
    """Our own packages in it."""

    @property
    def image(self) -> str:
        return f"bellbuoy.io/{self.name}:dev"


PARTS = {
    part.name: part
    for part in (
        Part("server", extra="server"),
        Part("server-archive", extra="server", more="parquet", command="server"),
        Part("alertmanager", extra="alertmanager"),
        Part("pushgateway", extra="pushgateway"),
        Part("node-exporter", extra="node-exporter"),
        Part("operator", extra="operator", packages=("agents/bellbuoy", "operator/bellbuoy_operator")),
        Part("sample-app", packages=()),
    )
}


def build(parts: Iterable[str]) -> Path:
    """One archive with the images of these parts; what they share is in it once."""
    chosen = []
    for name in parts:
        if name not in PARTS:
            raise LocalClusterError(f'there is no part "{name}"; there are: {", ".join(PARTS)}')
        chosen.append(PARTS[name])
    if sys.version_info[:2] != (3, 11):
        raise LocalClusterError("images hold Debian 12's Python 3.11: pack them with a Python 3.11")
    folder = paths.cache() / "images"
    with locked(folder / ".lock", why="packing images"):
        base = _debian(folder)
        common = _packages(folder, _requirements(""), below=None)
        # Once for all images: the checkout may change meanwhile.
        own = {package: _code(folder, paths.CHECKOUT / package) for part in chosen for package in part.packages}
        images = [_image(folder, part, base=base, common=common, own=own) for part in chosen]
        key = hashlib.sha256(repr(images).encode()).hexdigest()[:12]
        built = folder / f"bellbuoy-{key}.tar"
        if not built.exists():
            for older in folder.glob("bellbuoy-*.tar"):
                older.unlink()
            archive.write_archive(built, images)
        _forget_older(folder, images)
    return built


def _image(folder: Path, part: Part, *, base: Layer, common: Layer, own: Mapping[str, Layer]) -> Image:
    layers = [base, common]
    if part.name == "sample-app":
        with _staging(folder) as staging:
            shutil.copy(SAMPLE_APP, staging)
            layers.append(_own_layer(folder, "sample-app", staging, site="app"))
        return Image(name=part.image, layers=layers, entrypoint=["python3", "/app/sample_app.py"], user=USER)
    for extra in (part.extra, part.more):
        requirements = _requirements(extra)
        if len(requirements) > len(_requirements("")):
            layers.append(_packages(folder, requirements, below=common))
    layers.extend(own[package] for package in part.packages)
    entrypoint = ["python3", "-m", "bellbuoy", part.command or part.name]
    return Image(name=part.image, layers=layers, entrypoint=entrypoint, user=USER, environment=["PYTHONUNBUFFERED=1"])


def _debian(folder: Path) -> Layer:
    """Debian's Python, unpacked and not installed: no package manager, no shell scripts were run."""
    recipe = {"suite": SUITE, "packages": DEBIAN_PACKAGES, "unused": _UNUSED, "version": 1}

    def make(file: Path) -> None:
        if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
            raise LocalClusterError("packing the base image needs root and mmdebstrap: apt-get install mmdebstrap")
        say(f"images: fetching {', '.join(DEBIAN_PACKAGES)} of Debian {SUITE}")
        with _staging(folder) as staging:
            root = staging / "root"
            arguments = ["--quiet", "--variant=extract", f"--include={','.join(DEBIAN_PACKAGES)}"]
            run("mmdebstrap", *arguments, SUITE, root, DEBIAN_MIRROR)
            for unused in _UNUSED:
                shutil.rmtree(root / unused, ignore_errors=True)
            _finish_debian(root)
            _compile(root / "usr/lib/python3.11", place="/usr/lib/python3.11")
            write_layer(file, walk(root))

    return _kept(folder, "debian", recipe, make)


def _finish_debian(root: Path) -> None:
    """What the packages' scripts would have made: certificates in one file, users, and a place for each to write."""
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssl/certs/ca-certificates.crt").write_bytes(b"".join(file.read_bytes() for file in authorities))
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbellbuoy:x:65532:65532:bellbuoy:/tmp:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nbellbuoy:x:65532:\n")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def _requirements(extra: str) -> list[str]:
    """What pyproject.toml says that a part needs."""
    project = _project()
    return [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text())["project"]
    return project


def _packages(folder: Path, requirements: list[str], *, below: Layer | None) -> Layer:
    """The packages from PyPI, less what the layer below has; at the versions that this environment is tested with."""
    versions = sorted(
        {f"{d.metadata['Name']}=={d.version}" for d in distributions() if d.metadata["Name"] != "bellbuoy"}
    )
    # Only those that can matter would be better, but are known only after resolving: so a new tool repacks, rarely.
    recipe = {"requirements": requirements, "versions": versions, "below": below.digest if below else "", "version": 1}

    def make(file: Path) -> None:
        say(f"images: installing {', '.join(requirements)}")
        with _staging(folder) as staging:
            (staging / "versions").write_text("\n".join(versions))
            target = staging / "site"
            pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-compile", "--target", str(target)]
            run(*pip, "--constraint", staging / "versions", *requirements)
            shutil.rmtree(target / "bin", ignore_errors=True)
            _compile(target, place=f"/{SITE}")
            write_layer(file, walk(target, below=SITE, keep=_without(below)))

    return _kept(folder, "packages", recipe, make)


def _without(below: Layer | None) -> Callable[[Path], bool]:
    """Keeps what the layer below does not hold; which versions it holds is the same, by the constraints."""
    if below is None:
        return lambda _: True
    with tarfile.open(below.file) as tar:
        known = {entry.name for entry in tar if not entry.isdir()}

    def keep(source: Path) -> bool:
        *_, inside = str(source).partition("/site/")
        return not source.is_dir() and f"{SITE}/{inside}" not in known

    return keep


def _code(folder: Path, package: Path) -> Layer:
    """One package of ours as it lies in the checkout, with the built core if there is one, and its version."""
    with _staging(folder) as staging:
        target = staging / package.name
        shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyi", "node_modules"))
        if package.name == "bellbuoy":
            if not list(target.glob("_core*.so")):
                raise LocalClusterError("the Rust core is not built: run `make core`, then pack the images")
            version = _project()["version"]
            info = staging / f"bellbuoy-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bellbuoy\nVersion: {version}\n")
        return _own_layer(folder, package.name, staging, site=SITE)


def _own_layer(folder: Path, name: str, staging: Path, *, site: str) -> Layer:
    """Our code's layer, under a hash of its files."""
    files = [file for _, file in walk(staging) if file.is_file()]
    recipe = {str(f.relative_to(staging)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    def make(file: Path) -> None:
        _compile(staging, place=f"/{site}")
        write_layer(file, walk(staging, below=site))

    return _kept(folder, name, recipe, make)


def _forget_older(folder: Path, images: Iterable[Image]) -> None:
    """Remove the layers of our code as it was: there is a new one after every change."""
    used = {layer.file for image in images for layer in image.layers}
    replaced = {_layer_name(file) for file in used} - {"debian", "packages"}
    for file in (folder / "layers").glob("*.tar"):
        if file not in used and _layer_name(file) in replaced:
            file.unlink()


def _layer_name(file: Path) -> str:
    return file.name.rpartition("-")[0]


def _compile(folder: Path, *, place: str) -> None:
    """Beside each module its compiled form, which Python takes without comparing times: layers have none."""
    compileall.compile_dir(
        folder,
        quiet=2,
        workers=0,
        stripdir=str(folder),
        prependdir=place,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _kept(folder: Path, name: str, recipe: Mapping[str, Any], make: Callable[[Path], None]) -> Layer:
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    file = folder / "layers" / f"{name}-{key}.tar"
    if not file.exists():
        make(file)
    return Layer.of(file)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".staging-") as staging:
        # mmdebstrap reads it as another user.
        Path(staging).chmod(0o755)
        yield Path(staging)
