"""The Date header, as written by programs of four decades."""

from .build import mail

DATES = {
    "usual": "Tue, 4 Mar 2025 10:20:30 +0100",
    "no-day-name": "4 Mar 2025 10:20:30 +0100",
    "no-seconds": "Tue, 4 Mar 2025 10:20 +0100",
    "wrong-day-name": "Fri, 4 Mar 2025 10:20:30 +0100",
    "unknown-zone": "Tue, 4 Mar 2025 10:20:30 -0000",
    "gmt": "Tue, 4 Mar 2025 10:20:30 GMT",
    "ut": "Tue, 4 Mar 2025 10:20:30 UT",
    "est": "Tue, 4 Mar 2025 10:20:30 EST",
    "pdt": "Tue, 4 Mar 2025 10:20:30 PDT",
    "military-zone": "Tue, 4 Mar 2025 10:20:30 A",
    "comment": "Tue, 4 Mar 2025 10:20:30 +0100 (CET)",
    "comments-everywhere": "(x) Tue (y), 4 (z) Mar 2025 10:20:30 (t) +0100",
    "folded": "Tue,\r\n 4 Mar 2025\r\n\t10:20:30 +0100",
    "two-digit-year": "Tue, 4 Mar 97 10:20:30 +0100",
    "two-digit-year-early": "Tue, 4 Mar 25 10:20:30 +0100",
    "three-digit-year": "Tue, 4 Mar 105 10:20:30 +0100",
    "lower-case": "tue, 4 mar 2025 10:20:30 +0100",
    "leap-second": "Sat, 31 Dec 2016 23:59:60 +0000",
    "leap-day": "Thu, 29 Feb 2024 12:00:00 +0000",
    "large-zone": "Tue, 4 Mar 2025 10:20:30 +1400",
    "impossible-zone": "Tue, 4 Mar 2025 10:20:30 +9999",
    "half-hour-zone": "Tue, 4 Mar 2025 10:20:30 +0530",
    "no-zone": "Tue, 4 Mar 2025 10:20:30",
    "extra-blanks": "  Tue,   4  Mar   2025   10:20:30   +0100  ",
    "year-zero": "Sat, 1 Jan 0000 00:00:00 +0000",
    "year-9999": "Fri, 31 Dec 9999 23:59:59 +0000",
    "year-10000": "Sat, 1 Jan 10000 00:00:00 +0000",
    "year-1969": "Wed, 31 Dec 1969 23:59:59 +0000",
    "day-32": "Tue, 32 Mar 2025 10:20:30 +0100",
    "hour-25": "Tue, 4 Mar 2025 25:20:30 +0100",
    "iso": "2025-03-04T10:20:30+01:00",
    "ctime": "Tue Mar  4 10:20:30 2025",
    "nonsense": "last Tuesday, I think",
    "empty": "",
    "missing": None,
    "negative": "Tue, -4 Mar 2025 10:20:30 +0100",
}


def messages():
    for name, date in DATES.items():
        yield name, mail(name, [("Date", date)], "When was this?\n")
    yield "twice", mail("twice", [("Date", "Mon, 3 Mar 2025 00:00:00 +0000"), ("Date", "Tue, 4 Mar 2025 00:00:00 +0000")], "When?\n")
