"""A real JupyterLab, and a real Chromium to look at it with."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

CHROMIUM = "/usr/bin/chromium"
SCREENS = Path(__file__).parents[2] / ".build" / "screens"

_QUIET = {  # settings of a person who has seen the news
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}

KNOWN_NOISE: dict[str, str] = {
    r"^Cannot read properties of undefined \(reading 'schema'\)$": "Notebook 7.6 says it of each notebook that it opens",
    r"^Command 'filebrowser:open-path' not registered": "Notebook 7.6, of some: it has no file browser",
}
"""Pattern of a console error that isn't ours -> why it comes."""


class Lab:
    """A JupyterLab server with folders of its own. `folder` is where its notebooks lie."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "notebooks"
        self.folder.mkdir()
        self.token = secrets.token_hex(16)
        self._runtime = base / "jupyter-runtime"
        self._log = base / "jupyter.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "EASYREMOTE"))}
        folders = {"CONFIG": "config", "DATA": "data", "RUNTIME": "jupyter-runtime"}
        environment |= {f"JUPYTER_{name}_DIR": str(base / folder) for name, folder in folders.items()}
        environment |= {f"JUPYTERLAB_{name}_DIR": str(base / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
        environment |= {"IPYTHONDIR": str(base / "ipython"), "EASYREMOTE_RUNTIME_DIR": str(base / "run")}
        (base / "run").mkdir(mode=0o700)
        for name, setting in _QUIET.items():
            path = base / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(setting))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
                    f"--ServerApp.root_dir={self.folder}",
                    f"--IdentityProvider.token={self.token}",
                    "--ServerApp.port=0",
                    "--LabApp.expose_app_in_browser=True",
                    "--JupyterNotebookApp.expose_app_in_browser=True",
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = self._wait_for_url()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_for_url(self) -> str:
        until = time.monotonic() + 120  # a bound for a busy machine
        while time.monotonic() < until and self._process.poll() is None:
            for path in self._runtime.glob("jpserver-*.json"):
                record = json.loads(path.read_text() or "{}")
                if record.get("port"):
                    return record["url"]
            time.sleep(0.05)
        raise AssertionError(f"JupyterLab did not start:\n{self._log.read_text()}")

    def write(self, name: str, notebook: Any) -> None:
        notebook.metadata.kernelspec = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        nbformat.write(notebook, self.folder / name)

    def page_url(self, notebook: str) -> str:
        """A workspace of its own for each page, so that nothing is opened but the notebook."""
        return f"{self.url}lab/workspaces/{secrets.token_hex(4)}/tree/{notebook}?token={self.token}"

    def classic_url(self, notebook: str) -> str:
        """The same in Notebook 7, which the same server has."""
        return f"{self.url}notebooks/{notebook}?token={self.token}"

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Page:
    """A notebook in a browser."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda message: message.type == "error" and self._note(f"{message.text} {message.location}"))
        page.on("pageerror", lambda error: self._note(str(error)))

    def _note(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in KNOWN_NOISE):
            self.errors.append(text)

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.wait_for_kernel()

    def open_cells(self, lab: Lab, name: str, cells: list[str], classic: bool = False) -> None:
        """A new notebook with these code cells; `classic`: in Notebook 7."""
        lab.write(name, new_notebook(cells=[new_code_cell(source) for source in cells]))
        self.open(lab.classic_url(name) if classic else lab.page_url(name))

    def reload(self) -> None:
        self.page.reload()
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp?.shell.currentWidget
                return panel?.context?.isReady && panel.sessionContext.session?.kernel?.status == 'idle'
            }"""
        )

    def wait_for_text(self, text: str) -> None:
        """Until an output has it, in view or not."""
        self.page.wait_for_selector(f".jp-OutputArea-output >> text={text}", state="attached")

    def wait_for(self, selector: str, condition: str) -> None:
        """Until the first element of `selector` fulfils a condition in JavaScript. Outputs that change are new elements."""
        script = "([selector, source]) => { const e = document.querySelector(selector); return e && eval(source)(e) }"
        self.page.wait_for_function(script, arg=[selector, condition], polling=20)

    def command(self, name: str, **arguments: Any) -> None:
        """Begin a command of JupyterLab; it isn't waited for."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments])

    def cell(self, index: int) -> Any:
        """Code cell number `index`, from 1 on."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(index - 1)

    def output(self, index: int) -> Any:
        return self.cell(index).locator(".jp-Cell-outputArea")

    def figure_width(self, index: int) -> int:
        """Of the cell's first image, in its own pixels."""
        return (
            self.output(index)
            .locator("img")
            .first.evaluate("async img => { await img.decode(); return img.naturalWidth }")
        )

    def run(self, index: int) -> None:
        self.cell(index).locator(".cm-content").click()
        self.command("notebook:run-cell")

    def press(self, command: str) -> None:
        """The button of the notebook's toolbar for a command."""
        self.page.locator(f'.jp-NotebookPanel-toolbar [data-command="{command}"]').click()

    def save(self) -> None:
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def theme(self, name: str) -> None:
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", f"JupyterLab {name}"
        )
        shown = f'body[data-jp-theme-name="JupyterLab {name}"]'
        self.page.wait_for_selector(shown, state="attached")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")  # fades while the theme changes

    def screenshot(self, name: str) -> None:
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SCREENS / f"{name}.png"))

    def screenshots(self, name: str, height: int) -> None:
        """The whole notebook in the light and the dark theme."""
        usual = self.page.viewport_size
        self.page.set_viewport_size({"width": usual["width"], "height": height})
        for theme in ("Dark", "Light"):
            self.theme(theme)
            self.page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
            self.screenshot(f"{name}-{theme.lower()}")
        self.page.set_viewport_size(usual)


def _missing() -> str:
    """Why no browser test can run here; empty when they can."""
    if not os.access(CHROMIUM, os.X_OK):
        return f"{CHROMIUM} isn't installed; scripts/install-browser installs it"
    if shutil.which("jupyter-lab", path=str(Path(sys.executable).parent)) is None:
        return "JupyterLab isn't installed; make venv installs it"
    return ""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    reason = _missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    switches = ("disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("chromium")),
            executable_path=CHROMIUM,
            headless=True,
            chromium_sandbox=False,
            args=[*(f"--{name}" for name in switches), "--disable-component-update", "--disable-sync"],
            viewport={"width": 1100, "height": 900},
        )
        context.set_default_timeout(60_000)  # a bound for a busy machine
        yield context
        context.close()


@pytest.fixture(scope="module")
def lab(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    started = Lab(tmp_path_factory.mktemp("lab"))
    yield started
    started.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    opened = Page(chromium.new_page())
    yield opened
    opened.page.close()
