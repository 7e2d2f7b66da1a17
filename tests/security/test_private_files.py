"""Secrets are read only from files that nobody else can read or replace."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from easyremote import discovery
from easyremote.errors import AuthError
from easyremote.security.files import MAX_BYTES, read_private, write_private


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "secret.json"
    write_private(path, b"a secret")
    return path


def test_a_private_file_is_written_closed_to_others(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert read_private(file, "the key") == b"a secret"
    write_private(file, b"another")
    assert read_private(file, "the key") == b"another"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o644, 0o666, 0o604, 0o602, 0o620, 0o610, 0o601, 0o777])
def test_a_file_that_is_open_to_others_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(AuthError, match=r"open to other users.*chmod 600") as caught:
        read_private(file, "the key")
    assert str(file) in caught.value.message
    assert "a secret" not in caught.value.message


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_this_user_alone_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_private(file, "the key") == b"a secret"


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o770])
def test_a_folder_that_others_can_write_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    file.parent.chmod(mode)
    with pytest.raises(AuthError, match=r"other users can put files into.*chmod 700"):
        read_private(file, "the key")


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o1777])
def test_a_folder_in_which_others_cannot_replace_files_is_taken(file: Path, mode: int) -> None:
    file.parent.chmod(mode)
    assert read_private(file, "the key") == b"a secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_or_folder_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 12345, -1)
    with pytest.raises(AuthError, match=r"belongs to another user \(uid 12345"):
        read_private(file, "the key")
    os.chown(file, 0, -1)
    os.chown(file.parent, 12345, -1)
    with pytest.raises(AuthError, match="uid 12345"):
        read_private(file, "the key")


def test_what_is_no_file_of_ours_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(AuthError, match="no ordinary file"):
        read_private(tmp_path / "pipe", "the key")
    write_private(tmp_path / "long", b"x" * (MAX_BYTES + 1))
    with pytest.raises(AuthError, match="more than"):
        read_private(tmp_path / "long", "the key")


# ---- connection files ------------------------------------------------------------------------------------------------


def publish(port: int, **facts: object) -> Path:
    record = discovery.ConnectionFile(f"127.0.0.1:{port}", "t" * 43, os.getpid(), time.time(), socket.gethostname())
    path = discovery.publish(record)
    discovery._in_this_process.clear()  # as another process sees it
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return path


def test_the_gateway_of_a_live_connection_file_is_this_users_own() -> None:
    publish(4711)
    for found in (
        discovery.find(),
        discovery.find("localhost:4711"),
        discovery.find("127.0.0.1:4711", "another token"),
    ):
        assert found.is_own
        assert found.address == "127.0.0.1:4711"
    assert discovery.find("localhost:4711").token == "t" * 43
    assert discovery.find("localhost:4711", "another token").token == "another token"


def test_a_gateway_without_a_live_connection_file_is_not_ones_own() -> None:
    path = publish(4711)
    endpoint = discovery.find()
    assert not discovery.find("127.0.0.1:4712", "t" * 43).is_own
    assert not discovery.find("gpu.example.org:4711", "t" * 43).is_own
    path.unlink()
    assert not discovery.refresh(endpoint).is_own
    publish(4711)
    assert discovery.refresh(endpoint).is_own


def test_a_process_that_has_the_number_of_a_dead_gateway_is_not_taken_for_it() -> None:
    publish(4711, birth="1")
    assert not discovery.find("127.0.0.1:4711").is_own


def test_a_connection_file_of_a_later_version_is_understood() -> None:
    publish(4711, something_new=[1, 2])
    assert discovery.find().is_own


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_connection_file_that_others_can_read_is_refused(mode: int) -> None:
    publish(4711).chmod(mode)
    with pytest.raises(AuthError, match="open to other users"):
        discovery.find("127.0.0.1:4711")


def test_a_configuration_file_that_holds_a_token_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path))
    path = tmp_path / "config.toml"
    path.write_text('address = "localhost:4711"')
    path.chmod(0o644)
    assert discovery.find().address == "localhost:4711"
    path.write_text('address = "localhost:4711"\ntoken = "very secret, this is"')
    with pytest.raises(AuthError, match="open to other users"):
        discovery.find()
    path.chmod(0o600)
    assert discovery.find().token == "very secret, this is"
