"""What is hidden of what `uv` says: users, passwords, tokens, and where a node's indexes are."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from easyremote.execution.environments import uv

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("https://ann:s3cret@host.example/simple", "error at https://ann:s3cret@host.example/simple/numpy/"),
        ("https://ann:s3cret@host.example/simple", "error at https://host.example/simple/numpy/"),
        ("https://ann:a@s3cret@host.example/simple", "error at https://ann:a%40s3cret@host.example/simple/"),
        ("https://host.example/s3cret/simple/", "error at https://host.example/s3cret/simple/numpy/"),
        ("https://HOST.Example/s3cret/simple", "error at https://host.example/s3cret/simple/numpy/"),
        ("https://host.example:443/s3cret/", "error at `https://host.example/s3cret/numpy/`"),
        ("http://host.example/s3cret/", "error at (https://host.example/s3cret/numpy/)"),
        ("mine=https://host.example/s3cret/", "error at https://host.example/s3cret/numpy/"),
        ("https://[::1]:8080/s3cret/", "error at http://[::1]:8080/s3cret/numpy/"),
        ("https://user:pa/s3cret@host.example/", "invalid address 'https://user:pa/s3cret@host.example/'"),
        ("https://other.example/ https://host.example/s3cret/", "error at https://host.example/s3cret/numpy/"),
    ],
)
def test_indexes_are_hidden_however_their_addresses_are_written(setting: str, said: str) -> None:
    text = uv.masked(said, {"UV_INDEX": setting})
    assert SECRET not in text and "ann" not in text and "host.example" not in text.lower()
    assert text.startswith(said[:5])
    assert "<index>" in text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("from https://files.example/a.whl?X-Sig=s3cret: 403", "from https://files.example/a.whl?***"),
        ("through http://ann:s3cret@proxy.example:3128", "through http://***@proxy.example:3128"),
        ("through http://ann:a@s3cret@proxy.example", "through http://***@proxy.example"),
        ("see https://docs.example/page, and mail ann@example.com", "mail ann@example.com"),
    ],
)
def test_credentials_are_hidden_in_any_address_and_the_rest_stays(said: str, shown: str) -> None:
    text = uv.masked(said, {"UV_DEFAULT_INDEX": "https://host.example/simple"})
    assert shown in text and SECRET not in text


@pytest.mark.parametrize("piece", ["x", "a://", "a://b@", "a://host.example", "a://x?"])
def test_text_is_hidden_in_time_that_grows_with_its_length(piece: str) -> None:
    began = time.process_time()
    uv.masked(piece * (uv._SAID_BYTES // len(piece)), {"UV_INDEX": "https://host.example/simple"})
    assert time.process_time() - began < 2


def test_an_address_of_which_half_was_cut_away_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "uv"
    length = uv._SAID_BYTES - len("cret@host.example/\n")
    rest = f"head -c {length - 1} /dev/zero | tr '\\0' x"
    program.write_text(f"#!/bin/sh\necho https://ann:s3cret@host.example/\n{rest}\necho\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(uv, "find", lambda: str(program))
    with pytest.raises(uv.UvFailed) as failed:
        uv.run([], os.environ, tmp_path, threading.Event(), lambda line: None)
    assert "cret@" not in str(failed.value) and str(failed.value).startswith("x")
