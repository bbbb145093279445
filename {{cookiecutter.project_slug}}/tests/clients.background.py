"""The client of the tests: its requests return when their tasks are done."""

import stamina
from fastapi.testclient import TestClient as Client

__all__ = ["Client"]

# What fails is tried once more, without a wait.
stamina.set_testing(True, attempts=2)
