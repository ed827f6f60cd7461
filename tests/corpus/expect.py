#!/usr/bin/env python3
"""Reads every message with Python's `email` package and writes what it found, for the tests to
compare with what JMAP returns.

    python3 expect.py [MESSAGES [EXPECTED]]     defaults: messages/ and expected/

The parser is Python's; what this script adds is the shape of the answer, which is that of RFC
8621, 4.1: which parameter is the name of a part, how a header is unfolded, and so on. Where the
two readings differ and ours is the right one, differences.json says why.
"""

import binascii
import datetime
import email
import email.errors
import email.header
import email.message
import email.policy
import email.utils
import hashlib
import json
import pathlib
import re
import sys
import unicodedata

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent

# Python's names for what senders mean by these (WHATWG Encoding, 4.2).
CODECS = {
    "iso-8859-1": "cp1252",
    "us-ascii": "utf-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac-cyrillic",
    "iso-8859-8-i": "iso-8859-8",
}

# Longer texts are kept as their hash.
MOST_TEXT = 300


class Part(email.message.Message):
    """A part whose nested messages are left closed: in JMAP they are leaves (RFC 8621, 4.1.4)."""

    def true_type(self):
        return super().get_content_type()

    def get_content_type(self):
        kind = super().get_content_type()
        return "application/x-closed" if kind.startswith("message/") else kind


class Raw(email.policy.Compat32):
    """Keeps header values as they stand, folds and leading blanks included."""

    def header_source_parse(self, sourcelines):
        name, value = "".join(sourcelines).split(":", 1)
        return name, value.rstrip("\r\n")

    def header_fetch_parse(self, name, value):
        return value.strip(" \t")


POLICY = Raw(message_factory=Part)


def to_text(value):
    """Header octets as JMAP shows them: UTF-8, anything else replaced; no NUL (4.1.2.1)."""
    data = value.encode("ascii", "surrogateescape") if value.isascii() or has_surrogates(value) else value.encode()
    return data.decode("utf-8", "replace").replace("\0", "")


def has_surrogates(value):
    return any("\udc80" <= char <= "\udcff" for char in value)


def unfold(value):
    return re.sub(r"\r?\n(?=[ \t])", "", value)


def decode_words(value):
    """Decodes encoded words; those of unknown charsets stay."""
    if "=?" not in value:
        return value
    try:
        pieces = email.header.decode_header(value)
    except (email.errors.HeaderParseError, binascii.Error, ValueError):
        return value
    out = ""
    for data, charset in pieces:
        if isinstance(data, str):
            out += data
            continue
        try:
            out += data.decode(codec(charset), "replace")
        except LookupError:
            return value
    return out


def codec(charset):
    charset = (charset or "raw-unicode-escape").split("*")[0].lower()
    return CODECS.get(charset, charset)


def as_text(value):
    """The Text form (4.1.2.2)."""
    if value is None:
        return None
    text = decode_words(unfold(to_text(value)).lstrip(" \t"))
    text = "".join(char for char in text if char == "\t" or unicodedata.category(char) != "Cc")
    return unicodedata.normalize("NFC", text)


def as_addresses(value):
    """The Addresses form (4.1.2.3); None when Python cannot read the header."""
    if value is None:
        return None
    text = unfold(to_text(value)).strip()
    try:
        header = email.policy.default.header_factory("to", text)
        found = [(str(a.display_name), a.addr_spec) for a in header.addresses]
    except Exception:  # The package raises many kinds on obsolete syntax.
        found = [(decode_words(name), address) for name, address in email.utils.getaddresses([text])]
    if not any(name for name, _ in found):
        # The older parser takes the name from a comment, as RFC 8621 advises.
        old = [(decode_words(name), address) for name, address in email.utils.getaddresses([text])]
        if [address for _, address in old] == [address for _, address in found]:
            found = old
    out = []
    for name, address in found:
        name = unicodedata.normalize("NFC", name.strip())
        address = address.strip()
        if address in ("", "<>") and not name:
            continue
        out.append({"name": name or None, "email": "" if address == "<>" else address})
    return out


def as_ids(value):
    """The MessageIds form (4.1.2.5); None when it is not a list of msg-ids."""
    if value is None:
        return None
    text = unfold(to_text(value))
    while True:
        shorter = re.sub(r"\((?:[^()\\]|\\.)*\)", " ", text)
        if shorter == text:
            break
        text = shorter
    text = text.strip()
    if not text or re.sub(r"<[^<>]*>", "", text).strip(" \t,"):
        return None
    return [found.strip() for found in re.findall(r"<([^<>]*)>", text)] or None


def as_date(value):
    """Seconds since 1970; None when Python cannot read it."""
    if value is None:
        return None
    try:
        date = email.utils.parsedate_to_datetime(unfold(to_text(value)).strip())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.timezone.utc)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    try:
        return int((date - epoch).total_seconds())
    except OverflowError:
        return None


