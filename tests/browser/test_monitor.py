"""The monitor in JupyterLab, as a person sees and uses it. The GPUs are the fake ones of tests/gpu.

`PICTURE_S=60 pytest tests/browser/test_monitor.py` makes the pictures of the docs anew: it waits so long that the charts are full.
They are `.build/screens/monitor-light.png` and `monitor-dark.png`.
"""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path

import nbformat
import pytest

from tests.browser.conftest import SCREENS, Lab, Page
from tests.conftest import wait_until
from tests.gpu.conftest import FakeGpu, FakeNvml, compile_fake

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURE_S = int(os.environ.get("PICTURE_S", "0"))

_WORK = """
import time
from easyremote import reporting

@node.register
def train(epochs):
    for epoch in range(epochs):
        reporting.progress(epoch, epochs, f"epoch {epoch}")
        print("loss", 1 / (epoch + 1), flush=True)
        time.sleep(0.4)

@node.register(gpu_memory="20GiB")
def finetune(epochs):
    train(epochs)

@node.register
def score(path):
    raise FileNotFoundError(f"no data in {path}")

client.submit("score", "/data/<b>x</b>").exception(60)
calls = [client.submit(name, 500) for name in ("finetune", "train", "finetune")]
print("work", "began")
"""

CELLS = [
    "%load_ext easyremote\n%easyremote start --nodes 2 --slots 2",
    _WORK.strip(),
    "%easyremote monitor --lang en",
    "until = time.monotonic() + 60\nwhile not calls[1].cancelled() and time.monotonic() < until:\n    time.sleep(0.05)\n"
    "print('heard', 'meanwhile:', calls[1].cancelled())",
    "%easyremote monitor --lang zh",
    "client.close()\nprint('all', 'closed')",
]


@pytest.fixture
def nvml(lab: Lab, tmp_path: Path) -> FakeNvml:
    """The GPUs of nodes that kernels of this JupyterLab start."""
    made = FakeNvml(compile_fake(tmp_path), tmp_path / "gpus", [FakeGpu("GPU-aaaa", 24), FakeGpu("GPU-bbbb", 16)])
    startup = lab.folder.parent / "ipython" / "profile_default" / "startup" / "gpus.py"
    startup.parent.mkdir(parents=True, exist_ok=True)
    variables = {"LD_LIBRARY_PATH": str(made.folder), "FAKE_NVML": str(made.file)}
    startup.write_text(f"import os\nos.environ.update({variables!r})\n")
    work(made, 0)
    return made


def work(nvml: FakeNvml, second: int) -> None:
    """What GPUs do while something is trained on one of them."""
    busy, idle = nvml.gpus
    wave = math.sin(second / 5)
    busy.used, busy.fields = (
        21 if second else 1,
        {"util": round(86 + 12 * wave), "temp": round(71 + 6 * wave), "power": 290_000},
    )
    idle.used, idle.fields = 3, {"util": max(round(8 + 9 * math.cos(second / 3)), 0), "temp": 44, "power": 61_000}
    nvml.write()


def rows(page: Page, cell: int) -> list[str]:
    """Names of the rows' buttons."""
    return [text.strip() for text in page.output(cell).locator("button.er-name").all_text_contents()]


def has(page: Page, cell: int, *texts: str) -> None:
    """Wait until the output has all of these."""
    shown = page.output(cell)
    try:
        wait_until(lambda: all(text in shown.inner_text() for text in texts))
    except AssertionError:
        raise AssertionError(f"no {texts} in:\n{shown.inner_text()}") from None


