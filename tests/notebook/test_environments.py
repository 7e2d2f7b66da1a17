"""`%%remote --with`: a session with packages of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from easyremote.execution.environments import uv
from tests.notebook.conftest import Kernel
from tests.packages import make_wheel

pytestmark = [pytest.mark.notebook, pytest.mark.skipif(not uv.find(), reason="uv isn't installed")]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    packages = tmp_path_factory.mktemp("packages")
    for name in ("treasure", "map"):
        make_wheel(packages, f"{name}chest", "1.0", "GOLD = 7\n")
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_FIND_LINKS", str(packages))
        patch.setenv("EASYREMOTE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EASYREMOTE_RUNTIME_DIR", str(folder))
        started = Kernel()
        started.ok("%load_ext easyremote\n%easyremote start")
        yield started
        started.close()


def test_a_session_gets_the_packages_that_a_cell_asks_for_and_says_when_it_begins_anew(kernel: Kernel) -> None:
    assert kernel.run("%%remote\nimport treasurechest").error == "ModuleNotFoundError"
    kernel.ok("%%remote\nkept = 1")
    first = kernel.ok("%%remote --with treasurechest==1.0\nimport treasurechest\ngold = treasurechest.GOLD\ngold + 1")
    assert first.result == "8"
    assert "names of before are gone" in first.text
    shown = [display.get("text/plain", "") for display in first.displays]
    assert any("building an environment for treasurechest==1.0" in text for text in shown)
    assert kernel.ok("%%remote\ngold").result == "7"  # it stays, without being asked for again
    assert not kernel.ok("%%remote --with treasurechest==1.0\ngold").text  # so does the session, when it is
    more = kernel.ok("%%remote --with 'mapchest<2'\nimport mapchest, treasurechest\n'gold' in globals()")
    assert more.result == "False" and "mapchest<2, treasurechest==1.0" in more.text
    magic = kernel.ok("%%remote\n%time 1 + 1\n!echo from $VIRTUAL_ENV")
    assert "Wall time" in magic.text and "from /" in magic.text


def test_a_build_that_fails_is_explained_and_leaves_the_session_as_it_was(kernel: Kernel) -> None:
    kernel.ok("%%remote\nleft = 2")
    failed = kernel.run("%%remote --with treasurechest>5\n1")
    assert failed.error == "EnvironmentFailed"
    assert "treasurechest>5" in failed.traceback
    assert kernel.ok("%%remote\nleft").result == "2"
