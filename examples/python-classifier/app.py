"""A classifier that is no model: a table of words, served by FastAPI.

It answers `POST /v1/classify` as every classifier of Aisle does: a product in
JSON in, labels with probabilities out, refusals as problem+json (RFC 9457), and
`Aisle-Reads` on every answer. `GET /readyz` says when it is ready. It obeys
Knative's contract: PORT, SIGTERM. What else a classifier may take (CloudEvents,
pictures, many products at once) it does not, and a composer asks for none of it.
"""

import contextlib
import csv
import hashlib
import os
import pathlib
import re

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

HERE = pathlib.Path(__file__).parent
MAX_BODY = 1 << 20
NOTHING_TO_READ = "https://aisle.dev/problems/nothing-to-read"


class Image(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str | None = Field(default=None, max_length=2048)
    data: str | None = None


class Product(BaseModel):
    """/schemas/product.v1.json, of which this classifier reads the title."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(default="", max_length=256)
    title: str = Field(default="", max_length=4096)
    description: str = Field(default="", max_length=65536)
    brand: str = Field(default="", max_length=1024)
    attributes: dict[str, str] = Field(default={}, max_length=64)
    images: list[Image] = Field(default=[], max_length=8)


class Rules:
    """Labels by the words that name them."""

    def __init__(self, table: pathlib.Path) -> None:
        data = table.read_bytes()
        self.words: dict[str, str] = {}
        for row in csv.DictReader(data.decode().splitlines()):
            self.words[row["word"]] = row["label"]
        self.labels = sorted(set(self.words.values()))
        self.digest = "sha256:" + hashlib.sha256(data + pathlib.Path(__file__).read_bytes()).hexdigest()

    def probabilities(self, title: str) -> list[tuple[str, float]]:
        """What names a label counts as twenty; a title puts what a thing is at
        its end, so that later words count more. Without a word that is known,
        all labels are equally likely."""
        words = re.findall(r"[a-z0-9]+", title.lower())
        counts = dict.fromkeys(self.labels, 1.0)
        for at, word in enumerate(words, 1):
            for known in (word, word.removesuffix("s"), f"{words[at - 2]} {word}" if at > 1 else ""):
                if label := self.words.get(known):
                    counts[label] += 20 * len(self.labels) * at / len(words)
                    break
        total = sum(counts.values())
        return sorted(((label, n / total) for label, n in counts.items()), key=lambda x: -x[1])


rules = Rules(HERE / "rules.csv")
app = FastAPI(openapi_url=None)


@app.middleware("http")
async def reads(request: Request, call_next):  # type: ignore[no-untyped-def]
    response = await call_next(request)
    response.headers["Aisle-Reads"] = "title"
    return response


@app.exception_handler(HTTPException)
async def refuse(_: Request, e: HTTPException) -> Response:
    return problem(e.status_code, e.detail)


def problem(status: int, detail: str, kind: str = "about:blank") -> Response:
    body = {"type": kind, "status": status, "detail": detail, "error": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


async def body_of(request: Request) -> bytes:
    if request.headers.get("content-type", "application/json").split(";")[0].strip() != "application/json":
        raise HTTPException(415, "send a product as application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the request body is larger than {MAX_BODY} bytes; this classifier reads the title alone")
    return bytes(body)


@app.get("/readyz")
@app.get("/healthz")
async def ready() -> str:
    return "ok"


@app.post("/v1/classify")
async def classify(request: Request, top: str = "5") -> Response:
    if top != "all" and not re.fullmatch(r"[1-9]\d{0,4}", top):
        return problem(400, f"top is {top[:20]!r}; want a number above 0, or all")
    try:
        product = Product.model_validate_json(await body_of(request))
    except ValidationError as e:
        first = e.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the product"
        return problem(400, f"the product is not valid JSON of the product schema: {where}: {first['msg']}")
    if not product.title.strip():
        return problem(422, "the product has nothing that this classifier reads: title", NOTHING_TO_READ)
    found = rules.probabilities(product.title)
    answer: dict[str, object] = {"id": product.id} if product.id else {}
    answer |= {
        "model": {"name": "python-classifier", "version": "1", "digest": rules.digest},
        "device": "cpu",
        "predictions": [
            {"label": label, "probability": p} for label, p in found[: None if top == "all" else int(top)]
        ],
    }
    return JSONResponse(answer)


def main() -> None:
    # On one machine HOST keeps a pod off the machine's other addresses. One
    # process: for more load there are pods. Uvicorn drains at SIGTERM by itself.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            app, host=os.environ.get("HOST", "0.0.0.0"), port=int(os.environ.get("PORT", "8080")),
            log_level="warning", timeout_graceful_shutdown=25,
        )  # fmt: skip


if __name__ == "__main__":
    main()
