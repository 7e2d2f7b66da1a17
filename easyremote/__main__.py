"""`python -m easyremote` is the `easyremote` command."""

from easyremote.cli.start import main

if __name__ == "__main__":
    main()
