"""`python -m alignflow`: the same as the command `alignflow`."""

from alignflow.safe_path import leave_working_directory

if __name__ == "__main__":
    leave_working_directory()  # before anything else is imported: this folder may hold a yaml.py of somebody else's

    from alignflow import collector

    with collector.paused():
        from alignflow.cli.app import main

    main()
