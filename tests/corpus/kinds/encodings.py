"""Content-Transfer-Encodings, well and badly done (RFC 2045, 6), and text that flows (RFC 3676)."""

import base64
import binascii

from .build import b64, mail, multipart, noise, part, qp, raw

UTF8 = "text/plain; charset=utf-8"


def messages():
    def qp_mail(name, body):
        return raw(name, [("Content-Type", UTF8), ("Content-Transfer-Encoding", "quoted-printable")], body)

    yield "qp", qp_mail("qp", qp("Grüße, eine sehr lange Zeile: " + "wörter " * 40 + "\nEnde\n"))
    yield "qp-lower-hex", qp_mail("qp", b"caf=c3=a9 and =e2=82=ac\r\n")
    yield "qp-bad-escapes", qp_mail("qp", b"=ZZ =4 == =\xc3 100=% =C3=A9\r\n")
    yield "qp-ends-in-equals", qp_mail("qp", b"the end=")
    yield "qp-soft-break-blanks", qp_mail("qp", b"soft=  \r\nbreak=\t\r\ndone\r\n")
    yield "qp-trailing-blanks", qp_mail("qp", b"blanks at the end   \r\ntab\t\r\nkept=20\r\n")
    yield "qp-raw-8bit", qp_mail("qp", "roh: Grüße =C3=A4\r\n".encode())
    yield "qp-long-lines", qp_mail("qp", b"x" * 5000 + b"=3D\r\n")
    yield "qp-encoded-line-ends", qp_mail("qp", b"one=0D=0Atwo=0Athree=0Dfour\r\n")
    yield "qp-nul", qp_mail("qp", b"nul=00here\r\n")
    yield "qp-dot-lines", qp_mail("qp", b".\r\n..\r\n=2E\r\n.hidden\r\n")
    yield "qp-empty", qp_mail("qp", b"")
    yield "qp-only-soft", qp_mail("qp", b"=\r\n=\r\n=\r\n")
    yield "qp-on-binary", raw(
        "qp on a picture",
        [("Content-Type", "image/x-noise"), ("Content-Transfer-Encoding", "quoted-printable")],
        b"".join(f"={byte:02X}".encode() + (b"=\r\n" if index % 20 == 19 else b"") for index, byte in enumerate(noise("qp", 200))),
    )

    def b64_mail(name, body, kind=UTF8):
        return raw(name, [("Content-Type", kind), ("Content-Transfer-Encoding", "base64")], body)

    text = "Grüße, in base64, ein paar Wörter lang.\r\n".encode()
    whole = base64.b64encode(text)
    yield "b64", b64_mail("b64", b64(text))
    yield "b64-one-line", b64_mail("b64", base64.b64encode(noise("one line", 3000)) + b"\r\n", "application/octet-stream")
    yield "b64-short-lines", b64_mail("b64", b64(text, 4))
    yield "b64-no-padding", b64_mail("b64", whole.rstrip(b"=") + b"\r\n")
    yield "b64-no-line-end", b64_mail("b64", whole)
    yield "b64-cut", b64_mail("b64", whole[:-5] + b"\r\n")
    yield "b64-one-character", b64_mail("b64", b"A\r\n")
    yield "b64-blanks", b64_mail("b64", b" \t" + whole[:10] + b"  " + whole[10:20] + b"\t\r\n\r\n" + whole[20:] + b"\r\n\r\n")
    yield "b64-rubbish-inside", b64_mail("b64", whole[:8] + b"!*-_\x80" + whole[8:] + b"\r\n")
    yield "b64-padding-inside", b64_mail("b64", base64.b64encode(b"first") + b"\r\n" + base64.b64encode(b"second") + b"\r\n")
    yield "b64-footer", b64_mail("b64", b64(text).encode() + b"\r\n-- \r\nA footer in plain text\r\n")
    yield "b64-plain-text", b64_mail("b64", b"This was never encoded, whatever the header says.\r\n")
    yield "b64-url-alphabet", b64_mail("b64", base64.urlsafe_b64encode(noise("url", 60)) + b"\r\n", "application/octet-stream")
    yield "b64-empty", b64_mail("b64", b"")
    yield "b64-only-padding", b64_mail("b64", b"====\r\n")
    yield "b64-nul", b64_mail("b64", base64.b64encode(b"nul \x00 in text\r\n") + b"\r\n")

    def with_encoding(name, encoding, body, kind=UTF8):
        return raw(name, [("Content-Type", kind), ("Content-Transfer-Encoding", encoding)], body)

    yield "cte-upper-case", with_encoding("cte", "BASE64", b64(text))
    yield "cte-comment", with_encoding("cte", "base64 (so it says)", b64(text))
    yield "cte-quoted", with_encoding("cte", '"base64"', b64(text))
    yield "cte-semicolon", with_encoding("cte", "quoted-printable;", b"caf=C3=A9\r\n")
    yield "cte-blanks", with_encoding("cte", "   quoted-printable   ", b"caf=C3=A9\r\n")
    yield "cte-unknown", with_encoding("cte", "x-rot13", b"Whfg grkg.\r\n")
    yield "cte-empty", with_encoding("cte", "", b"Just text.\r\n")
    yield "cte-8-bit", with_encoding("cte", "8-bit", "Grüße.\r\n".encode())
    yield "cte-binary", with_encoding("cte", "binary", b"binary " + "Grüße.\r\n".encode())
    yield "cte-7bit-lies", with_encoding("cte", "7bit", "Grüße, achtbittig.\r\n".encode())
    yield "cte-twice", raw(
        "twice", [("Content-Type", UTF8), ("Content-Transfer-Encoding", "7bit"), ("Content-Transfer-Encoding", "base64")], b"plain words\r\n"
    )
    lines = [binascii.b2a_uu(text[at : at + 45]) for at in range(0, len(text), 45)]
    uu = b"begin 644 greeting.txt\r\n" + b"".join(line.replace(b"\n", b"\r\n") for line in lines) + b"`\r\nend\r\n"
    yield "cte-uuencode", with_encoding("cte", "x-uuencode", uu)
    yield "uuencode-inline", raw("uu", [("Content-Type", "text/plain")], b"The file:\r\n\r\n" + uu + b"\r\nDone.\r\n")
    yield "yenc-inline", raw(
        "yenc", [("Content-Type", "text/plain"), ("Content-Transfer-Encoding", "8bit")],
        b"=ybegin line=128 size=16 name=n.bin\r\n" + bytes((byte + 42) % 256 or 1 for byte in b"sixteen letters!") + b"\r\n=yend size=16\r\n",
    )
    yield "cte-on-multipart", mail(
        "encoded multipart", [("Content-Type", "multipart/mixed; boundary=enc"), ("Content-Transfer-Encoding", "base64")],
        multipart("enc", [part([("Content-Type", "text/plain")], "in the clear")]),
    )
    yield "cte-8bit-on-multipart", mail(
        "8bit multipart", [("Content-Type", "multipart/mixed; boundary=enc"), ("Content-Transfer-Encoding", "8bit")],
        multipart("enc", [part([("Content-Type", UTF8), ("Content-Transfer-Encoding", "8bit")], "im Klartext: ü")]),
    )

    flowed = "This paragraph is soft-broken at a \nblank before the line's end, and \ngoes on.\n\n> quoted text that \n> goes on\n>> deeper\n -- stuffed\n-- \nSignature\n"
    yield "flowed", mail("flowed", [("Content-Type", "text/plain; charset=utf-8; format=flowed")], flowed)
    yield "flowed-delsp", mail("flowed", [("Content-Type", "text/plain; charset=utf-8; format=flowed; delsp=yes")], "長い文は \n途中で \n折られる。\n")
    yield "flowed-upper", mail("flowed", [("Content-Type", 'Text/Plain; Charset="UTF-8"; Format="Flowed"; DelSp="No"')], flowed)
    yield "dots", mail("dots", [], ".\n..\n...\n.a\n\n. \n.\n")
    yield "from-lines", mail("from", [], "From here on\n>From there\nFrom\n")
    yield "long-line-998", mail("998", [], "x" * 998 + "\n")
    yield "long-line-20000", mail("20000", [("Content-Transfer-Encoding", "8bit"), ("Content-Type", UTF8)], "lang ü " * 2500 + "\n")
    yield "only-line-ends", mail("empty lines", [], "\n\n\n\n")
    yield "no-final-line-end", raw("no end", [], b"the last line has no end")
    yield "form-feed-and-bell", mail("controls", [], "page one\x0cpage two\x07\x1b[31mred\x1b[0m\x08\n")
    yield "unicode-line-ends", mail("separators", [("Content-Type", UTF8)], "one\u2028two\u2029three\x85four\u0085\n")
    yield "zero-width", mail("zero width", [("Content-Type", UTF8)], "in\u200bvis\u200dible\ufeff \u00adsoft\u00a0hard\n")
