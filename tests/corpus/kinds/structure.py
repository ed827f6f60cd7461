"""Multiparts and nested messages, as deep and as odd as they come (RFC 2046, 5)."""

from .build import GIF, PNG, b64, crlf, mail, multipart, part, raw

PLAIN = part([("Content-Type", "text/plain; charset=utf-8")], "The plain text.")
HTML = part([("Content-Type", "text/html; charset=utf-8")], "<p>The <b>HTML</b> text.</p>")
IMAGE = part([("Content-Type", "image/png"), ("Content-ID", "<dot@corpus.test>"), ("Content-Disposition", "inline; filename=dot.png"), ("Content-Transfer-Encoding", "base64")], b64(PNG))
FILE = part([("Content-Type", "application/pdf"), ("Content-Disposition", "attachment; filename=file.pdf"), ("Content-Transfer-Encoding", "base64")], b64("%PDF-1.4"))
INNER = mail("the inner message", [("From", "inner@corpus.test")], "Inner words.\n")


def multi(kind, boundary, parts, **options):
    """A multipart as a part."""
    return part([("Content-Type", f'multipart/{kind}; boundary="{boundary}"')], multipart(boundary, parts, **options))


def whole(name, kind, boundary, parts, headers=(), **options):
    """A multipart as a message."""
    return mail(name, [*headers, ("Content-Type", f'multipart/{kind}; boundary="{boundary}"')], multipart(boundary, parts, **options))


def nested(depth, kind="mixed"):
    inner = part([("Content-Type", "text/plain")], f"at depth {depth}")
    for level in range(depth, 1, -1):
        inner = multi(kind, f"level{level}-", [inner])
    return inner


