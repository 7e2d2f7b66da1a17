"""Functions that are written in cells and run elsewhere."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Cell, Kernel

pytestmark = pytest.mark.notebook


def test_a_function_takes_along_what_it_needs_from_the_notebook(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "SCALE = 10\ndef helper(x): return x * SCALE\nclass Box:\n    def __init__(self, v): self.v = v\nadd = lambda a, b: a + b"
    )
    shared_kernel.ok(
        "def outer(k):\n    def inner(x): return Box(add(helper(x), k))\n    return inner\n"
        "node.register(outer(1), name='boxed')"
    )
    assert shared_kernel.ok("r = client.call('boxed', 4); r.v, isinstance(r, Box)").result == "(41, True)"


def test_running_the_cell_again_replaces_the_function_helpers_included(shared_kernel: Kernel) -> None:
    cell = "def helper(): return {0}\n@node.register\ndef answer(): return helper() + {1}"
    shared_kernel.ok(cell.format(1, 0))
    assert shared_kernel.ok("[client.call('answer') for _ in range(4)]").result == "[1, 1, 1, 1]"
    shared_kernel.ok(cell.format(40, 2))
    assert shared_kernel.ok("[client.call('answer') for _ in range(4)]").result == "[42, 42, 42, 42]"


def test_a_running_call_finishes_on_what_it_began_with(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "@node.register\ndef slow(gate):\n    import os, time\n    while not os.path.exists(gate): time.sleep(0.01)\n    return 'old'"
    )
    shared_kernel.ok(
        "import tempfile, os\ngate = tempfile.mktemp()\nrunning = client.submit('slow', gate)\nwhile running.state != 'running': pass"
    )
    shared_kernel.ok("@node.register(load_balancing=True)\ndef slow(gate): return 'new'")
    assert shared_kernel.ok("client.call('slow', gate)").result == "'new'"
    assert (
        shared_kernel.ok("open(gate, 'w').close(); value = running.result(); os.remove(gate); value").result == "'old'"
    )


def test_calls_are_spread_over_the_nodes(shared_kernel: Kernel) -> None:
    shared_kernel.ok("@node.register\ndef where():\n    import os\n    return os.getppid()")
    assert shared_kernel.ok("len({client.call('where') for _ in range(6)})").result == "2"


def test_a_handle_of_one_node_registers_there_only(shared_kernel: Kernel) -> None:
    shared_kernel.ok("one = client.node('node-2')\n@one.register\ndef only_there(): return 'here'")
    assert shared_kernel.ok("client.call('only_there')").result == "'here'"
    assert (
        shared_kernel.ok("[n.node_id for n in client.list_nodes() if 'only_there' in n.functions]").result
        == "['node-2']"
    )
    cell = shared_kernel.run("client.node('node-1').call('only_there')")
    assert cell.error == "FunctionNotFound"
    shared_kernel.ok("one.unregister('only_there')")
    assert "did you mean" in shared_kernel.run("client.call('wher')").traceback


def test_a_local_node_in_the_kernel_runs_in_its_threads(shared_kernel: Kernel) -> None:
    shared_kernel.ok("from easyremote import ComputeNode\nlocal = ComputeNode(client.address, 'in-kernel').serve()")
    shared_kernel.ok(
        "base = 1\n@local.register(name='bump')\ndef bump_by(n):\n    print('in the kernel')\n    return base + n"
    )
    cell = shared_kernel.ok("client.call('bump', 1)")
    assert cell.result == "2" and cell.text == "in the kernel\n"
    shared_kernel.ok("base = 100")
    assert shared_kernel.ok("client.call('bump', 1)").result == "101"
    shared_kernel.ok("local.stop()")


def test_items_render_one_by_one(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "@node.register\ndef count(n):\n    import time\n    for i in range(n):\n        time.sleep(0.3)\n        yield i"
    )
    plain = shared_kernel.ok("for x in client.stream('count', 4): print(x)")
    assert plain.text.split() == ["0", "1", "2", "3"] and plain.times[-1] - plain.times[0] > 0.6
    awaited = shared_kernel.ok("async for x in client.stream('count', 4): print(x)")
    assert awaited.text.split() == ["0", "1", "2", "3"] and awaited.times[-1] - awaited.times[0] > 0.6


def test_await_gather_and_threads_work_without_a_patched_loop(shared_kernel: Kernel) -> None:
    shared_kernel.ok("@node.register\ndef square(x): return x * x")
    assert shared_kernel.ok("await client.submit('square', 7)").result == "49"
    assert (
        shared_kernel.ok("import asyncio\nawait asyncio.gather(*[client.submit('square', i) for i in range(5)])").result
        == "[0, 1, 4, 9, 16]"
    )
    threads = "from concurrent.futures import ThreadPoolExecutor\nlist(ThreadPoolExecutor(4).map(lambda i: client.call('square', i), range(5)))"
    assert shared_kernel.ok(threads).result == "[0, 1, 4, 9, 16]"
    assert shared_kernel.ok("client.call('square', 3)").result == "9"  # blocking, while the kernel's own loop runs
    assert shared_kernel.ok("type(asyncio.get_running_loop()).__module__.split('.')[0]").result in (
        "'asyncio'",
        "'uvloop'",
    )
    assert shared_kernel.ok("'nest_asyncio' in __import__('sys').modules").result == "False"


def test_an_interrupt_of_a_blocking_call_cancels_it_and_the_client_lives_on(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "@node.register\ndef forever():\n    import time\n    print('begun', flush=True)\n    while True: time.sleep(0.05)"
    )
    sent = []

    def on_message(message: dict, cell: Cell) -> None:
        if "begun" in cell.text and not sent:
            sent.append(True)
            shared_kernel.interrupt()

    cell = shared_kernel.run("client.call('forever')", on_message)
    assert cell.error == "KeyboardInterrupt" and "'forever' on node" in cell.traceback
    assert shared_kernel.ok("client.call('square', 3)" if False else "client.call(lambda: 5)").result == "5"
    shared_kernel.ok(
        "import time\nfor _ in range(500):\n    if not sum(n.running for n in client.list_nodes()): break\n    time.sleep(0.02)\nelse: raise AssertionError('it still runs')"
    )


def test_figures_and_displays_of_registered_functions_show_inline(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "@node.register\ndef draw():\n    import matplotlib.pyplot as plt\n    from IPython.display import HTML, display\n    display(HTML('<u>drawn</u>'))\n    plt.plot([1, 2])\n    return 'done'"
    )
    cell = shared_kernel.ok("client.call('draw')")
    assert cell.displays[0]["text/html"] == "<u>drawn</u>"
    assert "image/png" in cell.displays[1] and cell.result == "'done'"


def test_a_remote_traceback_shows_the_lines_of_the_cell_that_defined_the_function(shared_kernel: Kernel) -> None:
    shared_kernel.ok("def deep(x):\n    return x['missing']\n\n@node.register\ndef shallow(x):\n    return deep(x)")
    cell = shared_kernel.run("client.call('shallow', {})")
    assert cell.error == "KeyError"
    assert "return x['missing']" in cell.traceback and "return deep(x)" in cell.traceback
    assert "Cell In[" in cell.traceback and "on node node-" in cell.traceback
    assert "easyremote/" not in cell.traceback
