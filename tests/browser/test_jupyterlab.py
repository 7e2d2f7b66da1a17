"""The tutorial and a remote cell in JupyterLab, and in Notebook 7, as a person sees them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.browser.conftest import Lab, Page
from tests.conftest import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TUTORIAL = Path(__file__).parents[2] / "notebooks" / "01_first_call.ipynb"


@pytest.mark.timeout(400)
def test_the_tutorial_runs_with_outputs_as_they_come_and_keeps_them_over_a_reload(lab: Lab, page: Page) -> None:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    lab.write(TUTORIAL.name, notebook)
    page.open(lab.page_url(TUTORIAL.name))

    page.command("notebook:run-all-cells")
    page.cell(6).scroll_into_view_if_needed()
    page.wait_for("progress", "bar => 0 < bar.value && bar.value < bar.max")
    page.screenshot("running")
    page.wait_for_text("stopped the gateway")

    nodes = page.output(2).locator("table tbody tr")
    assert nodes.count() == 2 and nodes.first.locator("td").first.text_content() == "node-1"
    assert page.figure_width(9) > 600
    assert "AttributeError" in page.output(11).text_content()
    wait_until(lambda: page.output(13).text_content().strip().endswith("[]"))
    page.screenshots("tutorial", height=4600)

    page.save()
    page.reload()
    assert page.figure_width(9) > 600
    assert page.output(2).locator("table tbody tr").count() == 2
    assert "24 of 24" in page.output(6).text_content()
    assert page.errors == []


@pytest.mark.parametrize("classic", [False, True], ids=["JupyterLab", "Notebook 7"])
def test_the_stop_button_stops_a_remote_cell_and_the_next_one_runs(lab: Lab, page: Page, classic: bool) -> None:
    cells = [
        "%load_ext easyremote\n%easyremote start",
        "%%remote\nimport time\nfrom easyremote import track\nfor step in track(range(1000), 'steps'):\n"
        "    print('step', step)\n    time.sleep(0.2)",
        "%%remote\nprint('alive after step', step)",
        "%easyremote stop",
    ]
    page.open_cells(lab, "stop.ipynb", cells, classic)

    page.command("notebook:run-all-cells")
    page.wait_for_text("step 2")
    page.press("notebook:interrupt-kernel")
    page.wait_for_text("was stopped")
    page.screenshot("stopped-classic" if classic else "stopped")
    page.run(3)
    page.wait_for_text("alive after step")
    page.run(4)
    page.wait_for_text("stopped the gateway")
    assert page.errors == []


def test_a_cell_in_the_background_fills_its_own_output_and_its_button_cancels_it(lab: Lab, page: Page) -> None:
    """C37, C38."""
    cells = [
        "%load_ext easyremote\n%easyremote start --nodes 2",
        "%%remote --bg --apart\nimport time\nimport matplotlib.pyplot as plt\nfrom easyremote import track\n"
        "for step in track(range(60), 'epochs'):\n    time.sleep(0.05)\n    if step % 20 == 0: print('loss', 1 / (step + 1))\n"
        "plt.figure(figsize=(4, 1.6))\nplt.plot([1 / (step + 1) for step in range(60)]);",
        "%%remote --bg --apart -n node-2\nimport time\nfor step in range(10_000):\n    print('step', step)\n    time.sleep(0.5)",
        "import time\nfor second in range(300):\n    print('this notebook is busy', second)\n    time.sleep(0.2)",
        "%easyremote jobs",
        "%easyremote stop",
    ]
    page.open_cells(lab, "background.ipynb", cells)
    for index in (1, 2, 3, 4):
        page.run(index)
    page.wait_for_text("this notebook is busy 2")
    page.wait_for_text("step 1")
    assert "busy" not in page.output(2).text_content() + page.output(3).text_content()
    wait_until(lambda: "succeeded" in page.output(2).text_content())  # while the kernel is busy
    assert "busy" in page.output(4).text_content() and "step" not in page.output(4).text_content()
    page.output(3).locator("button", has_text="Cancel").click()
    wait_until(lambda: "cancelled" in page.output(3).text_content())  # likewise
    page.press("notebook:interrupt-kernel")
    page.wait_for_text("KeyboardInterrupt")
    page.run(3)
    wait_until(lambda: "running" in page.output(3).text_content() and "step 1" in page.output(3).text_content())
    page.run(5)
    wait_until(lambda: page.output(5).locator("table tbody tr").count() == 3)
    page.screenshots("background", height=1500)
    assert page.figure_width(2) > 200
    assert page.output(2).locator("button").count() == 0 and page.output(3).locator("button").count() == 1
    page.run(6)
    page.wait_for_text("stopped the gateway")
    wait_until(lambda: "cut off" in page.output(3).text_content())
    assert page.errors == []
