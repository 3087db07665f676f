"""The command line, `trimtab ...`: parse, call the client, print. It never imports the service or the worker."""


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 service unreachable, 130 interrupted."""
    from trimtab.cli import app

    app.main()
