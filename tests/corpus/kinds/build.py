"""What the messages are put together with. Nothing here checks anything: many messages are meant
to be wrong."""

import base64
import hashlib
import quopri
import struct
import zlib


def to_bytes(text):
    return text if isinstance(text, bytes) else text.encode("utf-8")


def crlf(text):
    """Line ends of a literal in the source, made those of mail."""
    return to_bytes(text).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def header(name, value):
    return to_bytes(name) + b": " + to_bytes(value) + b"\r\n"


def identifier(name):
    return "<" + hashlib.sha256(name.encode()).hexdigest()[:16] + "@corpus.test>"


def mail(name, headers, body, *, version=True):
    """A message with the usual headers where `headers` does not give its own. A value of None
    leaves a header out."""
    given = {key.lower() for key, _ in headers}
    out = b""
    usual = [
        ("From", "Corpus Writer <writer@corpus.test>"),
        ("To", "reader@example.test"),
        ("Subject", name),
        ("Date", "Wed, 12 Feb 2025 09:30:15 +0000"),
        ("Message-ID", identifier(name)),
    ]
    if version:
        usual.append(("MIME-Version", "1.0"))
    for key, value in usual:
        if key.lower() not in given:
            out += header(key, value)
    for key, value in headers:
        if value is not None:
            out += header(key, value)
    return out + b"\r\n" + crlf(body)


def raw(name, headers, body, **options):
    """As `mail`, with the body's bytes left as they are."""
    return mail(name, headers, b"", **options) + to_bytes(body)


def part(headers, body):
    """A part of a multipart: bytes of headers, empty line, body."""
    out = b"".join(header(key, value) for key, value in headers)
    return out + b"\r\n" + crlf(body)


def multipart(boundary, parts, *, preamble=b"", epilogue=b"", close=True):
    """The body of a multipart. The CRLF before each boundary belongs to the boundary."""
    boundary = to_bytes(boundary)
    out = crlf(preamble)
    if out:
        out += b"\r\n"
    for index, each in enumerate(parts):
        if index:
            out += b"\r\n"
        out += b"--" + boundary + b"\r\n" + each
    if close:
        out += b"\r\n--" + boundary + b"--\r\n"
    return out + crlf(epilogue)


def b64(data, width=76):
    text = base64.b64encode(to_bytes(data)).decode()
    return "".join(text[at : at + width] + "\r\n" for at in range(0, len(text), width))


def qp(data):
    """Quoted-printable of bytes whose lines end in LF."""
    return quopri.encodestring(to_bytes(data).replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def word_b(text, charset="utf-8"):
    """An encoded word, B (RFC 2047, 4.1)."""
    encoded = base64.b64encode(text.encode(charset)).decode()
    return f"=?{charset}?B?{encoded}?="


def word_q(text, charset="utf-8", codec=None):
    """An encoded word, Q (RFC 2047, 4.2)."""
    out = ""
    for byte in text.encode(codec or charset):
        char = chr(byte)
        if char == " ":
            out += "_"
        elif char.isascii() and char.isalnum():
            out += char
        else:
            out += f"={byte:02X}"
    return f"=?{charset}?Q?{out}?="


def noise(seed, size):
    """Bytes that look random and are the same in every run."""
    out = b""
    counter = 0
    while len(out) < size:
        out += hashlib.sha256(f"{seed}:{counter}".encode()).digest()
        counter += 1
    return out[:size]


def gz(data):
    """A gzip file whose one block is stored: compressors differ from machine to machine."""
    block = b"\x01" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block + struct.pack("<II", zlib.crc32(data), len(data))


# The smallest picture: one grey pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)

GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
