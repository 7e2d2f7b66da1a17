"""What a worker process gets of its node: no secret, no descriptor, bounded memory; and in a sandbox almost nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from easyremote import CallCancelled, Client, ComputeNode, Sandbox, Server, UsageError, WorkerCrashed
from tests.conftest import is_alive, wait_until

JOIN_STRING = "er1:" + "a1B2" * 20
TOKEN_TEXT = "er_0123abcd_" + "x" * 43


def look() -> dict[str, Any]:
    """What a function finds that looks around in its process."""
    import os
    import resource
    import subprocess
    import sys

    child = [sys.executable, "-c", "import os, time; print(os.listdir('/proc/self/fd'), dict(os.environ))"]
    return {
        "environment": dict(os.environ),
        "first_environment": open("/proc/self/environ").read(),
        "descriptors": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")},
        "inherited": [fd for fd in range(3, 1024) if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)],
        "child": subprocess.run(child, capture_output=True, text=True, close_fds=False).stdout,
        "session": (os.getsid(0), os.getpgid(0)),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    }  # fmt: skip


def test_no_secret_of_the_node_is_in_the_environment_of_a_worker_or_its_children(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "EASYREMOTE_TOKEN": server.token,
        "EASYREMOTE_ANYTHING_NEW": "not-for-workers",
        "MY_GATEWAY": f"https://host/?token={server.token}",
        "INVITED_BY": JOIN_STRING,
        "SPARE": TOKEN_TEXT,
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATA_SET", "ordinary")
    with ComputeNode(server.address, "node-a"):
        seen = client.call(look)
    everything = f"{seen['environment']} {seen['first_environment']} {seen['child']}"
    for name, value in secrets.items():
        assert name not in everything and value not in everything
    assert server.token not in everything
    assert seen["environment"]["DATA_SET"] == "ordinary", "what is no secret stays"


def test_a_worker_has_no_descriptor_but_its_own_and_gives_its_children_none(
    tmp_path: Path, server: Server, client: Client
) -> None:
    opened = open(tmp_path / "of-the-node", "w")  # noqa: SIM115
    os.set_inheritable(opened.fileno(), True)
    with opened, ComputeNode(server.address, "node-a"):
        seen = client.call(look)
    kinds = [target for fd, target in seen["descriptors"].items() if int(fd) > 2]
    sockets = [target for target in kinds if target.startswith("socket:")]
    assert len(sockets) == 1, "its link"
    assert not [target for target in kinds if "of-the-node" in target]
    assert not [
        target
        for target in kinds
        if not target.startswith(("socket:", "pipe:", "/proc/")) and "(deleted)" not in target
    ]
    assert seen["inherited"] == []
    assert seen["session"][0] not in (os.getsid(0), os.getpgid(0))
    assert seen["core"] == (0, 0)
    assert 0 < seen["files"] <= 65_536


def test_a_call_takes_no_more_memory_than_it_says_or_its_node_allows(server: Server, client: Client) -> None:
    def take(count: int) -> int:
        return len(bytearray(count))

    with ComputeNode(server.address, "node-a", worker_memory="300MiB", memory="4GiB"):
        assert client.call(take, 200 * 2**20) == 200 * 2**20
        with pytest.raises(MemoryError):
            client.call(take, 400 * 2**20)
        more = client.with_options(memory="600MiB")
        assert more.call(take, 500 * 2**20) == 500 * 2**20
        with pytest.raises(MemoryError):
            more.call(take, 700 * 2**20)
        with pytest.raises(MemoryError):
            client.call(take, 400 * 2**20)
        assert client.call(take, 200 * 2**20) == 200 * 2**20, "the worker goes on"


OF_THE_SESSION = {
    "SSH_AUTH_SOCK": "/run/user/1000/ssh-agent",
    "SSH_AGENT_PID": "4242",
    "SSH_ASKPASS": "/usr/bin/ksshaskpass",
    "GPG_AGENT_INFO": "/run/user/1000/gpg:0:1",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
    "DISPLAY": ":0",
    "WAYLAND_DISPLAY": "wayland-0",
    "XAUTHORITY": "/run/user/1000/xauth",
    "VSCODE_IPC_HOOK_CLI": "/run/user/1000/vscode-ipc.sock",
    "TMUX": "/tmp/tmux-1000/default,1,0",
    "JUPYTERHUB_API_TOKEN": "of-the-hub",
}
CREDENTIALS = {
    "HF_TOKEN": "hf-of-the-owner",
    "WANDB_API_KEY": "wandb-of-the-owner",
    "AWS_SECRET_ACCESS_KEY": "aws-of-the-owner",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/owner/google.json",
    "KRB5CCNAME": "FILE:/tmp/krb5cc_1000",
    "GITHUB_TOKEN": "github-of-the-owner",
    "DATABASE_URL": "postgres://owner:word@host/base",
    "TF_VAR_database": "terraform-of-the-owner",
}
FOR_COMPUTING = {
    "LD_LIBRARY_PATH": "/opt/cuda/lib64",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "OMP_NUM_THREADS": "3",
    "LC_TIME": "C.UTF-8",
    "TZ": "Asia/Tokyo",
    "HF_HOME": "/models",
    "TOKENIZERS_PARALLELISM": "false",
}
PROXY = {"https_proxy": "http://proxy:3128"}


@pytest.fixture
def full_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a person's desktop has it."""
    for name, value in (OF_THE_SESSION | CREDENTIALS | FOR_COMPUTING | PROXY).items():
        monkeypatch.setenv(name, value)


