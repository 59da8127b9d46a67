"""The pages of the documentation as tests read them: their links, headings and commands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One file of Markdown."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """What stands outside of fences."""
        return _FENCE.sub("", self.text)

    def links(self) -> list[str]:
        """The targets of its links and pictures."""
        return _LINK.findall(self.prose)

    def anchors(self) -> set[str]:
        """What a link to a part of the page may say after `#`, as GitHub makes it of the headings."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(self.prose)}

    def commands(self) -> Iterator[str]:
        """Lines that are typed: those of fences in `bash`, continued ones joined, without here-documents."""
        for language, body in _FENCE.findall(self.text):
            if language == "bash":
                joined = re.sub(r"<<'EOF'\n.*?^EOF$", "", body, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
                yield from (line.strip() for line in joined.splitlines() if line.strip())

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Resources of ours that it shows, in fences of YAML and in here-documents."""
        for language, body in _FENCE.findall(self.text):
            texts = [body] if language == "yaml" else re.findall(r"<<'EOF'\n(.*?)^EOF$", body, re.DOTALL | re.MULTILINE)
            for one in (document for text in texts for document in yaml.safe_load_all(text)):
                if isinstance(one, dict) and str(one.get("apiVersion", "")).startswith("bellbuoy.io/"):
                    yield one


def pages() -> list[Page]:
    """Every page."""
    return [Page(path) for path in PAGES]
