"""A node decides: who is let in, with what, and nothing changed or repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.errors import ConsentError
from easyremote.security.authorized_keys import AuthorizedKeys, make_key
from easyremote.security.consent import Consent
from easyremote.security.identity import Identity, own_identity
from easyremote.security.statements import admit, digest_of, mac_call, mac_key, sign_call, state_call
from easyremote.wire.v1 import gateway_pb2 as pb

NOW = 1_800_000_000.0
CLIENT, STRANGER = Identity.generate(), Identity.generate()
NODE, OTHER_NODE = Identity.generate(), Identity.generate()
EPOCH, KEY = b"e" * 16, b"k" * 32
DIGEST = digest_of([b"code"])
_ids = iter(range(1, 10**9))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys(tmp_path: Path) -> AuthorizedKeys:
    return AuthorizedKeys(tmp_path / "authorized_keys")


def consent(keys: AuthorizedKeys, code: str = "signed", clock: Clock | None = None) -> Consent:
    return Consent("gpu", code, NODE, keys, clock=clock or Clock())


def call(**options: object) -> pb.Submit:
    """Of a function of the node."""
    return pb.Submit(
        call_id=next(_ids).to_bytes(16, "little"), function="train", options=pb.Options(**options), attempt=1
    )


def code(kind: pb.Code.Kind = pb.Code.KIND_CALLABLE, **options: object) -> pb.Submit:
    submit = call(**options)
    submit.function = ""
    submit.code.CopyFrom(pb.Code(kind=kind, spec=pb.FunctionSpec(name="f"), digest=DIGEST))
    return submit


def sealed(submit: pb.Submit, client: Identity = CLIENT, node: Identity = NODE, signs: bool = True) -> pb.Submit:
    """As a client does it."""
    has_code = submit.HasField("code")
    statement = state_call(submit, EPOCH, DIGEST if has_code else "", NOW, NOW + 600).SerializeToString()
    submit.seal.statement = statement
    submit.seal.mac = mac_call(mac_key(KEY), statement)
    if has_code and signs:
        submit.seal.signature = sign_call(client, statement)
    submit.seal.admission.CopyFrom(admit(client, node.public, EPOCH, KEY, NOW + 3600))
    return submit


def test_a_trusted_key_calls_and_ships(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    node = consent(keys)
    permit = node.begin(sealed(call()))
    assert permit is not None
    assert permit.client == CLIENT.public
    assert permit.admission.key == KEY
    for kind in (pb.Code.KIND_CALLABLE, pb.Code.KIND_CELL, pb.Code.KIND_REGISTER, pb.Code.KIND_UNREGISTER):
        permit = node.begin(sealed(code(kind)))
        assert permit is not None
        permit.check_code(DIGEST)
        with pytest.raises(ConsentError, match="isn't the code"):
            permit.check_code(digest_of([b"codf"]))


@pytest.mark.parametrize("make", [call, code])
def test_a_stranger_is_told_what_to_do_on_the_node(make: object, keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    with pytest.raises(ConsentError) as caught:
        consent(keys).begin(sealed(make(), STRANGER))  # type: ignore[operator]
    assert f"easyremote trust {STRANGER.public.text}" in caught.value.message
    assert STRANGER.public.fingerprint in caught.value.message
    assert caught.value.details["key"] == STRANGER.public.text


def test_trust_given_and_taken_holds_for_the_next_call(keys: AuthorizedKeys) -> None:
    node = consent(keys)
    with pytest.raises(ConsentError):
        node.begin(sealed(call()))
    keys.add(make_key(CLIENT.public))
    assert node.begin(sealed(call()))
    keys.remove(CLIENT.public.sign_key)
    with pytest.raises(ConsentError):
        node.begin(sealed(call()))


@pytest.mark.parametrize("make", [call, code])
def test_without_a_seal_a_node_that_wants_one_takes_nothing(make: object, keys: AuthorizedKeys) -> None:
    with pytest.raises(ConsentError, match="sealed and signed"):
        consent(keys).begin(make())  # type: ignore[operator]


def test_a_node_of_its_users_own_gateway_takes_all_as_before(keys: AuthorizedKeys) -> None:
    node = Consent("gpu", "any", keys=keys)
    assert node.begin(call()) is None
    assert node.begin(code()) is None
    assert consent(keys, "any").begin(sealed(code(), STRANGER))  # sealed because its client wants that


def test_a_node_that_takes_no_code_takes_none_from_anyone(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    node = consent(keys, "none")
    assert node.begin(call()) is None
    assert node.begin(sealed(call()))
    for submit in (code(), sealed(code())):
        with pytest.raises(ConsentError, match="takes no code"):
            node.begin(submit)


def test_a_key_that_may_only_call_brings_no_code(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public, call_only=True))
    node = consent(keys)
    assert node.begin(sealed(call()))
    for kind in pb.Code.Kind.values()[1:]:
        with pytest.raises(ConsentError, match="may not bring code"):
            node.begin(sealed(code(kind)))


def test_a_key_for_some_functions_calls_those(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public, functions=["tr*"]))
    node = consent(keys)
    assert node.begin(sealed(call()))
    other = call()
    other.function = "delete"
    with pytest.raises(ConsentError, match="may not call 'delete'"):
        node.begin(sealed(other))
    with pytest.raises(ConsentError, match="may not bring code"):
        node.begin(sealed(code()))


def test_a_key_that_has_expired_is_refused(keys: AuthorizedKeys) -> None:
    clock = Clock()
    keys.add(make_key(CLIENT.public, expires=NOW + 10))
    node = consent(keys, clock=clock)
    assert node.begin(sealed(call()))
    clock.now += 10
    with pytest.raises(ConsentError, match="until a time that is over"):
        node.begin(sealed(call()))


def test_the_own_key_of_the_nodes_user_is_trusted_as_it_is(keys: AuthorizedKeys) -> None:
    node, own = consent(keys), own_identity()
    for _ in range(2):
        permit = node.begin(sealed(code(), own))
        assert permit is not None
        assert permit.rights is None
    with pytest.raises(ConsentError):
        node.begin(sealed(code(), STRANGER))
    keys.add(make_key(own.public, call_only=True))  # what is said of it holds
    with pytest.raises(ConsentError, match="may not bring code"):
        node.begin(sealed(code(), own))


def test_limits_of_a_key_hold_for_what_its_calls_are_granted(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public, gpus=1, memory="1GiB"))
    node = consent(keys)
    small, gpus, memory = sealed(code()), sealed(code()), sealed(code())
    small.grant.CopyFrom(pb.Grant(gpus=[3], memory_bytes=1 << 30))
    gpus.grant.gpus.extend([0, 1])
    memory.grant.memory_bytes = (1 << 30) + 1
    assert node.begin(small)
    with pytest.raises(ConsentError, match="may use 1 GPUs"):
        node.begin(gpus)
    with pytest.raises(ConsentError, match="may use 1 GiB"):
        node.begin(memory)


def test_an_unreadable_file_lets_nobody_in(keys: AuthorizedKeys) -> None:
    keys.path.write_text(f"{CLIENT.public.text}\nbad line\n")
    with pytest.raises(ConsentError, match="line 2"):
        consent(keys).begin(sealed(call()))
    keys.path.write_text(f"{CLIENT.public.text}\n")
    keys.path.chmod(0o666)
    with pytest.raises(ConsentError, match="chmod 600"):
        consent(keys).begin(sealed(call()))


# ---- attacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [call, code])
def test_a_call_that_is_sent_again_is_refused(make: object, keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    node, submit = consent(keys), sealed(make(retries=0, retries_set=True))  # type: ignore[operator]
    assert node.begin(submit)
    for attempt in (1, 2):
        submit.attempt = attempt
        with pytest.raises(ConsentError, match="somebody sent it again"):
            node.begin(submit)


def test_a_call_begins_again_as_often_as_was_said(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    node = consent(keys)
    for submit, owners, runs in ((call(retries=1, retries_set=True), 9, 2), (call(), 5, 6), (call(), 0, 4)):
        sealed(submit)
        for number in range(1, runs + 1):
            submit.attempt = number
            assert node.begin(submit, owners)
        submit.attempt = runs + 1
        with pytest.raises(ConsentError, match="somebody sent it again"):
            node.begin(submit, owners)


def test_a_call_for_one_node_opens_at_no_other(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    with pytest.raises(ConsentError, match="another node"):
        consent(keys).begin(sealed(code(), node=OTHER_NODE))
    both = sealed(code(node_id="cpu"))  # a client that lets both nodes open its calls, and means one of them
    both.options.node_id = "gpu"
    with pytest.raises(ConsentError, match="'node_id' was changed"):
        consent(keys).begin(both)


def test_a_call_under_another_clients_admission_is_refused(keys: AuthorizedKeys) -> None:
    for client in (CLIENT, STRANGER):
        keys.add(make_key(client.public))
    submit = sealed(code())
    submit.seal.admission.CopyFrom(admit(STRANGER, NODE.public, EPOCH, b"other key".ljust(32), NOW + 3600))
    with pytest.raises(ConsentError, match="changed on its way"):
        consent(keys).begin(submit)
    submit.seal.admission.CopyFrom(admit(STRANGER, NODE.public, EPOCH, KEY, NOW + 3600))  # it got hold of the key
    with pytest.raises(ConsentError, match="didn't sign"):
        consent(keys).begin(submit)


def test_code_of_a_node_that_has_the_epochs_key_is_refused(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    with pytest.raises(ConsentError, match="didn't sign"):
        consent(keys).begin(sealed(code(), signs=False))
    submit = sealed(code())
    submit.seal.signature = STRANGER.sign(b"call 1", submit.seal.statement)
    with pytest.raises(ConsentError, match="didn't sign"):
        consent(keys).begin(submit)


def test_a_gateway_cannot_have_a_worker_take_other_code_for_this_one(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    submit = sealed(code())
    submit.code.digest = digest_of([b"what the worker has loaded before"])
    with pytest.raises(ConsentError, match="isn't the code"):
        consent(keys).begin(submit)


def test_a_session_cannot_be_swapped(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    submit = sealed(code(pb.Code.KIND_CELL, session_id="mine"))
    submit.options.session_id = "another's"
    with pytest.raises(ConsentError, match="'session_id' was changed"):
        consent(keys).begin(submit)


def test_a_call_out_of_time_is_refused(keys: AuthorizedKeys) -> None:
    keys.add(make_key(CLIENT.public))
    clock = Clock()
    node, first, second = consent(keys, clock=clock), sealed(code()), sealed(code())
    assert node.begin(first)
    clock.now += 901
    with pytest.raises(ConsentError, match="clock"):
        node.begin(second)
    clock.now += 3600
    with pytest.raises(ConsentError, match="admission expired"):
        node.begin(second)


BASE = sealed(code(session_id="s"))


@given(st.data())
def test_a_byte_changed_anywhere_in_the_seal_is_refused(data: st.DataObject) -> None:
    submit = pb.Submit()
    submit.CopyFrom(BASE)
    place = data.draw(st.sampled_from([submit.seal, submit.seal.admission]))
    name = data.draw(st.sampled_from(["statement", "signature"] + (["mac"] if place is submit.seal else [])))
    content = bytearray(getattr(place, name))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    setattr(place, name, bytes(content))
    with pytest.raises(ConsentError):
        Consent("gpu", "any", NODE, clock=Clock()).begin(submit)
