"""`%easyremote`: connecting a kernel, and leaving nothing behind."""

from __future__ import annotations

import pytest

from tests.conftest import descendants_of, is_alive, wait_until
from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


def test_start_shows_the_nodes_binds_names_and_stop_leaves_no_process(kernel: Kernel) -> None:
    kernel.ok("%load_ext easyremote")
    before = descendants_of(kernel.pid)
    cell = kernel.ok("%easyremote start --nodes 2")
    table = cell.displays[0]
    assert "node-1" in table["text/html"] and "node-2" in table["text/html"]
    assert "`client` and `node` are ready" in table["text/plain"]
    assert kernel.ok("len(client.list_nodes()), node.node_ids").result == "(2, ('node-1', 'node-2'))"
    started = descendants_of(kernel.pid) - before
    assert len(started) >= 3  # gateway, two nodes, perhaps their workers
    assert "stopped the gateway" in kernel.ok("%easyremote stop").text
    wait_until(lambda: not any(map(is_alive, started)))
    assert kernel.ok("'client' in globals(), 'node' in globals()").result == "(False, False)"


def test_starting_twice_and_stopping_twice_is_said_and_harmless(kernel: Kernel) -> None:
    kernel.ok("%load_ext easyremote\n%er start")
    first = kernel.ok("client.address").result
    again = kernel.ok("%er start --nodes 2").displays[0]["text/plain"]
    assert "runs already" in again and "node-1" in again
    assert kernel.ok("client.address").result == first
    kernel.ok("%er stop")
    assert "nothing to stop" in kernel.ok("%er stop").text


def test_reloading_the_extension_keeps_what_runs(kernel: Kernel) -> None:
    kernel.ok("%load_ext easyremote\n%easyremote start")
    kernel.ok("%reload_ext easyremote")
    kernel.ok("%reload_ext easyremote")
    count = "sum(type(c).__name__ == 'EasyRemoteMagics' for c in get_ipython().configurables)"
    assert kernel.ok(count).result == "1"
    assert kernel.ok("%%remote\n1 + 1").result == "2"
    kernel.ok("%easyremote stop")


def test_names_that_the_notebook_uses_are_left_alone(kernel: Kernel) -> None:
    kernel.ok("%load_ext easyremote\nclient = 'mine'")
    shown = kernel.ok("%easyremote start").displays[0]["text/plain"]
    assert "`client` left as you defined it" in shown and "`node` is ready" in shown
    assert kernel.ok("client").result == "'mine'"
    kernel.ok("%easyremote stop")
    assert kernel.ok("client").result == "'mine'"


@pytest.mark.parametrize("how", ["shutdown", "kill"])
def test_nothing_outlives_the_kernel(kernel: Kernel, how: str) -> None:
    kernel.ok("%load_ext easyremote\n%easyremote start --nodes 2")
    kernel.ok("%%remote\nimport subprocess; subprocess.Popen(['sleep', '600'])")
    started = descendants_of(kernel.pid) | {
        int(pid)
        for pid in kernel.ok("%%remote\nimport os, psutil\n[c.pid for c in psutil.Process().children()]")
        .result[1:-1]
        .split(",")
    }
    assert len(started) >= 4
    if how == "kill":
        kernel.manager.provisioner.process.kill()
    else:
        kernel.manager.shutdown_kernel(now=False)
    wait_until(lambda: not any(map(is_alive, started)))


def test_restarting_the_kernel_ends_the_old_cluster_and_a_new_one_starts(kernel: Kernel) -> None:
    kernel.ok("%load_ext easyremote\n%easyremote start")
    old = descendants_of(kernel.pid)
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=60)
    wait_until(lambda: not any(map(is_alive, old)))
    kernel.ok("%load_ext easyremote\n%easyremote start")
    assert kernel.ok("%%remote\n6 * 7").result == "42"


def test_connect_uses_a_gateway_that_exists_and_stop_leaves_it_running(kernel: Kernel) -> None:
    from easyremote import ComputeNode, Server

    with Server(port=0) as server, ComputeNode(server.address, "far-away") as node:
        node.register(lambda: "from afar", name="where")
        kernel.ok("%load_ext easyremote")
        shown = kernel.ok(f"%easyremote connect {server.address}").displays[0]["text/plain"]
        assert f"connected to {server.address}" in shown and "far-away" in shown
        assert kernel.ok("client.call('where')").result == "'from afar'"
        assert "where" in kernel.ok("%easyremote functions").displays[0]["text/plain"]
        assert "1 clients" in kernel.ok("%easyremote status").displays[0]["text/plain"]
        assert "disconnected" in kernel.ok("%easyremote stop").text
        assert server.is_running and node.is_connected


def test_without_a_connection_the_error_says_what_to_do(kernel: Kernel) -> None:
    kernel.ok("%load_ext easyremote")
    for code in ("%easyremote nodes", "%%remote\n1"):
        cell = kernel.run(code)
        assert cell.error == "UsageError" and "%easyremote start" in cell.traceback
        assert "site-packages" not in cell.traceback and "notebook/workspace.py" not in cell.traceback
    assert "invalid choice" in kernel.run("%easyremote begin").traceback
    assert "%easyremote start" in kernel.ok("%easyremote help").text
    assert "GatewayUnreachable" in kernel.run("%easyremote connect localhost:1").error
