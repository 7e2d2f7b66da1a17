"""Runs a tutorial in a real kernel, shows its cells and outputs as they come, and judges what came out.

    python notebooks/run_demo.py [NOTEBOOK] [--write]

Exits with 0 only when every cell did what it should and nothing is left running. `--write` puts the outputs into the notebook.
The tests of the tutorials use `execute`, `normalised` and `CHECKS` from here.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import copy
import os
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

FOLDER = Path(__file__).resolve().parent
FIRST = FOLDER / "01_first_call.ipynb"
CHINESE = "zh"
"""Folder of the tutorials in Chinese: the same code and outputs, other prose."""

CELL_TIMEOUT_S = 120
END_TIMEOUT_S = 10.0


# ---- executing -------------------------------------------------------------------------------------------------------


class Screen(Protocol):
    """Told what happens while a notebook runs."""

    def markdown(self, cell: NotebookNode) -> None: ...
    def begins(self, cell: NotebookNode, number: int) -> None: ...
    def shows(self, kind: str, content: dict[str, Any]) -> None:
        """An output of the running cell. `kind` and `content` are a kernel message's."""
        ...

    def ends(self) -> None: ...


class Silence:
    """A screen that shows nothing."""

    def markdown(self, cell: NotebookNode) -> None: ...
    def begins(self, cell: NotebookNode, number: int) -> None: ...
    def shows(self, kind: str, content: dict[str, Any]) -> None: ...
    def ends(self) -> None: ...


@dataclass
class Run:
    """An executed notebook, with what can't be seen in it."""

    notebook: NotebookNode
    took_s: float = 0.0
    error: str = ""  # what ended it before its last cell
    arrivals: dict[str, list[float]] = field(default_factory=dict)  # cell id -> when each output came
    left_over: list[str] = field(default_factory=list)  # processes and files

    def outputs(self, cell_id: str) -> list[NotebookNode]:
        cell = next((cell for cell in self.notebook.cells if cell.id == cell_id), None)
        if cell is None:
            raise Wrong(f"the notebook has no cell '{cell_id}'")
        return cell.outputs

    def text(self, cell_id: str) -> str:
        """All that the cell wrote, and the text forms of what it displayed."""
        return "".join(output_text(output) + "\n" for output in self.outputs(cell_id))


class _Client(NotebookClient):
    """Tells a screen of each message when it comes, and notes the processes that the kernel starts."""

    def __init__(self, run: Run, screen: Screen, **options: Any) -> None:
        super().__init__(run.notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", record_timing=False, **options)
        self.coalesce_streams = True
        self.seen: dict[int, psutil.Process] = {}
        self.is_interrupted = False
        self._run = run
        self._screen = screen
        self._number = 0
        self.on_cell_start = self._on_start
        self.on_cell_executed = self._on_executed

    async def async_start_new_kernel_client(self) -> Any:
        """Let Ctrl-C and SIGTERM end the run; nbclient's own handlers would end the kernel under it."""
        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            self.is_interrupted = True
            task.cancel()

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop)
        return await super().async_start_new_kernel_client()

    def _on_start(self, cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "markdown":
            self._screen.markdown(cell)
        elif cell.source.strip():
            self._number += 1
            self._screen.begins(cell, self._number)

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        kind = msg["msg_type"]
        if kind in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            self._run.arrivals.setdefault(cell.id, []).append(time.monotonic())
            self._screen.shows(kind, msg["content"])
        return super().process_message(msg, cell, cell_index)

    def _on_executed(self, cell: NotebookNode, cell_index: int, execute_reply: Any) -> None:
        self.note_processes()
        self._screen.ends()

    def note_processes(self) -> None:
        kernel = psutil.Process(self.km.provisioner.process.pid)
        self.seen.update({process.pid: process for process in [kernel, *kernel.children(recursive=True)]})


def execute(path: Path, screen: Screen | None = None) -> Run:
    """Run a notebook from top to bottom in a kernel of its own, which knows nothing of gateways that run already."""
    run = Run(nbformat.read(path, as_version=4))
    for cell in run.notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = _Client(run, screen or Silence(), resources={"metadata": {"path": str(path.parent)}})
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="easyremote-demo-") as name, open(Path(name, "kernel.log"), "w+") as log:
        runtime = Path(name, "run")
        runtime.mkdir(mode=0o700)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EASYREMOTE_")}
        environment |= {"EASYREMOTE_RUNTIME_DIR": str(runtime), "IPYTHONDIR": str(Path(name, "ipython"))}
        environment["EASYREMOTE_FOOTER"] = "off"  # they tell times, which are others each time
        try:
            client.execute(env=environment, stderr=log)
        except CellExecutionError as error:
            run.error = f"a cell failed with {error.ename}: {error.evalue}"
        except (Exception, asyncio.CancelledError) as error:  # a kernel that died or hangs
            if client.is_interrupted:
                raise KeyboardInterrupt from None
            log.seek(0)
            run.error = f"{type(error).__name__}: {error}\n{log.read()[-2000:]}".strip()
        run.took_s = time.monotonic() - began
        _, alive = psutil.wait_procs(client.seen.values(), timeout=END_TIMEOUT_S)
        run.left_over = [f"process {process.pid}" for process in alive] + [item.name for item in runtime.iterdir()]
    return run


