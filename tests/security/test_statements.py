"""What is stated and signed: whole, or refused."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.errors import ConsentError
from easyremote.security.identity import Identity
from easyremote.security.statements import (
    SKEW_S,
    admit,
    check_call,
    digest_of,
    is_signed,
    open_admission,
    read_admission,
    read_call,
    sign_call,
    state_call,
)
from easyremote.wire.v1 import gateway_pb2 as pb

CLIENT, OTHER_CLIENT = Identity.generate(), Identity.generate()
NODE, OTHER_NODE = Identity.generate(), Identity.generate()
EPOCH, KEY = bytes(range(16)), bytes(range(32))
NOW = 1_800_000_000.0
ADMISSION = admit(CLIENT, NODE.public, EPOCH, KEY, NOW + 3600)


def call() -> pb.Submit:
    return pb.Submit(
        call_id=bytes(16),
        code=pb.Code(kind=pb.Code.KIND_CALLABLE, spec=pb.FunctionSpec(name="f"), python="3.11"),
        options=pb.Options(node_id="gpu", session_id="s", retries=1, retries_set=True, accept="x"),
        refs=[pb.Ref(ref_id=b"r" * 16)],
    )


def sealed(submit: pb.Submit, signer: Identity = CLIENT) -> pb.Seal:
    statement = state_call(submit, EPOCH, digest_of([b"code"]), NOW, NOW + 60).SerializeToString()
    return pb.Seal(statement=statement, signature=sign_call(signer, statement))


def test_an_admission_opens_for_its_node() -> None:
    opened = open_admission(ADMISSION, NODE, NOW)
    assert (opened.client, opened.epoch, opened.key) == (CLIENT.public, EPOCH, KEY)
    assert repr(KEY) not in repr(opened)
    assert read_admission(ADMISSION)[0].node_key == NODE.public.sign_key


def test_the_epoch_key_does_not_stand_in_the_admission() -> None:
    assert KEY not in ADMISSION.SerializeToString()
    again = admit(CLIENT, NODE.public, EPOCH, KEY, NOW + 3600)
    assert again.statement != ADMISSION.statement  # wrapped under another key each time


def test_an_admission_does_not_open_for_another_node() -> None:
    with pytest.raises(ConsentError, match="another node"):
        open_admission(ADMISSION, OTHER_NODE, NOW)


def test_an_admission_ends() -> None:
    assert open_admission(ADMISSION, NODE, NOW + 3600 + SKEW_S - 1)
    with pytest.raises(ConsentError, match="expired"):
        open_admission(ADMISSION, NODE, NOW + 3600 + SKEW_S + 1)
    with pytest.raises(ConsentError, match="expired"):
        open_admission(admit(CLIENT, NODE.public, EPOCH, KEY, math.nan), NODE, NOW)


@given(st.data())
def test_an_admission_with_a_changed_byte_is_refused(data: st.DataObject) -> None:
    changed = pb.Admission()
    changed.CopyFrom(ADMISSION)
    name = data.draw(st.sampled_from(["statement", "signature"]))
    content = bytearray(getattr(changed, name))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    setattr(changed, name, bytes(content))
    with pytest.raises(ConsentError):
        open_admission(changed, NODE, NOW)


def test_an_admission_that_another_client_signs_anew_is_that_clients() -> None:
    stolen = pb.AdmissionStatement.FromString(ADMISSION.statement)
    unsigned = pb.Admission(
        statement=stolen.SerializeToString(), signature=OTHER_CLIENT.sign(b"admission 1", ADMISSION.statement)
    )
    with pytest.raises(ConsentError, match="isn't what its client signed"):
        open_admission(unsigned, NODE, NOW)
    stolen.client = OTHER_CLIENT.public.data  # and the key was wrapped by the first client, for its own calls
    statement = stolen.SerializeToString()
    renamed = pb.Admission(statement=statement, signature=OTHER_CLIENT.sign(b"admission 1", statement))
    with pytest.raises(ConsentError, match="can't be opened"):
        open_admission(renamed, NODE, NOW)


@given(st.binary(max_size=300), st.binary(max_size=64))
def test_any_bytes_are_refused_as_admission_and_as_call(statement: bytes, signature: bytes) -> None:
    with pytest.raises(ConsentError):
        open_admission(pb.Admission(statement=statement, signature=signature), NODE, NOW)
    seal = pb.Seal(statement=statement, signature=signature)
    assert not is_signed(CLIENT.public, seal)
    try:
        stated = read_call(seal)
    except ConsentError:
        return
    with pytest.raises(ConsentError):
        check_call(stated, call(), "gpu", NOW)


def test_a_call_that_came_as_it_was_stated_passes() -> None:
    submit = call()
    seal = sealed(submit)
    assert is_signed(CLIENT.public, seal)
    submit.attempt, submit.options.timeout_s = 3, 7.5  # which are the gateway's to set
    submit.grant.slots = 1
    submit.options.not_on.append("other")
    check_call(read_call(seal), submit, "gpu", NOW)
    assert read_call(seal).code_digest == digest_of([b"code"])


def test_a_call_signed_by_another_client_does_not_pass() -> None:
    assert not is_signed(CLIENT.public, sealed(call(), OTHER_CLIENT))
    statement = sealed(call()).statement
    for_other_use = pb.Seal(statement=statement, signature=CLIENT.sign(b"admission 1", statement))
    assert not is_signed(CLIENT.public, for_other_use)


@given(st.data())
def test_a_call_with_a_changed_byte_does_not_pass(data: st.DataObject) -> None:
    seal = sealed(call())
    name = data.draw(st.sampled_from(["statement", "signature"]))
    content = bytearray(getattr(seal, name))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    setattr(seal, name, bytes(content))
    assert not is_signed(CLIENT.public, seal)


def other(submit: pb.Submit, name: str) -> None:
    """Change one thing of a call, as a gateway could."""
    match name:
        case "call_id":
            submit.call_id = b"x" * 16
        case "function":
            submit.function = "other"
        case "code":
            submit.ClearField("code")
        case "kind":
            submit.code.kind = pb.Code.KIND_CELL
        case "spec":
            submit.code.spec.name = "g"
        case "python":
            submit.code.python = "3.12"
        case "refs":
            submit.refs[0].ref_id = b"q" * 16
        case "no refs":
            del submit.refs[:]
        case "tasks":
            submit.tasks.append(b"")
        case "node_id" | "session_id" | "accept":
            setattr(submit.options, name, "other")
        case "keep":
            submit.options.keep = not submit.options.keep


@pytest.mark.parametrize(
    "name",
    [
        *["call_id", "function", "code", "kind", "spec", "python", "refs", "no refs", "tasks"],
        *["node_id", "session_id", "accept", "keep"],
    ],
)
def test_a_call_that_is_not_the_stated_one_is_refused(name: str) -> None:
    submit = call()
    seal = sealed(submit)
    other(submit, name)
    with pytest.raises(ConsentError, match="was changed on its way"):
        check_call(read_call(seal), submit, "gpu", NOW)


@given(st.data())
def test_a_call_with_a_letter_of_its_packages_changed_is_refused(data: st.DataObject) -> None:
    submit = call()
    asked = submit.code.spec.environment
    asked.python = "3.12.4"
    asked.requirements.extend(["numpy<2", "pandas==3.0.6"])
    seal = sealed(submit)
    texts = [*asked.requirements, asked.python]
    which = data.draw(st.integers(0, len(texts) - 1))
    letters = list(texts[which])
    at = data.draw(st.integers(0, len(letters) - 1))
    letters[at] = data.draw(st.characters(exclude_characters=letters[at], exclude_categories=["Cs"]))
    texts[which] = "".join(letters)
    del asked.requirements[:]
    asked.requirements.extend(texts[:-1])
    asked.python = texts[-1]
    with pytest.raises(ConsentError, match="'spec' was changed"):
        check_call(read_call(seal), submit, "gpu", NOW)


@pytest.mark.parametrize("how", ["one more", "one less", "none", "in the node's own"])
def test_a_call_with_packages_added_or_left_out_is_refused(how: str) -> None:
    submit = call()
    submit.code.spec.environment.requirements.extend(["numpy<2", "pandas"])
    seal = sealed(submit)
    match how:
        case "one more":
            submit.code.spec.environment.requirements.append("evil")
        case "one less":
            submit.code.spec.environment.requirements.pop()
        case "none":
            submit.code.spec.environment.Clear()
        case _:
            submit.code.spec.ClearField("environment")
    with pytest.raises(ConsentError, match="'spec' was changed"):
        check_call(read_call(seal), submit, "gpu", NOW)


def test_a_gateway_may_say_how_often_a_call_runs_as_its_function_s_owner_wants() -> None:
    submit = call()
    seal = sealed(submit)
    submit.options.retries, submit.options.retries_set = 9, False
    check_call(read_call(seal), submit, "gpu", NOW)  # the node goes by what was stated


def test_a_call_for_one_node_is_refused_by_another() -> None:
    submit = call()
    seal = sealed(submit)
    with pytest.raises(ConsentError, match="is for node 'gpu'"):
        check_call(read_call(seal), submit, "cpu", NOW)


def test_a_call_for_any_node_may_be_sent_anywhere() -> None:
    submit = call()
    submit.options.node_id = ""
    seal = sealed(submit)
    submit.options.node_id = "cpu"
    check_call(read_call(seal), submit, "cpu", NOW)


@pytest.mark.parametrize("at", [NOW + 60 + SKEW_S + 1, NOW - SKEW_S - 1])
def test_a_call_out_of_its_time_is_refused(at: float) -> None:
    submit = call()
    with pytest.raises(ConsentError, match="clock"):
        check_call(read_call(sealed(submit)), submit, "gpu", at)


@pytest.mark.parametrize("name", ["expires", "issued"])
def test_a_call_at_no_time_is_refused(name: str) -> None:
    submit = call()
    stated = state_call(submit, EPOCH, "", NOW, NOW + 60)
    setattr(stated, name, math.nan)
    with pytest.raises(ConsentError):
        check_call(stated, submit, "gpu", NOW)


def test_a_digest_tells_where_parts_begin() -> None:
    assert digest_of([b"ab", b"c"]) != digest_of([b"a", b"bc"])
    assert digest_of([b"", b"a"]) != digest_of([b"a"])
    assert digest_of([memoryview(struct.pack("<3d", 1, 2, 3))]) == digest_of([struct.pack("<3d", 1, 2, 3)])
