"""Settings: which place wins, where each came from, and what is said of wrong ones."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

import pkgdata
from pkgdata import cli
from pkgdata.base import config
from pkgdata.base.config import FIELDS, conf
from pkgdata.errors import ConfigError


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Undo what a test assigns to `conf`."""
    monkeypatch.setattr(config, "_process", {})


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a function that writes the user's or the site's file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{tmp_path / 'site'}{os.pathsep}{tmp_path / 'site2'}")

    def write(kind, text):
        path = tmp_path / kind / "pkgdata" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the places of configuration files are XDG's here"
)


# -- precedence ------------------------------------------------------------------------------


@linux
def test_each_place_is_stronger_than_the_next(files, monkeypatch):
    seen = [config.resolve("retries")]
    second = files("site2", "retries = 1\n")
    seen.append(config.resolve("retries"))
    first = files("site", "retries = 2\n")
    seen.append(config.resolve("retries"))
    user = files("user", "retries = 3\n")
    seen.append(config.resolve("retries"))
    monkeypatch.setenv("PKGDATA_RETRIES", "5")
    seen.append(config.resolve("retries"))
    conf.retries = 6
    seen.append(config.resolve("retries"))
    with conf.set_temp("retries", 7):
        seen.append(config.resolve("retries"))
        assert pkgdata.declare("declaredpkg", retries=8).setting("retries") == 8
        assert pkgdata.declare("declaredpkg").setting("retries") == 7
    assert seen == [
        (4, "default"),
        (1, f"site file {second}"),
        (2, f"site file {first}"),
        (3, f"user file {user}"),
        (5, "PKGDATA_RETRIES"),
        (6, "pkgdata.conf"),
        (7, "pkgdata.conf.set_temp"),
    ]
    assert config.resolve("retries") == (6, "pkgdata.conf")
    del conf.retries
    assert config.resolve("retries") == (5, "PKGDATA_RETRIES")


@linux
def test_pkgdata_config_replaces_the_users_file(files, tmp_path, monkeypatch):
    files("user", "retries = 1\n")
    own = tmp_path / "own.toml"
    own.write_text("retries = 2\n")
    monkeypatch.setenv("PKGDATA_CONFIG", str(own))
    assert config.resolve("retries") == (2, f"user file {own}")


@linux
def test_a_changed_file_is_read_again(files):
    path = files("user", "retries = 1\n")
    assert conf.retries == 1
    files("user", "retries = 23\n")
    assert conf.retries == 23
    os.unlink(path)
    assert conf.retries == 4


def test_an_empty_variable_is_as_good_as_none(monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "")
    assert config.resolve("retries") == (4, "default")


@linux
def test_folders_from_several_places_add_up(files, monkeypatch):
    site = files("site", 'folders = ["/site", "/both"]\n')
    user = files("user", 'folders = ["/user"]\n')
    monkeypatch.setenv("PKGDATA_FOLDERS", os.pathsep.join(["/one", "", "/both/", "/two"]))
    assert config.resolve("folders") == (
        ("/one", "/both", "/two", "/user", "/site"),
        f"PKGDATA_FOLDERS, user file {user}, site file {site}",
    )


@linux
def test_folders_that_are_set_in_code_stand_alone(files):
    files("user", 'folders = ["/user"]\n')
    with conf.set_temp("folders", ["/temporary"]):
        assert config.resolve("folders") == (("/temporary",), "pkgdata.conf.set_temp")
    with conf.set_temp("folders", []):
        assert conf.folders == ()
    assert conf.folders == ("/user",)


@linux
def test_rewrite_rules_are_merged_the_stronger_place_wins(files, monkeypatch):
    files("site", '[rewrite]\n"https://a/" = "https://site/"\n"https://b/" = "https://site/"\n')
    files("user", '[rewrite]\n"https://b/" = "https://user/"\n"https://c/" = "https://user/"\n')
    monkeypatch.setenv("PKGDATA_REWRITE", "https://c/=https://env/?a=b  https://d/=file:///env/")
    assert conf.rewrite == {
        "https://a/": "https://site/",
        "https://b/": "https://user/",
        "https://c/": "https://env/?a=b",
        "https://d/": "file:///env/",
    }


