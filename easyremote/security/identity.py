"""Keys of a person or a node: what it signs with, and what is sealed to it.

An identity is two random keys in one file: Ed25519, which signs, and X25519, with which others agree on keys. Its public form
has both, and the first one's signature of the second, so whoever knows the first can trust the second.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from easyremote.errors import AuthError, UsageError
from easyremote.security.files import config_folder, create_private, read_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY_PREFIX = "er-key:"
IDENTITY_FILE = "identity.key"
NODE_IDENTITY_FILE = "node-identity.key"
PUBLIC_BYTES = 128

_SEAL_KEY = b"seal key"


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """What others know of an identity. Made by `parse`, which has checked that its two keys belong together."""

    sign_key: bytes
    seal_key: bytes
    binding: bytes = field(repr=False)  # the first one's signature of the second

    @classmethod
    def parse(cls, data: bytes) -> PublicIdentity:
        """From its 128 bytes. Raises AuthError where they are none."""
        if len(data) != PUBLIC_BYTES:
            raise AuthError(f"a public key has {PUBLIC_BYTES} bytes, and this one {len(data)}")
        identity = cls(data[:32], data[32:64], data[64:])
        if not identity.verify(_SEAL_KEY, identity.seal_key, identity.binding):
            raise AuthError("this public key isn't whole: its two parts don't belong together")
        return identity

    @classmethod
    def from_text(cls, text: str) -> PublicIdentity:
        """From `er-key:…`, as people pass it on. Raises UsageError where it is none."""
        encoded = text.strip().removeprefix(KEY_PREFIX)
        try:
            if not text.strip().startswith(KEY_PREFIX):
                raise UsageError(f"'{text.strip()[:40]}' is no key; a key begins with {KEY_PREFIX}")
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            return cls.parse(data)
        except (binascii.Error, ValueError, AuthError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"'{text.strip()[:24]}…' is no whole key ({error}); copy all of the line that 'easyremote keys' shows there"
            ) from None

    @property
    def data(self) -> bytes:
        return self.sign_key + self.seal_key + self.binding

    @property
    def text(self) -> str:
        """`er-key:…`, one word without spaces."""
        return KEY_PREFIX + base64.urlsafe_b64encode(self.data).decode().rstrip("=")

    @property
    def fingerprint(self) -> str:
        """For people to compare, as ssh shows it. It names the key that signs, and with it the other one."""
        return fingerprint_of(self.sign_key)

    def verify(self, context: bytes, data: bytes, signature: bytes) -> bool:
        """Whether the identity signed this, for that use."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.sign_key).verify(signature, _framed(context, data))
        except (InvalidSignature, ValueError):
            return False
        return True


class Identity:
    """Both keys with their secrets, which no representation and no error shows."""

    def __init__(self, sign_secret: bytes, seal_secret: bytes) -> None:
        self._sign_secret = sign_secret
        self._seal_secret = seal_secret

    @classmethod
    def generate(cls) -> Identity:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return cls(
            Ed25519PrivateKey.generate().private_bytes_raw(),
            X25519PrivateKey.generate().private_bytes_raw(),
        )

    @classmethod
    def load(cls, path: Path | None = None) -> Identity | None:
        """The one in this file (default: this user's own), or None where there is none yet.

        Raises AuthError where other users can read the file, or it holds no identity.
        """
        path = path or config_folder() / IDENTITY_FILE
        try:
            content = read_private(path, "the secret key")
        except FileNotFoundError:
            return None
        try:
            fields = json.loads(content)
            secrets = bytes.fromhex(fields["sign"]), bytes.fromhex(fields["seal"])
            if fields["version"] != 1 or [len(secret) for secret in secrets] != [32, 32]:
                raise ValueError
        except (ValueError, KeyError, TypeError):  # its text may be a part of the secret
            raise AuthError(f"{path} holds no identity; delete it, and a new one is made with the next use") from None
        return cls(*secrets)

    @classmethod
    def load_or_create(cls, path: Path | None = None) -> Identity:
        """The same, made where there is none yet: of two processes that do so at once, both get the same one.

        Raises AuthError likewise, and OSError where the file can't be made.
        """
        path = path or config_folder() / IDENTITY_FILE
        found = cls.load(path)
        if found is not None:
            return found
        made = cls.generate()
        content = {"version": 1, "sign": made._sign_secret.hex(), "seal": made._seal_secret.hex()}
        create_private(path, json.dumps(content).encode())
        found = cls.load(path)
        if found is None:
            raise AuthError(f"{path} was removed while it was made; try again")
        return found

    @cached_property
    def public(self) -> PublicIdentity:
        sign_key = self._signer.public_key().public_bytes_raw()
        seal_key = self._sealer.public_key().public_bytes_raw()
        return PublicIdentity(sign_key, seal_key, self.sign(_SEAL_KEY, seal_key))

    def sign(self, context: bytes, data: bytes) -> bytes:
        """64 bytes. The context says what for: a signature for one use is worth nothing for another."""
        return self._signer.sign(_framed(context, data))

    def agree(self, seal_key: bytes) -> bytes:
        """32 bytes that only this identity and the owner of that X25519 key can know. Raises AuthError for a worthless key."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            return self._sealer.exchange(X25519PublicKey.from_public_bytes(seal_key))
        except ValueError:
            raise AuthError("no key can be agreed on with that public key") from None

    @cached_property
    def _signer(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._sign_secret)

    @cached_property
    def _sealer(self) -> X25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return X25519PrivateKey.from_private_bytes(self._seal_secret)

    def __repr__(self) -> str:
        return f"Identity({self.public.fingerprint})"

    def __reduce__(self) -> str:
        raise TypeError("an identity isn't pickled: its secrets stay in this process")


def fingerprint_of(sign_key: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(sign_key).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def own_identity() -> Identity:
    """This user's, made where there is none yet. Raises AuthError, with the remedy."""
    try:
        return Identity.load_or_create()
    except OSError as error:
        path = config_folder() / IDENTITY_FILE
        raise AuthError(f"your key can't be kept in {path}: {error.strerror or error}") from error


def node_identity() -> tuple[Identity, bool]:
    """The one that nodes of this user prove themselves with, and whether it is kept: else it is this process's only."""
    try:
        return Identity.load_or_create(config_folder() / NODE_IDENTITY_FILE), True
    except OSError:
        return Identity.generate(), False


def _framed(context: bytes, data: bytes) -> bytes:
    return b"easyremote" + bytes([len(context)]) + context + data
