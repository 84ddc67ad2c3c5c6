"""What the command line says of itself: help, examples, guesses, and how much it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from shells import parsers

from pkgdata import cli

PARSERS = {p.prog: p for p in parsers() if p.prog != "pkgdata complete-words"}
EXAMPLES = cli.template("examples.txt").splitlines()


def commands_in(line):
    """Yield the words of each command of pkgdata in a line of a shell."""
    for found in re.findall(r"pkgdata(?: [^|>()]*)?", line.partition("#")[0].replace('"', "")):
        yield shlex.split(found)[1:]


def test_the_bare_command_prints_a_grouped_help(shell):
    assert shell() == 0
    assert shell.err == ""
    assert shell.out.count("\n") < 50
    assert max(map(len, shell.out.splitlines())) <= 80
    for title in cli.GROUPS:
        assert f"\n{title}:\n" in shell.out
    assert "complete-words" not in shell.out
    bare = shell.out
    assert shell("--help") == 0
    assert shell.out == bare


def test_every_command_has_its_place_in_the_help():
    grouped = [name for names in cli.GROUPS.values() for name in names]
    known = [name for names in cli.MODULES.values() for name in names]
    assert sorted([*grouped, "complete-words"]) == sorted(known)


def test_a_group_of_commands_prints_its_help(shell):
    assert shell("cache") == 0
    assert "commands:" in shell.out
    assert "examples:" in shell.out


@pytest.mark.parametrize("prog", PARSERS)
def test_every_command_says_what_it_does_with_plain_options(prog):
    parser = PARSERS[prog]
    if prog != "pkgdata":
        assert re.fullmatch(r"[A-Z].*\.", parser.description, re.S), parser.description
        assert len(parser.about) <= 68
    for action in parser._actions:
        if not isinstance(action.choices, dict):
            assert action.help, action.dest
            assert "_" not in (action.metavar if isinstance(action.metavar, str) else ""), action


@pytest.mark.parametrize("prog", [prog for prog in PARSERS if prog != "pkgdata"])
def test_every_command_has_two_examples(prog):
    assert len(cli.examples(prog)) >= 2
    assert "\nexamples:\n  " in PARSERS[prog].format_help()


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_example_can_be_parsed(line):
    found = list(commands_in(line))
    assert found
    for words in found:
        if "--help" not in words:
            cli.parser().parse_args(words)


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_help_fits_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for prog, parser in PARSERS.items():
        text = parser.format_help().partition("\nexamples:\n")[0]
        assert max(map(len, text.splitlines())) <= columns, prog


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ftch"], "unknown command 'ftch'\nHint: did you mean 'pkgdata fetch' or"),
        (["cache", "lst"], "unknown command 'lst'\nHint: did you mean 'pkgdata cache ls'"),
        (["zzz"], "unknown command 'zzz'\nHint: 'pkgdata --help' lists the commands"),
        (["completewords"], "unknown command"),
        (["fetch", "p", "--too=x"], "unknown option '--too'\nHint: did you mean '--to' or"),
        (["ls", "--endpoint-url", "x", "."], "'--endpoint-url'\nHint: did you mean '--endpoint'?"),
        (["fetch", "p", "--zzz"], "Hint: 'pkgdata fetch --help' lists the options"),
        (["cache", "path", "here"], "one argument too many: 'here'"),
        (["fetch"], "required: PKG\nHint: 'pkgdata fetch --help' has examples"),
    ],
)
def test_what_is_not_known_gets_a_guess(shell, words, said):
    assert shell(*words) == 2
    assert said in shell.err
    assert "complete-words" not in shell.err
    assert shell.err.startswith("usage: pkgdata")


@pytest.mark.parametrize("words", [["-q", "cp"], ["cp", "-q"]])
def test_quiet_says_nothing_of_what_went_well(shell, words):
    (shell.home / "a.txt").write_text("a")
    (shell.home / "b.txt").write_text("b")
    assert shell(*words, "a.txt", "b.txt", "to/") == 0
    assert (shell.err, shell.out) == ("", "")
    assert shell(*words, "no.txt", "to/") == 1
    assert "no.txt" in shell.err
    assert shell("cp", "a.txt", "b.txt", "to/") == 0
    assert "2 copied" in shell.err


def test_names_may_stand_behind_an_option(shell, monkeypatch):
    seen = []
    monkeypatch.setattr("pkgdata.cli.files._verify", lambda args: seen.append(args.names))
    for words in (["a", "-v", "b"], ["-v", "a", "b"], ["a", "b", "-v"]):
        assert shell("verify", "pkg", *words) == 0, shell.err
    assert shell("verify", "-v", "pkg") == 0
    assert seen == [["a", "b"]] * 3 + [[]]


def test_completion_knows_the_options_of_all_commands():
    from pkgdata.cli.setup import candidates

    assert {"-v", "--verbose", "-q", "--quiet"} <= set(candidates(["fetch"], "-"))


def test_help_is_printed_at_once():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pkgdata", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.startswith("pkgdata 0.")
    assert "pkgdata.core" not in done.stderr


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["help"], ["--help"]),
        (["help", "get"], ["get", "--help"]),
        (["help", "cache", "rm"], ["cache", "rm", "--help"]),
        (["help", "help"], ["--help"]),
        (["version"], ["--version"]),
        (["-V"], ["--version"]),
    ],
)
def test_words_of_other_tools(shell, words, same):
    assert shell(*same) == 0
    expected = shell.out
    assert shell(*words) == 0, shell.err
    assert shell.out == expected
    assert expected


def test_help_on_what_is_no_command(shell):
    assert shell("help", "gte") == 2
    assert "did you mean 'pkgdata get' or " in shell.err
