"""All trials of a study, page by page."""

from collections.abc import Iterator

from trimtab.client import Client
from trimtab.contract.trials import Trial, TrialState

PAGE = 1000


def every_trial(client: Client, name: str, state: TrialState | None = None) -> Iterator[Trial]:
    """Yield a study's trials by number, those in one state alone where it is given.

    Raises:
        problems.Problem: the service refuses, or does not answer.
    """
    token: str | None = None
    while True:
        page = client.trials(name, page_size=PAGE, page_token=token, state=state)
        yield from page.trials
        token = page.next_page_token
        if token is None:
            return