# -- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("offline", "1", True),
        ("offline", "TRUE", True),
        ("offline", "on", True),
        ("offline", "no", False),
        ("offline", "0", False),
        ("verify", "always", "always"),
        ("retries", "0", 0),
        ("remote_timeout", "2.5", 2.5),
        ("stall_bytes", "1", 1),
        ("progress", "auto", "auto"),
        ("progress", "off", False),
        ("cache_dir", "$ROOT/cache/", "/root-of-all/cache"),
        ("cache_dir", "/", "/"),
        ("folders", os.pathsep.join(["/a", "$ROOT/b"]), ("/a", "/root-of-all/b")),
        ("dataurl", "https://h/", "https://h/"),
    ],
)
def test_variables_are_brought_to_type(monkeypatch, name, text, value):
    monkeypatch.setenv("ROOT", "/root-of-all")
    monkeypatch.delenv(f"PKGDATA_{name.upper()}", raising=False)
    monkeypatch.setenv(f"PKGDATA_{name.upper()}", text)
    found, place = config.resolve(name)
    assert found == value
    assert type(found) is type(value)
    assert place == f"PKGDATA_{name.upper()}"


def test_the_home_directory_is_expanded(tmp_path):
    with conf.set_temp("cache_dir", "~/here"):
        assert conf.cache_dir == os.path.expanduser("~/here")


def test_the_configuration_file_may_be_named_by_a_variable(monkeypatch, tmp_path):
    (tmp_path / "centre.toml").write_text("retries = 7\n")
    monkeypatch.setenv("CENTRE", str(tmp_path))
    monkeypatch.setenv("PKGDATA_CONFIG", "$CENTRE/centre.toml")
    assert conf.retries == 7
    monkeypatch.delenv("CENTRE")
    with pytest.raises(ConfigError, match=r"PKGDATA_CONFIG = .*expected \$CENTRE to be set"):
        config.resolve("retries")


def test_a_variable_in_a_file_that_is_not_set_names_key_and_file(monkeypatch, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('cache_dir = "/scratch/$SOMEBODY/pkgdata"\n')
    monkeypatch.setenv("PKGDATA_CONFIG", str(file))
    monkeypatch.delenv("PKGDATA_CACHE_DIR")
    monkeypatch.delenv("SOMEBODY", raising=False)
    with pytest.raises(ConfigError) as caught:
        config.cache_dir()
    assert caught.value.message == (
        f"{file}: cache_dir = '/scratch/$SOMEBODY/pkgdata': "
        "expected $SOMEBODY to be set in the environment"
    )


WRONG = [
    ("offline", "maybe", "expected true or false"),
    ("verify", "sometimes", "expected one of once, always, size, never"),
    ("retries", "-1", "expected at least 0"),
    ("retries", "1.5", "expected a whole number"),
    ("retries", "many", "expected a whole number"),
    ("remote_timeout", "soon", "expected a number"),
    ("remote_timeout", "nan", "expected at least 0"),
    ("remote_timeout", "-1", "expected at least 0"),
    ("stall_bytes", "0", "expected at least 1"),
    ("progress", "perhaps", "expected true or false"),
    ("progress", "bool", "expected true or false"),
    ("cache_dir", "relative", "expected an absolute path, found 'relative'"),
    ("folders", "/a" + os.pathsep + "b", "expected an absolute path, found 'b'"),
    ("cache_dir", "/scratch/$NOT_SET_HERE/x", "expected $NOT_SET_HERE to be set"),
    ("folders", "/a" + os.pathsep + "/b/${NOT_SET}", "expected ${NOT_SET} to be set"),
    ("rewrite", "https://no-equals-sign/", "expected PREFIX=REPLACEMENT"),
    ("node_cache", "/", "expected a folder of its own, such as /tmp/pkgdata-$USER"),
    ("node_cache", "/tmp/$USER" + os.pathsep + "//", "expected a folder of its own"),
    ("node_cache", "${HOME", "expected a folder of its own, such as /tmp/pkgdata-$USER"),
]


@pytest.mark.parametrize(("name", "text", "complaint"), WRONG)
def test_a_wrong_variable_is_named(monkeypatch, name, text, complaint):
    variable = f"PKGDATA_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        getattr(conf, name)
    assert caught.value.message.startswith(f"{variable}: {name} = {text!r}: ")
    assert complaint in caught.value.message


@linux
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("retries = true", "retries = True: expected a whole number"),
        ("retries = 1.0", "retries = 1.0: expected a whole number"),
        ("remote_timeout = true", "expected a number"),
        ('folders = "relative"', "expected an absolute path"),
        ("folders = [1]", "expected a list of folders"),
        ("folders = 1", "folders = 1: "),
        ("cache_dir = 1", "cache_dir = 1: "),
        ("dataurl = 1", "expected a text"),
        ("rewrite = 1", "rewrite = 1: "),
        ("[rewrite]\na = 1", "expected a table of texts"),
        ("rewrite = 1", "rewrite = 1: expected a table of texts"),
        ("folders = 1", "folders = 1: expected a list of folders"),
        ("cache_dir = 1", "cache_dir = 1: expected a path"),
        ("headers = 1", "headers: expected URLs and their headers, such as {"),
        ("offline = 'perhaps'", "expected true or false"),
        ("retries = [", "Invalid"),
    ],
)
def test_a_wrong_line_of_a_file_names_the_file(files, line, complaint):
    path = files("user", line + "\n")
    with pytest.raises(ConfigError) as caught:
        _ = conf.retries
    assert caught.value.message.startswith(f"{path}: ")
    assert complaint in caught.value.message


