"""The commands and programs of README and tutorial do what the text around them says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage

from shardcam.jobs.commands.demo import PHOTOGRAPHS

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:<!-- not run: ([^>]*) -->\n)?```(\w*)\n(.*?)```", re.DOTALL)
REASONS = {"installs packages", "needs a download"}


@pytest.fixture
def folder(tmp_path):
    """A folder with `photos`, `photo.jpg`, `docs`, and the commands `shardcam` and `python`."""
    shipped = Path(skimage.__file__).parent / "data"
    (tmp_path / "photos").mkdir()
    for name in PHOTOGRAPHS:
        (tmp_path / "photos" / name).symlink_to(shipped / name)
    shutil.copy(shipped / "rocket.jpg", tmp_path / "photo.jpg")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "bin").mkdir()
    for name, runs in (("shardcam", "-m shardcam "), ("python", "")):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {runs}"$@"\n')
        command.chmod(0o755)
    return tmp_path


@pytest.mark.ray
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/weak-supervision.md"])
def test_blocks(page, folder):
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    commands = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    printed, ran = "", 0
    for reason, language, text in BLOCK.findall((ROOT / page).read_text()):
        if reason:
            assert reason in REASONS
        elif language in commands:
            done = subprocess.run(
                [*commands[language], text],
                capture_output=True,
                text=True,
                cwd=folder,
                env=environment,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            printed, ran = done.stdout, ran + 1
        elif language == "text":
            assert printed == text
    assert ran > 1


def test_commands_of_all_pages_have_the_options_they_are_given():
    """Those that cannot run here, too: with a cluster, a download, a trained network."""
    from shardcam.jobs.cli import cli

    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for _, language, text in BLOCK.findall(page.read_text()):
            lines = text.replace("\\\n", " ").splitlines() if language == "sh" else []
            for line in lines:
                found = re.match(r"\s*shardcam ([^|>#[]*)", line)  # up to the usage's brackets
                if found:
                    assert_known(cli, found[1].split(), f"{page.name}: {line}")


def assert_known(command, words, where):
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, where
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {option for parameter in command.params for option in parameter.secondary_opts}
    given = {word for word in words if word.startswith("--")} - {"--help"}
    assert given <= known, where


def test_make_targets_of_all_pages_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page
