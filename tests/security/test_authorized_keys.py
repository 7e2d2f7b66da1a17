"""Who is let in, line by line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.errors import AuthError, UsageError
from easyremote.security.authorized_keys import (
    AuthorizedKey,
    AuthorizedKeys,
    authorized_keys_path,
    iso_time,
    make_key,
    parse_line,
    parse_time,
)
from easyremote.security.identity import Identity

KEY, OTHER = Identity.generate().public, Identity.generate().public


def test_a_key_alone_may_do_everything() -> None:
    entry = parse_line(KEY.text)
    assert entry == AuthorizedKey(KEY)
    assert entry.may_ship
    assert entry.may_call("anything")
    assert not entry.is_expired(1e12)


def test_options_are_read() -> None:
    line = f'call-only,functions="train,predict*",expires="2027-01-01",memory="8GiB",gpus="1" {KEY.text} laptop of  Ana'
    entry = parse_line(line)
    assert entry == AuthorizedKey(KEY, True, ("train", "predict*"), 1798761600.0, 8 << 30, 1, "laptop of Ana")
    assert not entry.may_ship
    assert [entry.may_call(name) for name in ("train", "predict_all", "training")] == [True, True, False]
    assert not entry.is_expired(1798761599.0)
    assert entry.is_expired(1798761600.0)


def test_a_key_for_some_functions_brings_no_code() -> None:
    entry = parse_line(f'functions="train" {KEY.text}')
    assert entry is not None
    assert not entry.may_ship


@pytest.mark.parametrize("line", ["", "   ", "# a comment", f"  # {KEY.text}"])
def test_empty_lines_and_comments_are_left_out(line: str) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ssh-ed25519 AAAA", "neither an option nor a key|no option 'ssh"),
        (f"calls-only {KEY.text}", "no option 'calls-only'"),
        (f"call-only,call-only {KEY.text}", "twice"),
        (f'call-only="yes" {KEY.text}', "takes no value"),
        (f"call-only=yes {KEY.text}", "neither an option"),
        (f"functions {KEY.text}", "takes a value"),
        (f'functions="" {KEY.text}', "takes a value"),
        (f'functions="a, b" {KEY.text}', "by name or pattern"),
        (f'functions="a,,b" {KEY.text}', "by name or pattern"),
        (f'expires="tomorrow" {KEY.text}', "no date"),
        (f'memory="lots" {KEY.text}', "memory is a size"),
        (f'gpus="-1" {KEY.text}', "gpus is a whole number"),
        (f'gpus="65" {KEY.text}', "gpus is a whole number"),
        (f'gpus="²" {KEY.text}', "gpus is a whole number"),
        ("call-only", "neither an option"),
        ("call-only er-key:short", "no whole key"),
        (f"call-only, {KEY.text}", "neither an option"),
        (KEY.text[:-4], "no whole key"),
        (f"{KEY.text}x", "no whole key"),
        (f"CALL-ONLY {KEY.text}", "neither an option"),
    ],
)
def test_a_line_that_is_not_right_is_refused(line: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_line(line)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_text_is_a_line_or_refused(text: str) -> None:
    for line in (text, f"{text} {KEY.text}", f'functions="{text}" {KEY.text}'):
        try:
            entry = parse_line(line)
        except UsageError:
            continue
        assert entry is None or entry.key == KEY


KEYS = st.builds(
    make_key,
    st.sampled_from([KEY, OTHER]),
    call_only=st.booleans(),
    functions=st.lists(st.text("abz_*?.", min_size=1, max_size=8), max_size=3),
    expires=st.one_of(st.none(), st.integers(0, 4_000_000_000).map(float)),
    memory=st.one_of(st.none(), st.integers(0, 2**50)),
    gpus=st.one_of(st.none(), st.integers(0, 64)),
    comment=st.text("abc é", max_size=10),
)


@given(KEYS)
def test_what_is_written_is_read_again(entry: AuthorizedKey) -> None:
    assert parse_line(entry.line) == entry


@given(st.integers(0, 4_000_000_000))
def test_times_come_back(seconds: int) -> None:
    assert parse_time(iso_time(float(seconds))) == seconds


def test_keys_are_added_replaced_and_removed_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{OTHER.text} other\n")
    path.chmod(0o600)
    keys = AuthorizedKeys(path)
    assert keys.find(KEY.sign_key) is None
    assert keys.add(make_key(KEY, gpus=1))
    assert not keys.add(make_key(KEY, gpus=1))
    assert keys.find(KEY.sign_key) == AuthorizedKey(KEY, gpus=1)
    assert keys.add(make_key(KEY, call_only=True))
    assert path.read_text() == f"# ours\n\n{OTHER.text} other\ncall-only {KEY.text}\n"
    assert [entry.key for entry in AuthorizedKeys(path)] == [OTHER, KEY]
    assert keys.remove(KEY.sign_key)
    assert not keys.remove(KEY.sign_key)
    assert path.read_text() == f"# ours\n\n{OTHER.text} other\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_made_for_its_user_alone() -> None:
    AuthorizedKeys().add(make_key(KEY))
    assert authorized_keys_path().parent == Path(os.environ["EASYREMOTE_CONFIG_DIR"])
    assert authorized_keys_path().stat().st_mode & 0o777 == 0o600


def test_what_another_process_changes_holds_for_the_next_call(tmp_path: Path) -> None:
    ours, theirs = AuthorizedKeys(tmp_path / "keys"), AuthorizedKeys(tmp_path / "keys")
    assert ours.find(KEY.sign_key) is None
    theirs.add(make_key(KEY))
    assert ours.find(KEY.sign_key) is not None
    theirs.remove(KEY.sign_key)
    assert ours.find(KEY.sign_key) is None
    (tmp_path / "keys").unlink()
    assert list(ours) == []


def test_a_bad_line_is_named_and_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY.text}\n\ncall-onyl {OTHER.text}\n")
    keys = AuthorizedKeys(path)
    for _ in range(2):
        with pytest.raises(UsageError, match=f"{path}, line 3: there is no option 'call-onyl'"):
            keys.find(KEY.sign_key)
    path.write_text(f"{KEY.text}\n{KEY.text} again\n")
    with pytest.raises(UsageError, match="line 2: the key of line 1"):
        keys.find(KEY.sign_key)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="isn't UTF-8"):
        keys.find(KEY.sign_key)
    path.write_text(f"{KEY.text}\n")
    assert keys.find(KEY.sign_key) is not None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY.text}\n")
    path.chmod(mode)
    with pytest.raises(AuthError, match=f"chmod 600 {path}"):
        AuthorizedKeys(path).find(KEY.sign_key)
