"""A process that uses a storage is killed at random moments, over and over on one folder; what it acknowledged stays.

`python -m tests.kill --rounds 200 --seed 1` (`make kill`) says the figures; `test_kill` runs some rounds. A round: a
`writer` goes on with the steps of `steps` on two threads, one that appends and flushes, one that compacts, deletes,
cleans, tidies and takes snapshots, and says what it begins and what is done; it is killed, at times while it opens the
folder; `rounds` opens the folder and holds what is in it to a `ledger` of what was said. Time is compressed: a step is
two minutes, and hundreds fit into a second, so that blocks are made, merged and past their time all along.

A power cut is worse, since a killed process leaves the kernel's pages behind: `core/src/tsdb/power.rs` is about that.
"""
