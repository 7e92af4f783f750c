"""Phone inventory and the mappings into it."""

from __future__ import annotations

import pytest

from engine.encoders.phones import (
    PHONES,
    SILENCE,
    UNKNOWN,
    VISEME_OF_PHONE,
    VISEMES,
    arpabet_to_phone,
    ipa_to_phone,
)


@pytest.mark.parametrize(
    ("symbol", "phone"),
    [("tʃ", "CH"), ("aɪ", "AY"), ("øː", "OE"), ("yː", "UE"), ("ç", "X"), ("ɡ", "G"), ("ɑ̃", "AA"),
     ("p", "P"), ("oʊ", "OW"), ("ɜː", "ER"), ("s.", "SH"), ("", "SIL"), ("ä", "AA"), ("m̩", "M"), ("ʁ", "X"),
     ("tɕ", "CH")],
)  # fmt: skip
def test_ipa(symbol: str, phone: str) -> None:
    assert PHONES[ipa_to_phone(symbol)] == phone


def test_unknown_symbols_are_unknown() -> None:
    assert ipa_to_phone("ǃ") == UNKNOWN
    assert arpabet_to_phone("QQ") == UNKNOWN


@pytest.mark.parametrize(
    ("symbol", "phone"), [("AH0", "AH"), ("pau", "SIL"), ("ax", "AH"), ("SIL", "SIL"), ("zh", "ZH")]
)
def test_arpabet(symbol: str, phone: str) -> None:
    assert PHONES[arpabet_to_phone(symbol)] == phone


def test_every_phone_has_a_viseme() -> None:
    assert len(VISEME_OF_PHONE) == len(PHONES)
    assert set(VISEME_OF_PHONE) == set(range(len(VISEMES)))
    assert VISEMES[VISEME_OF_PHONE[SILENCE]] == "silence"