@linux
def test_a_file_that_is_no_text_or_no_file(files, tmp_path, monkeypatch):
    path = files("user", "")
    with open(path, "wb") as file:
        file.write(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml: "):
        _ = conf.retries
    monkeypatch.setenv("PKGDATA_CONFIG", str(tmp_path))
    with pytest.raises(ConfigError, match=" cannot be read: "):
        _ = conf.retries


@linux
def test_an_unknown_key_of_a_file_suggests_close_ones(files):
    path = files("user", "ofline = true\n")
    with pytest.raises(ConfigError, match="unknown key 'ofline'") as caught:
        _ = conf.offline
    assert path in caught.value.message
    assert caught.value.hint == "did you mean offline?"


def test_an_unknown_key_without_a_close_one_lists_all():
    error = config.unknown_key("zzz", {"a": 1, "b": 2}, "here")
    assert str(error) == "here: unknown key 'zzz'\nHint: known: a, b"


def test_wrong_values_in_code():
    with pytest.raises(ConfigError, match=r"pkgdata\.conf: retries = -1"):
        conf.retries = -1
    with pytest.raises(ConfigError, match="set_temp: verify = 'x'"):
        conf.set_temp("verify", "x")
    with pytest.raises(ConfigError, match="unknown key 'verfy'") as caught:
        conf.set_temp("verfy", "once")
    assert caught.value.hint == "did you mean verify?"
    with pytest.raises(ConfigError, match="unknown key 'tries'"):
        conf.tries = 1
    with pytest.raises(AttributeError, match="no setting 'tries'"):
        _ = conf.tries
    with pytest.raises(ConfigError, match=r"declare\('declaredpkg'\): unknown key 'foldres'"):
        pkgdata.declare("declaredpkg", foldres=["/a"])


def test_every_default_passes_its_own_check(monkeypatch):
    for name, field in FIELDS.items():
        monkeypatch.delenv(f"PKGDATA_{name.upper()}", raising=False)
        assert field.meaning
        if field.default is not None:
            assert config.convert(name, field.default, "default") == field.default
        assert config.resolve(name) == (field.default, "default")
    assert set(FIELDS) < set(dir(conf))


# -- set_temp --------------------------------------------------------------------------------


def test_set_temp_can_be_nested():
    with conf.set_temp("retries", 1), conf.set_temp("remote_timeout", 2):
        with conf.set_temp("retries", 3):
            assert (conf.retries, conf.remote_timeout) == (3, 2.0)
        assert (conf.retries, conf.remote_timeout) == (1, 2.0)
    assert (conf.retries, conf.remote_timeout) == (4, 10.0)


def test_set_temp_is_undone_by_an_exception():
    with pytest.raises(ZeroDivisionError), conf.set_temp("retries", 1):
        _ = 1 // 0
    assert conf.retries == 4


def test_set_temp_holds_in_its_own_thread_alone():
    inside, outside = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)
    seen = []

    def work():
        with conf.set_temp("retries", 11):
            inside.wait()
            seen.append(conf.retries)
            outside.wait()

    thread = threading.Thread(target=work)
    thread.start()
    with conf.set_temp("retries", 22):
        inside.wait()
        assert conf.retries == 22
        outside.wait()
    thread.join()
    assert seen == [11]
    assert conf.retries == 4


def test_set_temp_holds_in_its_own_task_alone():
    async def work(number, met, done):
        with conf.set_temp("retries", number):
            met.append(number)
            while len(met) < 2:
                await asyncio.sleep(0)
            done.append((number, conf.retries))

    async def both():
        met, done = [], []
        await asyncio.gather(work(1, met, done), work(2, met, done))
        return sorted(done)

    assert asyncio.run(both()) == [(1, 1), (2, 2)]