def messages():
    related = multi("related", "rel", [HTML.replace(b"The <b>", b"<img src='cid:dot@corpus.test'>The <b>"), IMAGE])
    alternative = multi("alternative", "alt", [PLAIN, HTML])
    yield "alternative", whole("alternative", "alternative", "b", [PLAIN, HTML])
    yield "mixed", whole("mixed", "mixed", "b", [PLAIN, FILE])
    yield "related", whole("related", "related", "b", [HTML, IMAGE])
    yield "related-in-alternative", whole("both", "alternative", "b", [PLAIN, related])
    yield "alternative-in-related", whole("both", "related", "b", [alternative, IMAGE])
    yield "all-three", whole("three", "mixed", "b", [multi("alternative", "alt", [PLAIN, related]), FILE])
    yield "apple-style", whole(
        "pictures between the text", "alternative", "b",
        [PLAIN, multi("mixed", "apple", [HTML, IMAGE, HTML, FILE, HTML])],
    )
    yield "text-image-text", whole("between", "mixed", "b", [PLAIN, IMAGE, PLAIN, FILE, PLAIN])
    yield "html-then-plain", whole("two texts", "mixed", "b", [HTML, PLAIN])
    yield "two-html", whole("two", "mixed", "b", [HTML, HTML])
    yield "html-only", mail("html only", [("Content-Type", "text/html; charset=utf-8")], "<p>Only <i>HTML</i>.</p>\n")
    yield "image-only", mail("picture", [("Content-Type", "image/gif"), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", "inline")], b64(GIF))
    yield "attachment-only", mail("file", [("Content-Type", "application/pdf"), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", "attachment; filename=only.pdf")], b64("%PDF"))
    yield "text-as-attachment", whole("text file", "mixed", "b", [PLAIN, part([("Content-Type", "text/plain"), ("Content-Disposition", "attachment; filename=notes.txt")], "notes")])
    yield "text-attachment-first", whole("file first", "mixed", "b", [FILE, PLAIN])
    yield "plain-attachment-only", mail("file", [("Content-Type", "text/plain"), ("Content-Disposition", "attachment; filename=a.txt")], "all attachment\n")
    yield "alternative-three", whole("three", "alternative", "b", [PLAIN, part([("Content-Type", "text/enriched")], "<bold>enriched</bold>"), HTML])
    yield "alternative-amp", whole("amp", "alternative", "b", [PLAIN, part([("Content-Type", "text/x-amp-html; charset=utf-8")], "<!doctype html><html ⚡4email></html>"), HTML])
    yield "alternative-html-first", whole("order", "alternative", "b", [HTML, PLAIN])
    yield "alternative-of-files", whole("files", "alternative", "b", [FILE, IMAGE])
    yield "alternative-one", whole("one", "alternative", "b", [PLAIN])
    yield "related-with-start", mail("start", [("Content-Type", 'multipart/related; boundary=b; start="<root@corpus.test>"; type="text/html"')], multipart("b", [IMAGE, part([("Content-Type", "text/html"), ("Content-ID", "<root@corpus.test>")], "<img src=cid:dot@corpus.test>")]))
    yield "related-location", whole("location", "related", "b", [part([("Content-Type", "text/html"), ("Content-Location", "http://corpus.test/page.html")], "<img src=dot.png>"), part([("Content-Type", "image/png"), ("Content-Location", "dot.png"), ("Content-Transfer-Encoding", "base64")], b64(PNG))])
    yield "cid-variants", whole("cids", "related", "b", [HTML, *(part([("Content-Type", "image/png"), ("Content-ID", cid), ("Content-Transfer-Encoding", "base64")], b64(PNG)) for cid in ("bare@corpus.test", "  <spaced@corpus.test>  ", "<>", "<no-at>", "(c) <comment@corpus.test>", "<percent%20sign@corpus.test>"))])
    yield "languages", whole("languages", "alternative", "b", [part([("Content-Type", "text/plain"), ("Content-Language", "en, de-CH")], "two"), part([("Content-Type", "text/html"), ("Content-Language", "fr")], "<p>un</p>")])
    yield "descriptions", whole("descriptions", "mixed", "b", [part([("Content-Type", "text/plain"), ("Content-Description", "the =?utf-8?Q?Gr=C3=B6=C3=9Fe?="), ("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ=="), ("Content-Duration", "3"), ("Content-Features", "x")], "described")])
    yield "multilingual", whole("multilingual", "multilingual", "b", [PLAIN, part([("Content-Type", "message/global"), ("Content-Language", "de")], INNER)])
    yield "parallel", whole("parallel", "parallel", "b", [PLAIN, IMAGE])
    yield "unknown-multipart", whole("unknown", "x-nobody-knows", "b", [PLAIN, HTML])
    yield "form-data", whole("form", "form-data", "b", [part([("Content-Disposition", 'form-data; name="field"')], "value")])
    yield "byteranges", whole("ranges", "byteranges", "b", [part([("Content-Type", "text/plain"), ("Content-Range", "bytes 0-3/10")], "abcd")])
    yield "upper-case-type", mail("upper", [("CONTENT-TYPE", "MULTIPART/MIXED; BOUNDARY=UP")], multipart("UP", [PLAIN.replace(b"text/plain", b"TEXT/PLAIN")]))

    message = part([("Content-Type", "message/rfc822")], INNER)
    yield "forward", whole("Fwd", "mixed", "b", [PLAIN, message])
    yield "forward-named", whole("Fwd", "mixed", "b", [PLAIN, part([("Content-Type", 'message/rfc822; name="the inner.eml"'), ("Content-Disposition", 'attachment; filename="the inner.eml"')], INNER)])
    yield "forward-alone", mail("only a forward", [("Content-Type", "message/rfc822")], INNER)
    yield "forward-base64", whole("Fwd", "mixed", "b", [PLAIN, part([("Content-Type", "message/rfc822"), ("Content-Transfer-Encoding", "base64")], b64(INNER))])
    yield "forward-multipart", whole("Fwd", "mixed", "b", [PLAIN, part([("Content-Type", "message/rfc822")], whole("inner multi", "mixed", "inner", [PLAIN, FILE]))])
    yield "forward-empty", whole("Fwd", "mixed", "b", [PLAIN, part([("Content-Type", "message/rfc822")], b"")])
    deep = INNER
    for level in range(6):
        deep = mail(f"level {level}", [("Content-Type", "message/rfc822")], deep)
    yield "forward-six-deep", deep
    yield "forward-global", whole("Fwd", "mixed", "b", [PLAIN, part([("Content-Type", "message/global")], raw("größer", [("Subject", "größer")], "ü\r\n"))])
    digest = [part([], INNER), part([], mail("second", [], "Second words.\n")), part([("Content-Type", "text/plain")], "not a message")]
    yield "digest", whole("digest", "digest", "b", digest)
    yield "digest-in-mixed", whole("digest", "mixed", "b", [PLAIN, multi("digest", "dig", digest)])
    yield "partial", mail("part 1 of 2", [("Content-Type", 'message/partial; id="abc@corpus.test"; number=1; total=2')], "Subject: hidden\n\nthe first half of")
    yield "external-body", mail("elsewhere", [("Content-Type", 'message/external-body; access-type=URL; URL="http://corpus.test/x"')], "Content-Type: image/png\n\n")
    yield "http-message", mail("http", [("Content-Type", "message/http")], "GET / HTTP/1.1\nHost: corpus.test\n\n")

    yield "preamble-and-epilogue", whole("around", "mixed", "b", [PLAIN], preamble="Before.\n\nStill before.", epilogue="After.\n")
    yield "no-parts", whole("none", "mixed", "b", [])
    yield "only-close", mail("close", [("Content-Type", "multipart/mixed; boundary=b")], "--b--\n")
    yield "empty-part", whole("empty part", "mixed", "b", [b"\r\n", PLAIN, b""])
    yield "headerless-part", whole("no headers", "mixed", "b", [b"\r\nNo headers here.", PLAIN])
    yield "bodyless-part", whole("no body", "mixed", "b", [part([("Content-Type", "text/html")], ""), PLAIN])
    yield "headers-without-end", whole("no end", "mixed", "b", [b"Content-Type: text/plain\r\nX-Last: yes", PLAIN])
    yield "close-then-more", mail("more", [("Content-Type", "multipart/mixed; boundary=b")], multipart("b", [PLAIN]) + b"--b\r\n" + HTML + b"\r\n--b--\r\n")
    yield "no-close", whole("open", "mixed", "b", [PLAIN, HTML], close=False)
    yield "no-close-nested", whole("open", "mixed", "b", [multi("alternative", "alt", [PLAIN, HTML], close=False), FILE])
    yield "no-boundary-parameter", mail("no parameter", [("Content-Type", "multipart/mixed")], multipart("b", [PLAIN, HTML]))
    yield "empty-boundary", mail("empty", [("Content-Type", 'multipart/mixed; boundary=""')], crlf("--\n\nx\n----\n"))
    yield "boundary-never-there", mail("never", [("Content-Type", "multipart/mixed; boundary=elsewhere")], multipart("b", [PLAIN, HTML]))
    yield "boundary-with-blanks", mail("blanks", [("Content-Type", 'multipart/mixed; boundary="a b c"')], multipart("a b c", [PLAIN, HTML]))
    yield "boundary-unquoted-specials", mail("specials", [("Content-Type", "multipart/mixed; boundary=----=_Part_1_2.3")], multipart("----=_Part_1_2.3", [PLAIN, HTML]))
    yield "boundary-all-specials", mail("specials", [("Content-Type", "multipart/mixed; boundary=\"'()+_,-./:=?\"")], multipart("'()+_,-./:=?", [PLAIN, HTML]))
    yield "boundary-70", mail("long", [("Content-Type", f"multipart/mixed; boundary={'x' * 70}")], multipart("x" * 70, [PLAIN]))
    yield "boundary-300", mail("longer", [("Content-Type", f"multipart/mixed; boundary={'x' * 300}")], multipart("x" * 300, [PLAIN]))
    yield "boundary-8bit", mail("8bit", [("Content-Type", 'multipart/mixed; boundary="grüße"')], multipart("grüße", [PLAIN]))
    yield "boundary-trailing-blanks", mail("blanks", [("Content-Type", "multipart/mixed; boundary=b")], multipart("b", [PLAIN, HTML]).replace(b"--b\r\n", b"--b \t\r\n").replace(b"--b--\r\n", b"--b--  \r\n"))
    yield "boundary-prefix", whole("prefix", "mixed", "b", [multi("alternative", "bb", [PLAIN, HTML]), FILE])
    yield "boundary-prefix-reversed", whole("prefix", "mixed", "bb", [multi("alternative", "b", [PLAIN, HTML]), FILE])
    yield "boundary-same-nested", whole("same", "mixed", "b", [part([("Content-Type", "multipart/alternative; boundary=b")], multipart("b", [PLAIN, HTML])), FILE])
    yield "boundary-in-text", whole("inside", "mixed", "b", [part([("Content-Type", "text/plain")], "not a boundary: --b\n --b\n--bc\n-- b\n--B")])
    yield "boundary-case", mail("case", [("Content-Type", "multipart/mixed; boundary=AbC")], multipart("abc", [PLAIN]))
    yield "boundary-extended", mail("2231", [("Content-Type", "multipart/mixed; boundary*=us-ascii''b%20b")], multipart("b b", [PLAIN]))
    yield "boundary-continued", mail("2231", [("Content-Type", 'multipart/mixed;\r\n boundary*0="first-";\r\n boundary*1="second"')], multipart("first-second", [PLAIN]))
    yield "boundary-twice", mail("twice", [("Content-Type", "multipart/mixed; boundary=b; boundary=c")], multipart("b", [PLAIN]))
    yield "boundary-comment", mail("comment", [("Content-Type", "multipart/mixed (really); boundary=b (yes)")], multipart("b", [PLAIN]))
    yield "content-type-folded", mail("folded", [("Content-Type", "multipart/mixed;\r\n\tboundary=\r\n b")], multipart("b", [PLAIN]))
    for depth in (3, 10, 50):
        yield f"nested-{depth}", mail(f"nested {depth}", [("Content-Type", "multipart/mixed; boundary=top")], multipart("top", [nested(depth)]))
    yield "parts-300", whole("many parts", "mixed", "b", [part([("Content-Type", "text/plain")], f"part {n}") for n in range(300)])
    yield "parts-empty-300", whole("many empty", "mixed", "b", [b"\r\n"] * 300)
    yield "no-mime-version", mail("no version", [("Content-Type", "multipart/mixed; boundary=b")], multipart("b", [PLAIN, HTML]), version=False)
    yield "odd-mime-version", mail("odd version", [("MIME-Version", "(produced by) 2.5"), ("Content-Type", "multipart/mixed; boundary=b")], multipart("b", [PLAIN, HTML]))
    yield "no-content-type", mail("none", [], "Just text, no type.\n")