# ---- outputs ---------------------------------------------------------------------------------------------------------

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def output_text(output: NotebookNode) -> str:
    """The plain text of one output."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return _ESCAPES.sub("", "\n".join(output.traceback))
    return output.data.get("text/plain", "")


def png_size(data: str) -> tuple[int, int]:
    """Width and height in pixels of a base64 PNG. Raises ValueError for anything else."""
    head = base64.b64decode(data)[:24]
    if len(head) < 24 or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("not a PNG image")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def normalised(notebook: NotebookNode) -> NotebookNode:
    """A copy to commit: without what tells of one machine, or would be different the next time for no reason."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(display_name="Python 3 (ipykernel)", language="python", name="python3"),
        language_info=NotebookNode(name="python"),
    )
    steady = _Steady()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = steady(output.text)
            elif output.output_type == "error":
                output.evalue, output.traceback = steady(output.evalue), [steady(line) for line in output.traceback]
            else:
                for mime, value in output.data.items():
                    if mime.startswith("text/"):
                        output.data[mime] = steady(value)
    return notebook


class _Steady:
    """Replaces process ids, ports, the host's name and paths, each by the same stand-in throughout."""

    def __init__(self) -> None:
        self._pids: dict[str, str] = {}
        folders = {str(FOLDER.parent): "/project", sys.prefix: "/python", sys.base_prefix: "/python"}
        folders |= {tempfile.gettempdir(): "/tmp", str(Path.home()): "/home/you"}
        self._folders = {folder: name for folder, name in folders.items() if len(folder) > 1 and folder != name}

    def __call__(self, text: str) -> str:
        for folder in sorted(self._folders, key=len, reverse=True):
            text = text.replace(folder, self._folders[folder])
        text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "my-computer", text)
        text = re.sub(r"\b127\.0\.0\.1:\d+", "127.0.0.1:40123", text)
        return re.sub(r"\bprocess (\d+)", lambda found: f"process {self._pid(found[1])}", text)

    def _pid(self, pid: str) -> str:
        return self._pids.setdefault(pid, str(4101 + len(self._pids)))


def write_outputs(notebook: NotebookNode, path: Path) -> None:
    """Put the notebook there, and its outputs into the one in Chinese, whose code is the same."""
    nbformat.write(notebook, path)
    translated = path.parent / CHINESE / path.name
    if translated.exists():
        other = nbformat.read(translated, as_version=4)
        outputs = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
        for cell in other.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = outputs[cell.id].outputs, outputs[cell.id].execution_count
        nbformat.write(other, translated)


# ---- judging ---------------------------------------------------------------------------------------------------------


class Wrong(Exception):
    """A result that isn't what it should be."""


def expect(condition: object, reason: str) -> None:
    if not condition:
        raise Wrong(reason)


def check_first_call(run: Run) -> str:
    """`01_first_call.ipynb`. The line that sums it up; raises Wrong."""
    here, there = re.findall(r"process (\d+)", run.text("first"))
    expect(here != there, f"the first call ran in the notebook's own process, {here}")
    expect("'words': 8" in run.text("register") and "counting words" in run.text("register"), "describe gave no result")

    tried = re.findall(r"([\d.]+)% with C,", run.text("search"))
    best = float(tried[-1]) if tried else 0.0
    expect(96 < best < 99, f"the best accuracy is {best} %; it should be between 96 and 99")
    expect("24/24 settings tried" in run.text("search"), "the search did not try 24 settings")
    arrived = run.arrivals["search"]
    expect(arrived[-1] - arrived[0] > 0.5, "the search showed nothing before its end")
    finished = [int(count) for count in re.findall(r"finished (\d+) calls", run.text("spread"))]
    expect(len(finished) == 2 and min(finished) >= 3, f"the calls are not spread over two nodes: {finished}")

    misread = [float(percent) for percent in re.findall(r"([\d.]+)% misread", run.text("stream"))]
    expect(len(misread) == 6 and misread[0] > 3 * misread[-1], f"more examples did not help: {misread}")
    width, height = _figure(run, "figure")
    expect(600 < width < 2000 and 200 < height < 1000, f"the figure has {width} by {height} pixels")
    count = int(run.text("misread").split()[0])
    expect(18 < count < 72, f"{count} digits are misread; it should be about {1797 * (1 - best / 100):.0f}")

    error = run.text("error")
    expect("AttributeError" in error and "on node node-" in error, "the error does not say what failed and where")
    expect("words = text.split()" in error and "site-packages" not in error, "the error does not show the cell's lines")
    _left_nothing(run)
    return f"best accuracy {best:.2f} %, calls per node {finished[0]} and {finished[1]}, figure of {width} by {height} pixels"


