"""The generated service, with one endpoint more: it does nothing, and says so as the others do."""

from myservice.main import app

__all__ = ["app"]


@app.post("/noop/")
async def noop() -> dict[str, str]:
    return {"message": "Nothing has been scheduled"}
