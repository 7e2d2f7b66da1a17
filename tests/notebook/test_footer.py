"""What a remote cell tells of its run: a line below it, the same as metadata, and what becomes of that in a saved notebook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from easyremote.errors import UsageError
from easyremote.notebook import audit_notebook
from easyremote.notebook.footer import Footer
from easyremote.notebook.outcomes import CellResult
from tests.notebook.conftest import Cell, Kernel

pytestmark = pytest.mark.notebook


@pytest.fixture(autouse=True)
def footers_are_on(shared_kernel: Kernel) -> Iterator[None]:
    shared_kernel.ok("%easyremote footer on")
    yield
    shared_kernel.ok("%easyremote footer off")


def footers(cell: Cell) -> list[dict[str, Any]]:
    """Contents of the messages that are footers."""
    found = [message["content"] for message in cell.messages if message["msg_type"] == "display_data"]
    return [content for content in found if "easyremote" in content["metadata"]]


def test_a_cell_to_which_names_were_sent_says_so_below_everything_else(shared_kernel: Kernel) -> None:
    shared_kernel.ok("import numpy as np\nsmall, large = 5, np.zeros(100_000)")
    source = "%%remote\nprint('shown')\nlarge.sum() + small"
    cell = shared_kernel.ok(source)
    (footer,) = footers(cell)
    assert cell.messages[-1]["content"] == footer  # after the value too
    line = footer["data"]["text/plain"]
    assert line.startswith("node-") and "sent large 781.4 KiB, small" in line
    assert "<details" in footer["data"]["text/html"] and "peak memory" in footer["data"]["text/html"]
    facts = footer["metadata"]["easyremote"]
    assert facts["sent"]["large"] > 800_000 and facts["peak_memory_bytes"] > 10_000_000 and facts["attempts"] == 1
    assert not footers(shared_kernel.ok(source))  # quick, and nothing was sent
    shared_kernel.ok("%easyremote footer always")
    assert footers(shared_kernel.ok(source))
    shared_kernel.ok("%easyremote footer off\nsmall = 6")
    assert not footers(shared_kernel.ok(source))
    assert "footers are off" in shared_kernel.ok("%easyremote footer").text


def test_a_cell_that_took_long_or_failed_says_how_long(shared_kernel: Kernel) -> None:
    (footer,) = footers(shared_kernel.ok("%%remote\nimport time\ntime.sleep(1.1)"))
    assert 1.1 <= footer["metadata"]["easyremote"]["run_s"] < 60
    shared_kernel.ok("%easyremote footer always")
    failed = shared_kernel.run("%%remote\n1 / 0")
    assert failed.error == "ZeroDivisionError" and len(footers(failed)) == 1


def test_every_node_at_once_shows_under_its_name_and_an_error_hides_no_other(shared_kernel: Kernel) -> None:
    shared_kernel.ok("k = 3")
    cell = shared_kernel.ok(
        "%%remote --all -o who\nimport os\nwho = os.getppid()\nprint('line')\nprint('no end', end='')\nk"
    )
    assert cell.result == "{'node-1': 3, 'node-2': 3}"
    assert sorted(cell.text.splitlines()) == [f"node-{n} | {text}" for n in (1, 2) for text in ("line", "no end")]
    assert len(footers(cell)) == 2
    assert shared_kernel.ok("sorted(who), len(set(who.values()))").result == "(['node-1', 'node-2'], 2)"
    rich = shared_kernel.ok("%%remote --all\nfrom IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))")
    assert {data["text/plain"] for data in rich.displays} >= {"node-1:", "node-2:"}
    first = shared_kernel.ok("who['node-1']").result
    failing = shared_kernel.run(f"%%remote --all\nimport os\nprint('here')\nif os.getppid() == {first}: 1 / 0")
    assert failing.error == "ZeroDivisionError" and "on node node-1" in failing.traceback
    assert failing.text.count("here") == 2
    both = shared_kernel.run("%%remote --all\n1 / 0")
    assert "node-2:" in both.text and "ZeroDivisionError" in both.text and "on node node-1" in both.traceback
    assert shared_kernel.run("%%remote --all -n node-1\n1").error == "UsageError"


def test_every_magic_has_help(shared_kernel: Kernel) -> None:
    for magic in ("%%remote -h\nprint('not this')", "%remote -h"):
        text = shared_kernel.ok(magic).text
        assert "--no-send" in text and "--fresh" in text and "not this" not in text
    assert "NOTEBOOK" in shared_kernel.ok("%easyremote audit -h").text.upper()
    assert "always" in shared_kernel.ok("%easyremote footer -h").text


def test_what_a_footer_says() -> None:
    gpu = {"name": "H200", "index": 0, "peak_memory_bytes": 3 * 2**30}
    result = CellResult(
        "gpu-1",
        sent={"x": 2**20, "np": 0, "y": 10, "z": 5},
        run_s=125.0,
        queued_s=2.0,
        attempts=2,
        price=0.5,
        gpus=[gpu],
    )
    assert (
        repr(Footer(result))
        == "gpu-1 (H200 0) · 2 min · attempt 2 · cost 62.5 · sent x 1 MiB, y 10 B, z 5 B and 1 more"
    )
    assert dict(Footer(result).rows())["GPU memory"] == "H200 0: 3 GiB"
    assert "&lt;b&gt;" in Footer(CellResult("<b>"))._repr_html_()
    assert not Footer(CellResult("a", run_s=0.5)).is_worth_a_line


def test_an_audit_finds_outputs_whose_code_has_changed(shared_kernel: Kernel, tmp_path: Path) -> None:
    shared_kernel.ok("%easyremote footer always")
    sources = ["%%remote\n'kept'", "%%remote\n'edited'", "%%remote\n'moved'"]
    cells = []
    for source in sources:
        (footer,) = footers(shared_kernel.ok(source))
        output = new_output("display_data", data=footer["data"], metadata=footer["metadata"])
        cells.append(new_code_cell(source, outputs=[output]))
    cells[1].source = "%%remote -n node-2\n'edited since'"
    cells[2].source = "1 + 1"
    notebook = new_notebook(cells=[*cells, new_code_cell(sources[2])])
    path = tmp_path / "saved.ipynb"
    nbformat.write(notebook, path)
    found = audit_notebook(path)
    assert [(output.cell, output.status) for output in found] == [(1, "current"), (2, "changed"), (3, "moved")]
    assert found[1].node.startswith("node-") and found[1].first_line == "%%remote -n node-2"
    shown = shared_kernel.ok(f"%easyremote audit {path}").displays[-1]["text/plain"]
    assert "3 outputs of remote cells, 2 of them" in shown and "the code was changed" in shown
    path.write_text("no notebook")
    with pytest.raises(UsageError):
        audit_notebook(path)
