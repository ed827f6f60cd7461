"""Names of attachments: parameters with charsets and continuations (RFC 2231) and without."""

from .build import b64, mail, multipart, part, word_b, word_q

# Name of the message: (Content-Type, Content-Disposition) of the attachment.
NAMED = {
    "plain": ("application/pdf", "attachment; filename=report.pdf"),
    "quoted": ("application/pdf", 'attachment; filename="annual report.pdf"'),
    "quoted-escapes": ("application/pdf", r'attachment; filename="a \"quoted\" name\\.pdf"'),
    "quoted-semicolon": ("application/pdf", 'attachment; filename="one; two=three.pdf"; size=3'),
    "unquoted-blanks": ("application/pdf", "attachment; filename=annual report.pdf"),
    "single-quotes": ("application/pdf", "attachment; filename='report.pdf'"),
    "only-content-type": ('application/pdf; name="report.pdf"', "attachment"),
    "both-differ": ('application/pdf; name="type.pdf"', 'attachment; filename="disposition.pdf"'),
    "no-disposition": ('application/pdf; name="report.pdf"', None),
    "none-at-all": ("application/pdf", None),
    "empty": ("application/pdf", 'attachment; filename=""'),
    "upper-case": ("APPLICATION/PDF", 'ATTACHMENT; FILENAME="REPORT.PDF"'),
    "extended": ("application/pdf", "attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf"),
    "extended-upper": ("application/pdf", "attachment; filename*=UTF-8''%e2%82%ac.pdf"),
    "extended-language": ("application/pdf", "attachment; filename*=iso-8859-1'de'Gr%FC%DFe.pdf"),
    "extended-no-charset": ("application/pdf", "attachment; filename*=''plain%20name.pdf"),
    "extended-unknown-charset": ("application/pdf", "attachment; filename*=x-none''abc%20def.pdf"),
    "extended-gb": ("application/pdf", "attachment; filename*=gb2312''%C4%E3%BA%C3.pdf"),
    "extended-quoted": ("application/pdf", "attachment; filename*=\"utf-8''K%C3%B6ln.pdf\""),
    "extended-bad-percent": ("application/pdf", "attachment; filename*=utf-8''100%zz%C3%A4%.pdf"),
    "extended-bad-utf8": ("application/pdf", "attachment; filename*=utf-8''%FF%FE.pdf"),
    "extended-and-plain": ("application/pdf", "attachment; filename=\"fallback.pdf\"; filename*=utf-8''besser%C3%BC.pdf"),
    "continued": ("application/pdf", 'attachment;\r\n filename*0="a very ";\r\n filename*1="long ";\r\n filename*2="name.pdf"'),
    "continued-extended": (
        "application/pdf",
        "attachment;\r\n filename*0*=utf-8''Gr%C3%BC;\r\n filename*1*=%C3%9Fe%20;\r\n filename*2=\"aus Koeln.pdf\"",
    ),
    "continued-split-character": ("application/pdf", "attachment;\r\n filename*0*=utf-8''5%20%E2%82;\r\n filename*1*=%AC.pdf"),
    "continued-out-of-order": ("application/pdf", 'attachment; filename*2="c.pdf"; filename*0="a"; filename*1="b"'),
    "continued-with-gap": ("application/pdf", 'attachment; filename*0="a"; filename*2="c.pdf"'),
    "continued-without-first": ("application/pdf", 'attachment; filename*1="b"; filename*2="c.pdf"'),
    "continued-many": (
        "application/pdf",
        "attachment" + "".join(f';\r\n filename*{i}="{chr(97 + i % 26)}{i}-"' for i in range(30)) + ';\r\n filename*30=".pdf"',
    ),
    "encoded-word": ("application/pdf", f'attachment; filename="{word_b("Grüße.pdf")}"'),
    "encoded-word-bare": ("application/pdf", f"attachment; filename={word_q('Köln.pdf')}"),
    "encoded-words-two": (f'application/pdf; name="{word_b("erstes ")} {word_b("zweites.pdf")}"', "attachment"),
    "raw-utf8": ("application/pdf", 'attachment; filename="Grüße 日本.pdf"'),
    "raw-latin1": ("application/pdf", 'attachment; filename="Grüße.pdf"'.encode("latin-1")),
    "path": ("application/pdf", r'attachment; filename="C:\\Users\\me\\report.pdf"'),
    "climbing-path": ("application/pdf", 'attachment; filename="../../etc/passwd"'),
    "line-break-inside": ("application/pdf", 'attachment; filename="two\r\n lines.pdf"'),
    "twice": ("application/pdf", 'attachment; filename="first.pdf"; filename="second.pdf"'),
    "spaces-around-equals": ("application/pdf", 'attachment; filename = "spaced.pdf"'),
    "comment": ("application/pdf (a document)", 'attachment (please); filename="commented.pdf" (really)'),
    "unclosed-quote": ("application/pdf", 'attachment; filename="never closed.pdf'),
    "only-filename": ("application/pdf", 'filename="no disposition type.pdf"'),
    "very-long": ("application/pdf", f'attachment; filename="{"long-" * 200}.pdf"'),
    "unknown-disposition": ("application/pdf", 'x-later; filename="later.pdf"'),
    "dates-and-size": (
        "application/pdf",
        'attachment; filename="dated.pdf"; creation-date="Wed, 12 Feb 1997 16:29:51 -0500"; size=1024',
    ),
    "control-characters": ("application/pdf", 'attachment; filename="bell\x07tab\there.pdf"'),
}


def messages():
    data = b64("%PDF-1.4 not really\n")
    for name, (kind, disposition) in NAMED.items():
        headers = [("Content-Type", kind), ("Content-Transfer-Encoding", "base64")]
        if disposition is not None:
            headers.append(("Content-Disposition", disposition))
        body = multipart(
            "names",
            [part([("Content-Type", "text/plain; charset=utf-8")], "See the attachment."), part(headers, data)],
        )
        yield name, mail(name, [("Content-Type", "multipart/mixed; boundary=names")], body)
