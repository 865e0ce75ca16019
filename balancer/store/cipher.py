"""Provider keys as they stand in the database: encrypted where the operator gave a secret, in clear where not.

A secret is any text. Of several secrets the first encrypts and all decrypt, which is how a secret is exchanged for
another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from balancer.store.errors import WrongSecretKey

if TYPE_CHECKING:
    from balancer.store.secret_cipher import SecretCipher

# Opening a key takes 20 microseconds of the event loop, and each change of the configuration reads all of them.
_MOST_REMEMBERED = 10_000


class KeyCipher:
    """Encrypts with the first of `secrets` and decrypts with any; without secrets it stores in clear."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._ciphers = _ciphers_of(secrets)
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
        stored = self._ciphers[0].encrypt(api_key)
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
            api_key = cipher.decrypt(stored)
            if api_key is not None:
                self._remember(stored, api_key)
                return api_key
        raise WrongSecretKey(given=self.encrypts)

    def _remember(self, stored: str, api_key: str) -> None:
        if len(self._opened) >= _MOST_REMEMBERED:
            self._opened.clear()
        self._opened[stored] = api_key


def _ciphers_of(secrets: Sequence[str]) -> list[SecretCipher]:
    if not secrets:
        return []
    from balancer.store.secret_cipher import SecretCipher  # its library takes 7 MB, which most do without

    return [SecretCipher(secret) for secret in secrets]
