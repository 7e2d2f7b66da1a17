"""Each script of the reference, as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from easyremote import Client, GatewayUnreachable, Server
from tests.conftest import free_port, wait_until

SCRIPTS = Path(__file__).parent.parent / "scripts"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPTS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_quick_start_in_four_lines_gives_the_result_and_ends() -> None:
    done = run("quick_start.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "computed my_data\n", "")


def test_two_quick_starts_at_once_on_one_machine_do_not_disturb_each_other() -> None:
    command = [sys.executable, str(SCRIPTS / "quick_start.py")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["computed my_data\n"] * 2


def test_the_simple_classes_serve_without_blocking_and_the_script_ends_by_itself() -> None:
    done = run("simple_classes.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the script goes on\n{'model': 'sample_data', 'accuracy': 0.97}\n"
    assert done.stderr == ""


def test_the_classes_take_the_settings_of_the_older_package() -> None:
    done = run("every_setting.py", str(free_port()))
    assert (done.stdout, done.stderr) == ("42 2 gpu-a\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_only_serves_lives_on_after_its_last_line_until_it_is_told_to_end(number: signal.Signals) -> None:
    with Server(port=0) as server:
        command = [sys.executable, str(SCRIPTS / "serve_elsewhere.py"), server.address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "last line\n"
            with Client(server.address) as client:
                for _ in range(3):  # its main thread has ended; thread pools still work in it
                    assert client.call("pooled", 3) == [0, 1, 4]
                process.send_signal(number)
                _, errors = process.communicate(timeout=20)
                assert (process.returncode, errors) == (0, "")
                assert client.list_nodes() == []  # it said goodbye
        finally:
            process.kill()


def test_a_script_that_fails_after_serving_ends_with_its_error(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        "from easyremote.simple import *\nimport sys\nComputeNode(sys.argv[1]).serve()\nraise RuntimeError('mine')\n"
    )
    with Server(port=0) as server:
        done = subprocess.run([sys.executable, str(script), server.address], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "RuntimeError: mine" in done.stderr


def test_serve_blocking_returns_on_sigterm(tmp_path: Path) -> None:
    script = tmp_path / "blocking.py"
    script.write_text(
        "from easyremote import ComputeNode\nimport sys\nnode = ComputeNode(sys.argv[1], 'b')\n"
        "node.register(lambda: print('called'), name='f')\nnode.serve(blocking=True)\nprint('after', node.is_serving)\n"
    )
    with Server(port=0) as server, Client(server.address) as client:
        process = subprocess.Popen([sys.executable, str(script), server.address], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: [f.name for f in client.list_functions()] == ["f"])
        client.call("f")
        process.terminate()
        assert process.communicate(timeout=20)[0] == "after False\n"
        assert process.returncode == 0


def test_no_gateway_is_said_within_two_seconds_with_all_that_was_tried() -> None:
    import time

    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", "from easyremote import Client; Client()"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    for word in ("EASYREMOTE_ADDRESS", "no address was given", "config.toml", "easyremote gateway"):
        assert word in done.stderr
    with pytest.raises(GatewayUnreachable, match="connection refused"):
        Client(f"localhost:{free_port()}")
    assert time.monotonic() - began < 20  # a bound for a busy machine; alone it takes well under two seconds


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, easyremote; print([m for m in ('grpc', 'IPython', 'pynvml', 'cloudpickle', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
