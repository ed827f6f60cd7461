"""What no program should have sent, and some do. Those with a bare CR or LF cannot come in by
SMTP as they stand."""

from .build import b64, crlf, mail, multipart, part, raw

TYPES = {
    "empty": "",
    "one-word": "text",
    "no-subtype": "text/",
    "no-type": "/plain",
    "slash": "/",
    "blanks": "text / plain",
    "two-slashes": "text/plain/x",
    "comma": "text/plain, charset=utf-8",
    "semicolons": "text/plain;;; charset=utf-8;;",
    "no-value": "text/plain; charset",
    "no-value-equals": "text/plain; charset=",
    "unclosed-quote": 'text/plain; charset="utf-8',
    "blanks-at-equals": "text/plain; charset = utf-8",
    "no-semicolon": "text/plain charset=utf-8",
    "parameters-first": "charset=utf-8; text/plain",
    "quoted-type": '"text/html"',
    "comments": "(a) text (b) / (c) html (d); charset (e) = (f) utf-8 (g)",
    "8bit": "text/plain; charset=utf-8; name=grüße",
    "nonsense": "!!! ??? ***",
    "text-only-html": "html",
    "control": "text/\x01plain",
    "very-long": "text/plain; " + "; ".join(f"p{n}=v{n}" for n in range(300)),
}


