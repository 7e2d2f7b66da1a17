"""Figures of remote cells look as those of the notebook's own cells do: in its formats, each once."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from tests.notebook.conftest import Cell, Kernel

pytestmark = [pytest.mark.slow, pytest.mark.notebook]

DRAW = "import matplotlib.pyplot as plt\nfig, _ = plt.subplots(figsize=(4, 2), dpi=50)\nplt.plot([1, 2]);"


def png_size(data: dict[str, Any]) -> tuple[int, int]:
    header = base64.b64decode(data["image/png"])[16:24]
    return struct.unpack(">II", header)


def metadata(cell: Cell) -> dict[str, Any]:
    (shown,) = (message["content"] for message in cell.messages if message["msg_type"] == "display_data")
    return shown["metadata"]


def test_the_notebooks_figure_format_and_options_hold_in_remote_cells_too(shared_kernel: Kernel) -> None:
    plain = shared_kernel.ok(f"%%remote --fresh\n{DRAW}")
    width, height = png_size(plain.displays[0])
    shared_kernel.ok("%matplotlib inline\n%config InlineBackend.figure_format = 'retina'")
    here, there = shared_kernel.ok(DRAW), shared_kernel.ok(f"%%remote\n{DRAW}")
    assert there.displays == here.displays
    assert metadata(there) == metadata(here) != {}
    assert abs(png_size(there.displays[0])[0] - 2 * width) < 10
    shared_kernel.ok("%config InlineBackend.figure_format = 'svg'")
    (svg,) = shared_kernel.ok(f"%%remote\n{DRAW}").displays
    assert "<svg" in svg["image/svg+xml"] and "image/png" not in svg
    shared_kernel.ok("%config InlineBackend.figure_format = 'png'")
    shared_kernel.ok("%config InlineBackend.print_figure_kwargs = dict(bbox_inches=None)")
    assert png_size(shared_kernel.ok(f"%%remote\n{DRAW}").displays[0]) == (200, 100)
    shared_kernel.ok("%config InlineBackend.print_figure_kwargs = dict(bbox_inches='tight')")
    assert png_size(shared_kernel.ok(f"%%remote\n{DRAW}").displays[0]) == (width, height)


def test_a_remote_cell_may_set_its_own_format_which_lasts_in_its_session(shared_kernel: Kernel) -> None:
    shared_kernel.ok("%%remote --fresh\n%config InlineBackend.figure_format = 'svg'")
    for _ in range(2):
        (shown,) = shared_kernel.ok(f"%%remote\n{DRAW}").displays
        assert "image/svg+xml" in shown and "image/png" not in shown


def test_a_figure_is_shown_once_and_display_shows_it_at_once(shared_kernel: Kernel) -> None:
    last = shared_kernel.ok(f"%%remote --fresh\n{DRAW}\nfig")
    assert ["image/png" in data for data in last.displays] == [True, False]  # the second is its Out
    assert last.result.startswith("<Figure size 200x100")
    shown = shared_kernel.ok(f"%%remote\n{DRAW}\ndisplay(fig); plt.close()\nprint('after')")
    assert ["image/png" in data for data in shown.displays] == [True]


def test_an_empty_figure_shows_nothing(shared_kernel: Kernel) -> None:
    assert shared_kernel.ok("%%remote --fresh\nimport matplotlib.pyplot as plt\nplt.figure();").displays == []


def test_bundles_of_any_mime_types_travel_with_their_metadata(shared_kernel: Kernel) -> None:
    """As altair and plotly make them."""
    chart = (
        "class Chart:\n"
        "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        data = {'application/vnd.vegalite.v5+json': {'mark': 'bar', 'data': [1, None]}, 'text/plain': 'a chart'}\n"
        "        return data, {'application/vnd.vegalite.v5+json': {'embed': True}}\n"
    )
    last, shown = shared_kernel.ok(f"%%remote --fresh\n{chart}Chart()"), shared_kernel.ok("%%remote\ndisplay(Chart())")
    for cell in (last, shown):
        (content,) = (m["content"] for m in cell.messages if m["msg_type"] in ("execute_result", "display_data"))
        assert content["data"] == {
            "application/vnd.vegalite.v5+json": {"mark": "bar", "data": [1, None]},
            "text/plain": "a chart",
        }
        assert content["metadata"] == {"application/vnd.vegalite.v5+json": {"embed": True}}


def test_clear_output_clears_the_calling_cell(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote --fresh\nfrom IPython.display import clear_output, display\n"
        "for n in range(2):\n    clear_output(wait=True)\n    print('frame', n)\n    display(n)\nclear_output()\nprint('end')"
    )
    told = [
        message["content"].get("wait", message["content"].get("text", message["msg_type"]))
        for message in cell.messages
        if message["msg_type"] in ("clear_output", "stream", "display_data")
    ]
    assert told == [True, "frame 0\n", "display_data", True, "frame 1\n", "display_data", False, "end\n"]
