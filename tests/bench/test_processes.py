"""What a program uses is counted in full: its children, its memory, the blocks of its files."""

import sys
import time
from pathlib import Path

import pytest

from bench.errors import BenchmarkError
from bench.processes import Process, disk_bytes

BUSY = """
import os, subprocess, sys, time
def work():
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
if len(sys.argv) > 1:
    held = bytearray(os.urandom(50 << 20))
    work()
    print("worked", flush=True)
    time.sleep(60)
else:
    child = subprocess.Popen([sys.executable, __file__, "child"])
    work()
    time.sleep(60)
"""


def test_processes_below_it_count(tmp_path: Path) -> None:
    file = tmp_path / "busy.py"
    file.write_text(BUSY)
    with Process([sys.executable, str(file)], log=tmp_path / "log") as process:
        process.wait_for_line("worked", seconds=30)
        end = time.monotonic() + 30
        while process.processor_seconds() < 0.6 and time.monotonic() < end:
            time.sleep(0.05)
        assert 0.6 <= process.processor_seconds() < 5
        assert process.resident_bytes() > 50 << 20


def test_a_program_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (
        Process([sys.executable, "-c", "import sys; sys.exit('no such luck')"], log=tmp_path / "log") as process,
        pytest.raises(BenchmarkError, match="ended with exit code 1:\nno such luck"),
    ):
        process.wait_for_line("ready", seconds=30)


def test_a_hole_in_a_file_takes_no_disk(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * 10_000)
        file.truncate(100 << 20)
    assert 10_000 <= disk_bytes(tmp_path) < 1 << 20
