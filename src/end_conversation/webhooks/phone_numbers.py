"""Converts phone numbers as people and systems write them to E.164, with libphonenumber.

Imported when the first number is converted: it takes as long as everything else in this folder.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

import phonenumbers

_INVISIBLE = ("Cc", "Cf", "Me", "Mn")
"""Unicode categories: control and format characters, such as U+200B and U+202A, and marks."""

_OTHER_DASHES = "\u02d7\u2043\u2212\u30fc"
"""Dashes that Unicode does not count as such."""

MAX_LENGTH = 250
"""Characters of a text that can be a phone number; libphonenumber's own limit."""

_URI = re.compile(r"tel:(?://)?([^;]*)(.*)", re.IGNORECASE)
_CONTEXT = re.compile(r";phone-context=(\+[\d().-]+)", re.IGNORECASE)
_EXTENSION = re.compile(r"[^\W\d_]|[*#,;~]")
# What most countries dial for the plus sign.
_EXIT_CODE = re.compile(r"^[+(]*00\)?")


def to_e164(text: str, region: str | None = None) -> str | None:
    """A phone number as `+` and digits; None for a blank text.

    The number must have a possible length; it need not be assigned to anybody.

    Args:
        text: in international form, with `+` or 00, or a `tel:` URI (RFC 3966).
        region: ISO 3166's two letters, for numbers in national form.

    Raises:
        ValueError: it is not a phone number; the message says why, without the number.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError("the phone number is too long")
    text = _legible(text)
    if not text:
        return None
    region = region and region.upper()
    if region and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("the region must be a two-letter code of ISO 3166, such as 'GB'")
    text = _number_in(text)
    possible, reasons = [], []
    for spelling in dict.fromkeys((text, _EXIT_CODE.sub("+", text))):
        try:
            number = phonenumbers.parse(spelling, region)
        except phonenumbers.NumberParseException as error:
            reasons.append(_PARSER_REASONS[error.error_type])
            continue
        reason = _REASONS[phonenumbers.is_possible_number_with_reason(number)]
        if reason:
            reasons.append(reason)
        else:
            possible.append(number)
    if not possible:
        raise ValueError(f"the phone number {reasons[-1]}")
    # Where another code is dialled, 00 and a foreign number may be as long as a national one.
    number = next(filter(phonenumbers.is_valid_number, possible), possible[0])
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


# By libphonenumber's NumberParseException and ValidationResult.
_PARSER_REASONS = (
    "has no known country code (national numbers need a region)",
    "is not valid",
    *["is too short"] * 2,
    "is too long",
)
_REASONS = (
    "",
    "has an unknown country code",
    "is too short",
    "is too long",
    "lacks its area code",
    "has a wrong length",
)


def _number_in(text: str) -> str:
    """The number in a text or `tel:` URI; raises ValueError for letters and extensions."""
    parameters = ""
    if uri := _URI.fullmatch(text):
        text, parameters = map(unquote, uri.groups())
        if context := _CONTEXT.search(parameters):
            text = context[1] + text
    if _EXTENSION.search(text) or ";ext=" in parameters.lower():
        raise ValueError("the phone number has letters or an extension")
    return text


def _legible(text: str) -> str:
    """The text with plain digits, dashes and spaces, and without invisible characters."""
    plain = (
        " "
        if character.isspace()
        else "-"
        if unicodedata.category(character) == "Pd" or character in _OTHER_DASHES
        else str(unicodedata.decimal(character, character))
        for character in unicodedata.normalize("NFKC", text)
        if character.isspace() or unicodedata.category(character) not in _INVISIBLE
    )
    return "".join(plain).strip()
