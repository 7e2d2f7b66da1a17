"""Bars of loops in the notebook itself, and what a killed kernel leaves on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import descendants_of, is_alive, wait_until
from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


def test_track_moves_a_bar_in_the_cell_for_a_loop_of_the_notebook_itself(kernel: Kernel) -> None:
    kernel.ok("from easyremote import track, progress")
    assert kernel.ok("list(track(range(3)))").displays == [{"text/plain": "[0, 1, 2]"}]  # without the extension: no bar
    kernel.ok("%load_ext easyremote")
    cell = kernel.ok("for x in track(range(4), 'steps'): pass")
    kinds = [m["msg_type"] for m in cell.messages]
    assert kinds == ["display_data", *["update_display_data"] * 4]
    assert cell.displays[-1]["text/plain"] == "[########################] 4/4 steps"
    kernel.ok("%unload_ext easyremote")
    assert kernel.ok("for x in track(range(4)): pass").messages == []


def test_a_fast_loop_is_not_slowed_by_its_bar_and_an_unknown_length_shows_a_count(kernel: Kernel) -> None:
    kernel.ok("%load_ext easyremote\nfrom easyremote import track")
    cell = kernel.ok("for x in track(range(20_000)): pass")
    assert 2 <= len(cell.messages) <= 202
    assert "20000 of 20000" in cell.displays[-1]["text/html"]
    cell = kernel.ok("for x in track(iter(range(3000)), 'rows'): pass")
    assert cell.displays[-1]["text/plain"] == "3000 rows"


def test_a_killed_kernel_with_a_cluster_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("EASYREMOTE_RUNTIME_DIR", str(tmp_path))
    kernel = Kernel()
    try:
        kernel.ok("%load_ext easyremote\n%easyremote start")
        started = descendants_of(kernel.pid)
        os.kill(kernel.pid, 9)
        wait_until(lambda: not any(map(is_alive, started)))
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    finally:
        kernel.close()
