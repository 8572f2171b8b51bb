"""What a certificate says: the names that it is for, and whether it signed itself."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignflow.data.errors import UserError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def is_self_signed(certificate: Path | None) -> bool:
    """Whether clients must be told to trust it; False without one."""
    loaded = _load(certificate)
    return loaded is not None and loaded.issuer == loaded.subject


def names_in(certificate: Path | None) -> list[str]:
    """The host names and addresses that it is for, without wildcards; empty without one."""
    names, addresses = _names(certificate)
    return [*(name for name in names if not name.startswith("*")), *map(str, addresses)]


def is_for(certificate: Path, name: str) -> bool:
    """Whether clients take it for a host name or address; a wildcard stands for one label. Raises UserError where it is none."""
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
            f"not a certificate in PEM ({error})", where=str(certificate), do="give another with --tls-certificate"
        ) from None
