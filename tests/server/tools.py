"""What tools ask, as their fixtures have it, sent to a server; and whether the answer has the shape that they read."""

import json
import time
from pathlib import Path
from typing import Any

from tests.server.conftest import Client

FIXTURES = Path(__file__).parent / "fixtures"


def unlike(answer: Any, shape: Any, place: str = "") -> list[str]:
    """Where the answer is not of the shape; what the shape has not got may be anything."""
    if shape == "string" or shape == "number":
        wanted = str if shape == "string" else (int, float)
        return [] if isinstance(answer, wanted) else [f"{place} is no {shape}: {answer!r:.100}"]
    if isinstance(shape, dict):
        if not isinstance(answer, dict):
            return [f"{place} is no object: {answer!r:.100}"]
        out = [f"{place}.{key} is missing" for key in shape if key not in answer]
        return out + [
            one for key in shape if key in answer for one in unlike(answer[key], shape[key], f"{place}.{key}")
        ]
    if isinstance(shape, list):
        if not isinstance(answer, list) or (shape and not answer):
            return [f"{place} is no list, or an empty one: {answer!r:.100}"]
        if len(shape) == 2:
            pairs = zip(answer, shape, strict=True)
            return [one for at, (value, its) in enumerate(pairs) for one in unlike(value, its, f"{place}[{at}]")]
        return [one for at, value in enumerate(answer) if shape for one in unlike(value, shape[0], f"{place}[{at}]")]
    return [] if answer == shape else [f"{place} is not {shape}: {answer!r:.100}"]


async def complaints(client: Client, name: str, *, query: str) -> list[str]:
    """What is wrong with the server's answers to a tool's requests."""
    end = time.time()
    known = {"{start}": f"{end - 10:.3f}", "{end}": f"{end:.3f}", "{query}": query}
    out = []
    for one in json.loads((FIXTURES / name).read_text(encoding="utf-8"))["requests"]:
        text = json.dumps([one["path"], one.get("form")])
        for mark, value in known.items():
            text = text.replace(mark, value)
        path, form = json.loads(text)
        more: dict[str, Any] = {"data": form} if form else {}
        status, answer = await client.request(one["method"], path, headers=one.get("headers", {}), **more)
        found = unlike(answer, one["shape"]) + ([] if status == one.get("status", 200) else [f"status {status}"])
        out += [f"{one['what']}: {complaint}" for complaint in found]
    return out
