"""Runs one part by its own `run`, as the command line does: `launch.py PART FLAGS…`."""

import argparse
import asyncio
import importlib
import signal
import sys

from bellbuoy import logs


async def main() -> None:
    part = importlib.import_module("bellbuoy." + sys.argv[1].replace("-", "_"))
    parser = argparse.ArgumentParser()
    part.add_arguments(parser)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await part.run(part.options(parser.parse_args(sys.argv[2:])), stop)


logs.set_up()
asyncio.run(main())
