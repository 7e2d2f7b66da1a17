"""Never old code by accident: versions of what calls run, functions that went stale, and registering on all nodes or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, ComputeNode, Server
from easyremote.errors import EasyRemoteError, NodeGone
from tests.capture.conftest import edit
from tests.conftest import wait_until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Server]:
    with Server(port=0) as server, ComputeNode(server.address, "n1"), ComputeNode(server.address, "n2"):
        yield server


class Notebook:
    """Names of one notebook, and cells that are run in it."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, source: str) -> None:
        exec(compile(source, f"<cell {len(source)}>", "exec"), self.names)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


def _info(client: Client, name: str) -> Any:
    return next(info for info in client.list_functions() if info.name == name)


def _everywhere(client: Client, name: str, *args: Any) -> list[tuple[Any, str]]:
    calls = [client.with_options(node=node).submit(name, *args) for node in ("n1", "n2")]
    return [(call.result(), call.function_version) for call in calls]


def test_redefining_a_function_gives_the_new_answer_on_every_node(client: Client) -> None:
    """C4: old code runs after re-running the cell."""
    notebook = Notebook()
    notebook.run("def inc(x): return x + 1")
    client.node().register(notebook["inc"])
    first = _everywhere(client, "inc", 1)
    notebook.run("def inc(x): return x + 100")
    client.node().register(notebook["inc"])
    second = _everywhere(client, "inc", 1)
    assert [value for value, _ in first + second] == [2, 2, 101, 101]
    assert len({version for _, version in first}) == len({version for _, version in second}) == 1
    assert first[0][1] != second[0][1] == _info(client, "inc").version
    many = [client.submit("inc", n) for n in range(50)]
    assert {call.function_version for call in many if call.result() is not None} == {second[0][1]}


def test_a_call_runs_each_time_and_its_result_is_never_an_earlier_one(client: Client) -> None:
    """C5: nothing is cached because a function looks pure."""
    notebook = Notebook()
    notebook.run("import os\ndef draw(): return os.urandom(8)")
    client.node("n1").register(notebook["draw"])
    assert client.call("draw") != client.call("draw")
    assert client.call(notebook["draw"]) != client.call(notebook["draw"])


def test_editing_a_helper_or_a_constant_makes_the_function_stale_until_it_is_registered_again(client: Client) -> None:
    """C36, C23: a change of what a function calls, or of a global that it reads, is a change of the function."""
    notebook = Notebook()
    notebook.run(
        "RATE = 2\ndef inner(x): return x * RATE\ndef middle(x): return inner(x)\ndef apply(x): return middle(x)\nunused = 1"
    )
    client.node().register(notebook["apply"])
    fresh = _info(client, "apply")
    assert not fresh.is_stale and fresh.stale_nodes == () and set(fresh.versions) == {"n1", "n2"}
    notebook.run("unused = 2\ndef other(): pass")
    assert not _info(client, "apply").is_stale

    notebook.run("def inner(x): return x * RATE + 1")
    stale = _info(client, "apply")
    assert stale.is_stale and stale.stale_nodes == ("n1", "n2") and stale.version == fresh.version
    assert client.call("apply", 1) == 2  # what is registered, and said to be stale
    notebook.run("def inner(x): return x * RATE")
    assert not _info(client, "apply").is_stale  # as it was
    notebook.run("RATE = 3")
    assert _info(client, "apply").is_stale
    assert client.refresh() == ["apply"] and client.refresh() == []
    assert _everywhere(client, "apply", 1) == [(3, _info(client, "apply").version)] * 2
    assert not _info(client, "apply").is_stale
    assert client.call(notebook["apply"], 1) == 3  # what isn't registered is never stale


def test_editing_a_shipped_module_makes_the_function_stale(client: Client, beside: Path) -> None:
    """C22, C36: helper modules beside the notebook, and what they import."""
    client.ship("er_helpers")
    notebook = Notebook()
    notebook.run("import er_helpers\ndef scale(x): return er_helpers.double(x)")
    client.node().register(notebook["scale"])
    assert client.call("scale", 1) == 2 and not _info(client, "scale").is_stale
    edit(beside / "er_units.py", "FACTOR = 2", "FACTOR = 7")
    assert _info(client, "scale").is_stale and client.call("scale", 1) == 2
    client.refresh()
    assert client.call("scale", 1) == 7 and not _info(client, "scale").is_stale


def test_a_node_that_holds_an_older_version_is_named(client: Client) -> None:
    notebook = Notebook()
    notebook.run("def level(): return 1")
    client.node().register(notebook["level"])
    notebook.run("def level(): return 2")
    client.node("n2").register(notebook["level"])
    assert _info(client, "level").stale_nodes == ("n1",) and not _info(client, "level").is_stale
    with Client(client.address) as other:
        assert len(set(_info(other, "level").versions.values())) == 2
        assert len(_info(other, "level").stale_nodes) == 1


def test_registering_is_on_all_nodes_or_on_none(gateway: Server, client: Client) -> None:
    notebook = Notebook()
    notebook.run("def answer(): return 'old'")
    client.node().register(notebook["answer"])
    with ComputeNode(gateway.address, "leaving"):
        everywhere = client.node(*(node.node_id for node in client.list_nodes()))
    wait_until(lambda: "leaving" not in {node.node_id for node in client.list_nodes()})
    notebook.run("def answer(): return 'new'")
    with pytest.raises((NodeGone, EasyRemoteError)) as caught:
        everywhere.register(notebook["answer"])
    assert "leaving" in str(caught.value)
    assert [value for value, _ in _everywhere(client, "answer")] == ["old", "old"]
    client.node().register(notebook["answer"])
    assert [value for value, _ in _everywhere(client, "answer")] == ["new", "new"]


def test_calls_while_it_is_registered_again_get_the_old_or_the_new(client: Client) -> None:
    notebook = Notebook()
    text = "A = {n}\ndef part(): return A\ndef pair(): return part(), {n}"
    notebook.run(text.replace("{n}", "0"))
    client.node().register(notebook["pair"])
    found: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            found.append(client.call("pair"))

    asking = threading.Thread(target=ask)
    asking.start()
    for n in range(1, 6):
        notebook.run(text.replace("{n}", str(n)))
        client.node().register(notebook["pair"])
        wait_until(lambda wanted=n: len(found) >= wanted)
    done.set()
    asking.join()
    assert all(one == two for one, two in found) and len(found) >= 5
    assert client.call("pair") == (5, 5)
