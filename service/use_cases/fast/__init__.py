"""The fast path: the verbs that workers call all the time, for many callers with one statement.

Each verb is decided on what this process knows, and stored under the conditions that make the decision right. A request
that is not served so takes the full path: the use cases beside this package look first. So each module here is short, and
the rules are those of `service.domain`. Why there are two paths: docs/decisions/0004-the-fast-path.md.
"""

from service.use_cases.fast.fast_path import FastPath

__all__ = ["FastPath"]
