"""URLs of buckets, and where the credentials for them are.

No credential is ever sent to find out whether there is one: the provider's files and variables are
looked at, and a machine's own role service is asked only on that provider's machines.
"""

from __future__ import annotations

import os
import re

from ..base.urls import quote_name, redact, scheme
from ..errors import ConfigError, MissingExtraError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class BucketUrl:
    """A bucket, a prefix in it, and the service that has it, of a URL: see `Store`."""

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        self.kind = scheme(url)
        rest = url.partition("://")[2]
        if rest.startswith(("http://", "https://")):
            protocol, _, rest = rest.partition("://")
            host, _, rest = rest.partition("/")
            endpoint = endpoint or f"{protocol}://{host}"
        elif self.kind == "az" and ".blob." in rest.partition("/")[0]:
            host, _, rest = rest.partition("/")
            endpoint = endpoint or f"https://{host}"
        self.bucket, _, prefix = rest.partition("/")
        self.prefix = prefix.strip("/")
        self.endpoint = checked_endpoint(endpoint) if endpoint else None
        if not _BUCKET.fullmatch(self.bucket) or "?" in rest:
            raise ConfigError(
                f"{redact(url)}: expected {self.kind}://BUCKET/PREFIX",
                hint="credentials belong into the environment, a profile or secrets=, "
                "an endpoint into endpoint= or s3://https://ENDPOINT/BUCKET/PREFIX",
            )


#: What providers let the names of buckets consist of; ``$web`` is Azure's.
_BUCKET = re.compile(r"\$?[A-Za-z0-9][A-Za-z0-9._-]*")


def checked_endpoint(endpoint: str) -> str:
    """Return the URL of a service without a closing slash."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(endpoint)
        good = parts.hostname and parts.port != 0 and parts.scheme in ("http", "https")
    except ValueError:
        good = None  # such as a port that is no number
    if not good or "@" in endpoint or any(c.isspace() for c in endpoint):
        raise ConfigError(
            f"{redact(endpoint)}: expected an endpoint as https://HOST:PORT",
            hint="credentials belong into the environment, a profile or secrets=",
        )
    return endpoint.rstrip("/")


def web_address(url: str) -> str:
    """Return the web address of a public bucket."""
    place = BucketUrl(url)
    if place.endpoint is not None:
        base = f"{place.endpoint}/{place.bucket}"
    elif place.kind == "gs":
        base = f"https://storage.googleapis.com/{place.bucket}"
    elif place.kind == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        if not account:
            raise ConfigError(
                f"{redact(url)} does not say which account has the container",
                hint=f"write az://ACCOUNT.blob.core.windows.net/{place.bucket}/",
            )
        base = f"https://{account}.blob.core.windows.net/{place.bucket}"
    elif "." in place.bucket:  # as a part of the host name it would not fit the certificate
        base = f"https://s3.amazonaws.com/{place.bucket}"
    else:
        base = f"https://{place.bucket}.s3.amazonaws.com"
    return f"{base}/{quote_name(place.prefix)}/" if place.prefix else f"{base}/"


def read_secrets(secrets: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return credentials, of a mapping or a JSON file, with their names in lower case."""
    found: Any = secrets
    if isinstance(secrets, (str, os.PathLike)):
        import json

        try:
            with open(os.path.expanduser(secrets), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not JSON"
            raise ConfigError(f"secrets: {secrets}: {reason}") from None
    if not hasattr(found, "items"):
        raise ConfigError(f"secrets: expected a mapping, found {type(found).__name__}")
    return {str(key).lower(): value for key, value in found.items()}


def _machine_of(vendor: str) -> bool:
    """Return True if this machine is a provider's own, from what its firmware says."""
    for name in ("sys_vendor", "product_name", "board_asset_tag"):
        try:
            with open(f"/sys/devices/virtual/dmi/id/{name}", encoding="ascii") as file:
                if vendor.lower() in file.read().lower():
                    return True
        except (OSError, ValueError):
            continue
    return False


def aws_profile() -> dict[str, str]:
    """Return what Amazon's configuration files say for the profile in use."""
    import configparser

    wanted = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    profile = wanted or "default"
    found: dict[str, str] = {}
    section = profile if profile == "default" else f"profile {profile}"
    places = (
        ("AWS_CONFIG_FILE", "~/.aws/config", section),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", profile),
    )
    for variable, default, section in places:
        path = os.path.expanduser(os.environ.get(variable) or default)
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except configparser.Error:
            raise ConfigError(f"{path}: cannot be parsed") from None
        if parser.has_section(section):
            found.update(parser.items(section))
    if wanted and not found:
        raise ConfigError(
            f"AWS_PROFILE names the profile {wanted!r}, which neither ~/.aws/config nor "
            "~/.aws/credentials has"
        )
    return found


#: Amazon's environment, container and web-identity credentials, which the driver reads by itself.
_AWS_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


def aws_credentials() -> tuple[dict[str, Any], Callable[[], Any] | None] | None:
    """Find Amazon credentials where its own tools do: settings, and a source of expiring keys."""
    if any(os.environ.get(name) for name in _AWS_ENVIRONMENT):
        return {}, None
    profile = aws_profile()
    settings: dict[str, Any] = {}
    if profile.get("region"):
        settings["region"] = profile["region"]
    if profile.get("endpoint_url"):
        settings["endpoint"] = profile["endpoint_url"]
    if profile.get("aws_access_key_id") and not profile.get("role_arn"):
        settings["access_key_id"] = profile["aws_access_key_id"]
        settings["secret_access_key"] = profile.get("aws_secret_access_key", "")
        if profile.get("aws_session_token"):
            settings["session_token"] = profile["aws_session_token"]
        return settings, None
    if any(key.startswith(("sso_", "role_arn", "credential_process")) for key in profile):
        return settings, _boto_provider()
    if _machine_of("Amazon EC2"):
        return settings, None  # the machine's role
    return None


def _boto_provider() -> Callable[[], Any]:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise MissingExtraError(
            "the profile in ~/.aws/config logs in by a role, a command or single sign-on, "
            "which needs boto3",
            hint="pip install boto3",
        ) from None
    provider: Callable[[], Any] = Boto3CredentialProvider(boto3.Session())
    return provider


def google_credentials() -> bool:
    """Return True if Google's default credentials are here."""
    names = ("APPLICATION_CREDENTIALS", "SERVICE_ACCOUNT", "SERVICE_ACCOUNT_KEY")
    if any(os.environ.get(f"GOOGLE_{name}") for name in names):
        return True
    base = os.environ.get("CLOUDSDK_CONFIG") or (
        os.path.join(os.environ.get("APPDATA", ""), "gcloud")
        if os.name == "nt"
        else os.path.expanduser("~/.config/gcloud")
    )
    path = os.path.join(base, "application_default_credentials.json")
    return os.path.exists(path) or _machine_of("Google")


def azure_credentials() -> bool:
    """Return True if Azure credentials are in the environment."""
    names = ("ACCOUNT_KEY", "ACCESS_KEY", "SAS_KEY", "SAS_TOKEN", "CLIENT_SECRET", "TOKEN")
    if any(os.environ.get(f"AZURE_STORAGE_{name}") for name in names):
        return True
    return bool(
        os.environ.get("AZURE_CLIENT_ID")
        or os.environ.get("AZURE_FEDERATED_TOKEN_FILE")
        or os.environ.get("AZURE_USE_AZURE_CLI")
    )
