"""Writes an example anew, `v1` or `histograms`; the package says when."""

import sys

from tests.core import histogram_samples
from tests.core.examples import HERE, VERSION, make

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else f"v{VERSION}"
    (histogram_samples.make if name == "histograms" else make)(HERE / name)
    print(f"wrote {HERE / name}")