def test_assignment_holds_for_all_threads():
    conf.retries = 9
    seen = []
    thread = threading.Thread(target=lambda: seen.append(conf.retries))
    thread.start()
    thread.join()
    assert seen == [9]


def test_state_changes_with_every_change():
    states = [config.state()]
    with conf.set_temp("retries", 1):
        states.append(config.state())
    states.append(config.state())
    conf.retries = 2
    states.append(config.state())
    assert states[0] == states[2]
    assert states[1] != states[0]
    assert states[3] not in states[:3]


# -- what is never read ----------------------------------------------------------------------


def in_fresh_process(code, cwd, **variables):
    """Run code in a new process with a bare environment and return what it prints."""
    keep = {
        key: os.environ[key]
        for key in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
        if key in os.environ
    }
    root = os.path.dirname(os.path.dirname(pkgdata.__file__))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**keep, "PYTHONPATH": root, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NO_HOME = (
    "import pwd\n"
    "def nobody(uid):\n    raise KeyError(uid)\n"
    "pwd.getpwuid = nobody\n"
    "from pkgdata.base import config\n"
)


@linux
@pytest.mark.parametrize(
    "place",
    [
        "config.toml",
        "pkgdata.toml",
        "pkgdata/config.toml",
        ".pkgdata.toml",
        ".config/pkgdata/config.toml",
        "~/.config/pkgdata/config.toml",
        "etc/pkgdata/config.toml",
    ],
)
@pytest.mark.parametrize(
    "variables",
    [{}, {"HOME": "/nonexistent"}, {"XDG_CONFIG_HOME": "etc"}, {"XDG_CONFIG_DIRS": ":etc:"}],
)
def test_nothing_is_read_from_the_working_directory(tmp_path, monkeypatch, place, variables):
    path = tmp_path / "cwd" / place
    path.parent.mkdir(parents=True)
    path.write_text("retries = 99\n")
    monkeypatch.chdir(tmp_path / "cwd")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert config.resolve("retries") == (4, "default")
    assert all(os.path.isabs(path) for _, path in config.config_files())


@linux
def test_without_a_home_directory_settings_work_and_the_cache_says_so(tmp_path):
    code = NO_HOME + (
        "print(config.conf.retries)\n"
        "try:\n    config.cache_dir()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    found = in_fresh_process(code, tmp_path).splitlines()
    assert found == [
        "4",
        "CacheError this user has no home directory to keep a cache in",
        "Hint: set PKGDATA_CACHE_DIR to a folder that can be written",
    ]
    found = in_fresh_process(
        NO_HOME + "print(config.cache_dir())", tmp_path, PKGDATA_CACHE_DIR="/somewhere"
    )
    assert found == "('/somewhere', 'PKGDATA_CACHE_DIR')"


@linux
def test_the_place_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("PKGDATA_CACHE_DIR")
    assert config.cache_dir() == (os.path.join(os.environ["XDG_CACHE_HOME"], "pkgdata"), "default")
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "mine"))
    assert config.cache_dir() == (str(tmp_path / "mine"), "PKGDATA_CACHE_DIR")
    assert not (tmp_path / "mine").exists()


def test_offline_under_both_names(monkeypatch):
    assert not config.is_offline()
    with conf.set_temp("allow_internet", False):
        assert config.is_offline()
    with conf.set_temp("offline", True):
        assert config.is_offline()
    monkeypatch.setenv("PKGDATA_OFFLINE", "yes")
    assert config.is_offline()


# -- the reader of variables -----------------------------------------------------------------


def test_the_environment_reader_notices_every_change(monkeypatch):
    monkeypatch.delenv("PKGDATA_TEST_A", raising=False)
    read = config.environment_reader(["PKGDATA_TEST_A", "PKGDATA_TEST_B"])
    states = [read()]
    for value in ("1", "", "2"):
        monkeypatch.setenv("PKGDATA_TEST_A", value)
        states.append(read())
    monkeypatch.setenv("PKGDATA_TEST_C", "not watched")
    assert read() == states[-1]
    monkeypatch.delenv("PKGDATA_TEST_A")
    assert read() == states[0]
    assert all(states.count(one) == 1 for one in states)