def last(message, name):
    """The last header of a name: RFC 8621, 4.1.3 takes that one."""
    values = [value for key, value in message.raw_items() if key.strip().lower() == name]
    return values[-1] if values else None


def parameter(part, header, name):
    """A parameter of a structured header, RFC 2231 and 2047 decoded."""
    holder = Part(policy=email.policy.compat32)
    value = last(part, header)
    if value is None:
        return None
    holder[header] = unfold(to_text(value)).strip()
    try:
        found = holder.get_param(name, None, header)
    except Exception:
        return None
    if found is None:
        return None
    if isinstance(found, tuple):
        charset, _, text = found
        if charset:
            try:
                return text.encode("latin-1").decode(charset, "replace")
            except (LookupError, UnicodeError):
                return text
        return text
    return decode_words(found)


def describe(part):
    """A part and those below it."""
    kind = part.true_type() if isinstance(part, Part) else part.get_content_type()
    charset = parameter(part, "content-type", "charset")
    if charset is None and (kind.startswith("text/") or last(part, "content-type") is None):
        charset = "us-ascii"
    disposition = last(part, "content-disposition")
    if disposition is not None:
        disposition = unfold(to_text(disposition)).split(";")[0].strip().lower() or None
        disposition = re.sub(r"\s*\(.*", "", disposition) if disposition else None
    name = parameter(part, "content-disposition", "filename")
    if name is None:
        name = parameter(part, "content-type", "name")
    cid = last(part, "content-id")
    if cid is not None:
        ids = as_ids(cid)
        cid = ids[0] if ids else to_text(cid).strip()
    out = {"type": kind, "charset": charset, "disposition": disposition, "name": name, "cid": cid}
    language = last(part, "content-language")
    if language is not None:
        out["language"] = [word.strip() for word in to_text(language).split(",") if word.strip()]
    location = last(part, "content-location")
    if location is not None:
        out["location"] = to_text(location).strip()
    if part.is_multipart():
        out["subParts"] = [describe(below) for below in part.get_payload()]
        return out
    data = part.get_payload(decode=True)
    if data is None:
        data = b""
    out["size"] = len(data)
    out["sha256"] = hashlib.sha256(data).hexdigest()
    if kind.startswith("text/"):
        text = decode_body(data, charset or "us-ascii")
        if text is not None and not data.isascii() and parameter(part, "content-type", "charset") == "us-ascii":
            # Said to be ASCII, and is not: readable, but a problem.
            text = None
        if text is None:
            out["encodingProblem"] = True
        elif len(text) <= MOST_TEXT:
            out["text"] = text
        else:
            out["textSha256"] = hashlib.sha256(text.encode()).hexdigest()
    return out


def decode_body(data, charset):
    """The text of a part with the line ends of JMAP; None when its charset is unknown or does not
    fit. NULs are left out, as in headers."""
    try:
        text = data.decode(codec(charset.strip("'\" ")))
    except (LookupError, UnicodeError, ValueError):
        return None
    return text.replace("\0", "").removeprefix("\ufeff").replace("\r\n", "\n")


def without_nulls(found):
    """What is null is left out: the files are read by people too."""
    if isinstance(found, dict):
        return {key: without_nulls(value) for key, value in found.items() if value is not None}
    if isinstance(found, list):
        return [without_nulls(each) for each in found]
    return found


def expect(data):
    message = email.message_from_bytes(data, _class=Part, policy=POLICY)
    headers = [[to_text(name), to_text(value)] for name, value in message.raw_items()]
    return {
        "headers": headers,
        "subject": as_text(last(message, "subject")),
        "from": as_addresses(last(message, "from")),
        "sender": as_addresses(last(message, "sender")),
        "to": as_addresses(last(message, "to")),
        "cc": as_addresses(last(message, "cc")),
        "bcc": as_addresses(last(message, "bcc")),
        "replyTo": as_addresses(last(message, "reply-to")),
        "sentAt": as_date(last(message, "date")),
        "messageId": as_ids(last(message, "message-id")),
        "inReplyTo": as_ids(last(message, "in-reply-to")),
        "references": as_ids(last(message, "references")),
        "bodyStructure": describe(message),
    }


def main():
    messages = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "messages"
    expected = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "expected"
    expected.mkdir(parents=True, exist_ok=True)
    paths = sorted(messages.glob("*.eml"))
    for path in paths:
        found = without_nulls(expect(path.read_bytes()))
        text = json.dumps(found, ensure_ascii=False, indent=1, sort_keys=False)
        (expected / f"{path.stem}.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    for path in expected.glob("*.json"):
        if not (messages / f"{path.stem}.eml").exists():
            path.unlink()
    print(f"{len(paths)} expectations in {expected}")


if __name__ == "__main__":
    main()
