"""`python -m alignflow`: the same as the command `alignflow`."""

from alignflow.cli.app import main

if __name__ == "__main__":
    main()
