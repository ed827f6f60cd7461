"""Attachments and parts of every usual media type, TNEF among them."""

import io
import struct
import zipfile

from .build import GIF, PNG, b64, gz, mail, multipart, noise, part, qp

TEXT = part([("Content-Type", "text/plain; charset=utf-8")], "See what is attached.")


def zipped():
    """A zip whose only file has a fixed date."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("hello.txt", (2025, 1, 1, 0, 0, 0)), "hello\n")
    return out.getvalue()


def tnef():
    """A winmail.dat: version, message class, and one attached file (MS-OXTNEF)."""

    def attribute(level, identifier, data):
        return struct.pack("<BII", level, identifier, len(data)) + data + struct.pack("<H", sum(data) % 65536)

    out = struct.pack("<IH", 0x223E9F78, 1)
    out += attribute(1, 0x00089006, struct.pack("<I", 0x00010000))
    out += attribute(1, 0x00078008, b"IPM.Microsoft Mail.Note\x00")
    out += attribute(1, 0x00018004, b"A subject inside\x00")
    out += attribute(2, 0x00069002, struct.pack("<HIHHI", 1, 0xFFFFFFFF, 16, 16, 0))
    out += attribute(2, 0x00018010, b"inside.txt\x00")
    out += attribute(2, 0x0006800F, b"The file inside.\r\n")
    return out


ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Corpus//Writer//EN
METHOD:{method}
BEGIN:VEVENT
UID:{uid}@corpus.test
DTSTAMP:20250212T093015Z
DTSTART;TZID=Europe/Berlin:20250301T100000
DTEND;TZID=Europe/Berlin:20250301T110000
SUMMARY:Größeres Treffen
ORGANIZER;CN=Corpus Writer:mailto:writer@corpus.test
ATTENDEE;CN="Reader, A.";RSVP=TRUE;PARTSTAT={partstat}:mailto:reader@example.test
SEQUENCE:{sequence}
END:VEVENT
END:VCALENDAR
"""

