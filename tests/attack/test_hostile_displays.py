"""T5 and T12: what a node that isn't trusted prints, displays and raises does nothing in a terminal or a notebook."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, PayloadError, RemoteError, Server
from easyremote.discovery import find
from easyremote.presenting import bundle_of
from easyremote.sandbox import sandboxed
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.attack.hostile import (
    TEXTS,
    HostileNode,
    assert_html_is_harmless,
    assert_text_is_harmless,
    bundle,
    failure,
    result,
)
from tests.conftest import wait_until

pytestmark = pytest.mark.attack

hostile = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


class Seen:
    """Keeps what it was to show."""

    def __init__(self) -> None:
        self.outputs: list[str] = []
        self.displays: list[tuple[pb.Display, dict[str, Any]]] = []
        self.progresses: list[pb.Progress] = []

    def output(self, is_stderr: bool, text: str) -> None:
        self.outputs.append(text)

    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None:
        self.displays.append((display, bundle))

    def progress(self, progress: pb.Progress) -> None:
        self.progresses.append(progress)


Ask = Callable[..., tuple[Seen, BaseException | None]]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(port=0) as running:
        yield running


@pytest.fixture
def ask(server: Server) -> Iterator[Ask]:
    """Have a hostile node answer a call with these events, and look on as a client for whom the gateway is somebody else's."""
    seen: list[Seen] = []
    answers: list[pb.Event] = []

    def presenter() -> Seen:
        seen.append(Seen())
        return seen[-1]

    endpoint = find(server.address, server.token)
    with HostileNode(endpoint, "stranger", f=lambda: list(answers)), Client(results="plain") as client:
        wait_until(client.list_functions)
        looking_on = client.with_presenter(presenter)

        def asked(*events: pb.Event) -> tuple[Seen, BaseException | None]:
            answers[:] = events
            error = looking_on.submit("f").exception(30)
            return seen[-1], error

        yield asked


@hostile
def test_what_it_prints(ask: Ask, text: str) -> None:
    parts = [pb.Event(output=pb.Output(text=part)) for part in (text, text[:3], text[3:])]
    seen, error = ask(*parts, result())
    assert error is None
    shown = "".join(seen.outputs)
    assert "\x1b" not in shown
    assert not {letter for letter in shown if "\x80" <= letter <= "\x9f" or letter in "\x00\x07\u202e"}


@hostile
def test_what_it_raises(ask: Ask, text: str) -> None:
    _, error = ask(failure(text))
    assert isinstance(error, RemoteError)
    assert_text_is_harmless(str(error))
    rendered = "\n".join(error._render_traceback_())
    for ours in ("\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[1m", "\x1b[0m"):
        rendered = rendered.replace(ours, "")
    assert_text_is_harmless(rendered)


def test_its_traceback_reads_no_file_of_this_machine(ask: Ask, tmp_path: Path) -> None:
    secret = tmp_path / "id_ed25519"
    secret.write_text("the private key\n")
    _, error = ask(failure("oh", file=str(secret)))
    assert error is not None
    shown = "\n".join(error._render_traceback_())  # type: ignore[attr-defined]
    assert "id_ed25519" in shown
    assert "the private key" not in shown
    assert str(secret) not in linecache.cache


@hostile
def test_what_it_displays(ask: Ask, text: str) -> None:
    data = {"text/plain": text, "text/html": text, "image/svg+xml": text, "image/png": text, text: text}
    seen, _ = ask(bundle(data, metadata={"image/png": {"width": text}, text: text}, display_id=text), result())
    [(display, shown)] = seen.displays
    assert set(shown["data"]) <= {"text/plain", "text/html", "image/png"}
    assert_text_is_harmless(shown["data"]["text/plain"])
    assert_html_is_harmless(shown["data"]["text/html"])
    assert 'sandbox=""' in shown["data"]["text/html"]
    assert shown["metadata"] in ({}, {"image/png": {}})
    assert display.display_id == f"stranger:{text}", "it changes no display of this notebook"


def test_scripts_and_widgets_are_left_out_and_said_to_be(ask: Ask) -> None:
    kinds = ["application/javascript", "application/vnd.jupyter.widget-view+json", "text/markdown", "text/latex"]
    for kind in kinds:
        seen, _ = ask(bundle({kind: "window.pwned = 1", "text/plain": "<Figure>"}), result())
        [(_, shown)] = seen.displays
        assert set(shown["data"]) == {"text/plain"}
        assert shown["data"]["text/plain"].startswith("<Figure>\n(node 'stranger' isn't trusted here")
        assert kind in shown["data"]["text/plain"]


def test_pictures_are_shown_as_they_are(ask: Ask) -> None:
    data = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}
    seen, _ = ask(bundle(data, metadata={"image/png": {"width": 200, "height": 100}}), result())
    assert seen.displays[0][1] == {"data": data, "metadata": {"image/png": {"width": 200, "height": 100}}}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": {"text/html": 1}},
        {"data": {"image/png": {}}, "metadata": 5},
        {"data": {"": None}},
    ],
    ids=str,
)
def test_a_bundle_of_any_form_is_taken(given: dict[str, Any]) -> None:
    assert sandboxed(given, "node") == {
        "data": {"text/plain": sandboxed(given, "node")["data"]["text/plain"]},
        "metadata": {},
    }


def test_what_is_no_bundle_is_a_typed_error() -> None:
    for given in (b"[1]", b"{", b'{"data": 1}', b"\xff", b"[" * 100_000):
        with pytest.raises(PayloadError):
            bundle_of(given)


def test_displays_are_made_harmless_in_time_that_grows_with_their_length() -> None:
    for piece in ("<", "< ", "<script", " ", "=", "A", "&", "javascript"):
        text = piece * (2_000_000 // len(piece))
        sandboxed({"data": {"text/html": text, "image/png": text, "text/plain": text}}, "node")


@hostile
def test_what_an_own_node_prints_displays_and_raises_is_as_it_is(server: Server, text: str) -> None:
    """The gateway is this user's own, and so is all that comes from it."""
    seen = Seen()
    events = [pb.Event(output=pb.Output(text=text)), bundle({"text/html": text}), result()]
    with HostileNode(find(server.address), "own", f=lambda: events), Client() as client:
        wait_until(client.list_functions)
        client.with_presenter(lambda: seen).call("f")
    assert "".join(seen.outputs) == text
    assert seen.displays[0][1]["data"] == {"text/html": text}
