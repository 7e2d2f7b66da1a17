"""What a failed cell or function left on its node: values in its traceback, and a debugger."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook

FAILING = "%%remote\npassword = 'abc-hidden'\ndef inner(depth):\n    rows = list(range(3))\n    return rows[depth]\n\nouter_value = 7\ninner(outer_value)"


def test_debug_after_a_failed_cell_is_a_debugger_where_it_failed(shared_kernel: Kernel) -> None:
    assert shared_kernel.run(FAILING).error == "IndexError"
    cell = shared_kernel.ok("%debug", answers=["p rows, depth", "u", "p outer_value", "d", "l", "w", "q"])
    assert "([0, 1, 2], 7)" in cell.text and "\n7\n" in cell.text
    assert "-> return rows[depth]" in cell.text and "-> inner(outer_value)" in cell.text
    assert "easyremote/" not in cell.text and "IPython/" not in cell.text
    again = shared_kernel.ok("%easyremote debug", answers=["p depth", "rows.append(1)", "p len(rows)", "q"])
    assert "7\n4\n" in again.text
    assert shared_kernel.ok("%%remote\nouter_value").result == "7"  # and the session goes on
    assert "-> return rows[depth]" in shared_kernel.ok("%debug", answers=["c"]).text  # kept until the next error


def test_debug_after_a_failed_function_until_its_process_does_something_else(shared_kernel: Kernel) -> None:
    shared_kernel.ok("def divide(a, b):\n    half = a / 2\n    return half / b")
    assert shared_kernel.run("client.with_options(node='node-1').call(divide, 8, 0)").error == "ZeroDivisionError"
    assert "4.0" in shared_kernel.ok("%debug", answers=["p half", "q"]).text
    shared_kernel.ok("client.with_options(node='node-1').call(divide, 8, 1)")
    cell = shared_kernel.run("%debug")
    assert cell.error == "UsageError" and "kept no more" in cell.traceback


def test_tb_verbose_shows_values_and_no_secrets_and_a_plain_traceback_none(shared_kernel: Kernel) -> None:
    plain = shared_kernel.run(FAILING).traceback
    assert "rows = [" not in plain
    cell = shared_kernel.run("%tb Verbose")
    shown = cell.text + cell.traceback + "".join(str(message["content"]) for message in cell.messages)
    assert "[0, 1, 2]" in shown and "outer_value" in shown
    shared_kernel.ok("%xmode Verbose")
    try:
        cell = shared_kernel.run("%%remote\ndef check(password, n):\n    return n / 0\ncheck('abc-hidden', 5)")
        assert "n = 5" in cell.traceback and "password = <hidden" in cell.traceback
        assert "abc-hidden" not in cell.traceback.replace("check('abc-hidden', 5)", "")
    finally:
        shared_kernel.ok("%xmode Context")


def test_debug_after_an_error_of_the_notebook_itself_is_the_notebooks_own_and_unloading_gives_it_back(
    shared_kernel: Kernel,
) -> None:
    shared_kernel.run(FAILING)
    shared_kernel.run("local_value = 'here'\n1 / 0")
    cell = shared_kernel.ok("%debug", answers=["p local_value", "q"])
    assert cell.questions[0][0].startswith("ipdb>") and "'here'" in cell.text
    shared_kernel.ok("%unload_ext easyremote")
    kept = "getattr(get_ipython().magics_manager.magics['line']['debug'], 'easyremote_original', None) is None"
    assert shared_kernel.ok(kept).result == "True"
    shared_kernel.ok("%load_ext easyremote\n%reload_ext easyremote\n%unload_ext easyremote")
    assert shared_kernel.ok(kept).result == "True"
    shared_kernel.ok("%load_ext easyremote")
