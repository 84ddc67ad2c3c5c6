"""What the dialect of cloud-files does otherwise on purpose, and what is new."""

from __future__ import annotations

import bz2
import gzip
import os
import pickle
from pathlib import Path

import pytest
from cloudfiles_both import TEXT, filled
from werkzeug import Response

from pkgdata.compat import cloudfiles as ours
from pkgdata.errors import (
    ConfigError,
    IntegrityError,
    UnsafeNameError,
    UnsupportedOperationError,
)

# -- what differs on purpose -----------------------------------------------------------------------


def test_bytes_that_cannot_be_decoded_are_an_error(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "bad.gz").write_bytes(b"not a valid gzip stream")
    (folder / "short.gz").write_bytes(gzip.compress(TEXT)[:-4])
    (folder / "short.bz2").write_bytes(b"")
    (folder / "late.bz2").write_bytes(bz2.compress(TEXT)[:-4])
    (folder / "none.br").write_bytes(b"")
    files = ours.CloudFiles(f"file://{folder}")
    for name in ("bad", "short", "late", "none"):
        with pytest.raises(ours.exceptions.DecompressionError):
            files.get(name)
        with pytest.raises(ours.exceptions.DecompressionError):
            files.get([name], return_dict=True)
        (record,) = files.get([name], raise_errors=False)
        assert isinstance(record["error"], ours.exceptions.DecompressionError)
        assert record["content"] is None
    with pytest.raises(ours.exceptions.DecompressionError):
        files.get({"path": "short", "start": 0, "end": 5})  # a part cannot be decoded
    assert files.get({"path": "short", "start": 0, "end": 2}, raw=True) == b"\x1f\x8b"


