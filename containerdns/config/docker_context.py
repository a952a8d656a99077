"""The Docker context that the docker command would use; the only user of the Docker SDK.

The SDK knows where contexts and their TLS files are stored.  It is imported only if there may be
a context other than the default one, since that costs 50 ms and 6 MB.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from containerdns.errors import BadSettings

DEFAULT = "default"  # not a stored context: it means DOCKER_HOST or the default socket
VARIABLE = "DOCKER_CONTEXT"


class Context(NamedTuple):
    """A Docker context other than the default one.

    Attributes:
        name: As `docker context ls` shows it.
        host: The URL of its Engine, as it was configured.
        tls: The directory of ca.pem, cert.pem and key.pem; None without TLS.
        verifies: Whether the Engine's certificate is verified.
    """

    name: str
    host: str
    tls: Path | None
    verifies: bool


def current(environ: Mapping[str, str]) -> Context | None:
    """Return the context that `DOCKER_CONTEXT`, else `docker context use`, has chosen.

    Args:
        environ: `os.environ`, which the SDK reads as well.

    Returns:
        None if that is the default one.

    Raises:
        BadSettings: There is no such context, or it cannot be read.
    """
    name = environ.get(VARIABLE, "")
    if name == DEFAULT or not (name or _has_config_file(environ)):
        return None
    from docker.context import ContextAPI

    source = VARIABLE if name else str(_config_file(environ))
    try:
        found: Any = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    except Exception as error:
        raise BadSettings(source, name, f"a readable Docker context ({error})") from error
    if found is None:
        raise BadSettings(source, name, "a Docker context; `docker context ls` lists them")
    return None if found.name == DEFAULT else _context_of(found)


def _context_of(found: Any) -> Context:
    """Convert the SDK's context object."""
    tls = found.TLSConfig
    directory = Path(tls.ca_cert).parent if tls is not None and tls.ca_cert else None
    return Context(found.name, found.Host, directory, bool(tls is None or tls.verify))


def _has_config_file(environ: Mapping[str, str]) -> bool:
    """Return whether there is a configuration file; one of another user is ignored."""
    file = _config_file(environ)
    return os.access(file, os.R_OK) and file.is_file()


def _config_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the docker command's configuration file."""
    folder = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    return Path(folder, "config.json")
