"""Reads a certificate: its names, and whether it is self-signed."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignflow.data.errors import UserError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def is_self_signed(certificate: Path | None) -> bool:
    """Whether the certificate is self-signed, so that clients must be told to trust it; False without one."""
    loaded = _load(certificate)
    return loaded is not None and loaded.issuer == loaded.subject


def names_in(certificate: Path | None) -> list[str]:
    """The certificate's host names and addresses, without wildcards; empty without a certificate."""
    names, addresses = _names(certificate)
    return [*(name for name in names if not name.startswith("*")), *map(str, addresses)]


def is_for(certificate: Path, name: str) -> bool:
    """Whether a certificate is valid for a host name or address; a wildcard matches one label. Raises UserError if the file is not a certificate."""
    names, addresses = _names(certificate)
    try:
        return ipaddress.ip_address(name) in addresses
    except ValueError:
        found = {known.lower() for known in names}
        return name.lower() in found or f"*.{name.lower().partition('.')[2]}" in found


def _names(certificate: Path | None) -> tuple[list[str], list[Any]]:
    from cryptography import x509

    loaded = _load(certificate)
    if loaded is None:
        return [], []
    try:
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    return names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.IPAddress)


def _load(certificate: Path | None) -> Certificate | None:
    if certificate is None:
        return None
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"not a certificate in PEM ({error})", where=str(certificate), do="pass another file with --tls-certificate"
        ) from None
