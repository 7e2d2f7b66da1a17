"""`%%remote --dry-run`: what the cell would bring along, in a real kernel."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "import numpy as np\nweights = np.ones(40_000)\nmy_password = 'open sesame'\nunused = 1\n"
        "def score(x): return x @ weights"
    )
    shared_kernel.ok("before = [n.finished for n in client.list_nodes()]")
    cell = shared_kernel.ok(
        "%%remote --dry-run\nimport sklearn\n!echo never\nprint(score(weights), my_password)\nnever = 1"
    )
    shown = cell.displays[-1]
    assert "nothing was sent" in shown["text/plain"] and "would bring 31" in shown["text/plain"]
    assert "sklearn" in shown["text/html"] and "unused" not in shown["text/plain"]
    assert "looks like a secret" in shown["text/html"] and "sesame" not in str(shown)
    assert "never" not in cell.text
    assert shared_kernel.ok("[n.finished for n in client.list_nodes()] == before").result == "True"
    given = shared_kernel.ok("%%remote --dry-run -i weights\nprint(my_password)").displays[-1]["text/plain"]
    assert "weights" in given and "my_password" not in given


def test_a_function_of_a_cell_is_explained_with_its_helpers(shared_kernel: Kernel) -> None:
    shared_kernel.ok("LIMIT = 7\ndef inner(x): return x + LIMIT\ndef outer(x): return inner(x)")
    shown = shared_kernel.ok("client.explain_capture(outer)").displays[-1]
    assert all(name in shown["text/html"] for name in ("LIMIT", "inner", "outer"))
