"""`%easyremote invite` and `%easyremote connect er1:…`."""

from __future__ import annotations

import re

import pytest

from easyremote import Server
from easyremote.notebook.invitation import InvitationView
from tests.notebook.conftest import Kernel

pytestmark = [pytest.mark.notebook, pytest.mark.slow]


def test_an_invitation_is_one_line_to_copy_as_html_and_as_text() -> None:
    view = InvitationView('er1:"<b>&', "node", "1h", 1, ("gpu:8080", "<i>:1"))
    page = view._repr_html_()
    assert 'value="easyremote join er1:&quot;&lt;b&gt;&amp;"' in page
    assert "<b>" not in page and "<i>" not in page and page.count("<button") == 1
    assert "\n\neasyremote join er1:" in repr(view)
    assert "good once, for 1h; it dials gpu:8080" in repr(view)
    assert "%easyremote connect" in repr(InvitationView("er1:a", "ship", "1h", 3, ("gpu:8080",)))


def test_a_notebook_invites_and_joins() -> None:
    with Server(port=0, host="0.0.0.0") as server:
        kernel = Kernel()
        try:
            kernel.ok("%load_ext easyremote\n%easyremote connect")
            (shown,) = kernel.ok("%easyremote invite --role ship --uses 2").displays
            assert (
                re.search(r"easyremote join er1:\S{40,}\n", shown["text/plain"])
                and "good 2 times" in shown["text/plain"]
            )
            assert "<button" in shown["text/html"]
            kernel.ok(f"%easyremote stop\n%easyremote connect {server.invite('ship')}")
            assert kernel.ok("client.list_nodes()").result == "[]"
            kernel.ok("%easyremote stop")
        finally:
            kernel.close()
