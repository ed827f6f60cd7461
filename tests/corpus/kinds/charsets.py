"""Bodies and headers in every charset that mail is written in, rightly and wrongly labelled."""

import base64

from .build import b64, mail, multipart, part, qp, raw

# Label as written in the message, Python's codec, a text of that alphabet.
LABELLED = [
    ("us-ascii", "ascii", "Plain words, nothing else."),
    ("ANSI_X3.4-1968", "ascii", "The long name of ASCII, as some libraries print it."),
    ("utf-8", "utf-8", "Zwölf Boxkämpfer jagen Viktor – ein Dutzend €-Zeichen: €€€."),
    ("UTF8", "utf-8", "Naïve label without its hyphen, café included."),
    ("utf-16", "utf-16", "With a byte order mark: größer, Ελλάδα, 日本."),
    ("utf-16le", "utf-16-le", "Little end first: größer, Ελλάδα, 日本."),
    ("utf-16be", "utf-16-be", "Big end first: größer, Ελλάδα, 日本."),
    ("utf-7", "utf-7", "Siebenbittig: Grüße an Łódź & Ελλάδα +++"),
    ("iso-8859-1", "iso-8859-1", "OEuvre manque ici, mais: été, façade, señor, Straße, 5 £."),
    ("latin1", "iso-8859-1", "Déjà vu avec un nom court: Ångström, ½ tasse."),
    ("ISO_8859-1:1987", "iso-8859-1", "Le nom complet de l'alphabet: élève, garçon, où."),
    ("iso-8859-2", "iso-8859-2", "Zażółć gęślą jaźń. Příliš žluťoučký kůň."),
    ("iso-8859-3", "iso-8859-3", "Eĥoŝanĝo ĉiuĵaŭde. Il-Malti: għaqda, ħobż."),
    ("iso-8859-4", "iso-8859-4", "Glāžšķūņa rūķīši. Įlinkdama fechtuotojo špaga."),
    ("iso-8859-5", "iso-8859-5", "Съешь же ещё этих мягких французских булок."),
    ("iso-8859-6", "iso-8859-6", "مرحبا بكم في الرسالة القديمة"),
    ("iso-8859-7", "iso-8859-7", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία."),
    ("iso-8859-8", "iso-8859-8", "דג סקרן שט בים מאוכזב ולפתע מצא חברה"),
    ("iso-8859-8-i", "iso-8859-8", "שלום עולם, בסדר לוגי"),
    ("iso-8859-9", "iso-8859-9", "Pijamalı hasta yağız şoföre çabucak güvendi. İĞŞ."),
    ("iso-8859-10", "iso-8859-10", "Sámegiella: čáppa, đ, ŋ, ŧ, ž. Íslenska: þegar ð."),
    ("iso-8859-11", "iso8859_11", "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า"),
    ("iso-8859-13", "iso-8859-13", "Ąžuolas ėjo į šilą. Rīgas čemodāns. Õunapuu."),
    ("iso-8859-14", "iso-8859-14", "Ŵyth ŷd yn y tŷ. Ḃí an ḋoras."),
    ("iso-8859-15", "iso-8859-15", "Cœur, 20 €, Šárka, Žofie, Ÿ."),
    ("iso-8859-16", "iso-8859-16", "Țară și știință: ășțîâ, €."),
    ("windows-1250", "cp1250", "Árvíztűrő tükörfúrógép – „idézet“ za 5 €."),
    ("windows-1251", "cp1251", "Объявление: «цена» — 5 €, ёлка, їжак, ўладар."),
    ("windows-1252", "cp1252", "“Smart quotes” – it’s 5 € … Œuvre™"),
    ("cp1252", "cp1252", "‘Short name’ of the same — naïve…"),
    ("windows-1253", "cp1253", "Άνθρωπος – «τιμή» 5 € …"),
    ("windows-1254", "cp1254", "İstanbul’da “şoför” 5 € – ığüöç."),
    ("windows-1255", "cp1255", "שָׁלוֹם – 5 € ‎ניקוד"),
    ("windows-1256", "cp1256", "سلام، اين يك پيام است – پچژگ €"),
    ("windows-1257", "cp1257", "Žąsis „kabutėse“ – 5 € ģļņķ."),
    ("windows-1258", "cp1258", "Tiêng Viêt: đô la, 5 € – ơư"),
    ("windows-874", "cp874", "สวัสดี “ราคา” 5 €"),
    ("tis-620", "tis-620", "จดหมายภาษาไทย ๑๒๓"),
    ("koi8-r", "koi8-r", "Привет из девяностых, съешь булок."),
    ("koi8-u", "koi8-u", "Щастя, їжак, ґанок, єдність."),
    ("ibm866", "cp866", "Привет из DOS: ╔═╗ ёЁ"),
    ("ibm850", "cp850", "DOS français: été, ñ, ½"),
    ("ibm852", "cp852", "DOS česky: žluťoučký kůň"),
    ("ibm437", "cp437", "DOS: naïve ╬ ½ ñ"),
    ("macintosh", "mac-roman", "Mac: “é” – ﬁn, 5 €, Ω"),
    ("x-mac-cyrillic", "mac-cyrillic", "Мак: привет, «кавычки»"),
    ("gb2312", "gb2312", "你好，世界。这是一封简体中文邮件。"),
    ("gbk", "gbk", "繁體字也能寫，还有镕字。"),
    ("gb18030", "gb18030", "扩展：㐀㐁，还有表情 😀。"),
    ("hz-gb-2312", "hz", "七位编码的中文，很旧。"),
    ("big5", "big5", "您好，這是一封繁體中文郵件。"),
    ("big5-hkscs", "big5hkscs", "香港字：嘅、咗、喺、啲。"),
    ("euc-jp", "euc-jp", "いろはにほへと、漢字とカタカナ。"),
    ("iso-2022-jp", "iso2022_jp", "いろはにほへと、七ビットの手紙です。"),
    ("csISO2022JP", "iso2022_jp", "別名の七ビットです。"),
    ("iso-2022-jp-1", "iso2022_jp_1", "補助漢字：丂丄。"),
    ("shift_jis", "shift_jis", "表示・予定・能力：逆斜線を含む字。"),
    ("x-sjis", "shift_jis", "古い名前のシフトJIS。"),
    ("windows-31j", "cp932", "丸数字①②③と髙島さん。"),
    ("euc-kr", "euc-kr", "안녕하세요. 한글 편지입니다."),
    ("ks_c_5601-1987", "cp949", "옛 이름의 한글: 똠방각하, 펲시."),
    ("cp949", "cp949", "확장 완성형: 뷁, 쀍."),
    ("iso-2022-kr", "iso2022_kr", "칠 비트 한글입니다."),
    ("johab", "johab", "조합형 한글입니다."),
    ("viscii", None, "Vi\xaet Nam: ti\xaang".encode("latin-1")),
]


def encoded(codec, text):
    return text if codec is None else text.encode(codec)


def messages():
    for index, (label, codec, text) in enumerate(LABELLED):
        data = encoded(codec, text)
        wide = label.lower().startswith("utf-16")
        name = label.lower().replace(":", "-").replace(".", "-").replace("_", "-")
        # An encoded word in the same charset, where that is possible in a header.
        word = base64.b64encode(data[:45] if codec in ("ascii", "cp437") else data).decode()
        subject = f"=?{label}?B?{word}?=" if not wide else f"wide {name}"
        headers = [("Subject", subject), ("Content-Type", f"text/plain; charset={label}")]
        if ":" in label or "?" in label:
            headers[1] = ("Content-Type", f'text/plain; charset="{label}"')
        manner = index % 3
        if wide or manner == 0:
            body = b64(data)
            headers.append(("Content-Transfer-Encoding", "base64"))
        elif manner == 1:
            body = qp(data) + b"\r\n"
            headers.append(("Content-Transfer-Encoding", "quoted-printable"))
        else:
            body = data + b"\r\n"
            headers.append(("Content-Transfer-Encoding", "8bit"))
        yield f"is-{name}", raw(name, headers, body)

    text = "Grüße aus Köln, 5 €.\n"
    eight = ("Content-Transfer-Encoding", "8bit")

    def plain(label, data, *more):
        kind = "text/plain" if label is None else f"text/plain; charset={label}"
        return raw("wrong", [("Subject", f"labelled {label}"), ("Content-Type", kind), eight, *more], data)

    utf8 = text.replace("\n", "\r\n").encode()
    latin = "Grüße aus Köln.\r\n".encode("latin-1")
    yield "wrong-utf8-as-ascii", plain("us-ascii", utf8)
    yield "wrong-utf8-as-latin1", plain("iso-8859-1", utf8)
    yield "wrong-latin1-as-utf8", plain("utf-8", latin)
    yield "wrong-latin1-as-ascii", plain("us-ascii", latin)
    yield "wrong-utf8-unlabelled", plain(None, utf8)
    yield "wrong-latin1-unlabelled", plain(None, latin)
    yield "wrong-1252-as-latin1", plain("iso-8859-1", "“quoted” – 5 €\r\n".encode("cp1252"))
    yield "wrong-gbk-as-gb2312", plain("gb2312", "镕基、繁體\r\n".encode("gbk"))
    yield "wrong-cp932-as-sjis", plain("shift_jis", "①②③髙\r\n".encode("cp932"))
    yield "wrong-unknown-name", plain("x-nobody-knows", b"Only ASCII inside.\r\n")
    yield "wrong-unknown-name-8bit", plain("x-nobody-knows", latin)
    yield "wrong-name-unknown-8bit", plain("unknown-8bit", utf8)
    yield "wrong-empty-name", plain('""', b"The name of the charset is empty.\r\n")
    yield "wrong-name-with-spaces", plain('" utf-8 "', utf8)
    yield "wrong-name-single-quotes", plain("'utf-8'", utf8)
    yield "wrong-name-twice", raw(
        "wrong", [("Subject", "two charsets"), ("Content-Type", "text/plain; charset=utf-8; charset=iso-8859-1"), eight], utf8
    )
    yield "wrong-name-default", plain("default", b"Default is no charset.\r\n")
    yield "wrong-name-binary", plain("binary", utf8)
    yield "truncated-utf8", plain("utf-8", "ends within a character: ".encode() + "€".encode()[:2])
    yield "overlong-utf8", plain("utf-8", b"overlong slash \xc0\xaf, surrogate \xed\xa0\x80, beyond \xf4\x90\x80\x80.\r\n")
    yield "truncated-iso-2022-jp", plain("iso-2022-jp", b"\x1b$B$$$m$O\r\nescape never closed\r\n")
    yield "odd-utf-16", raw(
        "odd",
        [("Subject", "odd number of bytes"), ("Content-Type", "text/plain; charset=utf-16le"), ("Content-Transfer-Encoding", "base64")],
        b64("odd".encode("utf-16-le") + b"x"),
    )
    yield "utf8-with-bom", plain("utf-8", b"\xef\xbb\xbfA mark at the start.\r\n")
    html = '<html><head><meta charset="iso-8859-1"></head><body>Köln – says latin, is UTF-8</body></html>\r\n'
    yield "html-meta-differs", raw(
        "meta", [("Subject", "two opinions"), ("Content-Type", "text/html; charset=utf-8"), eight], html
    )
    html = '<html><head><meta http-equiv="Content-Type" content="text/html; charset=koi8-r"></head><body>'
    yield "html-meta-only", raw(
        "meta", [("Subject", "only the page knows"), ("Content-Type", "text/html"), eight],
        html.encode() + "Привет".encode("koi8-r") + b"</body></html>\r\n",
    )
    yield "three-in-one", mail(
        "three charsets",
        [("Content-Type", "multipart/mixed; boundary=three")],
        multipart(
            "three",
            [
                part([("Content-Type", "text/plain; charset=koi8-r"), ("Content-Transfer-Encoding", "base64")], b64("Привет".encode("koi8-r"))),
                part([("Content-Type", "text/plain; charset=shift_jis"), ("Content-Transfer-Encoding", "base64")], b64("表示".encode("shift_jis"))),
                part([("Content-Type", "text/plain; charset=windows-1256"), ("Content-Transfer-Encoding", "base64")], b64("سلام".encode("cp1256"))),
            ],
        ),
    )