def picture(page: Page, cell: int, name: str, part: str = ".er-wrap") -> None:
    """The monitor alone, in both themes where pictures are wanted."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    for theme in ("Dark", "Light") if PICTURE_S or name == "monitor" else ("Light",):
        page.theme(theme)
        page.output(cell).locator(part).screenshot(path=str(SCREENS / f"{name}-{theme.lower()}.png"))


@pytest.mark.timeout(300)
def test_a_monitor_from_its_first_picture_to_its_last(lab: Lab, page: Page, nvml: FakeNvml) -> None:
    page.page.set_viewport_size({"width": 1360, "height": 1100})
    page.open_cells(lab, "monitor.ipynb", CELLS)
    for number in (1, 2, 3):
        page.run(number)
    monitor = page.output(3)
    button = lambda name: monitor.get_by_role("button", name=name, exact=True)  # noqa: E731
    call = lambda name, n: monitor.locator("button.er-name", has_text=re.compile(f"^{name}$")).nth(n)  # noqa: E731

    # the table, and that it is live
    call("finetune", 1).wait_for()
    assert rows(page, 3)[:2] == ["node-1", "node-2"] and sorted(rows(page, 3)[2:]) == ["finetune", "finetune", "train"]
    has(
        page,
        3,
        "86 %",
        "1.0/24 GiB",
        "2 running",
        "1 waiting",
        "FileNotFoundError no data in /data/<b>x</b>",
        "epoch 1",
    )
    for second in range(1, 3 + PICTURE_S):
        work(nvml, second)
        time.sleep(bool(PICTURE_S))
    has(page, 3, f"{nvml.gpus[0].fields['util']} %")
    assert monitor.locator(".er-saved").is_hidden(), "the picture that stays isn't seen beside the widget"
    picture(page, 3, "monitor")

    # who doesn't see it hears a sentence for each row, and nothing of charts
    tree = monitor.aria_snapshot()
    assert re.search(r'group "node-1: connected, slots \d/2, CPU \d+ %, memory', tree)
    assert 'button "node-1"' in tree and 'textbox "Filter"' in tree and 'combobox "Sort by"' in tree
    assert "img" not in tree and monitor.locator("[aria-live]").count() == 0

    # by keyboard only: the filter, then a node's page, and back
    monitor.get_by_label("Filter").focus()
    page.page.keyboard.type("node-2")
    has(page, 3, "1 of 2 match the filter")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    button("Drain").wait_for()
    has(page, 3, "Python 3", "Log (its end)", "GPU 1: Fake-GPU")
    picture(page, 3, "monitor-node")
    button("Drain").press("Enter")
    button("Resume").press("Enter")
    button("Drain").wait_for()
    button("Back").press("Enter")
    monitor.get_by_label("Filter").fill("")
    call("node-1", 0).wait_for()

    # a call that waits says why; one that runs is cancelled while a cell runs
    call("finetune", 1).click()
    monitor.get_by_role("heading", name="Why it waits").wait_for()
    has(page, 3, "node-2", "it needs gpu_memory=20 GiB")
    picture(page, 3, "monitor-waiting")
    button("Back").click()
    call("train", 0).click()
    has(page, 3, "loss 1.0")
    ends = "box => box.firstChild.getBoundingClientRect().bottom <= box.getBoundingClientRect().bottom + 1"
    assert monitor.locator(".er-tail").evaluate(ends), "the end of what it printed is what is seen"
    picture(page, 3, "monitor-call")
    page.run(4)
    wait_until(lambda: "[*]" in page.cell(4).inner_text())
    button("Cancel").click()
    page.wait_for_text("heard meanwhile: True")
    has(page, 3, "This call has ended.")
    button("Back").click()

    # it lives again after a reload
    page.save()
    page.reload()
    call("node-2", 0).wait_for()
    monitor.get_by_label("Filter").fill("node-1")
    call("node-2", 0).wait_for(state="detached")

    # in Chinese
    page.run(5)
    page.output(5).locator("button.er-name").nth(2).wait_for()
    has(page, 5, "节点", "运行中")
    picture(page, 5, "monitor-zh")

    # the client is closed: the last picture stays, and a notebook that is opened without its kernel has it
    page.run(6)
    page.wait_for_text("all closed")
    has(page, 3, "closed; this is the last picture")
    page.save()
    bundles = [output.data for output in nbformat.read(lab.folder / "monitor.ipynb", as_version=4).cells[2].outputs]
    assert any("FileNotFoundError" in bundle.get("text/html", "") for bundle in bundles)
    assert any("node-1" in bundle["text/plain"] for bundle in bundles)
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.page.goto(lab.page_url("monitor.ipynb"))
    monitor.locator(".er-saved").wait_for()
    assert monitor.get_by_text("Error displaying widget").is_hidden()
    picture(page, 3, "monitor-saved", ".er-saved")
    assert page.errors == []
