"""That what a thread freed goes back to the kernel; in a process of its own, for the allocator is the process's."""

import multiprocessing
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bellbuoy._core import Storage

MIB = 1 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def work(folder: str, told: Connection) -> None:
    storage = Storage(folder)

    def ask() -> None:
        # From one that is freed glibc would learn to keep as much.
        large = np.ones(2 * MIB)
        del large
        before = resident_bytes()
        arrays = [np.ones(MIB // 4) for _ in range(16)]
        held = resident_bytes() - before
        del arrays
        told.send((held, resident_bytes() - before))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    storage.close()


def test_large_arrays_that_a_thread_freed_are_given_back_at_once(tmp_path: Path) -> None:
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(str(tmp_path / "data"), there))
    process.start()
    held, kept = here.recv()
    process.join()
    assert held > 31 * MIB
    assert kept < MIB
