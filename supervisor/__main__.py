"""`python -m supervisor` is `training-supervisord`."""

import sys

from supervisor.entry import daemon

sys.exit(daemon())
