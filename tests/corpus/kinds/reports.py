"""Delivery reports, receipts and the like (RFC 3464, 8098, 5965), and the bounces that follow no
standard."""

from .build import b64, crlf, gz, mail, multipart, part

ORIGINAL = mail("the lost message", [("From", "reader@example.test"), ("To", "gone@corpus.test")], "It never arrived.\n")


def report(name, kind, text, machine, returned=ORIGINAL, returned_type="message/rfc822", headers=()):
    parts = [part([("Content-Type", "text/plain; charset=utf-8"), ("Content-Description", "Notification")], text)]
    parts.append(part([("Content-Type", f"message/{kind}")], machine))
    if returned is not None:
        parts.append(part([("Content-Type", returned_type)], returned))
    return mail(
        name,
        [("From", "Mail Delivery System <MAILER-DAEMON@corpus.test>"), ("Auto-Submitted", "auto-replied"), *headers,
         ("Content-Type", f'multipart/report; report-type={kind}; boundary="report"')],
        multipart("report", parts),
    )


FIELDS = "Reporting-MTA: dns; mx.corpus.test\nArrival-Date: Wed, 12 Feb 2025 09:30:15 +0000\n\nFinal-Recipient: rfc822; gone@corpus.test\nOriginal-Recipient: rfc822;gone@corpus.test\nAction: {action}\nStatus: {status}\nDiagnostic-Code: smtp; {diagnostic}\n"


