"""`%easyremote trust` and `%easyremote keys`."""

from __future__ import annotations

import pytest

from easyremote.security.identity import Identity
from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook

OTHER = Identity.generate().public


def test_a_key_is_trusted_shown_and_removed(shared_kernel: Kernel) -> None:
    said = shared_kernel.ok(f"%easyremote trust {OTHER.text} --function predict* --expires 30d --comment 'box of Ana'")
    assert f"Trusted: {OTHER.fingerprint} (box of Ana)" in said.text and "ships no code, until 20" in said.text
    shown = shared_kernel.ok("%easyremote keys")
    assert "easyremote trust er-key:" in shown.text
    trusted, known = (display["text/plain"] for display in shown.displays)
    assert OTHER.fingerprint in trusted and "box of Ana" in trusted and "Nodes that your clients know" in known

    shared_kernel.ok(f"%easyremote keys --accept far {OTHER.fingerprint}")
    assert "far" in shared_kernel.ok("%easyremote keys").displays[1]["text/plain"]
    shared_kernel.ok("%easyremote keys --forget far")
    assert "isn't trusted any more" in shared_kernel.ok("%easyremote keys --remove 'box of Ana'").text
    assert OTHER.fingerprint not in str(shared_kernel.ok("%easyremote keys").displays)

    for wrong in (
        "trust er-key:no",
        "trust",
        "keys --remove nobody",
        "keys --remove a --forget b",
        "keys --forget far",
    ):
        assert shared_kernel.run(f"%easyremote {wrong}").error == "UsageError", wrong
    assert "--call-only" in shared_kernel.ok("%easyremote trust -h").text