def check_your_gpu_box(run: Run) -> str:
    """`02_your_gpu_box.ipynb`."""
    expect("gpu-box is connected" in run.text("nodes"), "the box has not joined")
    width, height = _figure(run, "plot")
    expect(300 < width < 2000, f"the figure has {width} by {height} pixels")
    found = [float(percent) for percent in re.findall(r": ([\d.]+)%", run.text("function"))]
    expect(len(found) == 5 and 80 < max(found) < 100, f"the search on the box found {found}")
    expect("InsufficientResources" in run.text("needs") and "gpus=64" in run.text("needs"), "64 GPUs were not refused")
    expect("again there: 3" in run.text("reboot"), "the box did not come back")
    _left_nothing(run)
    return f"the box joined, made a figure of {width} by {height} pixels, and came back after a restart"


def check_remote_cells(run: Run) -> str:
    """`03_remote_cells.ipynb`."""
    score = float(re.findall(r"([\d.]+)% right on what it hasn't", run.text("expr"))[0])
    expect(90 < score < 100, f"the model is right in {score} % of unseen cases")
    _figure(run, "figure")
    expect(
        "nothing was sent" in run.text("dry") and "x_test" in run.text("dry"), "the dry run does not say what would go"
    )
    count = int(run.text("wrong").split()[0])
    expect(abs(count - 143 * (1 - score / 100)) < 1, f"{count} wrong cases do not go with {score} %")
    expect(
        "a shell on the node" in run.text("there") and "awaited" in run.text("there"), "a shell and await did not work"
    )
    expect(
        "IndexError" in run.text("error") and "mean_of(400)" in run.text("error"), "the error does not show its line"
    )
    expect("GradientBoosting" in run.text("kept"), "the session did not outlive the error")
    _left_nothing(run)
    return f"{score} % of unseen cases are right, {count} are wrong"


def check_many_nodes(run: Run) -> str:
    """`04_many_nodes.ipynb`."""
    expect("9 forests with 360 trees" in run.text("map"), "the map did not bring nine forests")
    together = float(re.findall(r"all together:\s+([\d.]+)%", run.text("vote"))[0])
    expect(90 < together < 100, f"together they are right in {together} %")
    finished = [int(count) for count in re.findall(r"finished (\d+) calls", run.text("spread"))]
    expect(len(finished) == 3 and min(finished) >= 1, f"the calls are not spread over three nodes: {finished}")
    expect(run.text("explain").count("can't") >= 3, "the table does not tell why each node can't")
    expect("12 of 12 parts are here; 2 nodes are left" in run.text("failover"), "a part was lost with its node")
    expect(len(run.text("write").split()) == 60, "the stream did not write 60 words")
    _left_nothing(run)
    return f"{together} % of digits read, 12 of 12 parts in spite of a dead node"


def check_jobs(run: Run) -> str:
    """`05_jobs.ipynb`."""
    expect("4 jobs are kept" in run.text("away") and "result: 0." in run.text("away"), "another process had no result")
    expect(run.text("kept").count("succeeded") == 4, "not all jobs have succeeded")
    expect("333332833333500000" in run.text("meanwhile"), "the cell in the background had no result")
    expect("went to cheap" in run.text("prices"), "the cheap node was not the one that was taken")
    expect("CostLimitError" in run.text("limit"), "a limit that nobody keeps was not refused")
    expect("node-1" in run.text("monitor"), "the monitor does not show the nodes")
    _left_nothing(run)
    return "four jobs were read by another process"


def _left_nothing(run: Run) -> None:
    expect(run.text("left").strip() == "[]", f"after the stop these run on: {run.text('left').strip()}")


def _figure(run: Run, cell_id: str) -> tuple[int, int]:
    for output in run.outputs(cell_id):
        if "image/png" in output.get("data", {}):
            return png_size(output.data["image/png"])
    raise Wrong(f"the cell '{cell_id}' shows no figure")


