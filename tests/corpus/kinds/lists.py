"""Mail from lists and programs: List- headers, digests, footers, automatic answers."""

from .build import b64, crlf, mail, multipart, part, qp, word_q

LIST = [
    ("List-Id", "Growers of corpora <growers.lists.corpus.test>"),
    ("List-Post", "<mailto:growers@lists.corpus.test>"),
    ("List-Help", "<mailto:growers-request@lists.corpus.test?subject=help> (commands), <https://lists.corpus.test/help>"),
    ("List-Subscribe", "<https://lists.corpus.test/growers>,\r\n <mailto:growers-request@lists.corpus.test?subject=subscribe>"),
    ("List-Unsubscribe", "<https://lists.corpus.test/growers/out>,\r\n <mailto:growers-request@lists.corpus.test?subject=unsubscribe>"),
    ("List-Owner", "<mailto:owner@lists.corpus.test>"),
    ("List-Archive", "<https://lists.corpus.test/archive/>"),
    ("Precedence", "list"),
    ("Sender", "growers-bounces@lists.corpus.test"),
    ("Errors-To", "growers-bounces@lists.corpus.test"),
]


def messages():
    yield "post", mail("[growers] Seeds", [("Subject", "[growers] Seeds"), *LIST], "Who has seeds?\n\n-- \nWriter\n_______________________________________________\ngrowers mailing list\n")
    yield "post-base64-footer", mail("[growers] base64", [*LIST, ("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", "base64")], b64("Grüße an alle.\r\n\r\n_______\r\ngrowers\r\n"))
    yield "post-footer-part", mail("[growers] footer", [*LIST, ("Content-Type", "multipart/mixed; boundary=foot")], multipart("foot", [part([("Content-Type", "text/html; charset=utf-8")], "<p>Seeds?</p>"), part([("Content-Type", "text/plain; charset=us-ascii"), ("Content-Disposition", "inline"), ("MIME-Version", "1.0")], "_____\ngrowers mailing list")]))
    yield "list-headers-odd", mail("odd", [("List-Post", "NO (posting not allowed on this list)"), ("List-Unsubscribe", "mailto:no-brackets@corpus.test"), ("List-Id", "no-brackets.corpus.test"), ("List-Archive", "<https://a.test/ with blank>")], "Odd list.\n")
    yield "one-click", mail("offers", [("List-Unsubscribe", "<https://news.corpus.test/u/abc>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")], "Offers.\n")
    yield "mung-from", mail("[growers] via", [("From", '"Ann via Growers" <growers@lists.corpus.test>'), ("Reply-To", "Ann <ann@corpus.test>, Growers <growers@lists.corpus.test>"), ("X-Original-From", "ann@corpus.test"), *LIST], "Rewritten for DMARC.\n")
    posts = [part([], mail(f"Seeds {n}", [("From", f"Grower {n} <g{n}@corpus.test>")], f"Post number {n}.\n")) for n in range(1, 6)]
    table = part([("Content-Type", "text/plain"), ("Content-Description", "Today's Topics")], "Today's Topics:\n\n" + "".join(f"   {n}. Seeds {n} (Grower {n})\n" for n in range(1, 6)))
    yield "digest-mime", mail("growers Digest, Vol 1, Issue 1", [*LIST, ("Content-Type", "multipart/mixed; boundary=out")], multipart("out", [table, part([("Content-Type", "multipart/digest; boundary=dig")], multipart("dig", posts))]))
    yield "digest-plain", mail("growers Digest, Vol 1, Issue 2", LIST, "Today's Topics:\n\n   1. Seeds\n\n" + "-" * 70 + "\n\nMessage: 1\nDate: Wed, 12 Feb 2025\nFrom: a@corpus.test\nSubject: Seeds\n\nText\n\n" + "-" * 30 + "\n\nEnd of Digest\n")
    yield "vacation", mail("Automatic reply: Seeds", [("Auto-Submitted", "auto-replied"), ("X-Auto-Response-Suppress", "All"), ("In-Reply-To", "<seeds@corpus.test>"), ("References", "<seeds@corpus.test>"), ("Precedence", "bulk")], "I am away until Monday.\n")
    yield "vacation-encoded", mail("x", [("Subject", word_q("Abwesenheitsnotiz: Büro geschlossen")), ("Auto-Submitted", "auto-replied (vacation)"), ("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", "quoted-printable")], qp("Das Büro ist geschlossen.\n"))
    yield "auto-generated", mail("cron", [("From", "root (Cron Daemon)"), ("To", "root"), ("Auto-Submitted", "auto-generated"), ("Subject", "Cron <root@host> /usr/bin/backup"), ("X-Cron-Env", "<SHELL=/bin/sh>")], "backup: done\n")
    yield "feed", mail("feed", [("X-Feed-Url", "https://corpus.test/feed"), ("Content-Base", "https://corpus.test/"), ("Content-Type", "text/html; charset=utf-8")], "<h1>Entry</h1>\n")
    yield "usenet", mail("re: usenet", [("Newsgroups", "comp.mail.mime"), ("Path", "news.corpus.test!not-for-mail"), ("Xref", "news.corpus.test comp.mail.mime:123"), ("Lines", "1"), ("Followup-To", "poster"), ("NNTP-Posting-Date", "Wed, 12 Feb 2025 09:30:15 +0000")], "From the news.\n")
    yield "commit", mail("r123", [("Subject", "[commit] r123 - trunk"), ("X-SVN-Rev", "123"), ("Content-Type", "text/plain; charset=utf-8")], "Author: ann\n\nLog:\nFix\n\nModified: trunk/a.c\n==\n--- a.c\n+++ a.c\n@@ -1 +1 @@\n-a\n+b\n")
    yield "bug-tracker", mail("[Bug 7] It breaks", [("X-Bugzilla-Reason", "CC"), ("X-Bugzilla-Status", "NEW"), ("Content-Type", "multipart/alternative; boundary=\"17.c\""), ("Auto-Submitted", "auto-generated")], multipart("17.c", [part([("Content-Type", 'text/plain; charset="UTF-8"'), ("Date", "Wed, 12 Feb 2025 09:30:15 +0000")], "It breaks."), part([("Content-Type", 'text/html; charset="UTF-8"')], "<p>It breaks.</p>")]))
    yield "code-review", mail("Re: [owner/repo] Fix (PR #12)", [("List-ID", "owner/repo <repo.owner.code.test>"), ("In-Reply-To", "<owner/repo/pull/12@code.test>"), ("References", "<owner/repo/pull/12@code.test>"), ("X-Reason", "mention"), ("Content-Type", 'multipart/alternative; boundary="--==_mimepart_1"')], multipart("--==_mimepart_1", [part([("Content-Type", "text/plain; charset=UTF-8"), ("Content-Transfer-Encoding", "7bit")], "@reader what do you think?\n\n-- \nReply to this email directly"), part([("Content-Type", "text/html; charset=UTF-8"), ("Content-Transfer-Encoding", "7bit")], "<p>@reader what do you think?</p>")]))
    yield "moderation", mail("held", [("Content-Type", "multipart/mixed; boundary=m")], multipart("m", [part([("Content-Type", "text/plain")], "A post is held."), part([("Content-Type", "message/rfc822")], mail("a held post", [], "Let me in.\n")), part([("Content-Type", "message/rfc822")], crlf("Subject: confirm 1234567890\n\nIf you reply to this message, Mailman will discard it.\n"))]))
