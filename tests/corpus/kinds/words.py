"""Encoded words in headers (RFC 2047), as the standard has them and as mail has them."""

from .build import identifier, mail, raw, word_b, word_q

TEXT = "The header is what matters here.\n"

SUBJECTS = {
    "b": word_b("Grüße aus Köln"),
    "q": word_q("Grüße aus Köln"),
    "lower-case-encodings": word_b("klein").replace("?B?", "?b?") + " " + word_q("schön").replace("?Q?", "?q?"),
    "upper-case-charset": word_b("GROẞ").replace("utf-8", "UTF-8"),
    "with-plain-text": f"Re: {word_b('Füße')} and {word_q('Hände')} (twice)",
    "adjacent-joined": f"{word_b('zusammen')} {word_b('geschrieben ü')}",
    "adjacent-folded": f"{word_b('über')}\r\n {word_b(' drei')}\r\n\t{word_b(' Zeilen')}",
    "adjacent-two-charsets": f"{word_b('Привет', 'koi8-r')} {word_b('日本', 'iso-2022-jp')}",
    "character-split": "=?utf-8?B?4oK=?= =?utf-8?B?rA==?=",
    "character-split-q": "=?utf-8?Q?5_=E2=82?= =?utf-8?Q?=AC?=",
    "jis-split": "=?iso-2022-jp?B?GyRCJCQkbRsoQg==?= =?iso-2022-jp?B?GyRCJE8bKEI=?=",
    "underscore-is-space": "=?utf-8?Q?one_two=5Fthree?=",
    "q-with-space-inside": "=?utf-8?Q?not quite legal?=",
    "q-with-question-mark": "=?utf-8?Q?is=3F_this=3D?=",
    "q-bad-hex": "=?utf-8?Q?caf=ZZ_=C3=A9?=",
    "q-ends-in-equals": "=?utf-8?Q?end=?=",
    "b-without-padding": "=?utf-8?B?R3LDvMOfZQ?=",
    "b-too-much-padding": "=?utf-8?B?R3LDvMOfZQ====?=",
    "b-truncated": "=?utf-8?B?R3LDvMOfZ?=",
    "b-with-rubbish": "=?utf-8?B?R3L!!DvMOfZQ==?=",
    "empty-word": "before =?utf-8?Q??= after",
    "only-empty-word": "=?utf-8?B??=",
    "unknown-charset": "=?x-nobody-knows?Q?abc?= rest",
    "unknown-encoding": "=?utf-8?X?abc?= rest",
    "no-end": "=?utf-8?B?R3LDvMOfZQ==",
    "no-charset": "=??Q?abc?=",
    "language": "=?utf-8*de?Q?Gr=C3=BC=C3=9Fe?=",
    "in-the-middle-of-a-word": "un=?utf-8?Q?=C3=BC?=blich",
    "glued-together": "=?utf-8?Q?=C3=A4?==?utf-8?Q?=C3=B6?=",
    "in-quotes": '"=?utf-8?Q?in_quotes_=C3=A4?="',
    "much-too-long": word_b("Ein sehr langes Wort, das die 75 Zeichen eines Encoded Word weit überschreitet, " * 4),
    "nul-inside": "=?utf-8?Q?a=00b?=",
    "line-break-inside": "=?utf-8?Q?one=0D=0ABcc:_victim=40example.test?=",
    "controls-inside": "=?utf-8?Q?bell=07_escape=1B?=",
    "emoji": word_b("🎉 Party 👩‍👩‍👧‍👦 🇩🇪"),
    "right-to-left": word_b("مرحبا بالعالم, שלום"),
    "bidi-override": word_b("invoice\u202egpj.exe"),
    "decomposed": word_b("Cafe\u0301 A\u030angstro\u0308m"),
    "invalid-utf8": "=?utf-8?Q?bad=FFbyte?=",
    "utf-7": "=?utf-7?Q?Gr+APwA3w-e?=",
    "utf-16": "=?utf-16?B?/v8AZwByAPwA3w==?=",
    "gb18030": word_b("扩展 😀", "gb18030"),
    "windows-1252-quotes": "=?windows-1252?Q?=93quoted=94_=96_=80?=",
    "ascii-word": "=?us-ascii?Q?Keith_Moore?=",
    "long-plain": "word " * 190 + "end",
}


