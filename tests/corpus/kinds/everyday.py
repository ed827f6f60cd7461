"""What a mailbox is really full of: newsletters, receipts, notices, conversations."""

from .build import GIF, PNG, b64, identifier, mail, multipart, part, qp, word_b, word_q

CSS = "<style>body{margin:0;font-family:Helvetica,Arial,sans-serif}.btn{background:#06c;color:#fff}@media(max-width:600px){.col{width:100%!important}}</style>"


def page(title, rows, preheader=""):
    cells = "".join(f'<tr><td class="col" style="padding:12px">{row}</td></tr>' for row in rows)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{CSS}</head>\n'
        f'<body><div style="display:none;max-height:0">{preheader}&zwnj;&nbsp;&zwnj;&nbsp;</div>\n'
        f'<!--[if mso]><table width="600"><tr><td><![endif]-->\n<table role="presentation" width="100%">{cells}</table>\n'
        f'<!--[if mso]></td></tr></table><![endif]-->\n<img src="https://track.corpus.test/o.gif?id=1" width="1" height="1" alt="">\n</body></html>\n'
    )


def both(name, headers, text, html, encoding="quoted-printable"):
    encode = {"quoted-printable": qp, "base64": b64}[encoding]
    parts = [
        part([("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", encoding)], encode(text)),
        part([("Content-Type", "text/html; charset=utf-8"), ("Content-Transfer-Encoding", encoding)], encode(html)),
    ]
    boundary = "=_" + identifier(name)[1:13]
    return mail(name, [*headers, ("Content-Type", f'multipart/alternative; boundary="{boundary}"')], multipart(boundary, parts))