CHECKS: dict[str, Callable[[Run], str]] = {
    FIRST.name: check_first_call,
    "02_your_gpu_box.ipynb": check_your_gpu_box,
    "03_remote_cells.ipynb": check_remote_cells,
    "04_many_nodes.ipynb": check_many_nodes,
    "05_jobs.ipynb": check_jobs,
}
"""Notebook's file name -> what judges its run. Each tutorial has one."""


def judge(run: Run, name: str) -> str:
    """The line that sums the run up. Raises Wrong with the reason when something isn't right."""
    expect(not run.error, run.error)
    for cell in run.notebook.cells:
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        wanted = "raises-exception" in cell.metadata.get("tags", [])
        expect(failed == wanted, f"cell '{cell.id}' {'failed' if failed else 'should have raised an error'}")
    expect(not run.left_over, f"left behind: {', '.join(run.left_over)}")
    try:
        return CHECKS[name](run) if name in CHECKS else "every cell ran"
    except (ValueError, IndexError, KeyError) as error:
        raise Wrong(f"the outputs do not look as they should: {type(error).__name__}: {error}") from error


# ---- the terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """Prints a notebook as it runs. Displays that change, such as a bar, change in place until their cell ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._moving: dict[str, Text] = {}
        self._stated: dict[str, int] = {}

    def markdown(self, cell: NotebookNode) -> None:
        self._console.print(Padding(Markdown(cell.source), (1, 0, 0, 0)))

    def begins(self, cell: NotebookNode, number: int) -> None:
        self._partial: dict[str, str] = {}
        lexer = "text" if cell.source.startswith("%") and not cell.source.startswith("%%") else "python"
        code = Syntax(cell.source, lexer, theme="ansi_dark", background_color="default", word_wrap=True)
        self._console.print(Panel(code, title=f"In [{number}]", title_align="left", border_style="dim"))

    def shows(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            self._write(content["name"], content["text"])
        elif kind == "error":
            self._print(Text.from_ansi("\n".join(content["traceback"])), wraps=True)
        else:
            self._display(kind, content)

    def ends(self) -> None:
        for name, text in self._partial.items():
            if text:
                self._line(name, text)
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._moving.clear()
        self._stated.clear()

    def _write(self, name: str, text: str) -> None:
        """Print whole lines; keep the rest until it is one."""
        *lines, rest = (self._partial.get(name, "") + text).split("\n")
        for line in lines:
            self._line(name, line)
        self._partial[name] = rest

    def _line(self, name: str, line: str) -> None:
        self._print(Text.from_ansi(line.rstrip("\r").rpartition("\r")[2], style="yellow" if name == "stderr" else ""))

    def _display(self, kind: str, content: dict[str, Any]) -> None:
        text = _described(content["data"])
        display_id = (content.get("transient") or {}).get("display_id")
        if display_id:
            self._move(display_id, text)
        elif kind != "update_display_data":
            self._print(text)

    def _move(self, display_id: str, text: Text) -> None:
        self._moving[display_id] = text
        if not self._console.is_terminal:  # a log can't be changed afterwards: say it now and then
            self._stated[display_id] = self._stated.get(display_id, -1) + 1
            if self._stated[display_id] % 6 == 0:
                self._print(text)
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=10)
            self._live.start()
        self._live.update(Group(*(_indented(item) for item in self._moving.values())))

    def _print(self, text: Text, wraps: bool = False) -> None:
        self._console.print(_indented(text, wraps))


def _indented(text: Text, wraps: bool = False) -> Padding:
    if not wraps:
        text.no_wrap, text.overflow = True, "ellipsis"
    return Padding(text, (0, 0, 0, 2), expand=False)


def _described(data: dict[str, Any]) -> Text:
    if "image/png" in data:
        width, height = png_size(data["image/png"])
        return Text(f"[figure, {width}x{height} png]", style="italic cyan")
    return Text(data.get("text/plain", f"[{', '.join(data)}]"))


# ---- the command -----------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a tutorial and judge its results.")
    parser.add_argument("notebook", nargs="?", type=Path, default=FIRST, help="default: the first tutorial")
    parser.add_argument("--write", action="store_true", help="put the outputs into the notebook, normalised")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        run = execute(options.notebook.resolve(), Terminal(console))
        summary = judge(run, options.notebook.name)
    except Wrong as wrong:
        console.print(Text(f"\nNot right: {wrong}", style="bold red"))
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        return 130
    if options.write:
        write_outputs(normalised(run.notebook), options.notebook)
    cells = sum(cell.cell_type == "code" for cell in run.notebook.cells)
    console.print(Text(f"\nAll right: {cells} cells in {run.took_s:.0f} s; {summary}.", style="bold green"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
