"""Google and Azure, and where each cloud's credentials are looked for.

No credential is ever sent to find out whether there is one: the provider's files and variables are
looked at, and a machine's own role service is asked only on that provider's machines.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

from ..base import hashes
from ..base.hashes import Digest
from ..errors import ConfigError, MissingExtraError, UnsupportedOperationError
from . import naming
from .base import Primitives
from .cloud import SHA256, CloudStore
from .cloudclient import Credentials
from .objects import UNREADABLE, Attributes


def picked(known: Mapping[str, Any], needed: tuple[str, ...], *others: str) -> dict[str, Any]:
    """Return the secrets that obstore takes."""
    for name in needed:
        if name not in known:
            hint = f"expected {' and '.join(needed)}"
            raise ConfigError(f"secrets: {name} is missing", hint=hint)
    return {name: known.get(name) for name in (*needed, *others, "expires_at")}


class Google(CloudStore):
    """A bucket of Google Cloud Storage.

    Secrets are the fields of a service account's JSON file, its path, or ``bearer_token``.
    """

    kind, maker, endpoint_word = "Google Cloud Storage", "GCSStore", "base_url"
    plain = ""  # so that the parts "." and ".." of a key are none of the path
    uploads_end = "give the bucket a lifecycle rule with AbortIncompleteMultipartUpload"
    has_tags = False

    def _public_headers(self) -> dict[str, str]:
        return {"x-goog-acl": "public-read"}

    def _credentials(self, secrets: dict[str, Any]) -> Credentials:
        given = self._options.get("secrets")
        found = given is not None or google_credentials()
        if callable(given):
            return {}, self.asked(lambda: picked(naming.read_secrets(given()), ("token",))), found
        if token := secrets.get("bearer_token") or secrets.get("token"):
            return {"bearer_token": token}, None, found
        return {"service_account_key": json.dumps(secrets)} if secrets else {}, None, found

    def _complete(self, config: dict[str, Any], client: dict[str, Any]) -> None:
        headers = client.setdefault("default_headers", {})
        headers["accept-encoding"] = "gzip"  # else Google unpacks what is stored compressed
        if self._options.get("request_payer"):
            headers["x-goog-user-project"] = self._options["request_payer"]

    def service(self) -> str:
        return self._endpoint() or "https://storage.googleapis.com"

    def signature(self, method: str, path: str, query: Mapping[str, str]) -> dict[str, str] | None:
        config, source, _ = self._credentials(self._secrets())
        token = source()["token"] if source else config.get("bearer_token")
        account = json.loads(config.get("service_account_key", "{}"))
        if not (token or account.get("disable_oauth")):
            token = account and _account_token(account)
            if not token:
                return None
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if self._options.get("request_payer"):
            headers["x-goog-user-project"] = self._options["request_payer"]
        return headers

    def _before_writing(self, name: str) -> None:
        self.client()
        if not self.signs:
            # obstore would ask the machine's metadata server for a token, which most have not
            command = "log in with 'gcloud auth application-default login'"
            hint = f"{command}, or give secrets="
            text = "Google takes no anonymous writes"
            raise self.failure(UnsupportedOperationError, name, text, hint=hint, command=command)


def _account_token(account: Mapping[str, str]) -> str | None:
    """Return a token that a service account signs itself, if the package for that is installed."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import padding
        from cryptography.hazmat.primitives.hashes import SHA256 as HASH
    except ImportError:
        return None
    now, who = int(time.time()), account["client_email"]
    scope = "https://www.googleapis.com/auth/devstorage.read_write"
    claims = {"iss": who, "sub": who, "scope": scope, "iat": now, "exp": now + 3600}
    head = {"alg": "RS256", "typ": "JWT", "kid": account.get("private_key_id", "")}

    def text(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    signed = ".".join(text(json.dumps(part).encode()) for part in (head, claims))
    key: Any = serialization.load_pem_private_key(account["private_key"].encode(), None)
    return f"{signed}.{text(key.sign(signed.encode(), padding.PKCS1v15(), HASH()))}"


class Azure(CloudStore):
    """A container of Azure Blob Storage.

    Secrets are ``account_name`` with ``account_key``, ``sas_token`` or ``token``.
    """

    kind, maker = "Azure", "AzureStore"
    signed_method = "GET"
    listing = (("restype", "container"), ("comp", "list"))
    turning = ("marker", "NextMarker")
    hides_markers = True
    uploads_end = "Azure removes blocks that were not committed after a week"

    def _secrets(self) -> dict[str, Any]:
        return {key.removeprefix("azure_storage_"): v for key, v in super()._secrets().items()}

    def _credentials(self, secrets: dict[str, Any]) -> Credentials:
        given = self._options.get("secrets")
        found = given is not None or azure_credentials()
        if callable(given):
            return {}, self.asked(given), found
        known = ("account_key", "sas_token", "token", "client_id", "client_secret", "tenant_id")
        words = {"sas_token": "sas_key"}
        return {words.get(k, k): secrets[k] for k in known if secrets.get(k)}, None, found

    def _complete(self, config: dict[str, Any], client: dict[str, Any]) -> None:
        config["account_name"] = self._account()
        if not config["account_name"]:
            raise naming.no_account(self._url)

    def _account(self) -> str:
        host = (self._place.endpoint or "").partition("://")[2]
        return str(
            self._secrets().get("account_name")
            or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
            or (host.partition(".blob.")[0] if ".blob." in host else "")
        )

    def service(self) -> str:
        return self._endpoint() or f"https://{self._account()}.blob.core.windows.net"

    def signature(self, method: str, path: str, query: Mapping[str, str]) -> dict[str, str] | None:
        """Sign as the service's "Shared Key" is described, or show a token."""
        config, source, _ = self._credentials(self._secrets())
        keys = dict(source()) if source else config
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        if keys.get("token"):
            return headers | {"authorization": f"Bearer {keys['token']}"}
        variables = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY")
        found = [keys.get("account_key"), *map(os.environ.get, variables)]
        secret = next(filter(None, found), None)
        if secret is None or keys.get("sas_key"):
            return None
        lines = [method, *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
        lines += [f"/{self._account()}{path}"]
        lines += [f"{name}:{value}" for name, value in sorted(query.items())]
        signed = hmac.digest(base64.b64decode(secret), "\n".join(lines).encode(), "sha256")
        shown = base64.b64encode(signed).decode()
        return headers | {"authorization": f"SharedKey {self._account()}:{shown}"}

    def _headers(self, kept: Attributes, content: bytes | memoryview | None) -> dict[str, str]:
        found = super()._headers(kept, content)
        if content is not None:
            found[SHA256] = hashes.hash_blocks((content,)).hex
        return found

    def all_attributes(self, name: str, attributes: Attributes) -> Attributes:
        found = self.headers_of(name)
        if found.get("x-ms-access-tier-inferred", "").lower() != "true":
            attributes = attributes.replaced(storage_class=found.get("x-ms-access-tier"))
        if found.get("x-ms-tag-count", "0") != "0":
            attributes.tags = UNREADABLE
        return attributes

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        if isinstance(source, Azure):
            kept = source.all_attributes(source_name, Attributes())
            if kept.storage_class or kept.tags:
                return False  # the service would not copy these
        return super().clone(name, source, source_name)

    def digest_of(self, meta: Mapping[str, Any], kept: Mapping[str, str]) -> Digest | None:
        value = kept.get(SHA256, "").lower()
        whole = len(value) == 64 and not value.strip("0123456789abcdef")
        return Digest("sha256", value) if whole else None


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
    settings: dict[str, Any] = {"region": profile["region"]} if profile.get("region") else {}
    if profile.get("aws_access_key_id") and not profile.get("role_arn"):
        settings["access_key_id"] = profile["aws_access_key_id"]
        settings["secret_access_key"] = profile.get("aws_secret_access_key", "")
        if profile.get("aws_session_token"):
            settings["session_token"] = profile["aws_session_token"]
        return settings, None
    if any(key.startswith(("sso_", "role_arn", "credential_process")) for key in profile):
        return settings, boto_provider()
    if _machine_of("Amazon EC2"):
        return settings, None  # the machine's role
    return None


def boto_provider() -> Callable[[], Any]:
    """Return Amazon's own library as a source of keys, for what obstore does not read."""
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
    own = ("ACCOUNT_KEY", "ACCESS_KEY", "SAS_KEY", "SAS_TOKEN", "CLIENT_SECRET", "TOKEN")
    names = [f"STORAGE_{name}" for name in own]
    names += ["CLIENT_ID", "FEDERATED_TOKEN_FILE", "USE_AZURE_CLI"]
    return any(os.environ.get(f"AZURE_{name}") for name in names)
