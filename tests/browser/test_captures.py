"""What a function would bring along, as a person sees it in JupyterLab."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Lab, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_CELL = """
import threading
import numpy as np

WEIGHTS = np.ones((512, 512))
API_KEY = "sk-abcdefghijklmnopqrstuvwxyz"
seen = 0

class Model:
    rates = [0.1, 0.01]

def load(path):
    import sklearn.linear_model
    return WEIGHTS, API_KEY, Model.rates

def train(path, epochs=3):
    global seen
    seen += 1
    return load(path)
"""


def test_the_tables_of_a_dry_run_in_both_themes(lab: Lab, page: Page) -> None:
    cells = [
        "%load_ext easyremote\n%easyremote start",
        _CELL.strip(),
        "client.explain_capture(train)",
        "%%remote --dry-run\nprint(train('data.csv'))",
        "%easyremote stop",
    ]
    page.open_cells(lab, "captures.ipynb", cells)
    page.command("notebook:run-all-cells")
    page.wait_for_text("stopped the gateway")
    rows = page.output(3).locator("table").first.locator("tbody tr")
    assert rows.first.locator("td").first.text_content() == "WEIGHTS"
    text = page.output(3).text_content()
    assert "looks like a secret" in text and "abcdefgh" not in text and "2 MiB" in text
    assert "nothing was sent" in page.output(4).text_content()
    page.screenshots("captures", height=1500)
    assert page.errors == []
