"""Processes are known by number and start time, so that a number that was used again is not killed."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.processes import Process, with_argument


def test_a_process_is_alive_until_it_is_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as started:
        process = Process.of(started.pid)
        assert process.alive
        process.kill()
        assert not process.alive


def test_another_process_under_the_same_number_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as started:
        other = replace(Process.of(started.pid), started=1)
        assert not other.alive
        other.kill()
        assert started.poll() is None
        started.kill()


def test_a_process_is_written_and_read(tmp_path: Path) -> None:
    process = Process.of(os.getpid())
    process.write(tmp_path / "deep" / "me.json")
    assert Process.read(tmp_path / "deep" / "me.json") == process


def test_a_process_that_never_was_is_an_error() -> None:
    with pytest.raises(ProcessLookupError, match="there is no process"):
        Process.of(2**22 + 1)


def test_processes_are_found_by_program_and_argument(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    with subprocess.Popen(["tail", "--follow", str(mark)]) as started:
        assert with_argument(str(mark), programs=("tail",)) == [Process.of(started.pid)]
        assert with_argument(str(mark), programs=("head",)) == []
        started.kill()
