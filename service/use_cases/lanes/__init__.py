"""The short ways of the verbs that workers call all the time.

What is ordinary is decided here on what the process knows, and stored for many callers by one statement under the
conditions that make it ordinary. Whoever is not served so is served the whole way, by the use cases beside this package:
they look first. So each short way is a few lines, and no rule stands twice.
"""

from service.use_cases.lanes.lanes import Lanes

__all__ = ["Lanes"]
