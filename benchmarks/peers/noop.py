"""A bare FastAPI application: one endpoint that does nothing, and no middleware."""

from fastapi import FastAPI

app = FastAPI()


@app.post("/log/")
async def noop() -> dict[str, str]:
    return {"message": "Nothing has been scheduled"}
