"""What is recorded of a run."""

from __future__ import annotations

import os
import subprocess

import pytest
import torch
import yaml

from core import run_info
from core.config import load_config
from core.run_info import write_run_info
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

CPU = torch.device("cpu")


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    # without the tester's own settings, which may want signed commits
    alone = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=alone,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one file, in place of ours."""
    folder = tmp_path / "re po"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    monkeypatch.setattr(run_info, "REPOSITORY", folder.resolve())
    return folder


def record(folder, **facts):
    write_run_info(
        folder, load_config(None, ["NET.LR", "0.5"]), PASCAL_VOC.at("data"), [CPU], **facts
    )
    return yaml.safe_load((folder / "environment.yaml").read_text())


def test_commit_changes_and_configuration_are_kept(repository, tmp_path):
    (repository / "code.py").write_text("a = 2\n")
    found = record(tmp_path / "logs", seed=7, snapshot="e001Xs0.100")
    assert found["commit"] == git(repository, "rev-parse", "HEAD")
    assert (found["seed"], found["snapshot"]) == (7, "e001Xs0.100")
    assert found["torch"] == torch.__version__
    patch = (tmp_path / "logs" / "diff.patch").read_text()
    assert "-a = 1" in patch and "+a = 2" in patch
    assert load_config(tmp_path / "logs" / "config.yaml").NET.LR == 0.5


def test_a_copy_inside_another_repository_has_no_commit(repository, tmp_path, monkeypatch):
    inner = repository / "copy"
    inner.mkdir()
    monkeypatch.setattr(run_info, "REPOSITORY", inner.resolve())
    assert record(tmp_path / "logs")["commit"] == "unknown: not a git checkout"


def test_git_is_quoted_where_it_has_no_commit_to_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(run_info, "REPOSITORY", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "not a git repository" in record(tmp_path / "logs")["commit"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record(tmp_path / "logs")["commit"] == "unknown: git is not installed"


def test_a_folder_that_takes_no_files_is_named(tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match="logs"):
        write_run_info(tmp_path / "logs", load_config(), PASCAL_VOC.at("data"), [CPU])
