"""`python -m supervisor` is `training-supervisord`."""

import sys

from supervisor.daemon import main

sys.exit(main())
