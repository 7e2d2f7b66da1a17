"""A node that says whatever its owner likes, and texts that do harm where they are shown as they are."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from easyremote.config import WindowSettings
from easyremote.core.node_session import NodeSession, Start
from easyremote.discovery import Endpoint
from easyremote.runtime import this_runtime
from easyremote.transport.link import Link
from easyremote.transport.loop import shared_loop
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

TEXTS = {
    "script": "<script>window.pwned = 1</script>",
    "onerror": "<img src=x onerror='window.pwned = 1'>",
    "out of an attribute": "\"'><svg onload=window.pwned=1>",
    "half a tag": "<iframe srcdoc='",
    "entities": "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "code": "`<b>bold</b>`",
    "clears the screen": "node\x1b[2J\x1b[1;1H$ ",
    "window title": "node\x1b]0;owned\x07",
    "clipboard": "node\x1b]52;c;cm0gLXJm\x07",
    "hyperlink": "\x1b]8;;https://evil.example\x1b\\node\x1b]8;;\x1b\\",
    "asks the terminal": "node\x1b[6n\x1bP$qm\x1b\\",
    "one-byte sequences": "node\x9b2J\x9d0;owned\x9c",
    "overwrites its line": "evil\rgood\b\b\b\b",
    "makes up a line": "node\nother-node  connected",
    "line separators": "node\u2028other\u2029third\x0bfourth\x85fifth",
    "reorders": "node\u202egpj.exe\u202c",
    "isolates": "\u2066node\u2067evil\u2069",
    "invisible": "no\u200bde\ufeff\u2060\u00ad",
    "tags": "node" + "".join(chr(0xE0000 + ord(letter)) for letter in "run this"),
    "nul": "node\x00evil",
    "stacked marks": "n" + "\u0301" * 500,
    "long": "n" * 5000,
    "markup of rich": "[bold red]node[/] [link=file:///etc/passwd]x[/link] [/nothing]",
    "emoji code": "node:bomb:",
    "format": "{0.__class__} %s %(name)s ${HOME} %n",
    "formula": "$\\href{javascript:window.pwned=1}{x}$",
}

_HARMFUL = {chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))} - {"\n"}
_HARMFUL |= set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDING = set("\u00ad\u200b\u2028\u2029\u2060\ufeff") | {chr(code) for code in range(0xE0000, 0xE0080)}
_TAGS = frozenset(["div", "table", "thead", "tbody", "tr", "th", "td", "code", "span", "progress", "iframe", "img"])
_ATTRIBUTES = frozenset(
    ["style", "scope", "value", "max", "sandbox", "srcdoc", "title", "referrerpolicy", "alt", "src", "aria-label"]
)


def assert_text_is_harmless(shown: str) -> None:
    """No terminal obeys anything of it, nothing is hidden, and no line is endless."""
    found = sorted({character for character in shown if character in _HARMFUL | _HIDING})
    assert not found, f"{found} in {shown[:300]!r}"
    assert max(map(len, shown.split("\n"))) < 12_000
    assert "\u0301" * 4 not in shown


_DRAWN_TAGS = frozenset(["svg", "line", "polygon", "polyline", "b", "i", "dl", "dt", "dd", "pre"])
_DRAWN_ATTRIBUTES = frozenset(
    [
        "class",
        "role",
        "aria-hidden",
        "aria-level",
        "tabindex",
        "points",
        "width",
        "height",
        "viewbox",
        "preserveaspectratio",
        "x1",
        "x2",
        "y1",
        "y2",
    ]
)


def assert_html_is_harmless(markup: str, is_drawn: bool = False) -> None:
    """Only what our own tables and frames are made of is in it; `is_drawn`: and our own charts."""
    tags, attributes = (_TAGS | _DRAWN_TAGS, _ATTRIBUTES | _DRAWN_ATTRIBUTES) if is_drawn else (_TAGS, _ATTRIBUTES)

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in tags, f"<{tag}> in {markup[:500]}"
            values = dict(attrs)
            assert set(values) <= attributes, f"{values} in {markup[:500]}"
            assert tag != "iframe" or values["sandbox"] == ""
            source = values.get("src") or "data:image/svg+xml;base64,"
            assert source.startswith("data:image/svg+xml;base64,")

        def handle_data(self, data: str) -> None:
            assert_text_is_harmless(data)

        def handle_comment(self, data: str) -> None:
            raise AssertionError(f"a comment: {data}")

        handle_decl = handle_pi = unknown_decl = handle_comment

    reader = Reader(convert_charrefs=True)
    reader.feed(markup)
    reader.close()


def bundle(data: dict[str, Any], **fields: Any) -> pb.Event:
    """A display, as a worker sends it."""
    payload = pb.Payload(data=json.dumps({"data": data, "metadata": fields.pop("metadata", {})}).encode())
    return pb.Event(display=pb.Display(bundle=payload, **fields))


def failure(text: str, file: str = "") -> pb.Event:
    """An exception all of whose parts are this text."""
    frames = [pb.ErrorInfo.Frames(file=file or text, line=1, function=text, source=text)]
    info = pb.ErrorInfo(code="remote", type=text, message=text, traceback=text, node_id=text, frames=frames)
    return pb.Event(error=info)


def result(value: Any = None) -> pb.Event:
    return pb.Event(result=codec.PlainData.value(value, 1).inline())


class HostileNode:
    """Offers functions by name; each answers with the events that it is given."""

    def __init__(self, endpoint: Endpoint, name: str, text: str = "", **answers: Callable[[], list[pb.Event]]) -> None:
        self._answers = dict(answers)
        runtime = this_runtime()
        state = pb.NodeState(node_id=name, slots=4, price=1.0)
        if text:
            runtime = pb.Runtime(python=runtime.python, easyremote=text, host=text, platform=text, cloudpickle=text)
            state.labels[text] = text
            state.capacity.gpus.append(pb.Capacity.Gpu(index=0, uuid=text, memory_bytes=2**30, name=text))
        self._core = NodeSession(secrets.token_bytes(16), runtime, state, WindowSettings())
        shared_loop.hold()
        try:
            shared_loop.run(self._connect(endpoint, text))
        except BaseException:
            shared_loop.release()
            raise

    async def _connect(self, endpoint: Endpoint, text: str) -> None:
        self._link = Link(self._core, endpoint, self._perform)
        await self._link.connected()
        specs = [
            pb.FunctionSpec(
                name=function,
                doc=text,
                load_balancing=True,
                kind=pb.FUNCTION_KIND_FUNCTION,
                parameters=[pb.Parameter(name="x", kind=1, has_default=True, default_text=text, annotation_text=text)],
                has_signature=bool(text),
            )
            for function in self._answers
        ]
        self._core.offer(specs)
        self._link.flush()

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Start):
                answer = self._answers[effect.attempt.submit.function]
                for event in answer():
                    effects += self._core.emit(effect.attempt, event, 4, effect.attempt.started_at or 0.0)
        self._link.flush()

    def close(self) -> None:
        shared_loop.run(self._link.close())
        shared_loop.release()

    def __enter__(self) -> HostileNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
