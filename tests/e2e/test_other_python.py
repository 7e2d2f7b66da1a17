"""A node on another Python version: code isn't exchanged, data is. EASYREMOTE_OTHER_PYTHON names that Python (see .ci/run)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from easyremote import Client, EnvironmentMismatch, PayloadError, Server
from tests.conftest import wait_until

OTHER = os.environ.get("EASYREMOTE_OTHER_PYTHON", "")

NODE = """
import sys
from easyremote import ComputeNode
node = ComputeNode(sys.argv[1], "other")

@node.register
def version(data):
    return {"python": sys.version_info[:2], "data": data}

@node.register
def a_function():
    return lambda: 1

node.serve(blocking=True)
"""


@pytest.fixture
def other_node(server: Server, client: Client) -> Iterator[str]:
    process = subprocess.Popen([OTHER, "-c", NODE, server.address])
    wait_until(client.list_nodes)
    yield "other"
    process.terminate()
    process.wait()


def test_shipped_code_is_refused_before_it_is_loaded_and_both_versions_are_named(
    other_node: str, client: Client
) -> None:
    here = ".".join(map(str, __import__("sys").version_info[:2]))
    there = client.get_node_status(other_node).python.rpartition(".")[0]
    assert here != there
    for attempt in (
        lambda: client.call(lambda: 1),
        lambda: client.node(other_node).register(lambda: 1, name="f"),
        lambda: client.call_node(other_node, lambda: 1),  # type: ignore[arg-type]
    ):
        with pytest.raises(EnvironmentMismatch, match=f"Python {here}.*other has {there}"):
            attempt()
    assert client.get_node_status(other_node).status == "connected"


def test_a_function_that_is_registered_there_can_be_called(other_node: str, client: Client) -> None:
    answer = client.call("version", {"a": [1, 2.5, "x", b"y", None]})
    assert answer["data"] == {"a": [1, 2.5, "x", b"y", None]}
    assert ".".join(map(str, answer["python"])) == client.get_node_status(other_node).python.rpartition(".")[0]


def test_a_function_as_an_argument_is_refused_before_it_crashes_the_node(other_node: str, client: Client) -> None:
    here = ".".join(map(str, __import__("sys").version_info[:2]))
    for argument in (lambda: 1, [{"key": lambda: 1}]):
        with pytest.raises(EnvironmentMismatch, match=f"made by Python {here}"):
            client.call("version", argument)
    assert client.call("version", 1)["data"] == 1, "the node lives"


def test_a_function_as_a_result_is_refused_before_it_crashes_the_caller(other_node: str, client: Client) -> None:
    there = client.get_node_status(other_node).python.rpartition(".")[0]
    with pytest.raises(PayloadError, match=f"node .other. can.t be loaded here: .*made by Python {there}"):
        client.call("a_function")
    assert client.call("version", 1)["data"] == 1, "the node lives"
