"""Error messages for a person: title, detail, every faulty field, and a hint."""

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from trimtab.contract import problems

HINTS: Mapping[type[problems.Problem], str] = {
    problems.Unauthorized: "give the service's token with --token or TRIMTAB_TOKEN",
    problems.StudyNotFound: "`trimtab study list` lists the studies",
    problems.TrialNotFound: "`trimtab trial list STUDY` lists the study's trials",
    problems.TrialNotActive: "`trimtab trial show STUDY NUMBER` shows how it ended",
    problems.TrialNotFailed: "`trimtab trial show STUDY NUMBER` shows its state",
    problems.NoCompletedTrial: "`trimtab study show STUDY --watch` follows the study until it has one",
    problems.NoModel: "`trimtab study show STUDY` shows its state, `trimtab trial list STUDY` the trials that failed",
    problems.StudyExists: "choose another `name`, or remove that study: `trimtab study rm STUDY`",
    problems.OneObjective: "`trimtab study best STUDY` shows its best trial",
    problems.StudyNotActive: "`trimtab study show STUDY` shows its state",
    problems.StudyNotIdle: "run `trimtab study cancel STUDY`, and try again when no trial is running",
    problems.Unavailable: "try again in a few seconds; the service's log says more",
}

EXIT_FAILED = 1
EXIT_UNREACHABLE = 3


def exit_code(problem: problems.Problem) -> int:
    """Return the exit code of a failed command."""
    return EXIT_UNREACHABLE if isinstance(problem, problems.Unreachable) else EXIT_FAILED


def show(console: Console, problem: problems.Problem) -> None:
    """Print a problem."""
    title = problems.row_of(type(problem)).title
    console.print(Text.assemble(("error: ", "bold red"), (title, "bold")))
    console.print(printable(problem.detail), soft_wrap=True)
    for fault in problem.errors:
        where = fault.pointer or "(the document)"
        line = Text.assemble("  ", (where, "bold"), ": ", printable(fault.message))
        console.print(line, soft_wrap=True)
    if hint := _hint(problem):
        console.print(Text.assemble(("hint: ", "bold cyan"), hint), soft_wrap=True)


def show_os_error(console: Console, error: OSError) -> None:
    """Print an error of the operating system, with the file that it is about."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    console.print(Text.assemble(("error: ", "bold red"), f"{where}{reason}"), soft_wrap=True)


def printable(text: str) -> str:
    """Return the text with U+FFFD in place of control characters, which could change what the terminal shows."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _hint(problem: problems.Problem) -> str | None:
    if isinstance(problem, problems.Unreachable):
        return None  # its detail says what to do, for the users of the Python client too
    return next((HINTS[base] for base in type(problem).__mro__ if base in HINTS), None)
