"""Settings: environment variables `IOTLINKER_…` over defaults, with generated secrets.

`Settings` is built once by whatever starts a process and handed down; nothing else reads the
environment.
"""

from core.settings.root import Settings, load_settings
from core.settings.secrets import Secrets

__all__ = ["Secrets", "Settings", "load_settings"]
