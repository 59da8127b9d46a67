"""Measurements of ours beside the reference: same machine, same minute, same input.

A figure taken alone says as much about the machine as about the program, so each benchmark runs both side by side and
ends in ratios. `python -m bench.ingest` is what scraping costs, `python -m bench.storage` what storing does;
`docs/benchmarks.md` says how to read them. `python -m bench.soak` compares a server with itself, some minutes earlier.

`programs` builds what is written in Go, `processes` runs programs and reads what they use, `replay` is the targets,
`servers` knows how to start and to ask ours and Prometheus.
"""