def messages():
    yield "newsletter", both(
        "newsletter",
        [("From", "The Seed Post <post@seeds.test>"), ("Subject", word_b("🌱 Spring is here – 20 % off")), ("List-Unsubscribe", "<https://seeds.test/u/1>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"), ("Feedback-ID", "1:2:3:seeds"), ("X-Campaign", "spring")],
        "Spring is here\n\n20 % off all tomato seeds: https://seeds.test/tomatoes?utm_source=mail&utm_campaign=spring\n\nUnsubscribe: https://seeds.test/u/1\n",
        page("Spring", ["<h1>Spring is here</h1>", "<p>20&nbsp;% off all <b>tomato</b> seeds</p>", '<a class="btn" href="https://seeds.test/tomatoes">Shop&nbsp;now&nbsp;&rarr;</a>'], "Tomatoes, peppers and more"),
    )
    yield "newsletter-german", both("newsletter-german", [("From", f"{word_q('Gärtnerbrief')} <brief@gaerten.test>"), ("Subject", word_q("Die schönsten Blumen für März"))], "Grüße aus dem Garten: Krokusse, Märzenbecher, Hyazinthen.\n", page("März", ["<p>Krokusse &amp; M&auml;rzenbecher</p>"]), "base64")
    yield "newsletter-japanese", both("newsletter-japanese", [("From", f"{word_b('お花屋さん')} <hana@corpus.test>"), ("Subject", f"{word_b('【お知らせ】春のセール開催中')}\r\n {word_b('!全品20%オフ')}")], "春のセールを開催しております。\n", page("セール", ["<p>春のセール</p>"]), "base64")
    yield "order", both(
        "order",
        [("From", "Seed Shop <orders@seeds.test>"), ("Subject", "Your order #10042"), ("Reply-To", "help+10042@seeds.test")],
        "Thank you for your order!\n\n  2 x Tomato   5,00 EUR\n  1 x Pepper   3,50 EUR\n  Total        8,50 EUR\n",
        page("Order", ['<script type="application/ld+json">{"@type":"Order","orderNumber":"10042"}</script>', "<table><tr><td>Tomato</td><td>5,00&nbsp;&euro;</td></tr></table>"]),
    )
    yield "shipping", both("shipping", [("From", "Parcel <no-reply@parcel.test>"), ("Subject", "Your parcel is on its way (1Z999)")], "Track: https://parcel.test/1Z999\n", page("Parcel", ["<p>Track <code>1Z999</code></p>"]))
    yield "password-reset", both("password-reset", [("From", "no-reply@service.test"), ("Subject", "Reset your password"), ("Auto-Submitted", "auto-generated")], "Your code is 493 021.\nIt expires in ten minutes.\n", page("Code", ["<p style=\"font-size:32px\">493&#8239;021</p>"]))
    yield "statement", mail(
        "statement", [("From", "Bank <bank@bank.test>"), ("Subject", word_q("Ihr Kontoauszug für Februar")), ("Content-Type", "multipart/mixed; boundary=st")],
        multipart("st", [part([("Content-Type", "text/plain; charset=iso-8859-1"), ("Content-Transfer-Encoding", "8bit")], "Ihr Kontoauszug liegt für Sie bereit.".encode("latin-1")), part([("Content-Type", "application/pdf"), ("Content-Disposition", f'attachment; filename="{word_q("Auszug März.pdf")}"'), ("Content-Transfer-Encoding", "base64")], b64("%PDF-1.7"))]),
    )
    yield "invoice", mail(
        "invoice", [("From", "billing@host.test"), ("Subject", "Invoice 2025-02"), ("Content-Type", "multipart/mixed; boundary=inv")],
        multipart("inv", [part([("Content-Type", "text/plain; charset=utf-8; format=flowed")], "Please find the invoice \nattached."), part([("Content-Type", "application/pdf; name=invoice.pdf"), ("Content-Disposition", "attachment; filename=invoice.pdf"), ("Content-Transfer-Encoding", "base64")], b64("%PDF")), part([("Content-Type", "application/xml; name=factur-x.xml"), ("Content-Disposition", "attachment; filename=factur-x.xml"), ("Content-Transfer-Encoding", "base64")], b64("<x/>"))]),
    )
    yield "first-letter", mail("Dinner", [("Subject", "Dinner on Friday?"), ("Message-ID", "<dinner1@corpus.test>"), ("Content-Type", "text/plain; charset=utf-8; format=flowed")], "Hi,\n\nshall we have dinner on Friday? I know a place \nby the river.\n\nAnn\n")
    yield "answer", mail("Re: Dinner", [("Subject", "Re: Dinner on Friday?"), ("Message-ID", "<dinner2@corpus.test>"), ("In-Reply-To", "<dinner1@corpus.test>"), ("References", "<dinner1@corpus.test>")], "Yes! At eight?\n\nOn Wed, 12 Feb 2025, Ann wrote:\n> Hi,\n>\n> shall we have dinner on Friday?\n")
    yield "answer-top-posted", both("answer-top-posted", [("Subject", "RE: Dinner on Friday?"), ("In-Reply-To", "<dinner2@corpus.test>"), ("References", "<dinner1@corpus.test>\r\n <dinner2@corpus.test>"), ("Thread-Topic", "Dinner on Friday?"), ("Thread-Index", "AdGh0VxqvYGNkQ=="), ("X-MS-Has-Attach", "")], "Eight is fine.\n\n________________________________\nFrom: Bob\nSent: Wednesday\nSubject: Re: Dinner\n\nYes! At eight?\n", '<html xmlns:o="urn:schemas-microsoft-com:office:office"><body><p class="MsoNormal">Eight is fine.<o:p></o:p></p><hr><b>From:</b> Bob</body></html>')
    yield "answer-other-subject", mail("Other", [("Subject", "Re: Something else now"), ("In-Reply-To", "<dinner2@corpus.test>"), ("References", "<dinner1@corpus.test> <dinner2@corpus.test>")], "A changed subject starts a new thread.\n")
    yield "answer-quoted-html", both("answer-quoted-html", [("Subject", "Re: photos")], "Lovely!\n\n> here they are\n", '<div dir="ltr">Lovely!</div><br><div class="gmail_quote"><blockquote>here they are</blockquote></div>')
    yield "photos", mail(
        "photos", [("Subject", "photos from the weekend"), ("X-Mailer", "iPhone Mail (22A1)"), ("Content-Type", "multipart/mixed; boundary=Apple-Mail-1")],
        multipart("Apple-Mail-1", [part([("Content-Type", "text/plain; charset=us-ascii")], "Look:"), *(part([("Content-Type", f"image/jpeg; name=IMG_{n}.jpeg"), ("Content-Disposition", f"inline; filename=IMG_{n}.jpeg"), ("Content-Transfer-Encoding", "base64"), ("X-Apple-Content-Length", "43")], b64(GIF + bytes([n]))) for n in range(1, 4)), part([("Content-Type", "text/plain; charset=us-ascii")], "\n\nSent from my iPhone")]),
    )
    signature = part([("Content-Type", "image/png; name=logo.png"), ("Content-ID", "<image001.png@01DB7D>"), ("Content-Transfer-Encoding", "base64")], b64(PNG))
    yield "company-signature", mail("signature", [("Subject", "Offer"), ("Content-Type", 'multipart/related; boundary="_004_"; type="multipart/alternative"')], multipart("_004_", [part([("Content-Type", "multipart/alternative; boundary=_000_")], multipart("_000_", [part([("Content-Type", 'text/plain; charset="windows-1252"'), ("Content-Transfer-Encoding", "quoted-printable")], "Our offer: 5=80 =96 valid=A0now"), part([("Content-Type", 'text/html; charset="windows-1252"'), ("Content-Transfer-Encoding", "quoted-printable")], '<p>Our offer: 5=80</p><img src=3D"cid:image001.png@01DB7D">')])), signature]))
    yield "bcc-copy", mail("copy", [("Subject", "a blind copy"), ("Bcc", "secret@corpus.test")], "You should not see the others.\n")
    yield "urgent", mail("urgent", [("X-Priority", "1 (Highest)"), ("Importance", "High"), ("Priority", "urgent"), ("Sensitivity", "Company-Confidential"), ("Expires", "Thu, 13 Feb 2025 00:00:00 +0000")], "Now!\n")
    yield "draft", mail("draft", [("X-Mozilla-Draft-Info", "internal/draft; vcard=0"), ("To", None), ("FCC", "imap://x")], "Not yet fin\n")
    yield "chat", mail("chat", [("Chat-Version", "1.0"), ("Chat-Group-ID", "abc"), ("Content-Type", 'text/plain; charset="utf-8"; format=flowed; delsp=no')], "ok 👍\n")
    yield "flight", both("flight", [("From", "Airline <no-reply@air.test>"), ("Subject", "Your flight BER–LIS".replace("–", "-"))], "BER 07:10 - LIS 09:45\nSeat 14C\n", page("Flight", ["<p>BER 07:10 &ndash; LIS 09:45</p>"], "Check in now"))
    yield "survey", both("survey", [("From", "feedback@hotel.test"), ("Subject", "How was your stay?")], "Tell us: https://hotel.test/s\n", page("Survey", ["".join(f'<a href="https://hotel.test/s?{n}">{n}</a> ' for n in range(1, 11))]))
    yield "social", both("social", [("From", '"Friends" <notify@social.test>'), ("Subject", word_b("Zoë commented on your photo 📷"))], "Zoë: „schön!“\n", page("Social", ["<b>Zo&euml;</b>: &bdquo;sch&ouml;n!&ldquo;"]))
    yield "phishing", mail("phishing", [("From", '"security@bank.test" <x@corpus.test>'), ("Subject", word_b("Ассount suspended")), ("Content-Type", "text/html; charset=utf-8")], '<a href="http://corpus.test/login">https://bank.test/login</a>\n')
    yield "job-alert", both("job-alert", [("From", "jobs@work.test"), ("Subject", "12 new jobs for “gardener”".encode().decode())], "Gardener (m/f/x), Köln\n", page("Jobs", [f"<p>Gardener {n}</p>" for n in range(12)]))
    yield "school", mail("school", [("From", "sekretariat@schule.test"), ("Subject", word_q("Elternabend der Klasse 3b – 12. März")), ("Content-Type", "text/plain; charset=windows-1252"), ("Content-Transfer-Encoding", "quoted-printable")], "Liebe Eltern,\n\nder Elternabend findet am 12. M=E4rz um 19=A0Uhr statt =96 bitte p=FCnktlich.\n")
    yield "monitoring", mail("alert", [("From", "monitor@host.test"), ("Subject", "[FIRING:1] DiskFull (db1 warning)"), ("X-Alert", "1")], "disk: 97 % used on db1:/var\n")
    yield "very-long-html", both("very-long-html", [("Subject", "A long read")], "A long read.\n" * 400, page("Long", [f"<p>Paragraph {n}: " + "lorem ipsum dolor sit amet " * 12 + "</p>" for n in range(120)]))
