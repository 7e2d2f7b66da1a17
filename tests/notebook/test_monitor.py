"""The monitor in a real kernel, looked at and clicked as a front end does it: by comm messages."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.notebook.conftest import Kernel

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

WIDGET = "application/vnd.jupyter.widget-view+json"


class Front:
    """What a page knows of the kernel's widgets, from the messages of the IOPub channel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.models: dict[str, dict[str, Any]] = {}
        self.displays: list[dict[str, Any]] = []

    def take(self, message: dict[str, Any], _: Any = None) -> None:
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self.models[content["comm_id"]] = dict(content["data"]["state"])
        elif message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            self.models.setdefault(content["comm_id"], {}).update(content["data"]["state"])
        elif message["msg_type"] == "comm_close":
            self.models.pop(content["comm_id"], None)
        elif message["msg_type"] in ("display_data", "update_display_data"):
            self.displays.append(content["data"])

    def run(self, code: str) -> Any:
        return self.kernel.ok(code, on_message=self.take)

    def wait_for(self, condition: Any, timeout_s: float = 60) -> Any:
        until = time.monotonic() + timeout_s
        while not (found := condition()):
            self.take(self.kernel.client.get_iopub_msg(timeout=max(until - time.monotonic(), 0.01)))
        return found

    def send(self, comm_id: str, data: dict[str, Any]) -> None:
        message = self.kernel.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        self.kernel.client.shell_channel.send(message)

    def set(self, comm_id: str, **state: Any) -> None:
        self.send(comm_id, {"method": "update", "state": state, "buffer_paths": []})

    def find(self, **state: Any) -> str:
        """The model with this state; empty: none."""
        found = (
            key for key, have in self.models.items() if all(have.get(name) == value for name, value in state.items())
        )
        return next(found, "")

    def click(self, description: str) -> None:
        button = self.wait_for(lambda: self.find(_model_name="ButtonModel", description=description))
        self.send(button, {"method": "custom", "content": {"event": "click"}})

    def has(self, text: str) -> bool:
        return any(text in str(model.get("value", "")) for model in self.models.values())


@pytest.fixture(scope="module")
def front(shared_kernel: Kernel) -> Front:
    return Front(shared_kernel)


def test_it_looks_while_it_is_seen_serves_clicks_and_leaves_a_picture(front: Front) -> None:
    front.run("monitor = client.monitor('en')\nmonitor")
    bundle = next(shown for shown in front.displays if WIDGET in shown)
    picture = next(shown for shown in front.displays if "er-saved" in shown.get("text/html", ""))
    assert "VBox" not in bundle["text/plain"] and "node-1" in picture["text/plain"] and "node-2" in picture["text/html"]
    threads = "import threading, json\nprint([t.name for t in threading.enumerate()].count('easyremote-monitor'))"
    assert front.run(threads).text.strip() == "0", "nobody looks yet"

    root = bundle[WIDGET]["model_id"]
    front.set(root, _view_count=1)
    front.run("import time\ncall = client.submit(lambda: (print('from there'), time.sleep(60)))")
    front.wait_for(lambda: front.find(_model_name="ButtonModel", description="<lambda>"))
    front.run("other = client.monitor('zh')\ndisplay(other)")
    front.set(front.displays[-2][WIDGET]["model_id"], _view_count=1)
    front.wait_for(lambda: front.has("运行中"))
    assert front.run(threads).text.strip() == "1", "one for all monitors of a client"
    front.run("other.close()")

    busy = "The kernel is busy: clicks work when the cell ends."
    wait = (
        f"until = time.monotonic() + 60\nwhile {busy!r} not in monitor._panel._note.value and time.monotonic() < until:"
    )
    front.run(f"{wait}\n    time.sleep(0.05)")
    assert front.has(busy), "this page sends clicks to the thread that runs cells"

    field = front.find(_model_name="TextModel", description="Filter")
    front.set(field, value="node-2")
    front.wait_for(lambda: front.has("1 of 2 match the filter"))
    front.set(field, value="")
    front.click("node-1")
    front.wait_for(lambda: front.has("The log of this node is on its own machine."))
    front.click("Drain")
    front.wait_for(lambda: front.find(_model_name="ButtonModel", description="Resume"))
    assert "draining" in front.run("print(client.get_node_status('node-1').status)").text
    front.click("Resume")
    front.wait_for(lambda: front.find(_model_name="ButtonModel", description="Drain"))
    front.click("Back")
    front.click("<lambda>")
    front.wait_for(lambda: front.has("from there"))
    front.click("Cancel")
    front.wait_for(lambda: front.has("This call has ended."))
    assert front.run("print(call.cancelled())").text.strip() == "True"

    front.set(root, _view_count=0)
    front.run("monitor.close()")
    wait = "import time\nwhile [t for t in threading.enumerate() if t.name == 'easyremote-monitor']: time.sleep(0.05)\nprint('none')"
    assert front.run(wait).text.strip() == "none"


def test_without_ipywidgets_a_picture_is_made_anew_in_its_place(front: Front) -> None:
    front.displays.clear()
    front.run(
        "import sys\nsys.modules['easyremote.notebook.monitor_widget'] = None\nplain = client.monitor()\ndisplay(plain)\n"
        "del sys.modules['easyremote.notebook.monitor_widget']"
    )
    assert not any(WIDGET in shown for shown in front.displays)
    front.wait_for(lambda: len([shown for shown in front.displays if "er-saved" in shown.get("text/html", "")]) > 1)
    front.run("plain.close()")


def test_a_client_and_a_cluster_show_themselves_so(front: Front) -> None:
    for code in ("client", "from easyremote.notebook.workspace import workspace\nworkspace.cluster"):
        front.displays.clear()
        front.run(code)
        assert any(WIDGET in shown for shown in front.displays), code


def test_a_hundred_looks_of_ten_nodes_cost_little(front: Front) -> None:
    """Less than 2 % of a core, at one look a second; measured without what else the machine does, and generously."""
    spent = front.run(
        """
import time, json
from easyremote.monitoring.view import Snapshot
from easyremote.monitoring.watching import History
from easyremote.notebook.monitor import Monitor
from easyremote.notebook.monitor_widget import Panel
from easyremote.model import GatewayInfo, NodeInfo, Overview
panel, history = Panel(Monitor(client)), History()
panel.root._view_count = 1
began = time.process_time()
for look in range(50):
    load = {'cpus': 8, 'cpu_percent': look % 90, 'memory_used_bytes': 2**30 + look, 'memory_total_bytes': 2**34, 'gpus': 0}
    nodes = tuple(NodeInfo(f'node-{i}', 'connected', (), 4, 1, 0.2, load) for i in range(10))
    seen = Overview(GatewayInfo('h:1', '1', float(look), 1, 0, 0), nodes)
    history.add(seen)
    panel.show(Snapshot(seen, history.series()))
print(json.dumps((time.process_time() - began) / 50))
panel.close()
"""
    ).text
    assert json.loads(spent) < 0.02
