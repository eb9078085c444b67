"""The command line, with faulty workers: FOLDER of the faults, then what shardcam is told."""

import sys
from functools import partial

import shardcam.engine.run.build_executor
from shardcam.jobs.cli import main
from tests.faults.inject import faulty_build

if __name__ == "__main__":
    folder = sys.argv.pop(1)
    shardcam.engine.run.build_executor.build_runner = partial(faulty_build, folder)
    main()
