"""`%%remote`: a cell's body on a node, with everything that it shows, here."""

from __future__ import annotations

import ast
import time

import pytest

from tests.conftest import is_alive, wait_until
from tests.notebook.conftest import Cell, Kernel

pytestmark = pytest.mark.notebook


def test_the_cell_runs_in_another_process_and_its_last_expression_is_the_out(shared_kernel: Kernel) -> None:
    here = shared_kernel.ok("import os; os.getpid()").result
    there = shared_kernel.ok("%%remote\nimport os\nos.getpid()")
    assert there.result != here and int(there.result) > 0
    assert shared_kernel.ok("_ + 0").result == there.result  # a value of this kernel now
    assert shared_kernel.ok("%%remote\nx = 5;").result == ""
    assert shared_kernel.ok("%%remote\nx * 2").result == "10"  # the namespace lasts
    assert shared_kernel.ok("%%remote\nx * 3;").result == ""


def test_prints_arrive_line_by_line_while_the_cell_runs(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok("%%remote\nimport time\nfor i in range(4):\n    print('line', i)\n    time.sleep(0.4)")
    assert cell.text == "".join(f"line {i}\n" for i in range(4))
    assert cell.times[-1] - cell.times[0] > 0.8  # not all at the end


def test_everything_written_arrives_in_order(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\n"
        "import os, sys, subprocess, logging, warnings\n"
        "print('python')\n"
        "os.write(1, b'descriptor 1\\n')\n"
        "print('between')\n"
        "subprocess.run(['echo', 'child'])\n"
        "os.system('echo grandchild >&2')\n"
        "print('error', file=sys.stderr)\n"
        "warnings.warn('careful')\n"
        "logging.getLogger('mine').warning('logged')\n"
        "os.write(2, b'descriptor 2\\n')\n"
    )
    order = ["python", "descriptor 1", "between", "child", "grandchild", "error", "careful", "logged", "descriptor 2"]
    found = [cell.text.index(word) for word in order]
    assert found == sorted(found), cell.text
    kinds = {m["content"]["name"] for m in cell.messages if m["msg_type"] == "stream"}
    assert kinds == {"stdout", "stderr"}


def test_a_figure_html_markdown_and_images_show_inline(shared_kernel: Kernel) -> None:
    figure = shared_kernel.ok("%%remote\nimport matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);")
    assert figure.displays[0]["image/png"].startswith("iVBORw0KGgo")
    shown = shared_kernel.ok("%%remote\nimport matplotlib.pyplot as plt\nplt.plot([3, 2]); plt.show()\nprint('after')")
    kinds = [m["msg_type"] for m in shown.messages]
    assert kinds == ["display_data", "stream"]
    rich = shared_kernel.ok(
        "%%remote\nfrom IPython.display import HTML, Markdown, Math, display\n"
        "display(HTML('<b>bold</b>')); display(Markdown('*soft*')); display(Math('x^2'))\nHTML('<i>last</i>')"
    )
    assert rich.displays[0]["text/html"] == "<b>bold</b>"
    assert rich.displays[1]["text/markdown"] == "*soft*"
    assert "x^2" in rich.displays[2]["text/latex"]
    assert rich.displays[3]["text/html"] == "<i>last</i>"


def test_a_display_is_updated_in_place(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nfrom IPython.display import display\nh = display('one', display_id=True)\nh.update('two')"
    )
    kinds = [m["msg_type"] for m in cell.messages]
    assert kinds == ["display_data", "update_display_data"]
    ids = {m["content"]["transient"]["display_id"] for m in cell.messages}
    assert len(ids) == 1


def test_variables_are_sent_and_brought_back(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "import numpy as np\na = np.arange(300_000)\nb = {'k': 1}\nclass Point:\n    def __init__(self, x): self.x = x\np = Point(3)"
    )
    shared_kernel.ok("%%remote -i a,b,p -o total,q\ntotal = int(a.sum()) + b['k']\nq = Point2 = type(p)(p.x + 1)")
    assert shared_kernel.ok("bool(total == a.sum() + 1), q.x, isinstance(q, Point)").result == "(True, 4, True)"
    assert "no such variable" in shared_kernel.run("%%remote -i nothing_here\n1").traceback
    assert "doesn't define it" in shared_kernel.run("%%remote -o nothing_there\n1").traceback
    unpicklable = shared_kernel.run(
        "import threading\nlock = {'inner': threading.Lock()}\nget_ipython().run_cell_magic('remote', '-i lock', '1')"
    )
    assert unpicklable.error == "UnpicklableError" and "lock['inner']" in unpicklable.traceback


def test_an_error_shows_its_type_the_cells_own_lines_and_the_node(shared_kernel: Kernel) -> None:
    cell = shared_kernel.run(
        "%%remote -n node-2\ndef inner(x):\n    return 1 / x\n\nprint('before')\ninner(0)\nprint('never')"
    )
    assert cell.error == "ZeroDivisionError" and cell.reply["evalue"] == "division by zero"
    assert cell.text == "before\n"
    shown = cell.traceback
    assert "on node node-2" in shown
    assert "line 6" in shown and "inner(0)" in shown
    assert "line 3, in inner" in shown and "return 1 / x" in shown
    for foreign in ("easyremote/", "IPython/core", "site-packages", "concurrent/futures"):
        assert foreign not in shown, shown
    again = shared_kernel.ok(
        "try:\n    get_ipython().run_cell_magic('remote', '', '1/0')\nexcept ZeroDivisionError as e:\n    print(type(e.__cause__).__name__)"
    )
    assert again.text == "RemoteError\n"


def test_the_error_names_the_cell_by_the_number_that_the_notebook_shows(shared_kernel: Kernel) -> None:
    shared_kernel.ok("1")
    cell = shared_kernel.run("%%remote\n1 / 0")
    assert f"Cell In[{cell.reply['execution_count']}], line 2" in cell.traceback


def test_syntax_errors_empty_cells_await_and_shell_commands(shared_kernel: Kernel) -> None:
    assert shared_kernel.run("%%remote\nif True print(1)").error == "SyntaxError"
    assert shared_kernel.ok("%%remote\n\n").result == ""
    assert shared_kernel.ok("%%remote\nimport asyncio\nawait asyncio.sleep(0.01)\n'awaited'").result == "'awaited'"
    assert "from a shell" in shared_kernel.ok("%%remote\n!echo from a shell").text
    assert "CPU times" in shared_kernel.ok("%%remote\n%time sum(range(10))").text
    assert shared_kernel.run("%%remote\nraise SystemExit(3)").reply["status"] == "error"
    assert shared_kernel.ok("%%remote\n'still here'").result == "'still here'"


def test_a_node_is_chosen_by_name_and_an_unknown_one_is_refused(shared_kernel: Kernel) -> None:
    pids = {
        name: shared_kernel.ok(f"%%remote -n {name}\nimport os; os.getppid()").result for name in ("node-1", "node-2")
    }
    assert pids["node-1"] != pids["node-2"]
    cell = shared_kernel.run("%%remote -n node-9\n1")
    assert cell.error == "NodeGone" and "node-1, node-2" in cell.traceback


def test_an_interrupt_stops_the_remote_work_and_the_next_cell_works(shared_kernel: Kernel) -> None:
    seen: dict[str, float] = {}

    def on_message(message: dict, cell: Cell) -> None:
        if "running" in cell.text and not seen:
            seen["pid"] = int(cell.text.split()[1])
            seen["at"] = time.monotonic()
            shared_kernel.interrupt()

    cell = shared_kernel.run(
        "%%remote\nimport os, time, subprocess\nchild = subprocess.Popen(['sleep', '601'])\n"
        "print('running', child.pid, flush=True)\nwhile True: time.sleep(0.1)",
        on_message,
    )
    assert cell.error == "KeyboardInterrupt" and "was stopped" in cell.traceback
    assert time.monotonic() - seen["at"] < 10
    assert shared_kernel.ok("%%remote\n'alive'").result == "'alive'"
    assert shared_kernel.ok("client.call(lambda: 'too')").result == "'too'"
    assert shared_kernel.ok("%%remote\nchild.kill(); child.wait();").reply["status"] == "ok"
    wait_until(lambda: not is_alive(int(seen["pid"])))


def test_a_timeout_stops_the_cell(shared_kernel: Kernel) -> None:
    cell = shared_kernel.run("%%remote -t 0.5\nimport time\nwhile True: time.sleep(0.05)")
    assert cell.error == "DeadlineExceeded"
    assert shared_kernel.ok("%%remote\n1").result == "1"


def test_progress_moves_one_bar(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nimport time\nfrom easyremote import track\nfor x in track(range(5), 'epochs'): time.sleep(0.2)"
    )
    kinds = [m["msg_type"] for m in cell.messages]
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"}
    assert "5 of 5" in cell.displays[-1]["text/html"]


def test_help_of_the_magic_lists_its_options(shared_kernel: Kernel) -> None:
    text = shared_kernel.ok("print(get_ipython().magics_manager.magics['cell']['remote'].__doc__)").text
    for option in ("--node", "--input", "--output", "--timeout", "--name"):
        assert option in text


@pytest.mark.parametrize("how", ["stop", "shutdown"])
def test_a_namespace_on_a_node_that_lives_on_ends_with_the_notebook(kernel: Kernel, how: str) -> None:
    from easyremote import ComputeNode, Server

    with Server(port=0) as server, ComputeNode(server.address, "a"), ComputeNode(server.address, "b"):
        kernel.ok(f"%load_ext easyremote\n%easyremote connect {server.address}")
        cells = [kernel.ok(f"%%remote -n {name}\nimport os; os.getpid()").result for name in ("a", "b")]
        pids = [int(pid) for pid in cells]
        assert len(set(pids)) == 2 and all(map(is_alive, pids))
        if how == "stop":
            kernel.ok("%easyremote stop")
        else:
            kernel.manager.shutdown_kernel(now=False)
        wait_until(lambda: not any(map(is_alive, pids)))


def test_a_variable_that_is_a_ref_brings_its_value(shared_kernel: Kernel) -> None:
    shared_kernel.ok("import numpy as np\ndata = client.put(np.ones(1_000_000))")
    assert shared_kernel.ok("%%remote -i data\nfloat(data.sum())").result == "1000000.0"
    assert shared_kernel.ok("%%remote\nfloat(data.sum())").result == "1000000.0"  # the namespace has it now
    assert shared_kernel.ok("data").result == "<Ref numpy.ndarray (1000000,), 7.6 MiB, here>"


def test_a_large_result_is_shown_and_stays_where_it_is_so_that_nothing_keeps_its_memory_here(
    shared_kernel: Kernel,
) -> None:
    """C29: what a cell shows is kept in `Out` for as long as the notebook lives."""
    large = shared_kernel.ok("%%remote\nimport numpy as np\nlarge = np.zeros(4_000_000)\nlarge")
    assert large.result.startswith("array([0., 0., 0., ..., 0., 0., 0.]")
    text, size = ast.literal_eval(shared_kernel.ok("import pickle\nrepr(_), len(pickle.dumps(_))").result)
    assert text.startswith("array([0., 0.") and size < 10_000
    assert shared_kernel.ok("%%remote\nlarge.nbytes").result == "32000000"


SELF_DISPLAYING = """
class Figure:  # as plotly's
    def __init__(self, size): self.data = bytes(size)
    def _ipython_display_(self): display(f"a figure in {os.getpid()}")
"""


@pytest.mark.parametrize(("size", "is_here"), [(1, True), (2_000_000, False)])
def test_what_displays_itself_is_shown_once(shared_kernel: Kernel, size: int, is_here: bool) -> None:
    """Where it arrives, as that notebook likes it; on its node where it is too large to travel."""
    here = shared_kernel.ok("import os\nos.getpid()").result
    cell = shared_kernel.ok(
        f"%%remote\nimport os\nfrom IPython.display import display\n{SELF_DISPLAYING}\nFigure({size})"
    )
    (shown,) = (data["text/plain"] for data in cell.displays if "a figure" in data.get("text/plain", ""))
    assert (shown == f"'a figure in {here}'") == is_here
