"""Text out of records, kept from being taken for Markdown, HTML, formulas of a spreadsheet or of Matplotlib.

Records come from elsewhere, and their names, reasons and models go into sentences, tables, captions and plots. So their
text is made inert once, where it is loaded: `inert` puts a stand-in of its own, a private code point, in the place of
every character that some format could take for markup, and spells out what cannot be seen. It can then be put together
with text of our own in any way; whoever writes turns stand-ins into what the format needs, with `markdown`, `plain`,
`cell` or `math_free`, over the whole text and without knowing what came from where.
"""

import re
import unicodedata
from functools import lru_cache

_OFFSET = 0xF0000  # of the stand-ins: supplementary private use area A
_MARKUP = r"\\`*<>&|$~"
_STANDING_IN = re.compile(f"[{chr(_OFFSET)}-{chr(_OFFSET + 0x7F)}]")
_RISKY = re.compile(
    rf"[{_MARKUP}]"
    r"|^[=+@-]"  # what a spreadsheet takes for a formula
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # within a word it is no markup
    r"|\](?=[(\[:]|$)"  # the middle of a link, or the end of this text, behind which anything may come
)
_UNSEEN = re.compile("[^\x20-\x7e\xa1-\xac\xae-\u05ff]")  # what may be a control character, or look like nothing
_FORMULA = tuple(chr(_OFFSET + ord(letter)) for letter in "=+-@")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _stand_in(match):
    return "".join(chr(_OFFSET + ord(letter)) for letter in match.group())


def spelled(letter):
    """A letter as an escape in ASCII."""
    code = ord(letter)
    return _SHORT.get(letter) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def _visible(match):
    """Controls, marks of writing direction, separators of lines and what no standard gives a meaning: as an escape."""
    letter = match.group()
    return spelled(letter) if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else letter


@lru_cache(maxsize=2**16)
def inert(text):
    """The text with stand-ins for what could be markup, and everything unseen spelled out."""
    if not text.isascii() or not text.isprintable():
        text = _UNSEEN.sub(_visible, text)
    return _RISKY.sub(_stand_in, text)


def inert_value(value):
    """A value of JSON with all its text made inert, keys too."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, dict):
        return {inert(key): inert_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [inert_value(each) for each in value]
    return value


def _restored(match):
    return chr(ord(match.group()) - _OFFSET)


def plain(text):
    """As it stood in the record, but for what was spelled out: one line for a terminal."""
    return _STANDING_IN.sub(_restored, text)


def cell(text):
    """For a CSV file: text that begins like a formula has an apostrophe before it."""
    return ("'" if text.startswith(_FORMULA) else "") + plain(text)


def markdown(text):
    """For a Markdown file: stand-ins become the characters that they stand for, escaped."""

    def escaped(match):
        letter = _restored(match)
        return _ENTITIES.get(letter, "\\" + letter)

    return _STANDING_IN.sub(escaped, text)


def math_free(text):
    """For Matplotlib: a dollar sign out of a record opens no formula."""
    return plain(_STANDING_IN.sub(lambda match: "\\$" if _restored(match) == "$" else match.group(), text))
