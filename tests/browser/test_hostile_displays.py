"""What a node that isn't trusted displays runs nothing in the page of JupyterLab."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Lab, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.attack]

_HOSTILE = """
def hostile():
    from IPython.display import HTML, Javascript, display

    attack = "top.pwned = 1; parent.pwned = 1; window.pwned = 1"
    image = f"<img src='nowhere' onerror='{attack}'>"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9' onload='{attack}'><script>{attack}</script></svg>"
    display(HTML(f"<b>shown</b><script>{attack}</script>{image}<svg onload='{attack}'></svg>"))
    display(Javascript(attack))
    display({"text/markdown": image, "text/plain": "markdown"}, raw=True)
    display({"image/svg+xml": svg, "text/plain": "drawing"}, raw=True)
    display({"text/html": "</iframe>" + image, "text/plain": "html"}, raw=True)
"""


def test_a_script_of_a_node_that_is_not_trusted_does_not_run(lab: Lab, page: Page) -> None:
    cells = [
        "%load_ext easyremote\n%easyremote start",
        _HOSTILE,
        "from easyremote import Client\nstranger = Client(results='plain')\nstranger.call(hostile)\nprint('all was', 'displayed')",
        "client.call(hostile)\nprint('all of an own', 'node')",
        "%easyremote stop",
    ]
    page.open_cells(lab, "hostile.ipynb", cells)
    for number in (1, 2, 3):
        page.run(number)
    page.wait_for_text("all was displayed")

    frames = page.output(3).locator("iframe")
    assert frames.count() == 2
    assert page.output(3).frame_locator("iframe").first.locator("b").text_content() == "shown"
    assert "so scripts and widgets of its displays don't run" in page.output(3).text_content()
    assert page.output(3).locator("img[src^='data:image/svg']").count() == 1
    page.screenshot("hostile")
    assert page.page.evaluate("window.pwned") is None

    page.run(
        4
    )  # the same from this user's own node runs, as it does without EasyRemote: so it is the frame that kept it away
    page.wait_for_text("all of an own node")
    page.page.wait_for_function("window.pwned === 1")
    page.run(5)
    page.wait_for_text("stopped the gateway")
