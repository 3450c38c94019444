"""With this folder on PYTHONPATH, every process lives by Windows' rules; see windows_rules.py."""

import windows_rules

windows_rules.apply()
