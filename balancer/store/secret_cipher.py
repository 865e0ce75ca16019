"""What one secret encrypts and opens: scrypt makes a Fernet key of it (AES-128-CBC with HMAC-SHA256).

Apart from `cipher`, which imports it only where there is a secret: the library behind it takes 7 MB of memory.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

# Fixed: the same secret must open a backup on another machine. What it costs: two operators with the same secret have
# the same key. The work factor is that of an interactive login: a tenth of a second at start, for each secret.
_SALT = b"llm-balancer provider keys v1"
_COST, _BLOCK_SIZE, _PARALLELISM = 2**14, 8, 1


class SecretCipher:
    """The key of one secret."""

    def __init__(self, secret: str) -> None:
        scrypt = Scrypt(salt=_SALT, length=32, n=_COST, r=_BLOCK_SIZE, p=_PARALLELISM)
        self._fernet = Fernet(base64.urlsafe_b64encode(scrypt.derive(secret.encode())))

    def __repr__(self) -> str:
        return "<SecretCipher>"

    def encrypt(self, text: str) -> str:
        """Never twice the same."""
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, stored: str) -> str | None:
        """The text behind what `encrypt` gave; None when this secret does not open it."""
        try:
            return self._fernet.decrypt(stored).decode()
        except InvalidToken:
            return None
