"""One small phone inventory for all languages, and how other notations map into it.

The classes are what a face can show and a microphone can hear: the 39 of the CMU dictionary,
three that English lacks (front rounded vowels, dorsal fricatives) and silence. The mapping from
IPA is coarse on purpose: it keeps place and rounding and drops length, tone and nasality.
"""

from __future__ import annotations

import unicodedata

__all__ = [
    "PHONES",
    "SILENCE",
    "UNKNOWN",
    "VISEMES",
    "VISEME_OF_PHONE",
    "arpabet_to_phone",
    "ipa_to_phone",
]

PHONES: tuple[str, ...] = (
    "SIL",
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW",
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH",
    "T", "TH", "V", "W", "Y", "Z", "ZH",
    "UE",  # front rounded close: German ü, French u
    "OE",  # front rounded mid: German ö, French eu
    "X",   # dorsal fricatives: German ich and ach, Spanish j, uvular r
)  # fmt: skip

SILENCE = 0
UNKNOWN = -1
"""Label of audio whose phone is not known; such frames carry no loss."""

_VISEME_MEMBERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("silence", ("SIL",)),
    ("bilabial", ("P", "B", "M")),
    ("labiodental", ("F", "V")),
    ("dental", ("TH", "DH")),
    ("alveolar", ("T", "D", "N", "L")),
    ("sibilant", ("S", "Z")),
    ("postalveolar", ("SH", "ZH", "CH", "JH")),
    ("velar", ("K", "G", "NG", "HH", "X")),
    ("rhotic", ("R", "ER")),
    ("spread", ("IY", "IH", "EY", "Y")),
    ("mid", ("EH", "AE", "AH")),
    ("open", ("AA", "AY", "AW")),
    ("rounded_open", ("AO", "OW", "OY", "OE")),
    ("rounded_close", ("UW", "UH", "W", "UE")),
)
VISEMES: tuple[str, ...] = tuple(name for name, _ in _VISEME_MEMBERS)
VISEME_OF_PHONE: tuple[int, ...] = tuple(
    next(i for i, (_, members) in enumerate(_VISEME_MEMBERS) if phone in members) for phone in PHONES
)
"""Index into :data:`VISEMES` for each phone, in the order of :data:`PHONES`."""

# Longer keys win, so affricates and diphthongs stand beside their parts.
_IPA: dict[str, str] = {
    "aɪ": "AY", "ai": "AY", "ɑɪ": "AY", "aʊ": "AW", "au": "AW", "eɪ": "EY", "ei": "EY",
    "oʊ": "OW", "əʊ": "OW", "ou": "OW", "ɔɪ": "OY", "ɔø": "OY", "ɔʏ": "OY", "oɪ": "OY", "ɔy": "OY",
    "ɪə": "IH", "eə": "EH", "ʊə": "UH", "œy": "OE", "ɛi": "EY", "ʌu": "AW",
    "tʃ": "CH", "tɕ": "CH", "tʂ": "CH", "dʒ": "JH", "dʑ": "JH", "ts": "S", "dz": "Z", "pf": "F",
    "ts.": "CH", "s.": "SH", "z.": "ZH",
    "i": "IY", "ɪ": "IH", "ɨ": "IH", "ɯ": "IH", "e": "EY", "ɛ": "EH", "æ": "AE", "a": "AA",
    "ä": "AA", "ɑ": "AA", "ɒ": "AO", "ɔ": "AO", "o": "OW", "ʊ": "UH", "u": "UW", "ʉ": "UE",
    "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɤ": "AH", "ɘ": "AH", "ɜ": "ER", "ɚ": "ER", "ɝ": "ER",
    "y": "UE", "ʏ": "UE", "ø": "OE", "œ": "OE", "ɵ": "OE",
    "p": "P", "b": "B", "m": "M", "β": "B", "ɸ": "F", "f": "F", "v": "V", "ʋ": "V", "ɱ": "M",
    "θ": "TH", "ð": "DH", "t": "T", "d": "D", "ʈ": "T", "ɖ": "D", "n": "N", "ɳ": "N", "ɲ": "N",
    "l": "L", "ɫ": "L", "ʎ": "L", "ɭ": "L", "ɬ": "L", "ɹ": "R", "r": "R", "ɻ": "R", "ɽ": "R", "ɾ": "D",
    "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "ɕ": "SH", "ʑ": "ZH", "ʂ": "SH", "ʐ": "ZH",
    "k": "K", "ɡ": "G", "g": "G", "q": "K", "c": "K", "ɟ": "G", "ŋ": "NG", "ɴ": "NG", "ɣ": "G",
    "x": "X", "χ": "X", "ç": "X", "ʁ": "X", "ʀ": "X", "ħ": "HH", "h": "HH", "ɦ": "HH",
    "j": "Y", "ʝ": "Y", "w": "W", "ɥ": "W", "ʍ": "W",
}  # fmt: skip
_LONGEST = max(map(len, _IPA))


def ipa_to_phone(symbol: str) -> int:
    """Class of one IPA segment such as ``"tʃ"`` or ``"aː"``; :data:`UNKNOWN` where none fits.

    Length, stress, tone and combining marks are ignored; an empty symbol is silence.
    """
    marks = "ːˑˈˌ̯͡‿-;ʲʷʰˠˤ0123456789'\"^~|"
    kept = [
        c for c in unicodedata.normalize("NFD", symbol) if c not in marks and not unicodedata.combining(c)
    ]
    # NFD splits ç into c + cedilla; put the letters that mean something else back.
    plain = "".join(kept) if "ç" not in unicodedata.normalize("NFC", symbol) else "ç"
    if not plain:
        return SILENCE
    for length in range(min(_LONGEST, len(plain)), 0, -1):
        phone = _IPA.get(plain[:length])
        if phone is not None:
            return PHONES.index(phone)
    return UNKNOWN


_ARPABET_ALIASES = {
    "AX": "AH", "AXR": "ER", "IX": "IH", "DX": "D", "EL": "L", "EM": "M", "EN": "N", "NX": "N", "HV": "HH",
    "UX": "UW", "PAU": "SIL", "SP": "SIL", "H#": "SIL", "": "SIL", "+NSN+": "SIL",
}  # fmt: skip


def arpabet_to_phone(symbol: str) -> int:
    """Class of a CMU/ARPABET phone in any case, stress digits ignored; else :data:`UNKNOWN`."""
    plain = symbol.strip().upper().rstrip("0123456789")
    plain = _ARPABET_ALIASES.get(plain, plain)
    return PHONES.index(plain) if plain in PHONES else UNKNOWN