def passed(client: Client) -> set[str]:
    """Which of these a worker or what it starts sees, now or when it began."""
    seen = client.call(look)
    everything = f"{seen['environment']} {seen['first_environment']} {seen['child']}"
    known = OF_THE_SESSION | CREDENTIALS | FOR_COMPUTING | PROXY
    for name in known.keys() - seen["environment"].keys():
        assert f"{name}=" not in everything and f"'{name}'" not in everything, name
    return {name for name, value in known.items() if seen["environment"].get(name) == value}


def test_nothing_that_leads_into_its_owners_session_is_passed_to_a_worker_and_the_rest_is(
    server: Server, client: Client, full_environment: None
) -> None:
    with ComputeNode(server.address, "node-a"):
        assert passed(client) == {*CREDENTIALS, *FOR_COMPUTING, *PROXY}


# ---- in a sandbox --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sandboxed(bwrap: None, server: Server) -> Iterator[ComputeNode]:
    with ComputeNode(server.address, "box", sandbox=True) as running:
        yield running


def attempts(paths: list[str]) -> dict[str, str]:
    """What became of reading and changing these."""
    import os
    from pathlib import Path

    outcome = {}
    for path in paths:
        try:
            outcome[f"read {path}"] = str(os.listdir(path) if os.path.isdir(path) else Path(path).read_text())
        except OSError as error:
            outcome[f"read {path}"] = type(error).__name__
        try:
            target = f"{path}/made" if os.path.isdir(path) else path
            with open(target, "a") as file:
                file.write("changed")
            outcome[f"write {path}"] = "changed"
        except OSError as error:
            outcome[f"write {path}"] = type(error).__name__
    return outcome


def test_code_in_a_sandbox_reads_no_file_of_the_user_and_changes_nothing(
    sandboxed: ComputeNode, client: Client, tmp_path: Path, runtime_folder: Path
) -> None:
    (tmp_path / "secret").write_text("private")
    connection = next(runtime_folder.glob("gateway-*.json"))
    home = os.path.expanduser("~")
    paths = [str(tmp_path / "secret"), str(connection), "/etc/passwd", "/usr", os.__file__]
    seen = client.call(attempts, paths)
    assert seen[f"read {paths[0]}"] == "FileNotFoundError" and seen[f"read {connection}"] == "FileNotFoundError"
    assert "root" in seen["read /etc/passwd"], "the system is there"
    assert {seen[f"write {path}"] for path in paths[2:]} == {"OSError"}, "and read-only"
    assert (tmp_path / "secret").read_text() == "private"
    inside = client.call(attempts, [home, "/tmp"])
    assert inside[f"write {home}"] == inside["write /tmp"] == "changed", "of its own"
    assert not Path(home, "made").exists() and not Path("/tmp/made").exists()


def test_code_in_a_sandbox_sees_no_other_process_and_no_network(
    sandboxed: ComputeNode, server: Server, client: Client
) -> None:
    def around(address: str, node: int) -> tuple[list[str], list[str]]:
        import os
        import signal
        import socket

        refused = []
        host, _, port = address.rpartition(":")
        for attempt in (
            lambda: socket.create_connection((host, int(port)), 2),
            lambda: os.kill(node, signal.SIGTERM),
            lambda: os.kill(node, 0),
        ):
            try:
                attempt()
            except OSError as error:
                refused.append(type(error).__name__)
        commands = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm")]
        return refused, commands

    refused, commands = client.call(around, server.address, os.getpid())
    assert refused == ["ConnectionRefusedError", "ProcessLookupError", "ProcessLookupError"]
    assert len(commands) == 2, "the worker, and the sandbox's own first process"


def test_large_values_output_and_sessions_work_in_a_sandbox(sandboxed: ComputeNode, client: Client) -> None:
    def double(array: Any) -> Any:
        print("doubling")
        return array * 2

    array = np.arange(1_000_000.0)
    call = client.submit(double, array)
    assert (call.result() == array * 2).all()
    assert list(client.stream(lambda: (bytes(2_000_000) for _ in range(3)))) == [bytes(2_000_000)] * 3


