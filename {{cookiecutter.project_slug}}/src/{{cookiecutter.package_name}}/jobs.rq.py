"""The jobs of this service. RQ's own jobs run any function that they name."""

from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from typing import Any

from redis.client import Pipeline
from rq.exceptions import DeserializationError
from rq.job import Job, JobStatus


class UnknownTask(Exception):
    """A job names a function that is no task of this service."""


class TaskJob(Job):
    """A job that runs only tasks of this package."""

    success_callback = failure_callback = stopped_callback = None  # they are named likewise

    @property
    def func(self) -> Any:
        """The task; raises UnknownTask if the job names something else."""
        module, _, name = str(self.func_name).rpartition(".")
        function: Any = None
        if module.startswith(f"{__package__}."):
            with suppress(ModuleNotFoundError):
                function = getattr(import_module(module), name, None)
        # pydantic gives a `raw_function` to each function whose arguments it validates.
        if not hasattr(function, "raw_function") or function.__module__ != module:
            raise UnknownTask(self.func_name)
        return function

    def restore(self, raw_data: Any) -> None:
        """Read a job from Redis; raises an error for content that would end the worker later."""
        super().restore(raw_data)
        try:
            self.description = self.func_name  # RQ's own, which it logs, shows the arguments
        except DeserializationError:  # the job fails in its own process
            self.description = "unreadable"
        if not isinstance(self.meta, dict):
            raise TypeError("meta is no object")
        if self.should_retry:
            timedelta(seconds=self.get_retry_interval())

    def set_status(self, status: JobStatus, pipeline: Pipeline | None = None) -> None:
        """Set the status of the job, but ignore SCHEDULED without a pipeline.

        RQ sets that status twice: alone, and then together with the retry. If the worker were killed
        in between, the job would be lost.
        """
        if pipeline is not None or status != JobStatus.SCHEDULED:
            super().set_status(status, pipeline)
