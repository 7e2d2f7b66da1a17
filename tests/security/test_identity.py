"""Keys: made once, kept to their user, and told by text and fingerprint."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.errors import AuthError, UsageError
from easyremote.security.identity import (
    IDENTITY_FILE,
    NODE_IDENTITY_FILE,
    Identity,
    PublicIdentity,
    node_identity,
    own_identity,
)

OWN, OTHER = Identity.generate(), Identity.generate()


def test_an_identity_is_made_once_and_found_again() -> None:
    first = own_identity()
    assert own_identity().public == first.public
    path = Path(os.environ["EASYREMOTE_CONFIG_DIR"]) / IDENTITY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [item.name for item in path.parent.iterdir()] == [IDENTITY_FILE]


def test_a_node_has_an_identity_of_its_own() -> None:
    identity, is_kept = node_identity()
    assert is_kept
    assert identity.public != own_identity().public
    assert node_identity()[0].public == identity.public


def test_a_node_whose_folder_cannot_be_written_has_an_identity_for_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path / "file" / "folder"))
    identity, is_kept = node_identity()
    assert not is_kept
    assert PublicIdentity.parse(identity.public.data) == identity.public
    with pytest.raises(AuthError, match="can't be kept in"):
        own_identity()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_a_file_that_others_can_open_is_refused_with_the_remedy(mode: int) -> None:
    own_identity()
    path = Path(os.environ["EASYREMOTE_CONFIG_DIR"]) / IDENTITY_FILE
    path.chmod(mode)
    with pytest.raises(AuthError, match=f"chmod 600 {path}"):
        own_identity()


@pytest.mark.parametrize(
    "content",
    [
        *["", "{}", "[1]", "null", "{", "\xff" * 10],
        json.dumps({"version": 2, "sign": "00" * 32, "seal": "00" * 32}),
        json.dumps({"version": 1, "sign": "00" * 31, "seal": "00" * 32}),
        json.dumps({"version": 1, "sign": 3, "seal": 4}),
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / NODE_IDENTITY_FILE
    path.write_text(content, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(AuthError, match="holds no identity"):
        Identity.load_or_create(path)
    assert path.read_text(encoding="latin-1") == content


def test_processes_that_start_at_once_get_the_same_identity() -> None:
    script = (
        "import sys; from easyremote.security.identity import own_identity\n"
        "print('ready', flush=True); sys.stdin.read(); print(own_identity().public.text)"
    )
    pipe = subprocess.PIPE
    started = [subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) for _ in range(6)]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    found = set()
    for process in started:
        assert process.stdout is not None
        found.add(process.stdout.read())
        process.stdout.close()
        assert process.wait(30) == 0
    assert found == {own_identity().public.text + "\n"}


def test_the_secrets_show_nowhere() -> None:
    shown = f"{OWN!r} {OWN} {OWN.public!r} {OWN.public}"
    for secret in (OWN._sign_secret, OWN._seal_secret):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    with pytest.raises(TypeError, match="isn't pickled"):
        pickle.dumps(OWN)


def test_the_fingerprint_is_the_one_that_ssh_shows() -> None:
    digest = hashlib.sha256(OWN.public.sign_key).digest()
    assert OWN.public.fingerprint == "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    assert OWN.public.fingerprint != OTHER.public.fingerprint


def test_a_key_as_text_is_one_word_and_comes_back() -> None:
    text = OWN.public.text
    assert text.startswith("er-key:")
    assert len(text.split()) == 1
    assert PublicIdentity.from_text(f"  {text}\n") == OWN.public


@given(st.data())
def test_a_key_with_a_changed_byte_is_refused(data: st.DataObject) -> None:
    key = bytearray(OWN.public.data)
    key[data.draw(st.integers(0, len(key) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AuthError):
        PublicIdentity.parse(bytes(key))


@given(
    st.one_of(
        st.text(),
        st.text().map("er-key:".__add__),
        st.binary(max_size=200).map(lambda d: "er-key:" + base64.urlsafe_b64encode(d).decode()),
    )
)
def test_any_text_that_is_no_key_is_refused_as_usage(text: str) -> None:
    with pytest.raises(UsageError):
        PublicIdentity.from_text(text)


@given(st.binary(max_size=300))
def test_any_bytes_that_are_no_key_are_refused(data: bytes) -> None:
    with pytest.raises(AuthError):
        PublicIdentity.parse(data)


def test_the_seal_key_of_another_identity_does_not_pass() -> None:
    mixed = OWN.public.sign_key + OTHER.public.seal_key + OTHER.public.binding
    with pytest.raises(AuthError, match="don't belong together"):
        PublicIdentity.parse(mixed)


def test_a_signature_is_for_one_use_and_one_signer() -> None:
    signature = OWN.sign(b"use", b"data")
    assert OWN.public.verify(b"use", b"data", signature)
    assert not OWN.public.verify(b"other", b"data", signature)
    assert not OWN.public.verify(b"use", b"datb", signature)
    assert not OTHER.public.verify(b"use", b"data", signature)
    assert not OWN.public.verify(b"use", b"data", b"")
    assert not OWN.public.verify(b"us", b"e\0data", OWN.sign(b"us\0e", b"data"))


def test_both_sides_agree_on_the_same_key_and_nobody_on_a_worthless_one() -> None:
    assert OWN.agree(OTHER.public.seal_key) == OTHER.agree(OWN.public.seal_key)
    for worthless in (bytes(32), b"short", (1).to_bytes(32, "little")):
        with pytest.raises(AuthError):
            OWN.agree(worthless)


def test_nothing_loads_cryptography_before_a_key_is_used() -> None:
    script = "import sys, easyremote.security.statements; assert 'cryptography' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