def messages():
    for name, kind in TYPES.items():
        yield f"type-{name}", mail(f"type {name}", [("Content-Type", kind)], "What am I?\n")
    yield "type-twice", mail("twice", [("Content-Type", "text/html"), ("Content-Type", "text/plain")], "<b>Which?</b>\n")

    yield "no-headers", b"\r\nThere is a body and nothing above it.\r\n"
    yield "no-body", mail("no body", [], "")
    yield "no-empty-line", b"From: a@corpus.test\r\nSubject: headers only\r\n"
    yield "no-empty-line-no-end", b"From: a@corpus.test\r\nSubject: headers only"
    yield "only-line-end", b"\r\n"
    yield "text-without-headers", b"Just a sentence, without any colon\r\nand another.\r\n"
    yield "text-with-colon", b"Dear all: this is the text.\r\nSecond: line\r\n\r\nand more\r\n"
    yield "line-without-colon", b"From: a@corpus.test\r\nthis is no header\r\nSubject: after it\r\n\r\nbody\r\n"
    yield "line-starts-with-colon", b"From: a@corpus.test\r\n: no name\r\nSubject: after it\r\n\r\nbody\r\n"
    yield "starts-with-blank", b" folded from nowhere\r\nFrom: a@corpus.test\r\nSubject: after it\r\n\r\nbody\r\n"
    yield "blank-before-colon", b"From : a@corpus.test\r\nSubject\t: spaced\r\n\r\nbody\r\n"
    yield "no-blank-after-colon", b"From:a@corpus.test\r\nSubject:tight\r\nTo:b@corpus.test\r\n\r\nbody\r\n"
    yield "only-name", b"From: a@corpus.test\r\nSubject:\r\nX-Empty:\r\n\r\nbody\r\n"
    yield "odd-names", b"From: a@corpus.test\r\nX-_.!#$: odd\r\nX(Y): parens\r\nX Y: blank\r\nSubject: odd names\r\n\r\nbody\r\n"
    yield "8bit-name", "From: a@corpus.test\r\nX-Größe: 3\r\nSubject: after it\r\n\r\nbody\r\n".encode()
    yield "blank-line-of-spaces", b"From: a@corpus.test\r\nSubject: spaces\r\n   \r\nX-After: it\r\n\r\nbody\r\n"
    yield "mbox-from", b"From a@corpus.test Wed Feb 12 09:30:15 2025\r\n" + mail("mbox", [], "body\n")
    yield "mbox-from-escaped", b">From a@corpus.test Wed Feb 12 09:30:15 2025\r\n" + mail("mbox", [], "body\n")
    yield "byte-order-mark", b"\xef\xbb\xbf" + mail("mark", [], "body\n")
    yield "nul-in-header", mail("nul", [("Subject", "one\x00two"), ("From", "n\x00ul@corpus.test")], "body\n")
    yield "nul-in-body", mail("nul", [], "one\x00two\n\x00\n")
    yield "nul-in-html", mail("nul", [("Content-Type", "text/html")], "<p>one\x00two</p>\n")
    yield "controls-in-header", mail("controls", [("Subject", "bell\x07 del\x7f esc\x1b[0m")], "body\n")
    yield "bare-cr", b"From: a@corpus.test\r\nSubject: bare\rreturn\r\n\r\none\rtwo\r\r\nthree\r\n"
    yield "bare-lf", b"From: a@corpus.test\nSubject: unix\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: text/html\n\n<p>two</p>\n--b--\n"
    yield "mixed-line-ends", b"From: a@corpus.test\r\nSubject: mixed\nTo: b@corpus.test\r\n\none\r\ntwo\nthree\r\n"
    yield "bare-cr-only", b"From: a@corpus.test\rSubject: mac\r\rbody\r"
    yield "8bit-everywhere", bytes(mail("x", [("From", "Ä <ä@corpus.test>"), ("X-Ü", "ü"), ("Subject", "ö")], "ß\n"))
    yield "all-bytes", raw("bytes", [("Content-Type", "application/octet-stream"), ("Content-Transfer-Encoding", "8bit")], bytes(b for b in range(1, 256) if b not in (10, 13)) + b"\r\n")
    yield "all-bytes-as-text", raw("bytes", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", "8bit")], bytes(b for b in range(1, 256) if b not in (10, 13)) + b"\r\n")
    yield "header-10000", mail("x" * 10000, [], "long subject\n")
    yield "header-folds-1000", mail("folds", [("X-Folded", "\r\n ".join("fold" for _ in range(1000)))], "body\n")
    yield "headers-1000", mail("many", [(f"X-Header-{n}", f"value {n}") for n in range(1000)], "body\n")
    yield "line-50000", mail("long", [], "y" * 50000 + "\n")
    yield "everything-twice", crlf(
        "From: a@corpus.test\nFrom: b@corpus.test\nTo: c@example.test\nTo: d@example.test\nDate: Mon, 3 Mar 2025 00:00:00 +0000\n"
        "Date: Tue, 4 Mar 2025 00:00:00 +0000\nSubject: one\nSubject: two\nMessage-ID: <1@corpus.test>\nMessage-ID: <2@corpus.test>\n"
        "MIME-Version: 1.0\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Type: text/html\n\n<p>body</p>\n"
    )
    yield "headers-after-body", mail("after", [], "text\n\nSubject: not a header\nContent-Type: text/html\n\nmore\n")
    yield "body-looks-like-multipart", mail("looks", [("Content-Type", "text/plain; boundary=b")], multipart("b", [part([], "one")]))
    yield "multipart-text", mail("text/plain parts", [("Content-Type", "text/multipart; boundary=b")], multipart("b", [part([], "one")]))
    yield "attachment-bad-base64", mail(
        "bad", [("Content-Type", "multipart/mixed; boundary=b")],
        multipart("b", [part([], "text"), part([("Content-Type", "image/png"), ("Content-Disposition", "attachment; filename=bad.png"), ("Content-Transfer-Encoding", "base64")], "@@@@ not base64 @@@@\n")]),
    )
    yield "boundary-inside-base64", mail(
        "cut", [("Content-Type", "multipart/mixed; boundary=b")],
        crlf("--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n") + b64("cut short")[:7].encode() + crlf("\n--b\n\nnext\n--b--\n"),
    )
    yield "disposition-nonsense", mail("odd", [("Content-Disposition", ";;; = \"")], "body\n")
    yield "received-loop", b"".join(f"Received: from a{n}.test by b{n}.test; Wed, 12 Feb 2025 09:30:{n:02} +0000\r\n".encode() for n in range(20)) + mail("hops", [], "body\n")
    yield "spam-like", raw("V1AGRA", [("Content-Type", "text/html"), ("From", '"PayPal" <x@corpus.test>'), ("X-Mailer", "\x80\x81")], b"<font size=1>\xa0\xa0hidden</font><a href=\"http://corpus.test/?\xff\">click</a>\r\n")
    yield "html-unclosed", mail("html", [("Content-Type", "text/html; charset=utf-8")], "<div><p>never <b>closed <script>var a = '<p>';</script> &amp &lt &#x41 &#999999999; &nosuch; <!-- open\n")
    yield "html-huge-nesting", mail("html", [("Content-Type", "text/html")], "<div>" * 2000 + "deep" + "</div>" * 2000 + "\n")
    yield "html-no-text", mail("html", [("Content-Type", "text/html")], "<html><head><style>p { color: red }</style></head><body><img src=x></body></html>\n")
    yield "colons", b":::::\r\n::\r\n:\r\n\r\nbody\r\n"
    yield "name-only-lines", b"From\r\nTo\r\nSubject\r\n\r\nbody\r\n"
