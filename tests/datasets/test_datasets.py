"""Datasets of this computer: the rules, `Dataset`, its place, the settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from datasetting import FLOWER, make, read, visible

import pkgdata
from pkgdata import ConfigError, DatasetError, OfflineError, UnknownNameError, datasets
from pkgdata.base.fs import discard
from pkgdata.datasets.config import own_home
from pkgdata.datasets.home import Home, Pulled
from pkgdata.datasets.repository import Manifest, Spot


@pytest.fixture
def config(tmp_path):
    return datasets.Config(home=tmp_path / "data")


@pytest.fixture
def flower(tmp_path):
    return make(tmp_path / "flower", FLOWER)


# -- the rules -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "rule"),
    [
        ({"train/a.txt": b""}, "it must have a directory data/, and has none"),
        ({"data": b"a file"}, "it must have a directory data/, and has none"),
        ({"data/": b""}, "data/ must hold at least one partition, and is empty"),
        (
            {"data/train/a.txt": b"", "data/stray.txt": b""},
            "data/ must hold directories alone, and holds data/stray.txt",
        ),
        (
            {f"data/{number}.txt": b"" for number in range(5)},
            "and holds data/0.txt, data/1.txt, data/2.txt and 2 more",
        ),
    ],
)
def test_a_directory_that_is_no_dataset_is_refused_with_the_rule_it_breaks(
    tmp_path, config, contents, rule
):
    folder = make(tmp_path / "wrong", contents)
    for attempt in (
        lambda: datasets.register(folder, config=config),
        lambda: pkgdata.Dataset(folder),
    ):
        with pytest.raises(DatasetError, match="is no dataset") as caught:
            attempt()
        assert rule in str(caught.value)
        assert caught.value.path == str(folder)
        assert isinstance(caught.value, ValueError)
    assert not os.path.exists(config.home)


def test_a_missing_directory_is_no_dataset(tmp_path, config):
    with pytest.raises(DatasetError, match="it is not there"):
        datasets.register(tmp_path / "nowhere", config=config)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatasetError, match="a file, not a directory"):
        datasets.register(tmp_path / "file", config=config)


# -- Dataset ---------------------------------------------------------------------------------


def test_a_dataset_is_a_mapping_of_partitions(flower):
    ds = pkgdata.Dataset(flower)
    assert ds.keys() == {"train", "val"}
    assert ds.partitions() == list(ds) == ["train", "val"]
    assert len(ds) == 2
    assert "train" in ds
    assert "test" not in ds
    assert ds["train"] == flower.resolve() / "data" / "train"
    assert dict(ds.items()) == {"train": ds["train"], "val": ds["val"]}
    assert list(ds.values()) == [ds["train"], ds["val"]]
    assert ds.root == ds.location == flower.resolve()
    assert ds.data == ds.root / "data"
    assert ds.file("README.md").read_bytes() == FLOWER["README.md"]
    assert ds.file("assets", "notes.txt").is_file()
    assert ds.meta == {"classes": ["rose", "tulip"]}
    assert ds.name == "flower"
    assert repr(ds) == f"<Dataset flower at {ds.root}>"


def test_its_manifest_is_a_registry_whose_digest_is_its_identity(flower, tmp_path):
    first = pkgdata.Dataset(flower).manifest()
    assert list(first) == sorted(FLOWER)
    other = pkgdata.Dataset(make(tmp_path / "other", FLOWER)).manifest()
    assert first.digest() == other.digest()
    (tmp_path / "other" / "data" / "val" / "new").write_bytes(b"")
    assert pkgdata.Dataset(tmp_path / "other").manifest().digest() != first.digest()


def test_without_meta_json_there_is_no_meta(tmp_path):
    assert pkgdata.Dataset(make(tmp_path / "d", {"data/train/": b""})).meta == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [(b"{", "not JSON"), (b"[" * 100_000, "nested too deeply"), (b"[1]", "found list")],
)
def test_a_wrong_meta_json_is_named_when_it_is_read(tmp_path, text, problem):
    ds = pkgdata.Dataset(make(tmp_path / "d", {"data/train/": b"", "meta.json": text}))
    assert ds.keys() == {"train"}
    with pytest.raises(DatasetError, match=problem) as caught:
        _ = ds.meta
    assert caught.value.path.endswith("meta.json")


def test_an_unknown_partition_names_similar_ones(flower):
    with pytest.raises(UnknownNameError, match="no partition 'trian'") as caught:
        pkgdata.Dataset(flower)["trian"]
    assert caught.value.close == ["train"]
    assert isinstance(caught.value, KeyError)


def test_parts_of_paths_are_no_partitions(flower):
    with pytest.raises(UnknownNameError):
        pkgdata.Dataset(flower)[".."]


# -- register, create, purge, ls -------------------------------------------------------------


def test_a_registered_dataset_is_a_link_to_the_directory(flower, config):
    datasets.register(flower, config=config)
    link = Path(config.home) / "flower"
    assert link.is_symlink()
    assert link.resolve() == flower.resolve()
    ds = pkgdata.dataset("flower", config=config)
    assert ds.root == flower.resolve()
    datasets.register(flower, "other", config=config)
    assert datasets.ls(config=config) == ["flower", "other"]
    assert pkgdata.dataset("other", config=config).name == "other"


def test_purging_a_registered_dataset_keeps_the_directory(flower, config):
    datasets.register(flower, config=config)
    assert datasets.purge("flower", config=config) == str(Path(config.home) / "flower")
    assert read(flower) == FLOWER
    assert os.listdir(config.home) == []


def test_created_datasets_have_empty_partitions(config):
    ds = datasets.create("new", config=config)
    assert ds.keys() == {"train", "test"}
    assert datasets.create("one", ["all"], config=config).keys() == {"all"}
    assert os.path.isdir(os.path.join(config.home, "new"))
    with pytest.raises(DatasetError, match="no partition"):
        datasets.create("none", [], config=config)
    assert visible(config.home) == ["new", "one"]


def test_a_name_that_is_taken_is_replaced_only_if_forced(flower, config):
    datasets.create("flower", config=config)
    for again in (
        lambda force: datasets.register(flower, config=config, force=force),
        lambda force: datasets.create("flower", config=config, force=force),
    ):
        with pytest.raises(DatasetError, match="there is a dataset 'flower' here already") as error:
            again(False)
        assert error.value.taken
        again(True)
    assert datasets.dataset("flower", config=config).keys() == {"train", "test"}
    assert read(flower) == FLOWER
    assert os.listdir(config.home) == ["flower"]


def test_replacing_a_dataset_by_itself_is_refused(config):
    ds = datasets.create("new", config=config)
    with pytest.raises(DatasetError, match="is the dataset new already"):
        datasets.register(ds.root, "new", force=True, config=config)
    assert ds.keys() == {"train", "test"}


def test_purging_what_is_not_here_is_no_error(config):
    assert datasets.purge("nothing", config=config) is None
    datasets.create("new", config=config)
    assert datasets.purge("nothing", config=config) is None
    assert datasets.purge("new", config=config, dry_run=True)
    assert datasets.ls(config=config) == ["new"]
    assert datasets.purge("new", config=config)
    assert datasets.ls(config=config) == []


def test_looking_creates_no_folder(config):
    assert datasets.ls(config=config) == []
    with pytest.raises(UnknownNameError):
        datasets.dataset("flower", config=config)
    assert not os.path.exists(config.home)


def test_an_unknown_name_names_similar_ones(flower, config):
    datasets.register(flower, config=config)
    with pytest.raises(UnknownNameError, match="'flwer' is not in") as caught:
        datasets.dataset("flwer", config=config)
    assert caught.value.close == ["flower"]
    assert caught.value.hint == "did you mean flower?"


def test_a_registered_directory_that_is_gone_is_reported(flower, config):
    datasets.register(flower, config=config)
    flower.rename(flower.with_name("moved"))
    with pytest.raises(DatasetError, match=r"its folder .*flower is gone"):
        datasets.dataset("flower", config=config)
    datasets.purge("flower", config=config)
    assert datasets.ls(config=config) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\\b", "nul", "a\nb"])
def test_names_that_could_leave_the_folder_are_refused(config, name):
    for attempt in (datasets.dataset, datasets.create, datasets.purge, datasets.pull):
        with pytest.raises(DatasetError, match="cannot name a dataset"):
            attempt(name, config=config.replaced(url="mem://names"))
    assert not os.path.exists(config.home)


def test_what_killed_processes_left_is_removed(config):
    datasets.create("new", config=config)
    place = pkgdata.base.owners.token().rpartition("-")[0]
    for owner in (f"{place}-999999999-00000000", f"{pkgdata.base.owners.token()}-00000000"):
        make(Path(config.home) / f".new.{owner}.tmp", {"data/train/half": b""})
    (Path(config.home) / ".new.other.tmp").mkdir()  # not ours to judge
    datasets.create("other", config=config)
    left = [name for name in os.listdir(config.home) if name.startswith(".")]
    assert sorted(left) == [f".new.{pkgdata.base.owners.token()}-00000000.tmp", ".new.other.tmp"]


# -- the folder of the datasets --------------------------------------------------------------


def manifest(**contents):
    entries = [
        pkgdata.Entry(name, pkgdata.Digest("sha256", "0" * 64), size)
        for name, size in contents.items()
    ]
    spots = {entry.digest: Spot(None) for entry in entries}
    return Manifest(pkgdata.Registry(entries), spots, [], [], {})


def test_a_manifest_of_another_folder_does_not_count(tmp_path):
    home = Home(str(tmp_path / "home"))
    home.prepare()
    with home.aside("a") as aside:
        assert home.commit("a", aside, Pulled(manifest(x=1), ["p", "q,r"]), replace=False)
    assert home.record("a").partitions == ["p", "q,r"]
    assert list(home.record("a").manifest.registry) == ["x"]
    os.rename(home.path("a"), home.path("b"))
    make(tmp_path / "home" / "a", {"data/train/": b""})  # as another program would
    assert home.record("a") is None
    (tmp_path / "home" / ".a.manifest").write_text("damaged")
    assert home.record("a") is None


def test_without_an_exchange_of_folders_the_old_one_goes_first(tmp_path, monkeypatch):
    from pkgdata.cache import staging as module

    monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    home = Home(str(tmp_path / "home"))
    home.prepare()
    for content in (b"1", b"2"):
        with home.aside("a") as aside:
            make(Path(aside), {"file": content})
            assert home.commit("a", aside, None, replace=True)
    assert read(home.path("a")) == {"file": b"2"}
    assert os.listdir(home.folder) == ["a"]


def test_discarding_a_link_leaves_what_it_leads_to(tmp_path, flower):
    os.symlink(flower, tmp_path / "link")
    discard(str(tmp_path / "link"))
    assert read(flower) == FLOWER
    discard(str(tmp_path / "link"))  # it is gone


def test_discarding_removes_what_is_read_only(tmp_path):
    folder = make(tmp_path / "d", {"deep/file": b""})
    (folder / "deep" / "file").chmod(0o400)
    (folder / "deep").chmod(0o500)
    discard(str(folder))
    assert not folder.exists()


# -- settings --------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def own_file(home, text):
    folder = home / "xdg_config_home" / "pkgdata"
    folder.mkdir(parents=True)
    (folder / "datasets.toml").write_text(text)


def test_without_files_there_is_a_place_and_no_repository(home):
    config = datasets.Config.load()
    assert config.home == own_home() == str(home / "xdg_data_home" / "pkgdata" / "datasets")
    assert config.url is None
    with pytest.raises(ConfigError, match="no repository is set") as caught:
        datasets.pull("flower", config=config)
    assert "datasets.toml" in caught.value.hint


def test_variables_in_the_file_are_expanded(home, monkeypatch):
    own_file(home, 'url = "/group/$CENTRE/repo"\nhome = "/scratch/$CENTRE/data"\n')
    monkeypatch.setenv("CENTRE", "abc")
    config = datasets.Config.load()
    assert (config.url, config.home) == ("/group/abc/repo", "/scratch/abc/data")
    monkeypatch.delenv("CENTRE")
    with pytest.raises(ConfigError, match=r"datasets\.toml: url = .*expected \$CENTRE to be set"):
        datasets.Config.load()


def test_etceteras_file_counts_with_its_home(home):
    (home / ".etc.toml").write_text('url = "s3://my-bucket"\n')
    config = datasets.Config.load()
    assert (config.url, config.home) == ("s3://my-bucket", str(home / ".etc"))
    assert config.format == "pkgdata"
    (home / ".etc.toml").write_text('url = "s3://my-bucket"\nhome = "~/elsewhere"\npublic = true\n')
    config = datasets.Config.load()
    assert (config.home, config.public) == (str(home / "elsewhere"), True)


def test_our_file_wins_over_etceteras_and_the_environment_over_both(home, monkeypatch):
    (home / ".etc.toml").write_text('url = "s3://theirs"\n')
    own_file(home, 'url = "gs://ours/prefix"\nformat = "etcetera"\ncompress = "zstd"\n')
    config = datasets.Config.load()
    assert (config.url, config.home) == ("gs://ours/prefix", own_home())
    assert (config.format, config.compress) == ("etcetera", "zstd")
    monkeypatch.setenv("PKGDATA_DATASETS_URL", "mem://environment")
    monkeypatch.setenv("PKGDATA_DATASETS_HOME", str(home / "there"))
    config = datasets.Config.load()
    assert (config.url, config.home) == ("mem://environment", str(home / "there"))


def test_a_site_may_have_the_file(home, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(home / "site"))
    (home / "site" / "pkgdata").mkdir(parents=True)
    (home / "site" / "pkgdata" / "datasets.toml").write_text('url = "s3://site"\n')
    assert datasets.Config.load().url == "s3://site"
    (home / ".etc.toml").write_text('url = "s3://theirs"\n')
    assert datasets.Config.load().url == "s3://theirs"


@pytest.mark.parametrize("spelling", ["aws_secret_access_key", "aws_access_key_secret"])
def test_both_spellings_of_the_secret_reach_the_store(home, spelling):
    pytest.importorskip("obstore")
    (home / ".etc.toml").write_text(
        'url = "s3://bucket"\naws_access_key_id = "KEY"\n'
        f'{spelling} = "SECRET"\nendpoint_url = "http://127.0.0.1:9"\n'
    )
    config = datasets.Config.load()
    store = config.store()
    assert store._options["endpoint"] == "http://127.0.0.1:9"
    assert store._options["secrets"] == {
        "aws_access_key_id": "KEY",
        "aws_secret_access_key": "SECRET",
    }
    assert "SECRET" not in repr(config)
    assert "SECRET" not in repr(store)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('urll = "s3://b"', "unknown key 'urll'"),
        ("public = 1", "public = 1: expected true or false"),
        ("url = 5", "url = 5: expected a text"),
        ("aws_secret_access_key = 5", "aws_secret_access_key: expected a text"),  # not shown
        ('url = "s3://b', "~/.etc.toml"),
        ('url = "s3://b"\nformat = "zip"', "expected one of pkgdata, etcetera"),
        ('url = "s3://b"\ncompress = "gzip"', "expected zstd or none"),
    ],
)
def test_a_wrong_file_is_named(home, text, problem):
    (home / ".etc.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        datasets.Config.load()
    assert problem.replace("~", str(home)) in str(caught.value)
    assert str(home / ".etc.toml") in str(caught.value)


def test_a_file_can_be_named(tmp_path):
    (tmp_path / "other.toml").write_text('url = "mem://other"\n')
    assert datasets.Config.load(tmp_path / "other.toml").url == "mem://other"
    with pytest.raises(ConfigError, match="cannot be read"):
        datasets.Config.load(tmp_path / "none.toml")


def test_one_key_alone_is_an_error():
    pytest.importorskip("obstore")
    config = datasets.Config("s3://bucket", aws_access_key_id="KEY")
    with pytest.raises(ConfigError, match="one is missing"):
        config.store()


def test_credentials_are_ignored_for_a_folder(tmp_path, config):
    own = config.replaced(url=str(tmp_path / "repo"), endpoint_url="http://x", home=config.home)
    assert datasets.ls(remote=True, config=own) == []


def test_offline_no_repository_is_asked_but_a_folder(tmp_path, config, monkeypatch):
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    with pytest.raises(OfflineError):
        datasets.ls(remote=True, config=config.replaced(url="https://example.org/"))
    assert datasets.ls(remote=True, config=config.replaced(url=str(tmp_path / "repo"))) == []
