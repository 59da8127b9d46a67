"""Writes the example of this version anew; the package says when."""

from tests.core.examples import HERE, VERSION, make

if __name__ == "__main__":
    make(HERE / f"v{VERSION}")
    print(f"wrote {HERE / f'v{VERSION}'}")
