"""A FastAPI service that does its work in background tasks."""