def test_results_come_in_the_order_asked_for(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b"):
        files = ours.CloudFiles(url)
        names = [str(i) for i in range(300)]
        files.puts((name, name.encode()) for name in names)
        assert [record["path"] for record in files.get(names[::-1])] == names[::-1]
        assert [record["path"] for record in files.get(["1", "0", "1"])] == ["1", "0", "1"]
        assert list(files.exists(names[::-1])) == names[::-1]
        assert files.get_json(["7", "3", "7"]) == [7, 3, 7]


def test_one_level_is_listed_whatever_the_prefix(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b/x"):
        files = filled(ours, url)
        assert list(files.list("d", flat=True)) == ["dir/"]
        assert list(files.list("dir", flat=True)) == ["dir/c", "dir/sub/"]
        assert list(files.list("dir/s", flat=True)) == ["dir/sub/"]
        assert list(files.list(flat=True)) == ["a", "b", "dir/"]
        assert list(ours.CloudFiles(f"{url}-beside")) == []


def test_a_range_without_bytes_is_empty(tmp_path):
    files = ours.CloudFiles(f"file://{tmp_path}/x")
    files["a"] = b"0123"
    assert files["a", 3:1] == files["a", 9:20] == files["a", 0:0] == b""
    assert files["a", -2:] == b"23"


def test_names_that_leave_the_place_are_refused(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b/x"):
        files = ours.CloudFiles(url)
        for name in ("../a", "/etc/passwd", "a//b"):
            with pytest.raises(UnsafeNameError):
                files.put(name, b"1")
            with pytest.raises(UnsafeNameError):
                files.get(name)


def test_text_is_written_as_utf8():
    files = ours.CloudFiles("mem://b")
    files.put("a", "grün")
    assert files["a"] == "grün".encode()
    with pytest.raises(TypeError):
        files.put("set", {1, 2})


def test_a_tuple_alone_is_one_file():
    files = ours.CloudFiles("mem://b")
    assert files.puts(("a", b"1")) == 1
    assert files.put_jsons(("b", [1])) == 1
    assert files.get_json("b") == [1]


def test_allow_missing_makes_no_empty_object(tmp_path):
    source, dest = (ours.CloudFiles(f"file://{tmp_path}/{name}") for name in "ab")
    source["x"] = b"1"
    source.transfer_to(dest, paths=["gone", ("x", "y")], allow_missing=True)
    assert list(dest) == ["y"]


def test_a_sum_over_what_is_missing_is_an_error():
    files = filled(ours, "mem://b")
    with pytest.raises(FileNotFoundError, match="missing"):
        files.size(["a", "missing"], return_sum=True)


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("lucifer://bucket", {}, ours.exceptions.UnsupportedProtocolError),
        ("middleauth+https://example.org/x", {}, ours.exceptions.UnsupportedProtocolError),
        ("mem://b", {"request_payer": "requester"}, ValueError),
        ("file:///x", {"request_payer": "requester"}, ValueError),
        ("https://example.org", {"request_payer": "requester"}, ValueError),
        ("s3://b", {"request_payer": "somebody"}, ValueError),
        ("s3://b", {"secrets": "{not json"}, ConfigError),
    ],
)
def test_wrong_arguments_are_refused_at_once(url, options, error):
    with pytest.raises(error):
        ours.CloudFiles(url, **options)


def test_a_negative_number_of_processes_is_refused():
    with pytest.raises(ValueError, match="parallel must be >= 0"):
        ours.CloudFiles("mem://b").get(["a"], parallel=-1)


def test_arguments_without_effect_are_taken(tmp_path):
    files = ours.CloudFiles(
        f"file://{tmp_path}/x",
        green=True,
        locking=True,
        lock_dir=str(tmp_path / "locks"),
        composite_upload_threshold=10,
        secrets={"AWS_ACCESS_KEY_ID": "x"},
        no_sign_request=True,
    )
    files.put("a", b"1" * 100)
    files.clear_locks()
    assert files.get("a", part_size=5) == b"1" * 100
    assert not (tmp_path / "locks").exists()


# -- the web ---------------------------------------------------------------------------------------


def test_the_web_is_read_and_not_written(httpserver):
    packed = gzip.compress(TEXT)  # once: it holds the second in which it was made
    httpserver.expect_request("/d/info").respond_with_json({"x": 1})
    httpserver.expect_request("/d/packed").respond_with_data(
        packed, headers={"Content-Encoding": "gzip", "ETag": '"5"'}
    )
    httpserver.expect_request("/d/secret").respond_with_data("", status=403)
    files = ours.CloudFiles(httpserver.url_for("/d/"))
    assert files.get_json("info") == {"x": 1}
    assert files.get(["packed"])[0]["content"] == TEXT
    assert files.get("packed", raw=True) == packed
    assert files.head("packed")["content-encoding"] == "gzip"
    # a bucket answers 403 of what is missing to who may not list it
    httpserver.expect_request("/d/gone").respond_with_data("", status=404)
    for name in ("secret", "gone"):
        assert files.get(name) is None
        assert files.exists(name) is False
        assert files.head(name) is None
        assert files.size(name) is None
    for action in (lambda: files.put("a", b"1"), lambda: list(files), lambda: files.delete("a")):
        with pytest.raises(UnsupportedOperationError):
            action()
    httpserver.expect_request("/d").respond_with_data("")
    assert files.isdir() is True
    assert ours.CloudFiles(httpserver.url_for("/d/info")).isdir() is False


def test_a_login_is_taken_from_the_secrets_and_never_shown(httpserver):
    def answer(request):
        login = request.authorization
        right = login is not None and (login.username, login.password) == ("me", "p@ss/word")
        return Response(b"in" if right else b"", 200 if right else 401)

    httpserver.expect_request("/x/a").respond_with_handler(answer)
    url = httpserver.url_for("/x")
    files = ours.CloudFiles(url, secrets={"user": "me", "password": "p@ss/word"})
    assert files["a"] == b"in"
    assert pickle.loads(pickle.dumps(files))["a"] == b"in"
    assert "word" not in repr(files) + files.place.store.url + files.cloudpath
    home = Path(os.environ["HOME"], ".cloudvolume", "secrets")
    home.mkdir(parents=True)
    (home / "http-secret.json").write_text('{"user": "me", "password": "p@ss/word"}')
    assert ours.CloudFiles(url)["a"] == b"in"


def test_a_wrong_checksum_is_an_error(httpserver):
    httpserver.expect_request("/a").respond_with_data(
        TEXT, headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    )
    files = ours.CloudFiles(httpserver.url_for("/"))
    with pytest.raises(IntegrityError) as caught:
        files.get("a")
    assert isinstance(caught.value, ours.exceptions.MD5IntegrityError)
    (record,) = files.get(["a"], raise_errors=False)
    assert isinstance(record["error"], IntegrityError)
    assert record["content"] is None


def test_a_download_to_disk_is_whole_or_not_there(httpserver, tmp_path):
    httpserver.expect_request("/a").respond_with_data(
        TEXT, headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    )
    with pytest.raises(IntegrityError):
        ours.CloudFiles(httpserver.url_for("/")).transfer_to(f"file://{tmp_path}/x", ["a"])
    assert [name for _, _, names in os.walk(tmp_path / "x") for name in names] == []


# -- many ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_worker_processes_do_the_same(tmp_path):
    files = ours.CloudFiles(f"file://{tmp_path}/x")
    names = [f"n{i:03d}" for i in range(150)]
    assert files.puts([(name, name.encode()) for name in names], parallel=2) == 150
    records = files.get(names, parallel=2)
    assert {record["path"]: record["content"] for record in records} == {
        name: name.encode() for name in names
    }
    assert files.delete(names[:100], parallel=2) == 100
    assert list(files) == names[100:]


def test_memory_is_not_split_between_processes():
    files = ours.CloudFiles("mem://b", parallel=2)
    files.puts([("a", b"1"), ("b", b"2")], parallel=4)
    assert files.get(["a", "b"], return_dict=True) == {"a": b"1", "b": b"2"}


def test_bars_are_drawn_when_asked_for(capsys):
    files = ours.CloudFiles("mem://b", progress="of mine")
    files.puts([("a", b"1"), ("b", b"2")])
    assert "Upload of mine" in capsys.readouterr().err
    files.get(["a", "b"], progress=False)
    assert capsys.readouterr().err == ""

    class Counter:
        count = 0

        def update(self, count):
            self.count += count

    bar = Counter()
    files.get((name for name in "ab"), total=2, progress=bar)
    files.get_json([], total=0)
    assert bar.count == 2


def test_the_recording_has_rates():
    files = filled(ours, "mem://b")
    _, first = files.get(["a", "b"], return_recording=True)
    second = files.transfer_to("mem://c", paths=["dir/c"])
    merged = pickle.loads(pickle.dumps(ours.TransmissionMonitor.merge([first, second])))
    assert first.total_bytes() == 3
    assert merged.total_bytes() == first.total_bytes() + second.total_bytes()
    assert sum(merged.histogram(0.5)) == merged.total_bytes()
    assert merged.total_bps() > 0
    assert merged.total_MBps() == pytest.approx(merged.total_Mbps() / 8)
    assert merged.end_unix_time() > merged.start_unix_time()
    assert ours.TransmissionMonitor.merge([]).total_bps() == 0
    with pytest.raises(ValueError, match="Resolution"):
        merged.histogram(0)


def test_the_content_type_of_copies_can_be_set():
    source = ours.CloudFiles("mem://a")
    source.put("x", TEXT, compress="gzip", content_type="text/plain")
    source.transfer_to("mem://b", content_type="image/png")
    source.transfer_to("mem://c", content_type="image/png", reencode="")
    for bucket, encoding in (("mem://b", "gzip"), ("mem://c", None)):
        files = ours.CloudFiles(bucket)
        assert files["x"] == TEXT
        assert files.head("x")["Content-Type"] == "image/png"
        assert files.head("x")["Content-Encoding"] == encoding
    assert source.head("x")["Content-Type"] == "text/plain"


def test_subtrees_are_counted(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b/x"):
        files = filled(ours, url)
        assert files.subtree_size() == {"N": 4, "num_bytes": 6 + len(TEXT)}
        assert files.subtree_size("dir/") == {"N": 2, "num_bytes": 3 + len(TEXT)}
        assert files.subtree_size(["a", "b"]) == {"N": 2, "num_bytes": 3}
        assert list(files.list(size=True))[:2] == [("a", 1), ("b", 2)]


def test_permissions_of_files(tmp_path):
    files = filled(ours, f"file://{tmp_path}/x")
    os.chmod(tmp_path / "x" / "a", 0o640)
    assert files.get_acl(["a", "missing"])["a"] & 0o777 == 0o640
    assert files.get_acl(["a", "missing"])["missing"] is None
    assert filled(ours, "mem://b").get_acl("a") == {"a": None}
    with pytest.raises(UnsupportedOperationError):
        ours.CloudFiles("https://example.org").get_acl("a")


def test_one_file_remembers_its_head_and_size(tmp_path):
    file = ours.CloudFile(f"file://{tmp_path}/a", cache_meta=True)
    file[:] = b"123"
    assert (file.size(), file.head()["Content-Length"]) == (3, 3)
    (tmp_path / "a").write_bytes(b"12345")
    assert (file.size(), file.head()["Content-Length"]) == (3, 3)
    assert file.get([slice(1, 3), (0, 1), {"start": 4}])[2]["content"] == b"5"
    file.put(b"1234567")
    assert (file.size(), len(file)) == (7, 7)
    with pytest.raises(KeyError):
        file[0:2] = b"x"
