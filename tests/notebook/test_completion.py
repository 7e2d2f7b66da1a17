"""Tab, and what `?` tells of remote functions."""

from __future__ import annotations

import time

import pytest

from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


def completed(kernel: Kernel, line: str) -> list[str]:
    """What the line may become where the cursor stands at its end."""
    message = kernel.client.complete(line, len(line))
    while (reply := kernel.client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != message:
        pass
    found = reply["content"]
    return [line[: found["cursor_start"]] + match for match in found["matches"]]


def test_commands_options_nodes_and_functions_are_completed(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "@node.register\ndef train_it(rate: float, steps=3) -> float:\n    'Trains it.'\n    return rate * steps"
    )
    assert completed(shared_kernel, "%easyremote func") == ["%easyremote functions"]
    assert "%er start --nodes" in completed(shared_kernel, "%er start --n")
    assert completed(shared_kernel, "%%remote -n node") == ["%%remote -n node-1", "%%remote -n node-2"]
    assert "%%remote --timeout" in completed(shared_kernel, "%%remote --ti")
    for face in ("call", "submit", "stream", "map", "function"):
        assert completed(shared_kernel, f'client.{face}("train') == [f'client.{face}("train_it']
    assert completed(shared_kernel, "len") != []  # others complete what isn't ours


def test_a_gateway_that_does_not_answer_does_not_hold_up_tab(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "from easyremote.notebook import completion\nimport threading\nheld = threading.Event()\n"
        "class Slow:\n    def list_functions(self): held.wait(); return []\n    list_nodes = list_functions\n"
        "real, completion.workspace.client = completion.workspace.client, Slow()"
    )
    began = time.monotonic()
    completed(shared_kernel, 'client.call("train')
    assert time.monotonic() - began < 3
    shared_kernel.ok("completion.workspace.client = real; held.set()")


def test_help_shows_a_remote_functions_signature_and_docstring(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "remote_train = client.function('train_it')\nremote_train(2.0), remote_train.submit(1, steps=1).result()"
    )
    assert cell.result == "(6.0, 1)"
    told = shared_kernel.ok("get_ipython().run_line_magic('pinfo', 'remote_train')")
    page = told.reply["payload"][0]["data"]["text/plain"]
    assert "rate: float, steps=3" in page and "Trains it." in page
    assert shared_kernel.ok("remote_train").result == "<RemoteFunction train_it(rate: float, steps=3)>"
    assert shared_kernel.run("client.function('nowhere')").error == "FunctionNotFound"


def test_loading_the_extension_again_completes_once(shared_kernel: Kernel) -> None:
    shared_kernel.ok("%reload_ext easyremote")
    assert completed(shared_kernel, "%easyremote func") == ["%easyremote functions"]
