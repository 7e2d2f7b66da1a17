"""`%easyremote ship` in a real kernel, with a module beside it that is edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


def test_a_module_beside_the_notebook_goes_along_and_an_edit_too(shared_kernel: Kernel, tmp_path: Path) -> None:
    helpers = tmp_path / "er_helpers.py"
    helpers.write_text("class Thing:\n    n = 1\ndef f(x): return x + 1\n")
    # Put on the path after the cluster was started, so that only the notebook has it.
    shared_kernel.ok(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n%load_ext autoreload\n%autoreload 2")
    shared_kernel.ok("import er_helpers\ndef use(x): return er_helpers.f(x)")
    failed = shared_kernel.run("%%remote\nimport er_helpers")
    assert failed.error == "ModuleNotFoundError" and "%easyremote ship er_helpers" in failed.traceback
    assert "no module is shipped" in shared_kernel.ok("%easyremote ship").displays[-1]["text/plain"]

    shown = shared_kernel.ok("%easyremote ship er_helpers").displays[-1]
    assert "er_helpers" in shown["text/plain"] and str(helpers) in shown["text/html"]
    assert shared_kernel.ok("client.call(use, 1)").result == "2"
    cell = "%%remote -i use\nimport er_helpers\nfirst = globals().setdefault('first', er_helpers.Thing)\n(use(1), first is er_helpers.Thing)"
    assert shared_kernel.ok(cell).result == "(2, True)"
    assert shared_kernel.ok(cell).result == "(2, True)"  # the class is the same from cell to cell

    helpers.write_text("class Thing:\n    n = 10\ndef f(x): return x + 1000\n")
    assert shared_kernel.ok("use(1)").result == "1001"  # %autoreload
    assert shared_kernel.ok("client.call(use, 1)").result == "1001"
    assert shared_kernel.ok(cell).result == "(1001, False)"
    plan = shared_kernel.ok("%%remote --dry-run\nimport er_helpers").displays[-1]["text/plain"]
    assert "shipped" in plan
    shared_kernel.ok("%easyremote unship er_helpers")
    assert shared_kernel.run("%easyremote ship no_such_module").error == "UsageError"
    shared_kernel.ok("%easyremote ship --auto on")
    assert shared_kernel.ok("client.call(use, 2)").result == "1002"
    shared_kernel.ok("%easyremote ship --auto off")


def test_a_stale_function_is_marked_and_registered_again_by_hand_or_by_itself(shared_kernel: Kernel) -> None:
    """C4: in a notebook, where only the helper's cell was run again."""
    shared_kernel.ok("def rate(x): return x * 2")
    shared_kernel.ok("@node.register\ndef priced(x): return rate(x)")
    assert "stale" not in shared_kernel.ok("%easyremote functions").displays[-1]["text/plain"]
    shared_kernel.ok("def rate(x): return x * 3")
    assert "stale" in shared_kernel.ok("%easyremote functions").displays[-1]["text/html"]
    assert "priced" in shared_kernel.ok("%easyremote refresh").text
    assert shared_kernel.ok("client.call('priced', 1)").result == "3"
    assert "stale" not in shared_kernel.ok("%easyremote functions").displays[-1]["text/plain"]

    shared_kernel.ok("%easyremote refresh --auto on")
    assert "priced" in shared_kernel.ok("def rate(x): return x * 4").text
    assert shared_kernel.ok("client.call('priced', 1)").result == "4"
    shared_kernel.ok("%easyremote refresh --auto off")
    shared_kernel.ok("def rate(x): return x * 5")
    assert shared_kernel.ok("client.call('priced', 1)").result == "4"
    shared_kernel.ok("node.unregister('priced')")