def test_the_environment_reader_works_without_the_raw_table(monkeypatch):
    monkeypatch.setattr(config, "_raw", None)
    monkeypatch.setenv("PKGDATA_TEST_A", "1")
    assert config.environment_reader(["PKGDATA_TEST_A", "PKGDATA_TEST_B"])() == ["1", None]


KINDS = {"url": "str", "to": "str|texts", "format": "own|tgz", "public": "flag", "in": {"n": "int"}}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"ulr": "x"}, "unknown key 'ulr'"),
        ({"to": 3}, "to = 3: expected a text or a list of texts"),
        ({"to": ["a", 3]}, "expected a text or a list of texts"),
        ({"format": "zip"}, "format = 'zip': expected one of own, tgz"),
        ({"public": "yes"}, "public = 'yes': expected true or false"),
        ({"in": 3}, "in = 3: expected a table"),
        ({"in": {"n": -1}}, r"\[in\]: n = -1: expected at least 0"),
        ({"in": {"m": 1}}, r"\[in\]: unknown key 'm'"),
    ],
)
def test_a_table_is_checked_by_the_kinds_of_its_keys(values, problem):
    with pytest.raises(ConfigError, match=f"^file.*{problem}"):
        config.check(values, KINDS, "file")


def test_a_good_table_passes_unchanged():
    values = {"url": "x", "to": ["a"], "format": "tgz", "public": True, "in": {"n": 3}}
    assert config.check(values, KINDS, "file") == values


# -- secrets -----------------------------------------------------------------------------------

LOGIN = "https://me:sesame@proxy.org/data/?sig=sesame"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rewrite", {LOGIN: LOGIN}),
        ("dataurl", LOGIN),
        ("dataurl_mirror", LOGIN),
        ("headers", {"https://a.org/": {"X-Token": "sesame"}}),
    ],
)
def test_a_setting_is_shown_without_its_secrets_unless_they_are_asked_for(name, value, capsys):
    with conf.set_temp(name, value):
        for words in ([name], [name, "--json"], [], ["--json"]):
            assert cli.main(["config", *words]) == 0
            assert "sesame" not in capsys.readouterr().out
            assert cli.main(["config", *words, "--show-secrets"]) == 0
            assert "sesame" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rewrite", {LOGIN: 3}),
        ("rewrite", [LOGIN]),
        ("cache_dir", LOGIN),
        ("folders", [LOGIN]),
        ("folders", {LOGIN: LOGIN}),
        ("remote_timeout", LOGIN),
        ("offline", LOGIN),
        ("verify", LOGIN),
        ("headers", {"https://a.org/": {"X Token": "sesame"}}),
        ("headers", {LOGIN: {"X-Token": "sesame"}}),
        ("user_agent", LOGIN + "\n"),
        ("dataurl", [LOGIN]),
    ],
)
def test_the_error_of_a_wrong_setting_shows_no_secret(name, value, tmp_path, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        setattr(conf, name, value)
    assert "sesame" not in f"{caught.value}{caught.value.__cause__}"
    monkeypatch.setenv(f"PKGDATA_{name.upper()}", LOGIN)
    try:
        config.resolve(name)
    except ConfigError as error:
        assert "sesame" not in str(error)  # noqa: PT017 - some of them take it


@linux
def test_a_chosen_file_that_is_not_there_is_an_error(files, tmp_path, monkeypatch):
    files("user", "retries = 1\n")
    monkeypatch.setenv("PKGDATA_CONFIG", str(tmp_path / "no.toml"))
    with pytest.raises(ConfigError, match=r"PKGDATA_CONFIG = '.*no\.toml': there is no such file"):
        _ = conf.retries


@pytest.mark.parametrize("text", ["[1]", "1", '"x"', "null", '{"https://h/": [1]}'])
def test_headers_of_another_form_say_what_is_expected(monkeypatch, text):
    monkeypatch.setenv("PKGDATA_HEADERS", text)
    with pytest.raises(ConfigError) as caught:
        _ = conf.headers
    form = 'URLs and their headers, such as {"https://HOST/": {"Accept": "text/csv"}}'
    assert caught.value.message == f"PKGDATA_HEADERS: headers: expected {form}"


def test_headers_that_are_no_json_say_so(monkeypatch):
    monkeypatch.setenv("PKGDATA_HEADERS", "{")
    with pytest.raises(ConfigError, match=r"^PKGDATA_HEADERS: headers: not JSON: ") as caught:
        _ = conf.headers
    assert "expected not" not in caught.value.message