def messages():
    for name, subject in SUBJECTS.items():
        yield name, mail(name, [("Subject", subject)], TEXT)
    yield "raw-utf8", mail("raw", [("Subject", "Grüße – roh, ohne Kodierung 日本"), ("From", "Jürgen Größe <jg@corpus.test>")], TEXT)
    yield "raw-latin1", raw("raw", [("Subject", "Grüße aus Köln".encode("latin-1")), ("From", "Jürgen <jg@corpus.test>".encode("latin-1"))], TEXT)
    yield "raw-koi8", raw("raw", [("Subject", "Привет из прошлого".encode("koi8-r"))], TEXT)
    yield "raw-gb2312", raw("raw", [("Subject", "你好世界".encode("gb2312"))], TEXT)
    yield "raw-and-encoded", mail("raw", [("Subject", f"Öl und {word_b('Käse')} und Brot")], TEXT)
    yield "folded", mail("folded", [("Subject", "a subject that\r\n goes over\r\n\tthree lines")], TEXT)
    yield "folded-with-blank", mail("folded", [("Subject", "before\r\n \r\n after")], TEXT)
    yield "folded-at-once", mail("folded", [("Subject", "\r\n starts on the second line")], TEXT)
    yield "blanks-around", mail("blanks", [("Subject", "   blanks   inside   and around   ")], TEXT)
    yield "tabs", mail("tabs", [("Subject", "\ttabs\tinside\t")], TEXT)
    yield "empty", mail("empty", [("Subject", "")], TEXT)
    yield "only-blanks", mail("blanks", [("Subject", "    ")], TEXT)
    yield "missing", mail("missing", [("Subject", None)], TEXT)
    yield "twice", mail("twice", [("Subject", "the first"), ("Subject", "the second")], TEXT)
    yield "lower-case-name", mail("lower", [("Subject", None), ("subject", "a header in lower case")], TEXT)
    yield "re-fwd", mail("re", [("Subject", "Re: AW: Fwd: SV: [list] Re[2]: the matter (fwd)")], TEXT)
    yield "re-encoded", mail("re", [("Subject", word_b("Aw: Übergabe")), ("In-Reply-To", identifier("q"))], TEXT)
    yield "in-addresses", mail(
        "in addresses",
        [
            ("From", f"{word_q('Jürgen Groß')} <jg@corpus.test>"),
            ("To", f"{word_b('山田太郎')} <taro@corpus.test>, {word_b('Юрий')} {word_b('Гагарин')} <yuri@corpus.test>"),
            ("Cc", f'"{word_q("in quotes, ä")}" <quoted@corpus.test>, plain@corpus.test ({word_q("im Kommentar ü")})'),
            ("Reply-To", f"{word_b('Leute')}: {word_q('Zoë')} <zoe@corpus.test>;"),
        ],
        TEXT,
    )
    yield "comma-in-name", mail("comma", [("From", f"{word_q('Groß, Jürgen')} <jg@corpus.test>")], TEXT)
    yield "at-in-name", mail("at", [("From", f"{word_b('boss@bank.test')} <mallory@corpus.test>")], TEXT)
    yield "encoded-address", mail("whole", [("From", word_b("Ä <a@corpus.test>"))], TEXT)
    yield "in-keywords", mail("keywords", [("Keywords", f"{word_b('Äpfel')}, pears"), ("Comments", word_q("ein Kommentar ü"))], TEXT)
    yield "in-unstructured-own", mail("own", [("X-Note", f"{word_b('größer')}\r\n {word_b(' als')}")], TEXT)
