"""`%%remote` is a place: what a cell reads goes along by itself, and what a cell makes there stays there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.conftest import is_alive, wait_until
from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


@pytest.fixture(autouse=True)
def a_new_session(shared_kernel: Kernel) -> Iterator[None]:
    yield
    shared_kernel.ok("from easyremote.notebook.workspace import workspace\nworkspace.start_afresh()")


def test_what_a_cell_reads_goes_along_and_what_changed_goes_again(shared_kernel: Kernel) -> None:
    run = shared_kernel.ok
    run("import numpy as np\na = np.arange(5)\nk = 3\ndef g(): return int(np.sum(a))\ndef f(): return k + g()")
    assert run("%%remote\nf()").result == "13"  # and all that f uses
    run("k = 4")
    assert run("%%remote\nf()").result == "14"
    run("a[0] = 10")  # in place
    assert run("%%remote\nf()").result == "24"
    run("def g(): return 100")
    assert run("%%remote\nf()").result == "104"
    assert run("%%remote\nk = 1000\nf()").result == "1100"  # a function there looks up what is there
    run("class Point:\n    def __init__(self, x): self.x = x\n    def far(self): return self.x * k\np = Point(2)")
    assert run("%%remote\np.far(), Point(1).far(), isinstance(p, Point)").result == "(2000, 1000, True)"
    run("class Point:\n    def __init__(self, x): self.x = -x")
    assert run("%%remote\nPoint(1).x, p.x").result == "(-1, 2)"


def test_what_a_cell_makes_there_stays_until_the_notebooks_own_value_changes(shared_kernel: Kernel) -> None:
    run = shared_kernel.ok
    run("model, other = [1], 'old'")
    run("%%remote\nmodel.append(2)\nother = 'made there'")
    assert run("%%remote\nmodel, other").result == "([1, 2], 'made there')"
    assert shared_kernel.run("%%remote\nother = 'before the error'\nmodel.append(3)\n1/0").error == "ZeroDivisionError"
    assert run("%%remote\nmodel, other").result == "([1, 2, 3], 'before the error')"
    run("other = 'new'")
    assert run("%%remote\nmodel, other").result == "([1, 2, 3], 'new')"
    run("%%remote -o model\nmodel.append(4)")
    assert run("model").result == "[1, 2, 3, 4]"
    run("%%remote\nmodel.append(5)")
    assert run("%%remote\nmodel").result == "[1, 2, 3, 4, 5]"  # what was brought back isn't sent again
    run("%%remote\ndel model")
    assert run("%%remote\nmodel").result == "[1, 2, 3, 4]"


def test_a_branch_that_did_not_run_leaves_nothing_missing_or_stale(shared_kernel: Kernel) -> None:
    run = shared_kernel.ok
    run("x = 1")
    run("%%remote\nif False: x = 5")
    assert run("%%remote\nx").result == "1"
    run("x = 2")
    run("%%remote\nif False: x = 5")
    assert run("%%remote\nx").result == "2"


def test_arrays_that_went_along_can_be_changed_and_large_ones_go_once(shared_kernel: Kernel) -> None:
    run = shared_kernel.ok
    run("import numpy as np\nsmall, large = np.zeros(4), np.ones(3_000_000)")
    assert run("%%remote\nsmall[0] = large[0] = 5\nfloat(small.sum() + large.sum())").result == "3000009.0"
    assert run("%%remote\nfloat(large.sum())").result == "3000004.0"
    run("from easyremote.notebook.workspace import workspace\nworkspace.start_afresh()")
    assert run("%%remote\nfloat(large.sum())").result == "3000000.0"


def test_a_session_that_was_lost_gets_everything_again(shared_kernel: Kernel) -> None:
    run = shared_kernel.ok
    run("x, y = 'sent', [1]")
    pid = int(run("%%remote\nimport os\ny.append(2)\nx; os.getpid()").result)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    cell = shared_kernel.run("%%remote\nx, y")
    if cell.error == "WorkerCrashed":  # it was sent before the node had noticed
        cell = run("%%remote\nx, y")
    assert cell.result == "('sent', [1])"
    assert run("%%remote --fresh\nx, 'os' in globals()").result == "('sent', False)"


def test_nodes_have_their_own_names(shared_kernel: Kernel) -> None:
    run = shared_kernel.ok
    run("x = 1")
    run("%%remote -n node-1\nx = x + 10")
    assert run("%%remote -n node-2\nx").result == "1"
    assert run("%%remote -n node-1\nx").result == "11"


def test_what_cannot_be_sent_is_named_where_the_cell_reads_it(shared_kernel: Kernel) -> None:
    shared_kernel.ok("import threading\nbox = {'inner': threading.Lock()}\ndef uses(): return box")
    for source in ("box", "uses()", "def f():\n    return box\nf()"):
        cell = shared_kernel.run(f"%%remote\n{source}")
        assert cell.error == "UnpicklableError" and "`box`" in cell.traceback and "box['inner']" in cell.traceback
    assert shared_kernel.ok("%%remote\nbox = 3\nbox").result == "3"
    assert shared_kernel.ok("%%remote\nuses()").result == "3"  # it is there by now
    assert shared_kernel.run("%%remote --no-send --fresh\nbox").error == "NameError"


def test_a_module_that_the_node_lacks_is_named_with_the_node(shared_kernel: Kernel) -> None:
    shared_kernel.ok("import sys, types\nsys.modules['only_here'] = only_here = types.ModuleType('only_here')")
    cell = shared_kernel.run("%%remote -n node-2\nonly_here.x")
    assert cell.error == "ModuleNotFoundError"
    assert "only_here" in cell.traceback and "node 'node-2'" in cell.traceback
    shared_kernel.ok("import xml.etree.ElementTree\nimport os.path as path")
    assert (
        shared_kernel.ok("%%remote\nxml.etree.ElementTree.fromstring('<a/>').tag + path.join('b', 'c')").result
        == "'ab/c'"
    )


def test_with_no_send_only_named_variables_go(shared_kernel: Kernel) -> None:
    shared_kernel.ok("p, q = 1, 2")
    assert shared_kernel.ok("%%remote --no-send -i p\np, 'q' in globals()").result == "(1, False)"
    assert shared_kernel.run("%%remote --local-only\nq").error == "NameError"
    shared_kernel.ok("%%remote\np = 50")
    assert shared_kernel.ok("%%remote -i p\np").result == "1"  # named: in any case


def test_a_line_gives_the_value_of_its_expression(shared_kernel: Kernel) -> None:
    shared_kernel.ok("items = [3, 1, 2]\nx = %remote sorted(items)")
    assert shared_kernel.ok("x").result == "[1, 2, 3]"
    assert shared_kernel.ok("%remote -n node-2 -x[0] + 1").result == "0"
    assert shared_kernel.ok("from easyremote.notebook import run_remote\nrun_remote('sum(items)')").result == "6"
    assert shared_kernel.ok("run_remote('a + b', send={'a': 1, 'b': 2}, node='node-2')").result == "3"


def test_names_of_ipython_and_of_easyremote_stay_here(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok("%%remote\n[name for name in ('In', 'Out', 'client', 'node') if name in globals()]")
    assert "client" not in cell.result and "node" not in cell.result
    assert shared_kernel.run("%%remote\nclient").error == "NameError"
    assert shared_kernel.ok("%%remote\n_ = 5\n__name__").result == "'__main__'"


def test_magics_and_commands_run_there_with_the_notebooks_names(shared_kernel: Kernel) -> None:
    run = shared_kernel.ok
    run("text, n = 'said there', 10")
    assert "said there" in run("%%remote\n!echo $text").text
    assert run("%%remote\nlines = !echo {text.upper()}\nlines[0]").result == "'SAID THERE'"
    assert "CPU times" in run("%%remote\n%time sum(range(n))").text
    assert "loop" in run("%%remote\n%timeit -n 2 -r 1 sum(range(n))").text
    assert "CPU times" in run("%%remote\n%%time\nmade = n + 1").text
    assert run("%%remote\nmade").result == "11"
    assert "pip" in run("%%remote\n%pip --version").text
    figure = run("%%remote\n%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([n, 2]);")
    assert figure.displays[0]["image/png"].startswith("iVBORw0KGgo")
