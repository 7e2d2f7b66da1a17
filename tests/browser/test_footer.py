"""The line below a remote cell, in JupyterLab: closed, opened, and of every node."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Lab, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_line_below_a_cell_opens_and_is_still_there_after_a_reload(lab: Lab, page: Page) -> None:
    cells = [
        "%load_ext easyremote\n%easyremote start --nodes 2",
        "import numpy as np\ndata = np.random.default_rng(1).normal(size=200_000)\nscale = 3\n"
        "def spread(values):\n    return float(np.std(values * scale))",
        "%%remote\nprint('so many values:', len(data))\nspread(data)",
        "%%remote --all\nimport os\nprint('process', os.getpid() > 0)\nscale",
        "%easyremote stop",
    ]
    page.open_cells(lab, "footer.ipynb", cells)
    page.command("notebook:run-all-cells")
    page.wait_for_text("stopped the gateway")
    line = page.output(3).locator("details summary")
    assert "sent data 1.5 MiB" in line.text_content()
    assert page.output(4).locator("details").count() == 1  # the other node had all of it
    line.click()
    assert page.output(3).locator("details[open] table tr").count() >= 4
    page.screenshots("footer", height=1100)
    page.save()
    page.reload()
    assert "sent data 1.5 MiB" in page.output(3).text_content()
    assert page.errors == []
