"""Images without an engine: what the archives hold, and that equal content gives equal bytes."""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

from deploy.local.archive import Image, walk, write_archive, write_layer


def make_folder(where: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(content)
    return where


def read(archive: Path, name: str) -> Any:
    with tarfile.open(archive) as tar:
        member = tar.extractfile(name)
        assert member is not None
        return json.loads(member.read())


def test_the_same_content_gives_the_same_layer_whatever_its_times(tmp_path: Path) -> None:
    first = make_folder(tmp_path / "first", {"a/b.txt": "x", "c.txt": "y"})
    second = make_folder(tmp_path / "second", {"c.txt": "y", "a/b.txt": "x"})
    os.utime(second / "c.txt", (1, 1))
    digests = {write_layer(tmp_path / f"{f.name}.tar", walk(f)).digest for f in (first, second)}
    assert len(digests) == 1


def test_other_content_gives_another_layer(tmp_path: Path) -> None:
    first = write_layer(tmp_path / "1.tar", walk(make_folder(tmp_path / "first", {"a": "x"})))
    second = write_layer(tmp_path / "2.tar", walk(make_folder(tmp_path / "second", {"a": "y"})))
    assert first.digest != second.digest


def test_a_layer_lies_below_the_path_that_it_is_given_with_all_parents(tmp_path: Path) -> None:
    layer = write_layer(tmp_path / "1.tar", walk(make_folder(tmp_path / "first", {"a": "x"}), below="usr/lib/app"))
    with tarfile.open(layer.file) as tar:
        assert tar.getnames() == ["usr", "usr/lib", "usr/lib/app", "usr/lib/app/a"]
        assert {member.uid for member in tar} == {0}


def test_links_stay_links(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "first", {"usr/bin/tool": "x"})
    (folder / "bin").symlink_to("usr/bin")
    layer = write_layer(tmp_path / "1.tar", walk(folder))
    with tarfile.open(layer.file) as tar:
        assert tar.getmember("bin").linkname == "usr/bin"
        assert "bin/tool" not in tar.getnames()


def test_images_of_one_archive_share_their_layers(tmp_path: Path) -> None:
    base = write_layer(tmp_path / "base.tar", walk(make_folder(tmp_path / "first", {"a": "x"})))
    top = write_layer(tmp_path / "top.tar", walk(make_folder(tmp_path / "second", {"b": "y"})))
    one = Image(name="example.org/one:v1", layers=[base], entrypoint=["/a"], user="65532:65532")
    two = Image(name="example.org/two:v1", layers=[base, top], entrypoint=["/b"])
    archive = tmp_path / "images.tar"
    write_archive(archive, [one, two])

    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 2 + 2 + 2 * 2
    index = read(archive, "index.json")
    assert [m["annotations"]["io.containerd.image.name"] for m in index["manifests"]] == [one.name, two.name]
    manifest = read(archive, "blobs/" + index["manifests"][0]["digest"].replace(":", "/"))
    config = read(archive, "blobs/" + manifest["config"]["digest"].replace(":", "/"))
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Entrypoint"] == ["/a"]
    assert config["rootfs"]["diff_ids"] == [base.digest]
