"""The contract of stores, on each kind there is."""

from __future__ import annotations

import pytest
from contract import CONTENT, StoreContract, read
from faults import FaultServer, ServedFolder

from pkgdata.errors import ConfigError, StoreError, UnsupportedOperationError
from pkgdata.stores import Body, Primitives, Store, canonical, http, open_store
from pkgdata.stores.objects import WHOLE


class TestFileStore(StoreContract):
    unsupported = frozenset({"attributes"})
    large = WHOLE + 1000

    @pytest.fixture
    def store(self, tmp_path):
        return Store((tmp_path / "a mirror #1").as_uri())


class TestMemoryStore(StoreContract):
    large = WHOLE + 1000

    @pytest.fixture
    def store(self, tmp_path):
        return Store(f"mem://{tmp_path}")  # a name that no other test uses


class TestFsspecStore(StoreContract):
    unsupported = frozenset({"attributes", "encode", "atomic"})
    large = WHOLE + 1000

    @pytest.fixture
    def store(self, tmp_path):
        pytest.importorskip("fsspec")
        return Store((tmp_path / "folder").as_uri().replace("file:", "local:"))


class TestHttpStore(StoreContract):
    unsupported = frozenset({"write", "list", "delete"})

    @pytest.fixture
    def server(self, tmp_path, monkeypatch):
        monkeypatch.setattr(http, "_sessions", {})
        (tmp_path / "served").mkdir()
        with FaultServer(ServedFolder(tmp_path / "served")) as found:
            yield found
        for session in http._sessions.values():
            session.close()

    @pytest.fixture
    def store(self, server):
        return open_store(server.url + "base/?version=1", timeout=20)

    @pytest.fixture
    def fill(self, server):
        return lambda name, content: server.contents.__setitem__(f"base/{name}", content)


# -- what only some have -----------------------------------------------------------------------


def test_store_without_a_name_is_one_object(tmp_path):
    (tmp_path / "a.txt").write_bytes(CONTENT)
    assert read(open_store((tmp_path / "a.txt").as_uri()).open("")) == CONTENT


def test_plain_path_is_a_folder(tmp_path):
    (tmp_path / "a.txt").write_bytes(CONTENT)
    assert read(open_store(str(tmp_path)).open("a.txt")) == CONTENT


def test_file_url_may_name_this_host_alone(tmp_path):
    (tmp_path / "a.txt").write_bytes(CONTENT)
    url = tmp_path.as_uri()
    assert read(open_store(url.replace("file://", "file://localhost")).open("a.txt")) == CONTENT
    with pytest.raises(StoreError, match="no other host"):
        open_store(url.replace("file://", "file://elsewhere"))


def test_memory_stores_of_one_name_share_their_objects(tmp_path):
    open_store(f"mem://{tmp_path}/one").write("a", CONTENT)
    assert read(open_store(f"mem://{tmp_path}/one/").open("a")) == CONTENT
    assert list(open_store(f"mem://{tmp_path}/two").list()) == []


def test_release_shorthand():
    assert (
        canonical("github:owner/repo@v1.0")
        == "https://github.com/owner/repo/releases/download/v1.0/"
    )


@pytest.mark.parametrize(
    "url", ["github:owner", "github:owner/repo", "github:a/b/c@v1", "gopher://a/"]
)
def test_unusable_urls_are_refused(url):
    with pytest.raises(ConfigError):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sftp://host", "expected sftp://"),
        ("sftp://host/~", "expected sftp://"),
        ("sftp://-oProxyCommand=x/folder", "expected sftp://"),
        ("sftp://-oProxyCommand=x@host/folder", "expected sftp://"),
        ("sftp://u:sesame@host/folder", "holds a password"),
    ],
)
def test_malformed_url_of_another_machine(url, said):
    with pytest.raises(ConfigError, match=said) as caught:
        Store(url)
    assert "sesame" not in str(caught.value)


def test_a_password_for_another_machine_is_refused():
    with pytest.raises(ConfigError, match="secrets"):
        Store("sftp://h/x", secrets={"password": "sesame"})


@pytest.mark.parametrize("verb", ["open", "info", "scan", "remove"])
def test_bare_store_can_do_nothing(verb):
    with pytest.raises(UnsupportedOperationError) as caught:
        getattr(Primitives("other://me:sesame@host/"), verb)("a")
    assert caught.value.url == "other://***@host/a"


def test_bare_body_cannot_be_read():
    with pytest.raises(UnsupportedOperationError), Body(0, None) as body:
        body.readinto(memoryview(bytearray(1)))
