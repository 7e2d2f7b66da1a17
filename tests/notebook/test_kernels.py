"""Remote cells in kernels of either ipykernel that is in use."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


@pytest.mark.parametrize("shared_kernel", [6, 7], indirect=True)
def test_a_cell_shows_its_output_displays_and_result(shared_kernel: Kernel, request: pytest.FixtureRequest) -> None:
    version = request.node.callspec.params["shared_kernel"]
    assert shared_kernel.ok("import ipykernel; ipykernel.version_info[0]").result == str(version)
    cell = shared_kernel.ok(
        "%%remote\nfrom IPython.display import HTML, display\nprint('text'); display(HTML('<b>bold</b>'))\n40 + 2"
    )
    assert cell.text == "text\n"
    assert cell.displays[0]["text/html"] == "<b>bold</b>"
    assert cell.result == "42"
