"""What the entry points share: a user's mistake ends in a sentence, not in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode

from cxrlab.errors import UserError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""


class _JobFailed(CompactHydraException):
    """Lets Hydra run a sweep's other jobs and then exit with 1, without a traceback."""


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Turns a :class:`UserError` into its sentence and exit status 1, and Ctrl-C into the shell's exit status for it."""
    try:
        yield
    except UserError as error:
        if HydraConfig.get().mode == RunMode.RUN:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        number = HydraConfig.get().job.num
        print(f"error in job {number}: {error}", file=sys.stderr)  # at once: Hydra tells of the first failed job, at the end
        raise _JobFailed(f"job {number} failed, see above; the other jobs ran") from None
    except KeyboardInterrupt:
        print("\ninterrupted; nothing that was finished is lost", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