def test_a_sandboxed_call_is_stopped_and_a_crash_is_told(sandboxed: ComputeNode, client: Client) -> None:
    def spin() -> None:
        import time

        print("spinning", flush=True)
        while True:
            time.sleep(0.01)

    def stubborn() -> None:
        import contextlib
        import time

        while True:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(60)

    def crash() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSEGV)

    def pid() -> int:
        import os

        return os.getpid()

    first = client.call(pid)
    call = client.submit(spin)
    wait_until(lambda: call.state == "running")
    call.cancel()
    with pytest.raises(CallCancelled):
        call.result(timeout=30)
    assert client.call(pid) == first, "it was interrupted, not killed"
    call = client.submit(stubborn)
    wait_until(lambda: call.state == "running")
    call.cancel()
    with pytest.raises(CallCancelled):
        call.result(timeout=30)
    with pytest.raises(WorkerCrashed, match="SIGSEGV"):
        client.call(crash)
    assert client.call(pid)


def test_a_sandbox_and_all_in_it_end_with_the_node(bwrap: None, server: Server, client: Client) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with ComputeNode(server.address, "box", sandbox=True):
        client.call(lambda: __import__("subprocess").Popen(["sleep", "600"], start_new_session=True) and None)
        started = {child.pid for child in psutil.Process().children(recursive=True)} - before
        assert len(started) == 4, "the sandbox, its first process, the worker, what that started"
    wait_until(lambda: not [pid for pid in started if is_alive(pid)])


def test_folders_are_shown_and_the_network_is_allowed(
    bwrap: None, server: Server, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/set").write_text("numbers")
    (tmp_path / "out").mkdir()
    box = Sandbox(network=True, read=[tmp_path / "data"], write=[str(tmp_path / "out")])

    def connect(address: str) -> bool:
        import socket

        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), 20).close()
        return True

    with ComputeNode(server.address, "box", sandbox=box):
        seen = client.call(attempts, [str(tmp_path / "data"), str(tmp_path / "data/set"), str(tmp_path / "out")])
        assert seen[f"read {tmp_path}/data/set"] == "numbers"
        assert seen[f"write {tmp_path}/data"] == seen[f"write {tmp_path}/data/set"] == "OSError"
        assert (tmp_path / "out/made").read_text() == "changed"
        assert client.call(connect, server.address)


def test_a_sandbox_passes_variables_for_computing_and_those_that_its_owner_names(
    bwrap: None, server: Server, client: Client, full_environment: None
) -> None:
    with ComputeNode(server.address, "box", sandbox=True):
        assert passed(client) == {*FOR_COMPUTING}
    named = Sandbox(network=True, env=["HF_TOKEN", "DATABASE_URL", "NOT_SET_HERE"])
    with ComputeNode(server.address, "box", sandbox=named):
        assert passed(client) == {*FOR_COMPUTING, *PROXY, "HF_TOKEN", "DATABASE_URL"}


@pytest.mark.parametrize("env", ["HF_TOKEN", ["HF_TOKEN=secret"], ["SSH_AUTH_SOCK"], ["EASYREMOTE_TOKEN"], [""]])
def test_what_a_sandbox_can_not_pass_is_said_at_once_and_no_value_is_shown(env: list[str]) -> None:
    with pytest.raises(UsageError, match=r"\benv\b") as caught:
        ComputeNode(sandbox=Sandbox(env=env))
    assert "secret" not in str(caught.value)


def test_a_node_that_can_not_make_a_sandbox_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="apt-get install bubblewrap"):
        ComputeNode(sandbox=True)
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(UsageError, match=r"No permissions to create new namespace.*user namespaces"):
        ComputeNode(sandbox=True)
    with pytest.raises(UsageError, match="absolute path"):
        ComputeNode(sandbox=Sandbox(read=["not/absolute"]))


def test_the_command_line_has_a_sandbox(bwrap: None, server: Server, client: Client, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "easyremote", "join", server.address, "--name", "cli", "--sandbox"]
    command += ["--worker-memory", "1GiB", "--sandbox-env", "HF_TOKEN"]
    secrets = {"HF_TOKEN": "hf", "WANDB_API_KEY": "wandb"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, **secrets})
    try:
        wait_until(lambda: [node.node_id for node in client.list_nodes()] == ["cli"])
        assert client.call(lambda: len([name for name in __import__("os").listdir("/proc") if name.isdigit()])) == 2
        assert client.call(lambda names: [name in os.environ for name in names], [*secrets]) == [True, False]
    finally:
        process.terminate()
        out = process.communicate(timeout=60)[0]
    assert "in a sandbox without network, 1GiB of memory" in out
    for option in (["--sandbox-network"], ["--sandbox-env", "HF_TOKEN"]):
        done = subprocess.run([*command[:5], *option], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "add --sandbox" in done.stderr
