"""The former name of ``tests.commands``."""

from tests.commands import Outcome as Outcome
from tests.commands import call as call