# Name, media type, file name, bytes.
FILES = [
    ("pdf", "application/pdf", "report.pdf", b"%PDF-1.4\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"),
    ("png", "image/png", "dot.png", PNG),
    ("gif", "image/gif", "dot.gif", GIF),
    ("jpeg", "image/jpeg", "photo.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + noise("jpeg", 300) + b"\xff\xd9"),
    ("svg", "image/svg+xml", "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
    ("heic", "image/heic", "IMG_0001.HEIC", noise("heic", 500)),
    ("zip", "application/zip", "archive.zip", zipped()),
    ("gzip", "application/gzip", "data.json.gz", gz(b'{"a": 1}\n')),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "Brief.docx", zipped()),
    ("xls", "application/vnd.ms-excel", "numbers.xls", b"\xd0\xcf\x11\xe0" + noise("xls", 512)),
    ("odt", "application/vnd.oasis.opendocument.text", "letter.odt", zipped()),
    ("rtf", "application/rtf", "note.rtf", rb"{\rtf1\ansi Gr\'fc\'dfe}"),
    ("csv", "text/csv; charset=windows-1252; header=present", "prices.csv", "Stück;Preis\r\nÄpfel;3 €\r\n".encode("cp1252")),
    ("json", "application/json", "data.json", '{"größe": [1, 2, 3]}\n'.encode()),
    ("xml", "text/xml; charset=utf-8", "feed.xml", '<?xml version="1.0"?><a>ü</a>'.encode()),
    ("markdown", "text/markdown; charset=utf-8; variant=GFM", "README.md", "# Titel\n\n* Größe\n".encode()),
    ("patch", "text/x-patch; charset=utf-8", "0001-fix.patch", b"From 0123456789abcdef Mon Sep 17 00:00:00 2001\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"),
    ("vcard", "text/vcard; charset=utf-8", "bob.vcf", "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Bob Größe\r\nEND:VCARD\r\n".encode()),
    ("javascript", "application/javascript", "virus.pdf.js", b"alert('hello')"),
    ("html", "text/html; charset=utf-8", "page.html", b"<script>parent.location='http://corpus.test/'</script>"),
    ("exe", "application/x-msdownload", "setup.exe", b"MZ" + noise("exe", 700)),
    ("audio", "audio/mpeg", "voice.mp3", b"ID3\x04" + noise("mp3", 400)),
    ("video", "video/mp4", "clip.mp4", b"\x00\x00\x00\x18ftypmp42" + noise("mp4", 2000)),
    ("octets", "application/octet-stream", "unknown", noise("octets", 10000)),
    ("empty", "application/octet-stream", "empty.bin", b""),
    ("font", "font/woff2", "letters.woff2", noise("font", 300)),
    ("odd-type", "x-company/x-thing", "thing", b"thing"),
    ("email-file", "application/octet-stream", "mail.eml", b"From: a@corpus.test\r\nSubject: inside\r\n\r\nbody\r\n"),
    ("torrent", "application/x-bittorrent", "d.torrent", b"d8:announce0:e"),
    ("pkpass", "application/vnd.apple.pkpass", "ticket.pkpass", zipped()),
]


def messages():
    for name, kind, file, data in FILES:
        attached = part(
            [
                ("Content-Type", f'{kind}; name="{file}"'),
                ("Content-Disposition", f'attachment; filename="{file}"'),
                ("Content-Transfer-Encoding", "base64"),
            ],
            b64(data),
        )
        yield name, mail(f"attached: {file}", [("Content-Type", "multipart/mixed; boundary=att")], multipart("att", [TEXT, attached]))

    winmail = part(
        [("Content-Type", 'application/ms-tnef; name="winmail.dat"'), ("Content-Disposition", 'attachment; filename="winmail.dat"'), ("Content-Transfer-Encoding", "base64")],
        b64(tnef()),
    )
    yield "tnef", mail("winmail", [("Content-Type", "multipart/mixed; boundary=tnef"), ("X-MS-TNEF-Correlator", "<tnef@corpus.test>")], multipart("tnef", [TEXT, winmail]))
    yield "tnef-alone", mail("winmail", [("Content-Type", "application/ms-tnef"), ("Content-Transfer-Encoding", "base64")], b64(tnef()))

    for method, partstat, sequence in [("REQUEST", "NEEDS-ACTION", 0), ("CANCEL", "NEEDS-ACTION", 2), ("REPLY", "ACCEPTED", 1), ("COUNTER", "TENTATIVE", 1), ("PUBLISH", "NEEDS-ACTION", 0)]:
        event = ICS.format(method=method, uid=f"event-{method.lower()}", partstat=partstat, sequence=sequence)
        alternatives = multipart(
            "alt",
            [
                part([("Content-Type", "text/plain; charset=utf-8")], f"A {method.lower()}: Größeres Treffen, 1 March, 10:00."),
                part([("Content-Type", "text/html; charset=utf-8")], f"<p>A {method.lower()}: <b>Größeres Treffen</b></p>"),
                part([("Content-Type", f"text/calendar; charset=utf-8; method={method}"), ("Content-Transfer-Encoding", "quoted-printable")], qp(event)),
            ],
        )
        file = part([("Content-Type", 'application/ics; name="invite.ics"'), ("Content-Disposition", 'attachment; filename="invite.ics"'), ("Content-Transfer-Encoding", "base64")], b64(event.replace("\n", "\r\n")))
        inner = part([("Content-Type", "multipart/alternative; boundary=alt")], alternatives)
        yield f"calendar-{method.lower()}", mail(f"{method}: Treffen", [("Content-Type", "multipart/mixed; boundary=cal")], multipart("cal", [inner, file]))
    event = ICS.format(method="REQUEST", uid="alone", partstat="NEEDS-ACTION", sequence=0)
    yield "calendar-alone", mail("only a calendar", [("Content-Type", "text/calendar; method=REQUEST; charset=utf-8"), ("Content-Transfer-Encoding", "8bit")], event)
    yield "calendar-task", mail(
        "a task", [("Content-Type", "text/calendar; charset=utf-8; component=VTODO")],
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//Corpus//EN\nBEGIN:VTODO\nUID:t@corpus.test\nSUMMARY:Milch kaufen\nEND:VTODO\nEND:VCALENDAR\n",
    )
