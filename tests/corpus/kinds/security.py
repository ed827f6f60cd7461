"""Signed and encrypted mail in all its wrappings. The signatures and ciphertexts are noise of the
right shape: what is tested is that every byte of them is kept."""

import base64

from .build import b64, crlf, mail, multipart, noise, part, raw

SIGNED = part([("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", "quoted-printable")], "Signed words: Gr=C3=BC=C3=9Fe  =20\n\ntrailing\n")


def der(seed, size):
    """A DER SEQUENCE that holds noise."""
    return b"\x30\x82" + size.to_bytes(2, "big") + noise(seed, size)


def armor(kind, seed, size):
    body = base64.b64encode(noise(seed, size)).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return f"-----BEGIN PGP {kind}-----\n\n" + "\n".join(lines) + f"\n=AbCd\n-----END PGP {kind}-----\n"


def messages():
    p7s = part(
        [("Content-Type", 'application/pkcs7-signature; name="smime.p7s"'), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", 'attachment; filename="smime.p7s"')],
        b64(der("p7s", 900)),
    )
    smime = 'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary="----=_smime"'
    yield "smime-signed", mail("signed", [("Content-Type", smime)], multipart("----=_smime", [SIGNED, p7s], preamble="This is an S/MIME signed message"))
    yield "smime-signed-x", mail(
        "signed, old type",
        [("Content-Type", 'multipart/signed; protocol="application/x-pkcs7-signature"; micalg=sha1; boundary=old')],
        multipart("old", [SIGNED, p7s.replace(b"application/pkcs7-signature", b"application/x-pkcs7-signature")]),
    )
    for kind in ("signed-data", "enveloped-data", "authEnveloped-data", "compressed-data", "certs-only"):
        name = kind.lower().replace("-", "")
        yield f"smime-opaque-{name}", mail(
            f"opaque {kind}",
            [("Content-Type", f'application/pkcs7-mime; smime-type={kind}; name="smime.p7m"'), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", 'attachment; filename="smime.p7m"')],
            b64(der(kind, 1200)),
        )
    yield "smime-binary", raw(
        "binary", [("Content-Type", "application/pkcs7-mime; smime-type=enveloped-data"), ("Content-Transfer-Encoding", "binary")],
        bytes(byte for byte in der("binary", 800) if byte not in b"\x00\r\n") + b"\r\n",
    )
    signature = part([("Content-Type", 'application/pgp-signature; name="signature.asc"'), ("Content-Description", "OpenPGP digital signature")], armor("SIGNATURE", "pgp", 400))
    yield "pgp-signed", mail("signed", [("Content-Type", 'multipart/signed; micalg=pgp-sha512; protocol="application/pgp-signature"; boundary="pgp"')], multipart("pgp", [SIGNED, signature]))
    inner = part(
        [("Content-Type", "multipart/mixed; boundary=inner")],
        multipart("inner", [SIGNED, part([("Content-Type", "application/pgp-keys"), ("Content-Disposition", "attachment; filename=OpenPGP_0x1.asc")], armor("PUBLIC KEY BLOCK", "key", 600))]),
    )
    yield "pgp-signed-nested", mail("signed", [("Content-Type", 'multipart/signed; micalg=pgp-sha256; protocol="application/pgp-signature"; boundary="outer"')], multipart("outer", [inner, signature]))
    version = part([("Content-Type", "application/pgp-encrypted"), ("Content-Description", "PGP/MIME version identification")], "Version: 1\n")
    secret = part([("Content-Type", 'application/octet-stream; name="encrypted.asc"'), ("Content-Disposition", 'inline; filename="encrypted.asc"')], armor("MESSAGE", "secret", 1500))
    yield "pgp-encrypted", mail("...", [("Content-Type", 'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=enc')], multipart("enc", [version, secret], preamble="This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)"))
    yield "pgp-inline-signed", mail("inline", [], "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSigned words.\n- -- dashes escaped\n" + armor("SIGNATURE", "inline", 300))
    yield "pgp-inline-encrypted", mail("inline", [], armor("MESSAGE", "inline secret", 900))
    yield "pgp-key", mail("my key", [("Content-Type", "application/pgp-keys"), ("Content-Disposition", "attachment; filename=key.asc")], armor("PUBLIC KEY BLOCK", "own key", 900))
    key = base64.b64encode(noise("autocrypt", 600)).decode()
    yield "autocrypt", mail(
        "autocrypt",
        [("Autocrypt", "addr=writer@corpus.test; prefer-encrypt=mutual; keydata=\r\n " + "\r\n ".join(key[at : at + 72] for at in range(0, len(key), 72)))],
        "The key is in the header.\n",
    )
    protected = part(
        [("Content-Type", 'text/plain; charset=utf-8; protected-headers="v1"'), ("Subject", "The true subject"), ("From", "writer@corpus.test")],
        "Its headers are inside.",
    )
    yield "protected-headers", mail("...", [("Content-Type", 'multipart/signed; protocol="application/pgp-signature"; micalg=pgp-sha512; boundary=prot')], multipart("prot", [protected, signature]))
    wrapped = part([("Content-Type", 'message/rfc822; forwarded=no')], mail("the true subject", [], "Wrapped whole.\n"))
    yield "smime-wrapped", mail("...", [("Content-Type", 'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=wrap')], multipart("wrap", [wrapped, p7s]))
    signature_value = "\r\n\t".join(base64.b64encode(noise("dkim", 256)).decode()[at : at + 70] for at in range(0, 340, 70))
    yield "dkim-and-arc", mail(
        "signed by servers",
        [
            ("ARC-Seal", f"i=1; a=rsa-sha256; t=1739352615; cv=none; d=corpus.test; s=arc;\r\n\tb={signature_value}"),
            ("ARC-Message-Signature", f"i=1; a=rsa-sha256; c=relaxed/relaxed; d=corpus.test; s=arc;\r\n\th=from:to:subject; bh=AAAA; b={signature_value}"),
            ("ARC-Authentication-Results", "i=1; mx.corpus.test; dkim=pass header.d=corpus.test; spf=pass smtp.mailfrom=corpus.test"),
            ("DKIM-Signature", f"v=1; a=rsa-sha256; c=relaxed/relaxed; d=corpus.test; s=sel;\r\n\th=from:to:subject:date; bh=AAAA;\r\n\tb={signature_value}"),
            ("Received-SPF", "pass (corpus.test: domain of writer@corpus.test designates 192.0.2.1 as permitted sender)"),
        ],
        "Servers have signed this.\n",
    )
    nested = part([("Content-Type", "multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=in")], multipart("in", [SIGNED, signature]))
    footer = part([("Content-Type", "text/plain; charset=us-ascii"), ("Content-Disposition", "inline")], "_______\nA list's footer")
    yield "signed-with-list-footer", mail("[list] signed", [("Content-Type", "multipart/mixed; boundary=list"), ("List-Id", "<list.corpus.test>")], multipart("list", [nested, footer]))
    yield "signed-missing-signature", mail("half", [("Content-Type", smime)], multipart("----=_smime", [SIGNED]))
    yield "signed-bare-dashes", mail("dashes", [("Content-Type", "multipart/signed; boundary=--; protocol=\"application/pgp-signature\"")], crlf("----\n\nodd boundary\n----\nContent-Type: application/pgp-signature\n\nx\n------\n"))
