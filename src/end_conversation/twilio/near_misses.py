"""Contacts' addresses as keyed hashes, and how close two of them are.

Addresses are never kept: between invocations, memory only holds hashes with a random key, and the digits of a
phone number before its last eight, which are country and area.
"""

from __future__ import annotations

import os
import re
import sys
from hashlib import blake2b
from typing import Literal, NamedTuple
from urllib.parse import unquote

LAST_DIGITS = 8
"""Digits that two numbers must share at their ends, and so the shortest number that is compared.

With fewer, strangers match too often: two numbers share their last eight by chance once in 10**8 pairs.
"""

_MAX_DIGITS = 15
"""Of a phone number, as E.164 has it; Messenger's ids are longer."""

_LETTERS = re.compile(r"[^\W\d_]")
_NO_DIGITS = re.compile(r"\D+")


class Fingerprint(NamedTuple):
    """The parts of an address that are kept.

    Attributes:
        address: hash of all of it.
        without_channel: hash of what follows `whatsapp:` and the like.
        last_digits: hash of a phone number's last digits; None if it is no phone number.
        other_digits: the digits before those, without leading zeros.
        first_two: the number's first two digits.
    """

    address: bytes
    without_channel: bytes
    last_digits: bytes | None = None
    other_digits: str = ""
    first_two: str = ""


class Fingerprints:
    """Makes fingerprints that can be compared with each other, with its own key."""

    def __init__(self) -> None:
        self._key = os.urandom(16)

    def of(self, address: str) -> Fingerprint:
        """The fingerprint of a contact channel address."""
        whole = self._hash(address)
        _, channel, rest = address.partition(":")
        without_channel = self._hash(rest) if channel else whole
        number = _number(address)
        if not LAST_DIGITS <= len(number) <= _MAX_DIGITS:
            return Fingerprint(whole, without_channel)
        return Fingerprint(
            whole,
            without_channel,
            self._hash(number[-LAST_DIGITS:]),
            # Few countries and areas, many contacts.
            sys.intern(number[:-LAST_DIGITS]),
            sys.intern(number[:2]),
        )

    def _hash(self, text: str) -> bytes:
        # JSON can carry lone surrogates.
        return blake2b(text.encode(errors="surrogatepass"), digest_size=16, key=self._key).digest()


def near_miss(wanted: Fingerprint, other: Fingerprint) -> Literal["channel", "digits"] | None:
    """How a different address may still be the same person's, if so.

    Returns:
        `channel`: the same address under another channel. `digits`: a number with the same last eight digits
        and the same first two, or one number is the end of the other.
    """
    if wanted.without_channel == other.without_channel:
        return "channel"
    if wanted.last_digits is None or wanted.last_digits != other.last_digits:
        return None
    one, another = wanted.other_digits, other.other_digits
    if wanted.first_two == other.first_two or one.endswith(another) or another.endswith(one):
        return "digits"
    return None


def _number(address: str) -> str:
    """The digits of a phone number without leading zeros, which are trunk and international prefixes.

    Empty if it has letters, as names have. A `+` may come as `%2B`, digits in any script.
    """
    number = unquote(address).rpartition(":")[2]
    if _LETTERS.search(number):
        return ""
    digits = _NO_DIGITS.sub("", number)
    return (digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)).lstrip("0")
