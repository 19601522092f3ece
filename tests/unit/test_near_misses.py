"""Which addresses are close to each other, by their fingerprints alone."""

import pytest

from end_conversation.twilio.near_misses import Fingerprints, near_miss

NUMBER = "+15551234567"


@pytest.mark.parametrize(
    ("wanted", "active", "kind"),
    [
        # Another channel, or none.
        (NUMBER, f"whatsapp:{NUMBER}", "channel"),
        (f"whatsapp:{NUMBER}", NUMBER, "channel"),
        (f"sms:{NUMBER}", f"messenger:{NUMBER}", "channel"),
        (f"WhatsApp:{NUMBER}", f"whatsapp:{NUMBER}", "channel"),
        ("user:anna", "client:anna", "channel"),
        # The same number, written differently.
        ("15551234567", NUMBER, "digits"),
        ("+1 (555) 123-4567", f"whatsapp:{NUMBER}", "digits"),
        (" 15551234567", NUMBER, "digits"),
        ("%2B15551234567", NUMBER, "digits"),
        ("\uff0b\uff11\uff15\uff15\uff15\uff11\uff12\uff13\uff14\uff15\uff16\uff17", NUMBER, "digits"),
        (
            "+\u0664\u0664\u0662\u0660\u0667\u0669\u0664\u0666\u0660\u0669\u0665\u0668",
            "+442079460958",
            "digits",
        ),
        ("whatsapp%3A%2B15551234567", f"whatsapp:{NUMBER}", "digits"),
        ("001 555 123 4567", NUMBER, "digits"),
        ("01115551234567", NUMBER, "digits"),
        # No country code, a trunk zero, a mobile digit.
        ("5551234567", NUMBER, "digits"),
        ("020 7946 0958", "+442079460958", "digits"),
        ("+44 (0)20 7946 0958", "+442079460958", "digits"),
        ("whatsapp:+5215512345678", "whatsapp:+525512345678", "digits"),
        ("+551187654321", "+5511987654321", "digits"),
        ("+541112345678", "+5491112345678", "digits"),
        ("12345678", "+4512345678", "digits"),
        # Somebody else.
        ("+15551234567", "+15551234568", None),
        ("+15551234567", "+445551234567", None),
        ("+14155551234567", "+4915551234567", None),
        ("1234567", "+3541234567", None),
        ("client:user12345678", "client:name12345678", None),
        ("client:anna", "client:Anna", None),
        ("messenger:7012345612345678", "messenger:7098765412345678", None),
        ("client:名前12345678", "+12345678", None),
        ("ANNA", "anna", None),
        ("\ud800", "anna", None),
    ],
)
def test_kinds_of_near_misses(wanted: str, active: str, kind: str | None) -> None:
    """Another channel and another spelling of the number are near; names, ids and short numbers are not."""
    fingerprints = Fingerprints()
    assert near_miss(fingerprints.of(wanted), fingerprints.of(active)) == kind


def test_hashes_have_a_key_of_their_own() -> None:
    """The memory of a process has no numbers in it, nor hashes that a table could resolve."""
    one, another = Fingerprints().of(NUMBER), Fingerprints().of(NUMBER)
    assert one.address != another.address
    assert one.last_digits != another.last_digits
    assert "1234567" not in repr(one)
