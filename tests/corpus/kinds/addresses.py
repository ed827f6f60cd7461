"""Address headers: groups, comments, obsolete routes, international addresses, and mistakes."""

from .build import mail, raw

TEXT = "Who wrote this to whom?\n"

# Name of the message: what stands in To.
TO = {
    "bare": "bob@corpus.test",
    "angle-only": "<bob@corpus.test>",
    "named": "Bob Builder <bob@corpus.test>",
    "quoted-name": '"Builder, Bob" <bob@corpus.test>',
    "quoted-escapes": r'"Bob \"the\" \\ Builder" <bob@corpus.test>',
    "dots-in-name": "Bob T. Builder Jr. <bob@corpus.test>",
    "comma-in-name": "Builder, Bob <bob@corpus.test>",
    "comment-name": "bob@corpus.test (Bob Builder)",
    "comments-everywhere": "(a) Bob (b) <(c) bob (d) @ (e) corpus.test (f)> (g)",
    "nested-comments": "bob@corpus.test (outer (inner (innermost)) comment)",
    "escaped-comment": r"bob@corpus.test (an \) escaped paren)",
    "many": ", ".join(f"Person {n} <p{n}@corpus.test>" for n in range(120)),
    "folded": "a@corpus.test,\r\n b@corpus.test,\r\n\tc@corpus.test",
    "group": "Friends: a@corpus.test, Bee <b@corpus.test>;",
    "group-empty": "undisclosed-recipients:;",
    "group-named-quoted": '"A, B": a@corpus.test;',
    "groups-and-single": "One: a@corpus.test;, lone@corpus.test, Two: b@corpus.test, c@corpus.test;",
    "group-unclosed": "Friends: a@corpus.test, b@corpus.test",
    "route": "Bob <@one.test,@two.test:bob@corpus.test>",
    "quoted-local": '"bob builder"@corpus.test',
    "quoted-local-at": '"bob@home"@corpus.test',
    "spaces-around-at": "bob @ corpus . test",
    "obsolete-dots": '"bob"."builder"@corpus.test',
    "domain-literal": "bob@[192.0.2.1]",
    "domain-literal-v6": "bob@[IPv6:2001:db8::1]",
    "plus-tag": "bob+tag=value@corpus.test",
    "odd-characters": "!#$%&'*+-/=?^_`{|}~@corpus.test",
    "upper-case": "BOB@CORPUS.TEST",
    "no-domain": "bob",
    "no-local": "@corpus.test",
    "null": "<>",
    "empty": "",
    "only-comma": ",",
    "empty-items": ", a@corpus.test,, b@corpus.test,",
    "semicolons": "a@corpus.test; b@corpus.test; Cee <c@corpus.test>",
    "missing-close": "Bob <bob@corpus.test",
    "missing-open": "Bob bob@corpus.test>",
    "double-angle": "Bob <<bob@corpus.test>>",
    "mailto": "<mailto:bob@corpus.test>",
    "two-at": "bob@corpus@test",
    "trailing-dot": "bob.@corpus.test",
    "double-dot": "bob..builder@corpus.test",
    "trailing-domain-dot": "bob@corpus.test.",
    "name-only": "Bob Builder",
    "name-is-address": '"alice@corpus.test" <bob@corpus.test>',
    "unclosed-quote": '"Bob <bob@corpus.test>, carol@corpus.test',
    "unclosed-comment": "bob@corpus.test (never closed",
    "single-quoted-name": "'Bob Builder' <bob@corpus.test>",
    "international-local": "Пётр <пётр@corpus.test>",
    "international-domain": "info@bücher.example",
    "international-both": "用户 <用户@例え.example>",
    "punycode": "info@xn--bcher-kva.example",
    "no-space-before-angle": "Bob<bob@corpus.test>",
    "x400": '"/G=Bob/S=Builder/O=Corpus/C=XX/"@gateway.test',
    "uucp": "host!bob",
}


def messages():
    for name, to in TO.items():
        yield f"to-{name}", mail(name, [("To", to)], TEXT)
    yield "from-several", mail("several", [("From", "A <a@corpus.test>, B <b@corpus.test>"), ("Sender", "B <b@corpus.test>")], TEXT)
    yield "from-missing", mail("missing", [("From", None)], TEXT)
    yield "from-twice", mail("twice", [("From", "first@corpus.test"), ("From", "second@corpus.test")], TEXT)
    yield "from-group", mail("group", [("From", "Nobody:;")], TEXT)
    yield "to-twice", mail("to twice", [("To", "a@corpus.test"), ("To", "b@corpus.test")], TEXT)
    yield "cc-bcc", mail("cc", [("Cc", "c@corpus.test, d@corpus.test"), ("Bcc", "hidden@corpus.test"), ("Reply-To", "r@corpus.test")], TEXT)
    yield "resent", mail(
        "resent",
        [
            ("Resent-From", "Middle <middle@corpus.test>"),
            ("Resent-To", "last@corpus.test"),
            ("Resent-Date", "Thu, 13 Feb 2025 08:00:00 +0000"),
            ("Resent-Message-ID", "<resent@corpus.test>"),
        ],
        TEXT,
    )
    yield "all-international", raw(
        "international",
        [("From", "Þórr <þórr@dæmi.example>"), ("To", "あ <あ@corpus.test>"), ("Subject", "日本語の件名")],
        "本文\r\n",
    )
    yield "ids", mail(
        "ids",
        [
            ("Message-ID", "<plain@corpus.test>"),
            ("In-Reply-To", "<one@corpus.test> <two@corpus.test>"),
            ("References", "<zero@corpus.test>\r\n <one@corpus.test>\r\n\t<two@corpus.test>"),
        ],
        TEXT,
    )
    yield "ids-with-comments", mail("ids", [("Message-ID", "(a) <c@corpus.test> (b)"), ("References", "<x@corpus.test> (said so) <y@corpus.test>")], TEXT)
    yield "ids-without-brackets", mail("ids", [("Message-ID", "bare@corpus.test"), ("In-Reply-To", "also-bare@corpus.test")], TEXT)
    yield "ids-with-phrase", mail("ids", [("In-Reply-To", 'Your message of "Wed, 12 Feb 2025" <said@corpus.test>')], TEXT)
    yield "ids-odd", mail("ids", [("Message-ID", "<no-at-sign>"), ("References", '<"quoted id"@corpus.test> <a@[192.0.2.1]> <>')], TEXT)
    yield "ids-with-blanks", mail("ids", [("Message-ID", "< spaced @ corpus.test >"), ("References", "<a@corpus.test><b@corpus.test>, <c@corpus.test>")], TEXT)
    yield "ids-many", mail("ids", [("References", "\r\n ".join(f"<ref{n}@corpus.test>" for n in range(200)))], TEXT)
    yield "ids-missing", mail("ids", [("Message-ID", None)], TEXT)
    yield "ids-twice", mail("ids", [("Message-ID", "<a1@corpus.test>"), ("Message-ID", "<a2@corpus.test>")], TEXT)
