"""
TLS: whom a server must prove to be, and who this client is. Verification cannot be turned off.

Imports the error tree only.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

from pep.errors import ConfigurationError, PEPError


def client_context(tls: object, ca: object, certificate: object) -> ssl.SSLContext:
    """
    Make or take a client's side of TLS.

    Args:
        tls: One of the user's own; None makes one.

        ca: The file of the certificates to trust instead of the system's.

        certificate: The client's: the file of the certificate, that of its key, and what returns the key's password.

    Raises:
        ConfigurationError: When verification is off, a file cannot be used, or there is too much of it.
    """
    if tls is None:
        context = _made(ca)
        if certificate is not None:
            _identify(context, certificate)
        return context
    if not isinstance(tls, ssl.SSLContext):
        message = f"`tls` must be an `ssl.SSLContext`, not `{type(tls).__name__}`"
        raise ConfigurationError(message)
    if ca is not None or certificate is not None:
        message = "`ca` and `certificate` belong into the context that `tls` brings; give either"
        raise ConfigurationError(message)
    check_context(tls, ConfigurationError)
    return tls


def check_context(context: ssl.SSLContext, kind: type[PEPError]) -> None:
    """Raise unless a context verifies certificates and the host they are for."""
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        message = "a TLS context must verify the server: `CERT_REQUIRED` and `check_hostname`"
        raise kind(message)


def _made(ca: object) -> ssl.SSLContext:
    if ca is not None and not isinstance(ca, (str, os.PathLike)):
        message = f"`ca` must be the path of a file, not `{type(ca).__name__}`"
        raise ConfigurationError(message)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        message = f"cannot read certificates from `{ca}`: {type(error).__name__}"
        raise ConfigurationError(message) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _identify(context: ssl.SSLContext, certificate: Any) -> None:  # noqa: ANN401  checked here
    message = "`certificate` must be a tuple: a certificate's path, its key's, and perhaps what returns the password"
    if type(certificate) is not tuple or len(certificate) not in {2, 3}:
        raise ConfigurationError(message)
    chain, key, password = (*certificate, None)[:3]
    paths = all(isinstance(path, (str, os.PathLike)) for path in (chain, key))
    if not paths or not (password is None or callable(password)):
        raise ConfigurationError(message)
    # Without one, OpenSSL would ask at the terminal.
    error = _loading(context, chain, key, password or (lambda: ""))
    if error is not None:
        # Without its cause, which may be that of the password.
        message = f"cannot use the certificate `{chain}` with its key: {error}"
        raise ConfigurationError(message)


def _loading(context: ssl.SSLContext, chain: Any, key: Any, password: Any) -> str | None:  # noqa: ANN401  checked above
    try:
        context.load_cert_chain(chain, key, password)
    except Exception as error:  # noqa: BLE001  a password is the user's code
        return type(error).__name__
    return None
