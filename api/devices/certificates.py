"""Client certificates as devices bring them: read, and refused where they protect nothing."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from core.errors import FieldError, InvalidInputError

_RSA_BITS: Final = 2048
_EC_BITS: Final = 256
_MAX_SUBJECT: Final = 500
_POINTER: Final = "/certificate"
_USES: Final = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What is stored of a certificate.

    Attributes:
        sha256: Of its DER form; TLS servers know a client by it.
        subject: Its subject (RFC 4514), cut to what can be stored.
        expires_at: When it ends.
    """

    sha256: bytes
    subject: str
    expires_at: datetime


def read_certificate(pem: str) -> ClientCertificate:
    """Read one certificate.

    Who signed it does not matter: the device is known by this very certificate. So it need not
    come from an authority, and a strong key is all that is asked of it.

    Raises:
        InvalidInputError: It is not one certificate in PEM, has ended, is not meant for clients,
            or has a key that could be broken.
    """
    if "PRIVATE KEY-----" in pem:
        raise _refused(
            "This holds a private key, which nobody but the device may have.",
            "Send the certificate alone, and give the device another key.",
        )
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, UnicodeEncodeError) as error:
        raise _refused(
            "This is no X.509 certificate in PEM form.",
            "It begins with -----BEGIN CERTIFICATE-----.",
        ) from error
    if len(found) != 1:
        raise _refused(
            f"There are {len(found)} certificates in it.",
            "Send the device's own certificate, without those that signed it.",
        )
    certificate = found[0]
    try:
        _check_key(certificate)
        _check_use(certificate)
        subject = certificate.subject.rfc4514_string()
        ends = certificate.not_valid_after_utc
    except (ValueError, x509.UnsupportedGeneralNameType) as error:
        raise _refused("The certificate is damaged: parts of it cannot be read.", None) from error
    if ends <= datetime.now(UTC):
        raise _refused(f"The certificate ended at {ends.isoformat()}.", None)
    der = certificate.public_bytes(Encoding.DER)
    shown = subject.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_MAX_SUBJECT]
    return ClientCertificate(hashlib.sha256(der).digest(), shown, ends)


def _check_key(certificate: x509.Certificate) -> None:
    match certificate.public_key():
        case RSAPublicKey(key_size=bits) if bits < _RSA_BITS:
            raise _refused(f"Its RSA key has {bits} bits; {_RSA_BITS} are the least.", None)
        case EllipticCurvePublicKey(key_size=bits) if bits < _EC_BITS:
            raise _refused(f"Its key has {bits} bits; {_EC_BITS} are the least.", None)
        case RSAPublicKey() | EllipticCurvePublicKey() | Ed25519PublicKey() | Ed448PublicKey():
            pass
        case _:
            raise _refused("Its key is of a kind that TLS does not use.", "RSA, EC or Ed25519.")


def _check_use(certificate: x509.Certificate) -> None:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not any(use in uses for use in _USES):
        raise _refused(
            "The certificate is not meant for clients.",
            "Its extended key usage must include clientAuth, or be absent.",
        )


def _refused(message: str, hint: str | None) -> InvalidInputError:
    return InvalidInputError(
        "The certificate cannot be used.", errors=(FieldError(_POINTER, message, hint),)
    )
