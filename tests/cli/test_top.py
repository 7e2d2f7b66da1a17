"""`easyremote top`, in a pipe and in a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from easyremote.cluster import LocalCluster

pytestmark = pytest.mark.slow


def command(cluster: LocalCluster, *options: str) -> tuple[list[str], dict[str, str]]:
    environment = {
        **os.environ,
        "EASYREMOTE_TOKEN": cluster._token,
        "TERM": "xterm-256color",
        "COLUMNS": "120",
        "LINES": "30",
    }
    return [sys.executable, "-m", "easyremote", "top", "--gateway", cluster.address, *options], environment


def test_one_picture_goes_into_a_pipe_and_a_terminal_is_left_as_it_was() -> None:
    with LocalCluster(1) as cluster:
        line, environment = command(cluster, "--lang", "zh")
        shown = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
        assert "node-1" in shown and "● 已连接" in shown and "\x1b" not in shown

        line, environment = command(cluster, "--lang", "en")
        master, slave = pty.openpty()
        process = subprocess.Popen(
            line, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        seen, until, has_sorted = b"", time.monotonic() + 60, False
        while process.poll() is None and time.monotonic() < until:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    seen += os.read(master, 65536)
                except OSError:
                    break
            if b"q quit" in seen and not has_sorted:
                os.write(master, b"s")
                has_sorted = True
            if has_sorted and b"(CPU)" in seen:
                os.write(master, b"q")
                seen = seen.replace(b"(CPU)", b"")
        assert process.wait(30) == 0
        os.close(master)
        assert has_sorted and b"node-1" in seen and b"connected" in seen


def test_an_unknown_language_or_order_is_said(tmp_path: object) -> None:
    for options in (("--lang", "xx"), ("--sort", "beauty")):
        line = [sys.executable, "-m", "easyremote", "top", "--gateway", "127.0.0.1:1", *options]
        ended = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 2 and options[1] in ended.stderr and "Traceback" not in ended.stderr
