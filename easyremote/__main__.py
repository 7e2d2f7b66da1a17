"""`python -m easyremote` is the `easyremote` command."""

from easyremote.cli.main import main

if __name__ == "__main__":
    main()
