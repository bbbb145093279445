"""The client of the tests: its requests return when their tasks are done."""

from fastapi.testclient import TestClient as Client

__all__ = ["Client"]
