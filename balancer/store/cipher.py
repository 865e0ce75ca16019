"""Provider keys as they stand in the database: encrypted where the operator gave a secret, in clear where not.

A secret is any text; scrypt makes a Fernet key of it (AES-128-CBC with HMAC-SHA256). Of several secrets the first
encrypts and all decrypt, which is how a secret is exchanged for another.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from balancer.store.errors import WrongSecretKey

# Fixed: the same secret must open a backup on another machine. What it costs: two operators with the same secret have
# the same key. The work factor is that of an interactive login: a tenth of a second at start, for each secret.
_SALT = b"llm-balancer provider keys v1"
_COST, _BLOCK_SIZE, _PARALLELISM = 2**14, 8, 1
# Opening a key takes 20 microseconds of the event loop, and each change of the configuration reads all of them.
_MOST_REMEMBERED = 10_000


class KeyCipher:
    """Encrypts with the first of `secrets` and decrypts with any; without secrets it stores in clear."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._ciphers = [Fernet(_derived(secret)) for secret in secrets]
        self._opened: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<KeyCipher: {len(self._ciphers)} secrets>"

    @property
    def encrypts(self) -> bool:
        """Whether there is a secret."""
        return bool(self._ciphers)

    def stored(self, api_key: str) -> str:
        """What is to be stored for a key."""
        if not self._ciphers:
            return api_key
        stored = self._ciphers[0].encrypt(api_key.encode()).decode()
        self._remember(stored, api_key)
        return stored

    def opened(self, stored: str, encrypted: bool) -> str:
        """The key behind what is stored. Raises `WrongSecretKey` when no secret opens it."""
        if not encrypted:
            return stored
        known = self._opened.get(stored)
        if known is not None:
            return known
        for cipher in self._ciphers:
            try:
                api_key = cipher.decrypt(stored).decode()
            except InvalidToken:
                continue
            self._remember(stored, api_key)
            return api_key
        raise WrongSecretKey(given=self.encrypts)

    def _remember(self, stored: str, api_key: str) -> None:
        if len(self._opened) >= _MOST_REMEMBERED:
            self._opened.clear()
        self._opened[stored] = api_key


def _derived(secret: str) -> bytes:
    scrypt = Scrypt(salt=_SALT, length=32, n=_COST, r=_BLOCK_SIZE, p=_PARALLELISM)
    return base64.urlsafe_b64encode(scrypt.derive(secret.encode()))
