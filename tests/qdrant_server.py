"""A stand-in for a Qdrant server: its REST protocol on a real socket, Qdrant Edge behind it.

Every request is checked against Qdrant's own API description (`qdrant_openapi.json`), more strictly
than the server does: a field that the description does not know is an error. So is every answer,
which keeps the stand-in honest. With `QDRANT_URL` set, tests ask a real server instead.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import qdrant_edge as qe
from jsonschema import Draft202012Validator

API = json.loads(Path(__file__).with_name("qdrant_openapi.json").read_text())
VERSION = "1.20.0"
SEGMENTS = 1


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, error: str) -> None:
        self.status, self.error = status, error
        super().__init__(error)


@dataclass
class Collection:
    """What the server holds of one."""

    config: dict[str, Any]
    shard: qe.EdgeShard
    metadata: dict[str, Any]
    indexed: set[str] = field(default_factory=set)
    turn: threading.RLock = field(default_factory=threading.RLock)


@dataclass
class Engine:
    """All collections; survives the server that serves them."""

    folder: Path
    key: str = ""
    version: str = VERSION
    collections: dict[str, Collection] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda method, path: None
    """Called with every request; may wait, or raise `Refused`."""

    def find(self, name: str) -> Collection:
        held = self.collections.get(self.aliases.get(name, name))
        if held is None:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return held


def _strict(schema: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable` is a type, and unknown fields are refused."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema == {"nullable": True}:
        return {"type": "null"}
    made = {
        key: {name: _strict(one) for name, one in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
        if key not in ("nullable", "default")
    }
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


_SCHEMAS = {name: _strict(schema) for name, schema in API["components"]["schemas"].items()}


@cache
def _validator(path: str, method: str, part: str) -> Draft202012Validator | None:
    operation = API["paths"][path][method]
    holder = operation.get("requestBody") if part == "request" else operation["responses"]["200"]
    if holder is None:
        return None
    schema = holder["content"]["application/json"]["schema"]
    return Draft202012Validator({**_strict(schema), "components": {"schemas": _SCHEMAS}})


def _check(path: str, method: str, part: str, body: object) -> None:
    validator = _validator(path, method, part)
    if validator is None:
        assert body is None, f"{method} {path} has no {part}"
        return
    error = next(validator.iter_errors(body), None)
    if error is not None:
        deepest = min([error, *error.context], key=lambda one: -len(one.absolute_path))
        where = "/".join(map(str, deepest.absolute_path))
        raise Refused(400, f"{part} of {method} {path}, at {where}: {deepest.message[:300]}")


def _route(path: str) -> tuple[str, dict[str, str]]:
    # Fixed paths first: `/collections/aliases` is no collection.
    for template in sorted(API["paths"], key=lambda one: one.count("{")):
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
        if found := re.fullmatch(pattern, path):
            return template, {name: unquote(value) for name, value in found.groupdict().items()}
    raise Refused(404, "")


def answer(engine: Engine, method: str, target: str, body: Any) -> Any:
    """One request: checked, carried out, and its answer checked."""
    parts = urlsplit(target)
    template, names = _route(parts.path)
    if method not in API["paths"][template]:
        raise Refused(405, "Method not allowed")
    known = {p["name"] for p in API["paths"][template][method].get("parameters", ())}
    unknown = set(parse_qs(parts.query)) - known
    if unknown:
        raise Refused(400, f"unknown parameters {unknown}")
    _check(template, method, "request", body)
    result = _HANDLERS[method, template](engine, names.get("collection_name", ""), body)
    reply = result if template == "/" else {"result": result, "status": "ok", "time": 0.001}
    _check(template, method, "response", reply)
    return reply


# What the requests do


def _version(engine: Engine, name: str, body: Any) -> Any:
    return {"title": "qdrant - vector search engine", "version": engine.version}


def _list(engine: Engine, name: str, body: Any) -> Any:
    return {"collections": [{"name": name} for name in engine.collections]}


def _exists(engine: Engine, name: str, body: Any) -> Any:
    return {"exists": engine.aliases.get(name, name) in engine.collections}


def _create(engine: Engine, name: str, body: Any) -> Any:
    if name in engine.collections:
        raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
    hnsw = body["hnsw_config"]
    config = qe.EdgeConfig(
        vectors={
            key: qe.EdgeVectorParams(
                size=params["size"],
                distance=getattr(qe.Distance, params["distance"]),
                quantization_config=_quantization(params.get("quantization_config")),
            )
            for key, params in body["vectors"].items()
        },
        sparse_vectors={
            key: qe.EdgeSparseVectorParams(modifier=getattr(qe.Modifier, p["modifier"].title()))
            for key, p in body["sparse_vectors"].items()
        },
        hnsw_config=qe.HnswIndexConfig(
            m=hnsw["m"],
            ef_construct=hnsw["ef_construct"],
            full_scan_threshold=hnsw["full_scan_threshold"],
        ),
        optimizers=qe.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=SEGMENTS),
    )
    folder = Path(tempfile.mkdtemp(dir=engine.folder))
    shard = qe.EdgeShard.create(str(folder), config)
    engine.collections[name] = Collection(body, shard, dict(body.get("metadata") or {}))
    return True


def _quantization(config: Any) -> Any:
    if not config:
        return None
    ((kind, given),) = config.items()
    memory = {"memory": getattr(qe.Memory, given["memory"].title())}
    if kind == "scalar":
        return qe.ScalarQuantizationConfig(
            qe.ScalarType.Int8, quantile=given.get("quantile"), **memory
        )
    if kind == "turbo":
        bits = {"bits4": qe.TurboQuantBitSize.Bits4}[given["bits"]]
        return qe.TurboQuantQuantizationConfig(bits=bits, **memory)
    if "query_encoding" in given:
        encodings = {"scalar8bits": qe.BinaryQuantizationQueryEncoding.Scalar8Bits}
        memory["query_encoding"] = encodings[given["query_encoding"]]
    return qe.BinaryQuantizationConfig(**memory)


def _info(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    config, info = held.config, held.shard.info()
    return {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": info.indexed_vectors_count,
        "points_count": info.points_count,
        "segments_count": info.segments_count,
        "payload_schema": {
            key: {"data_type": "keyword", "points": info.points_count} for key in held.indexed
        },
        "config": {
            "params": {
                "vectors": config["vectors"],
                "sparse_vectors": config["sparse_vectors"],
                "shard_number": config.get("shard_number") or 1,
                "replication_factor": config.get("replication_factor") or 1,
                "write_consistency_factor": 1,
                "on_disk_payload": True,
            },
            "hnsw_config": config["hnsw_config"],
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
                **config["optimizers_config"],
            },
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "metadata": held.metadata,
        },
    }


def _update(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    optimizers = body.get("optimizers_config") or {}
    held.config["optimizers_config"] |= optimizers
    for key, value in (body.get("metadata") or {}).items():
        if value is None:
            held.metadata.pop(key, None)
        else:
            held.metadata[key] = value
    if optimizers.get("indexing_threshold"):
        with held.turn:
            held.shard.optimize()
    return True


def _drop(engine: Engine, name: str, body: Any) -> Any:
    held = engine.collections.pop(name, None)
    if held is None:
        return False
    with held.turn:
        held.shard.close()
    for alias in [alias for alias, target in engine.aliases.items() if target == name]:
        del engine.aliases[alias]
    return True


def _aliases(engine: Engine, name: str, body: Any) -> Any:
    listed = [{"alias_name": a, "collection_name": c} for a, c in engine.aliases.items()]
    return {"aliases": listed}


def _change_aliases(engine: Engine, name: str, body: Any) -> Any:
    for action in body["actions"]:
        if made := action.get("create_alias"):
            engine.find(made["collection_name"])
            if made["alias_name"] in engine.collections:
                raise Refused(409, "Wrong input: a collection has that name")
            engine.aliases[made["alias_name"]] = made["collection_name"]
        elif gone := action.get("delete_alias"):
            if gone["alias_name"] not in engine.aliases:
                raise Refused(404, f"Not found: Alias {gone['alias_name']} doesn't exist!")
            del engine.aliases[gone["alias_name"]]
    return True


def _index(engine: Engine, name: str, body: Any) -> Any:
    held, schema = engine.find(name), body["field_schema"]
    index = qe.KeywordIndexParams(prefix=schema.get("prefix", False))
    with held.turn:
        held.shard.update(qe.UpdateOperation.create_field_index(body["field_name"], index))
    held.indexed.add(body["field_name"])
    return _DONE


_DONE = {"operation_id": 1, "status": "completed"}


def _upsert(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    for point in body["points"]:
        size = held.config["vectors"]["dense"]["size"]
        if len(point["vector"].get("dense", [0.0] * size)) != size:
            raise Refused(400, "Wrong input: Vector dimension error")
    points = [
        qe.Point(
            id=point["id"],
            vector={key: _vector(value) for key, value in point["vector"].items()},
            payload=point.get("payload") or {},
        )
        for point in body["points"]
    ]
    with held.turn:
        held.shard.update(qe.UpdateOperation.upsert_points(points))
    return _DONE


def _vector(value: Any) -> Any:
    if isinstance(value, dict):
        return qe.SparseVector(value["indices"], value["values"])
    return value


def _delete(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    with held.turn:
        held.shard.update(qe.UpdateOperation.delete_points(body["points"]))
    return _DONE


def _set_payload(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    with held.turn:
        held.shard.update(qe.UpdateOperation.set_payload(body["points"], body["payload"]))
    return _DONE


def _query(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    lists = [
        qe.Prefetch(
            query=qe.Query.Nearest(_vector(one["query"]), using=one["using"]),
            limit=one["limit"],
            params=_params(one.get("params")),
            filter=_filter(one.get("filter")),
        )
        for one in body["prefetch"]
    ]
    formula, defaults = body["query"]["formula"], body["query"].get("defaults", {})
    request = qe.QueryRequest(
        prefetches=lists,
        query=qe.Formula(_expression(formula), defaults=defaults),
        limit=body.get("limit", 10),
        with_payload=body.get("with_payload", False),
    )
    with held.turn:
        points = held.shard.query(request)
    listed = [
        {"id": str(p.id), "version": p.version, "score": p.score, "payload": p.payload}
        for p in points
    ]
    return {"points": listed}


def _params(given: Any) -> Any:
    if not given:
        return None
    return qe.SearchParams(quantization=qe.QuantizationSearchParams(**given["quantization"]))


def _expression(given: Any) -> qe.Expression:
    if isinstance(given, (int, float)):
        return qe.Expression.Constant(float(given))
    if isinstance(given, str):
        return qe.Expression.Variable(given)
    ((kind, inner),) = given.items()
    make = {"sum": qe.Expression.Sum, "mult": qe.Expression.Mult}[kind]
    return make([_expression(one) for one in inner])


def _filter(given: Any) -> qe.Filter | None:
    if not given:
        return None
    assert set(given) <= {"must", "must_not", "should"}, given
    return qe.Filter(**{key: [_condition(one) for one in value] for key, value in given.items()})


def _condition(given: Any) -> Any:
    if "is_empty" in given:
        return qe.IsEmptyCondition(given["is_empty"]["key"])
    if set(given) & {"must", "must_not", "should"}:
        return _filter(given)
    if "has_id" in given:
        return qe.HasIdCondition(set(given["has_id"]))
    if "range" in given:
        limits = {edge: value for edge, value in given["range"].items() if value is not None}
        return qe.FieldCondition(key=given["key"], range=qe.RangeFloat(**limits))
    ((kind, wanted),) = given["match"].items()
    make = {"any": lambda v: qe.MatchAny(any=v), "prefix": qe.MatchPrefix, "value": qe.MatchValue}
    return qe.FieldCondition(key=given["key"], match=make[kind](wanted))


def _retrieve(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    with held.turn:
        records = held.shard.retrieve(
            body["ids"],
            with_payload=body.get("with_payload", True),
            with_vector=body.get("with_vector", False),
        )
    return [_record(record) for record in records]


def _record(record: qe.Record) -> dict[str, Any]:
    vectors = {
        key: {"indices": list(v.indices), "values": list(v.values)}
        if isinstance(v, qe.SparseVector)
        else v
        for key, v in (record.vector or {}).items()
    }
    return {"id": str(record.id), "payload": record.payload, "vector": vectors}


def _scroll(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    request = qe.ScrollRequest(
        offset=body.get("offset"),
        limit=body.get("limit", 10),
        filter=_filter(body.get("filter")),
        with_payload=body.get("with_payload", True),
        with_vector=body.get("with_vector", False),
    )
    with held.turn:
        records, offset = held.shard.scroll(request)
    following = None if offset is None else str(offset)
    return {"points": [_record(one) for one in records], "next_page_offset": following}


def _count(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    with held.turn:
        return {"count": held.shard.count(qe.CountRequest(filter=_filter(body.get("filter"))))}


def _facet(engine: Engine, name: str, body: Any) -> Any:
    held = engine.find(name)
    if body["key"] not in held.indexed:
        raise Refused(400, f'Bad request: Index required but not found for "{body["key"]}"')
    request = qe.FacetRequest(key=body["key"], limit=body["limit"], exact=body["exact"])
    with held.turn:
        hits = held.shard.facet(request).hits
    return {"hits": [{"value": str(hit.value), "count": hit.count} for hit in hits]}


_ONE = "/collections/{collection_name}"
_HANDLERS: dict[tuple[str, str], Callable[[Engine, str, Any], Any]] = {
    ("get", "/"): _version,
    ("get", "/collections"): _list,
    ("get", _ONE): _info,
    ("put", _ONE): _create,
    ("patch", _ONE): _update,
    ("delete", _ONE): _drop,
    ("get", f"{_ONE}/exists"): _exists,
    ("get", "/aliases"): _aliases,
    ("post", "/collections/aliases"): _change_aliases,
    ("put", f"{_ONE}/index"): _index,
    ("put", f"{_ONE}/points"): _upsert,
    ("post", f"{_ONE}/points"): _retrieve,
    ("post", f"{_ONE}/points/delete"): _delete,
    ("post", f"{_ONE}/points/payload"): _set_payload,
    ("post", f"{_ONE}/points/query"): _query,
    ("post", f"{_ONE}/points/scroll"): _scroll,
    ("post", f"{_ONE}/points/count"): _count,
    ("post", f"{_ONE}/facet"): _facet,
}


@contextmanager
def serving(engine: Engine, *, port: int = 0) -> Iterator[str]:
    """Serve an engine on a loopback port; yields the URL."""
    served: set[Any] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _serve(self) -> None:
            served.add(self.connection)
            size = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(size) if size else b""
            method = self.command.lower()
            engine.requests.append((method, self.path))
            try:
                engine.before(method, self.path)
                if engine.key and self.headers.get("api-key") != engine.key:
                    self._send(403, b"Invalid API key or JWT", "text/plain")
                    return
                body = json.loads(raw) if raw else None
                self._reply(200, answer(engine, method, self.path, body))
            except Refused as exc:
                self._reply(exc.status, {"status": {"error": exc.error}, "time": 0.0})
            except Exception as exc:
                self._reply(500, {"status": {"error": f"Service internal error: {exc!r}"}})

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

        def _reply(self, status: int, body: Any) -> None:
            self._send(status, json.dumps(body).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 64

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        for connection in served:  # A server that stops hangs up on everyone.
            try:
                connection.shutdown(2)
            except OSError:
                continue
        thread.join()
        time.sleep(0.05)
