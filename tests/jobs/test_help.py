"""The help: every command and option in one section, nothing cut off, nothing heavy imported."""

import os
import re
import subprocess
import sys
from inspect import cleandoc

import click
import pytest
from click.shell_completion import ShellComplete

from shardcam.engine.config import OPTION_GROUPS, RunConfig
from shardcam.jobs.cli import SECTIONS, cli
from shardcam.jobs.sections import OTHER, SectionedArgument, SectionedCommand, sections_of
from tests.jobs.command import ROOT


def commands(command=cli, context=None):
    """Every command with its context, those of groups included, by the words that are typed."""
    context = context or click.Context(cli, info_name="shardcam", **cli.context_settings)
    for name in command.commands:
        own = command.commands[name]
        inner = click.Context(own, info_name=name, parent=context)
        yield inner.command_path.removeprefix("shardcam "), own, inner
        if isinstance(own, click.Group):
            yield from commands(own, inner)


COMMANDS = {name: (command, context) for name, command, context in commands()}


def by_name(kind=click.Command):
    return [name for name, (command, _) in COMMANDS.items() if isinstance(command, kind)]


def words(text):
    return " ".join(text.split())


def test_every_command_file_is_in_one_section():
    files = (ROOT / "jobs" / "commands").glob("*.py")
    names = sorted(f.stem.replace("_", "-") for f in files if f.stem != "__init__")
    assert sorted(name for part in SECTIONS.values() for name in part) == names


def test_no_summary_is_cut():
    assert all(len(s) <= 45 for part in SECTIONS.values() for s in part.values())
    with click.Context(cli, info_name="shardcam", terminal_width=80) as context:
        shown = cli.get_help(context).splitlines()
    for part in SECTIONS.values():
        for name, summary in part.items():
            assert f"  {name.ljust(12)}  {summary}" in shown


@pytest.mark.parametrize("name", by_name(click.Group))
def test_no_summary_of_a_group_is_cut(name):
    command, context = COMMANDS[name]
    assert "..." not in command.get_help(context).partition("Commands:")[2]


def test_every_field_is_in_one_group():
    grouped = [name for names in OPTION_GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(RunConfig.model_fields)


@pytest.mark.parametrize("name", ["extract", "submit", "render slurm", "render kuberay"])
def test_options_of_a_run_are_in_their_groups(name):
    command, context = COMMANDS[name]
    shown = sections_of(command, context)
    assert list(shown)[: len(OPTION_GROUPS)] == list(OPTION_GROUPS)
    assert list(shown)[-1] == OTHER
    for group, fields in OPTION_GROUPS.items():
        flags = {"SOURCE" if f == "source" else "--" + f.replace("_", "-") for f in fields}
        if name == "submit":  # of the job
            flags -= {"--address"}
        assert {typed.split(" ")[0] for typed, _ in shown[group]} == flags


@pytest.mark.parametrize("name", by_name(SectionedCommand))
def test_every_option_is_in_one_section(name):
    command, context = COMMANDS[name]
    typed = [record[0] for records in sections_of(command, context).values() for record in records]
    explained = (click.Option, SectionedArgument)
    params = [param for param in command.get_params(context) if isinstance(param, explained)]
    assert len(typed) == len(set(typed)) == len(params)
    shown = words(command.get_help(context))
    assert all(words(one) in shown for one in typed)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_gives_an_example(name):
    command, _ = COMMANDS[name]
    assert re.search(rf"^Examples?:\n  shardcam {name}\b", cleandoc(command.help), re.M)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    command, _ = COMMANDS[name]
    assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []


@pytest.mark.parametrize(
    ("arguments", "env", "may"),
    [
        (["--help"], {}, []),
        (["extract", "--help"], {}, ["pydantic"]),
        ([], {"COMP_WORDS": "shardcam extract --model eff", "COMP_CWORD": "3"}, ["pydantic"]),
        (["status", "tests/fixtures/run-0.1.0/run"], {}, ["h5py", "numpy", "pydantic"]),
    ],
)
@pytest.mark.process
def test_what_takes_no_time_imports_nothing_heavy(arguments, env, may):
    script = f"""if True:
        import sys
        sys.argv = ["shardcam", *{arguments}]
        try:
            from shardcam.__main__ import main
        finally:
            heavy = {{"numpy", "numba", "mxnet", "ray", "h5py", "pydantic"}}
            print(sorted(heavy & set(sys.modules)))
    """
    asked = {"_SHARDCAM_COMPLETE": "bash_complete"} | env if env else {}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env={**os.environ, **asked}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == str(may), done.stderr


def completed(*typed):
    *before, last = typed
    return [item.value for item in complete(before, last)]


def complete(before, last):
    return ShellComplete(cli, {}, "shardcam", "_SHARDCAM_COMPLETE").get_completions(before, last)


def test_completion():
    assert completed("re") == ["retry-failed", "report", "render"]
    assert completed("extract", "--meth") == ["--method"]
    assert "gradcam" in completed("extract", "--method", "grad")
    assert completed("extract", "--codec", "z") == ["zstd"]
    assert completed("extract", "--save", "maps,over") == ["maps,overlays"]
    assert completed("submit", "--model", "eff") == ["efficientnet_lite0"]


@pytest.mark.parametrize(
    "before", [["extract"], ["extract", "--params"], ["layers"], ["status"], ["report"]]
)
def test_paths_are_left_to_the_shell(before):
    assert [(item.value, item.type) for item in complete(before, "some")] == [("some", "file")]


@pytest.mark.process
def test_completion_script():
    def run(**env):
        return subprocess.run(
            [sys.executable, "-m", "shardcam"],
            cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True,
        ).stdout  # fmt: skip

    assert "complete -o nosort -F _shardcam_completion shardcam" in run(
        _SHARDCAM_COMPLETE="bash_source"
    )
    asked = {"COMP_WORDS": "shardcam extract --meth", "COMP_CWORD": "2"}
    assert run(_SHARDCAM_COMPLETE="bash_complete", **asked) == "plain,--method\n"