def messages():
    yield "dsn-failed", report("Undelivered Mail Returned to Sender", "delivery-status", "I could not deliver your message.", FIELDS.format(action="failed", status="5.1.1", diagnostic="550 5.1.1 User unknown"))
    yield "dsn-delayed", report("Delayed Mail (still being retried)", "delivery-status", "Still trying.", FIELDS.format(action="delayed", status="4.4.1", diagnostic="451 4.4.1 Timed out") + "Will-Retry-Until: Mon, 17 Feb 2025 09:30:15 +0000\n")
    yield "dsn-delivered", report("Successful Mail Delivery Report", "delivery-status", "Delivered.", FIELDS.format(action="delivered", status="2.0.0", diagnostic="250 2.0.0 Ok"))
    yield "dsn-relayed", report("Relayed", "delivery-status", "Relayed.", FIELDS.format(action="relayed", status="2.0.0", diagnostic="250 ok"), None)
    yield "dsn-expanded", report("Expanded", "delivery-status", "Expanded.", FIELDS.format(action="expanded", status="2.0.0", diagnostic="250 ok"), None)
    yield "dsn-headers-only", report("Returned", "delivery-status", "Failed.", FIELDS.format(action="failed", status="5.2.2", diagnostic="552 5.2.2 Over quota"), ORIGINAL.split(b"\r\n\r\n")[0] + b"\r\n", "text/rfc822-headers")
    several = FIELDS.format(action="failed", status="5.1.1", diagnostic="550 one") + "".join(f"\nFinal-Recipient: rfc822; r{n}@corpus.test\nAction: failed\nStatus: 5.0.0\n" for n in range(20))
    yield "dsn-twenty-recipients", report("Undelivered", "delivery-status", "None of them.", several)
    yield "dsn-international", report("Nicht zugestellt", "global-delivery-status", "Größe.", "Reporting-MTA: dns; mx.corpus.test\n\nFinal-Recipient: utf-8; пётр@corpus.test\nAction: failed\nStatus: 5.1.1\n", ORIGINAL, "message/global")
    yield "dsn-empty-status", report("Undelivered", "delivery-status", "Odd.", "")
    yield "dsn-wrong-type", mail("Returned mail", [("Content-Type", "multipart/mixed; boundary=r")], multipart("r", [part([], "Failed."), part([("Content-Type", "text/plain; name=delivery-status")], FIELDS.format(action="failed", status="5.0.0", diagnostic="x"))]))
    yield "bounce-qmail", mail("failure notice", [("From", "MAILER-DAEMON@corpus.test")], "Hi. This is the mail program at corpus.test.\nI'm afraid I wasn't able to deliver your message to the following addresses.\n\n<gone@corpus.test>:\nNo such mailbox.\n\n--- Below this line is a copy of the message.\n\n" + ORIGINAL.decode())
    yield "bounce-old", mail("Mail delivery failed: returning message to sender", [("From", "Mailer-Daemon@corpus.test"), ("X-Failed-Recipients", "gone@corpus.test")], "A message that you sent could not be delivered.\n\n  gone@corpus.test\n    SMTP error: 550\n\n------ This is a copy of the message ------\n\n" + ORIGINAL.decode())
    yield "bounce-html", mail("Undeliverable: hello", [("From", '"postmaster" <postmaster@corpus.test>'), ("Content-Type", "multipart/report; report-type=delivery-status; boundary=x")], multipart("x", [part([("Content-Type", "multipart/alternative; differences=Content-Type; boundary=y")], multipart("y", [part([("Content-Type", "text/plain; charset=us-ascii")], "Delivery has failed"), part([("Content-Type", "text/html; charset=us-ascii")], "<b>Delivery has failed</b>")])), part([("Content-Type", "message/delivery-status")], FIELDS.format(action="failed", status="5.1.10", diagnostic="550 5.1.10 RESOLVER.ADR.RecipientNotFound")), part([("Content-Type", "message/rfc822")], ORIGINAL)]))
    receipt = "Reporting-UA: mua.test; Corpus 1.0\nFinal-Recipient: rfc822;reader@example.test\nOriginal-Message-ID: <read@corpus.test>\nDisposition: manual-action/MDN-sent-manually; displayed\n"
    yield "mdn-read", report("Read: hello", "disposition-notification", "Your message was read.", receipt, None)
    yield "mdn-deleted", report("Not read: hello", "disposition-notification", "Deleted unread.", receipt.replace("displayed", "deleted"), ORIGINAL)
    yield "mdn-request", mail("please confirm", [("Disposition-Notification-To", "Writer <writer@corpus.test>"), ("Return-Receipt-To", "writer@corpus.test"), ("Disposition-Notification-Options", "signed-receipt-protocol=optional,pkcs7-signature")], "Please confirm.\n")
    abuse = "Feedback-Type: abuse\nUser-Agent: Corpus/1.0\nVersion: 1\nOriginal-Mail-From: <writer@corpus.test>\nSource-IP: 192.0.2.1\n"
    yield "feedback-abuse", report("FW: complaint", "feedback-report", "This is a complaint.", abuse)
    xml = '<?xml version="1.0"?><feedback><report_metadata><org_name>corpus.test</org_name></report_metadata></feedback>\n'
    archive = part([("Content-Type", "application/gzip"), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", 'attachment; filename="corpus.test!example.test!1739318400!1739404799.xml.gz"')], b64(gz(xml.encode())))
    yield "dmarc-aggregate", mail("Report Domain: example.test Submitter: corpus.test Report-ID: <1>", [("Content-Type", "multipart/mixed; boundary=d")], multipart("d", [part([("Content-Type", "text/plain")], "A report."), archive]))
    yield "dmarc-aggregate-alone", mail("Report domain: example.test", [("Content-Type", 'application/zip; name="r.zip"'), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", "attachment; filename=r.zip")], b64(b"PK\x05\x06" + b"\0" * 18))
    tls = '{"organization-name":"corpus.test","policies":[]}'
    yield "tls-report", mail("Report Domain: example.test", [("TLS-Report-Domain", "example.test"), ("TLS-Report-Submitter", "corpus.test"), ("Content-Type", 'multipart/report; report-type="tlsrpt"; boundary=t')], multipart("t", [part([("Content-Type", "text/plain")], "TLS report."), part([("Content-Type", "application/tlsrpt+gzip"), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", "attachment; filename=r.json.gz")], b64(gz(tls.encode())))]))
    yield "voicemail", mail("Voice message from 555", [("Content-Type", "multipart/voice-message; version=2.0; boundary=v"), ("Content-Duration", "12")], multipart("v", [part([("Content-Type", "audio/32KADPCM"), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", "inline; voice=Voice-Message; filename=msg.726")], b64("audio"))]))
    yield "fax", mail("Fax from 555", [("Content-Type", "multipart/mixed; boundary=f")], multipart("f", [part([("Content-Type", "image/tiff; application=faxbw"), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", "inline; filename=fax.tif")], b64(b"II*\x00"))]))
    yield "dsn-in-forward", mail("Fwd: Undelivered", [("Content-Type", "multipart/mixed; boundary=fw")], multipart("fw", [part([], "What is this?"), part([("Content-Type", "message/rfc822")], crlf("Subject: Undelivered\nContent-Type: multipart/report; report-type=delivery-status; boundary=z\n\n--z\n\nFailed.\n--z\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n--z--\n"))]))
