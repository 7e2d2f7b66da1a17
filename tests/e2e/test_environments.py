"""Functions and cells with packages of their own: environments that a node builds, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, ComputeNode, EnvironmentFailed, NoNodeAvailable, Server, UsageError
from easyremote.execution.environments import uv
from easyremote.execution.environments.folder import EnvironmentFolder
from tests.packages import make_wheel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not uv.find(), reason="uv isn't installed")]


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two versions of a package that no index has, and a folder for environments that the tests of this file share."""
    folder = tmp_path_factory.mktemp("packages")
    for version in ("1.0", "2.0"):
        make_wheel(folder, "treasure", version, f"VERSION = {version!r}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_FIND_LINKS", str(folder))
        patch.setenv("EASYREMOTE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield folder


def treasure_version() -> Callable[[], tuple[str, str]]:
    """A function that travels by value, as one of a notebook does."""

    def version() -> tuple[str, str]:
        import sys

        import treasure  # type: ignore[import-not-found]

        return treasure.VERSION, sys.prefix

    return version


def kept() -> list[list[str]]:
    return [environment.facts["requirements"] for environment in EnvironmentFolder().kept()]


def test_functions_run_with_the_packages_that_they_ask_for_and_each_environment_is_built_once(
    node: ComputeNode, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    """C35: sixteen first calls at once, from as many threads, are one build, of which each of them is told."""
    shipped = treasure_version()
    one, two = (client.with_options(requirements=[f"treasure=={version}"]) for version in ("1.0", "2.0"))
    calls = [one.submit(shipped) for _ in range(16)]
    answers = [call.result() for call in calls]
    assert {version for version, _ in answers} == {"1.0"}
    assert len({folder for _, folder in answers}) == 1
    assert kept() == [["treasure==1.0"]]
    assert "resolved" in capfd.readouterr().err
    assert two.call(shipped)[0] == "2.0"
    assert one.call(shipped)[0] == "1.0"
    with pytest.raises(ModuleNotFoundError):
        client.call(shipped)


def test_registered_functions_keep_their_environment_and_say_so(node: ComputeNode, client: Client) -> None:
    node.register(treasure_version(), name="owners", requirements=["treasure==1.0"])
    client.node().register(treasure_version(), name="shipped", requirements=["treasure==2.0"])
    batched = node.register(
        lambda items: [__import__("treasure").VERSION for _ in items],
        name="batched",
        batch=8,
        requirements=["treasure==2.0"],
    )
    assert callable(batched)
    assert client.call("owners")[0] == "1.0"
    assert client.call("shipped")[0] == "2.0"
    assert list(client.map("batched", range(3))) == ["2.0"] * 3
    known = {function.name: function.requirements for function in client.list_functions()}
    assert known["owners"] == ("treasure==1.0",)
    with pytest.raises(UsageError, match="where it was registered"):
        client.with_options(requirements=["numpy"]).call("owners")


def test_what_can_t_be_resolved_is_explained_in_the_resolvers_words(node: ComputeNode, client: Client) -> None:
    asked = ["treasure==1.0", "treasure>=2"]
    with pytest.raises(EnvironmentFailed, match="treasure>=2") as failed:
        client.with_options(requirements=asked).call(treasure_version())
    assert failed.value.requirements == tuple(asked)
    assert failed.value.node == node.node_id
    with pytest.raises(EnvironmentFailed):
        client.node().register(treasure_version(), name="never", requirements=["treasure==3.0"])
    assert "never" not in client.node().functions
    assert not list(EnvironmentFolder().root.glob(".*.*")), "nothing is left of what failed"


@pytest.mark.parametrize(
    "requirements",
    [
        "numpy",
        ["--index-url=x"],
        ["./here"],
        ["here/there"],
        ["a @ file:///here/a.whl"],
        ["a @ ./a.whl"],
        ["a @ https://me:secret@host/a.whl"],
        [""],
    ],
)
def test_requirements_that_can_t_be_are_refused_before_anything_is_sent(client: Client, requirements: Any) -> None:
    with pytest.raises(UsageError) as refused:
        client.with_options(requirements=requirements)
    assert "secret" not in str(refused.value)


def test_calls_go_where_environments_are_built_and_what_is_in_the_way_is_told(server: Server, client: Client) -> None:
    shipped = client.with_options(requirements=["treasure==1.0"])
    with ComputeNode(server.address, "strict", environments=False) as strict:
        with pytest.raises(NoNodeAvailable, match="strict: its owner allows none"):
            shipped.call(treasure_version())
        with pytest.raises(UsageError, match="its owner allows none"):
            strict.register(treasure_version(), name="f", requirements=["treasure==1.0"])
        with ComputeNode(server.address, "kind"):
            call = shipped.submit(treasure_version())
            assert call.result()[0] == "1.0"
            assert call.node == "kind"
            rows = {row.node_id: row.reason for row in shipped.explain(treasure_version()).nodes}
            assert "allows none" in rows["strict"] and not rows["kind"]
