# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON-RPC 2.0: lines to requests, and errors to lines (docs/protocol.md)."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec

from engine import protocol, wire
from engine.errors import BadInput, Busy, Cancelled, OutOfMemory, explained

log = logging.getLogger(__name__)


class RpcError(Exception):
    """An error answer: code, sentence and what is at fault."""

    def __init__(self, code: int, message: str, data: dict[str, str] | None = None):
        super().__init__(message)
        self.code, self.message, self.data = code, message, data or {}


class Request(msgspec.Struct):
    method: str
    id: protocol.Ident | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    jsonrpc: str = "2.0"


class Unreadable(RpcError):
    """A line that is no request, and its id where it can be told."""

    def __init__(self, code: int, message: str, ident: protocol.Ident | None):
        super().__init__(code, message)
        self.ident = ident


def read_request(line: bytes | wire.TooLong) -> Request:
    """Raises Unreadable."""
    if isinstance(line, wire.TooLong):
        raise Unreadable(
            protocol.INVALID_REQUEST,
            f"The request has {line.size / 2**20:.0f} MiB; the engine reads up to {wire.LONGEST_LINE / 2**20:.0f}. "
            "Render fewer frames at a time.",
            wire.ident_of(line.head, line.tail),
        )
    try:
        return wire.decode(line, Request)
    except msgspec.ValidationError as error:
        raise Unreadable(protocol.INVALID_REQUEST, f"Not a request: {error}.", wire.ident_of(line)) from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(protocol.PARSE_ERROR, f"Not JSON: {error}.", wire.ident_of(line)) from None


def read_params(request: Request) -> protocol.Message:
    """Raises RpcError."""
    kind = protocol.REQUESTS.get(request.method)
    if kind is None:
        raise RpcError(protocol.UNKNOWN_METHOD, f"The engine knows no request {request.method!r}.")
    try:
        return wire.decode(bytes(request.params), kind)
    except (ValueError, RecursionError) as error:
        raise RpcError(protocol.INVALID_PARAMS, f"{request.method}: {error}.") from None


def failure_line(ident: protocol.Ident | None, error: BaseException) -> bytes:
    """The line of an error answer; never raises."""
    return wire.encode({"jsonrpc": "2.0", "id": ident, "error": error_body(error)})


def error_body(error: BaseException) -> dict[str, Any]:
    """What an answer says of an error; never raises."""
    try:
        rpc = _as_rpc_error(error)
        if rpc.code == protocol.INTERNAL:
            log.error("%s", "".join(traceback.format_exception(error)))
        body = {"code": rpc.code, "message": rpc.message, "data": rpc.data}
        wire.encode(body)
        return body
    except BaseException as another:  # an error that cannot even be told
        log.error("an error could not be told: %s", type(another).__name__)
        return {"code": protocol.INTERNAL, "message": "The engine met a defect of its own.", "data": {}}


def error_of(body: Mapping[str, Any]) -> Exception:
    """The error that another process told of."""
    code, message, data = body.get("code"), str(body.get("message", "")), body.get("data")
    data = {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
    if code == protocol.CANCELLED:
        return Cancelled(message)
    if code == protocol.OUT_OF_MEMORY:
        return OutOfMemory(message)
    if code in (protocol.BAD_INPUT, protocol.BUSY):
        kind = Busy if code == protocol.BUSY else BadInput
        return kind(message, file=data.get("file"), field=data.get("field"))
    return RpcError(code if isinstance(code, int) else protocol.INTERNAL, message, data)


def _as_rpc_error(error: BaseException) -> RpcError:
    if isinstance(error, RpcError):
        return error
    known = explained(error)
    if isinstance(known, Cancelled):
        return RpcError(protocol.CANCELLED, str(known))
    if isinstance(known, BadInput):
        code = protocol.BUSY if isinstance(known, Busy) else protocol.BAD_INPUT
        at_fault = {"field": known.field, "file": known.file}
        return RpcError(code, known.message, {k: v for k, v in at_fault.items() if v})
    if isinstance(known, OutOfMemory):
        return RpcError(protocol.OUT_OF_MEMORY, str(known))
    return RpcError(
        protocol.INTERNAL, f"The engine met a defect of its own ({type(error).__name__}: {error}); its log says where."
    )
