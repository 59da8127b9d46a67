"""`python -m bellbuoy` is `bellbuoy`."""

from bellbuoy.cli import main

if __name__ == "__main__":
    main()
