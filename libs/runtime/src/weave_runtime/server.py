"""Life cycle of a gRPC server on a unix socket: health, reflection, errors, graceful stop."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from weave_model.errors import Conflict, Invalid, NotReady
from weave_runtime import telemetry
from weave_runtime.client import MESSAGE_LIMITS
from weave_runtime.pulse import pulse
from weave_runtime.status import status_of

S = TypeVar("S")

SOCKET_MODE = 0o660
# sun_path of struct sockaddr_un less the terminating zero.
MAX_SOCKET_PATH = 107
GRACE_S = 2.0
# How soon a health watcher hears of a change; Check always asks anew.
_HEALTH_PERIOD_S = 1.0
_STOPPING = "the server is stopping"

log = logging.getLogger(__name__)


def claim_socket(path: Path) -> None:
    """Makes `path` free to bind: makes its directory, removes a socket that nobody listens on.

    Raises Conflict when somebody does, or when something else than a socket is there. Blocks for
    no longer than a connect to a local socket.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise Invalid(f"socket path {path} is longer than {MAX_SOCKET_PATH} bytes")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_socket():
            raise Conflict(f"{path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        path.unlink(missing_ok=True)
        return
    except BlockingIOError:
        pass  # its backlog is full: somebody listens
    except OSError as error:
        raise Conflict(f"socket {path} cannot be made: {error.strerror}") from error
    raise Conflict(f"socket {path} is in use by another process")


def give_to_group(path: Path, group: str) -> None:
    """Lets a group (name or number; empty: the process's own) use a socket. Raises Invalid."""
    path.chmod(SOCKET_MODE)
    if not group:
        return
    try:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        os.chown(path, -1, gid)
    except (KeyError, OSError) as error:
        raise Invalid(f"socket {path} cannot be given to group {group}: {error}") from error


class Server:
    """A gRPC server on a unix socket. Add services, then `async with` it.

    `ready` says why the services cannot do their work, or nothing: it is asked at each health check
    of a service's name. The empty name is the process, which is healthy as soon as it answers.
    """

    def __init__(
        self,
        socket_path: Path,
        *,
        group: str = "",
        ready: Callable[[], str],
        grace_s: float = GRACE_S,
    ) -> None:
        self._path = socket_path
        self._group = group
        self._grace_s = grace_s
        self._boundary = _Boundary()
        self._names: list[str] = []
        self._server = grpc.aio.server(interceptors=[self._boundary], options=MESSAGE_LIMITS)
        self.add(health_pb2_grpc.add_HealthServicer_to_server, _Health(self._names, ready))

    def add(self, register: Callable[[S, Any], None], servicer: S) -> None:
        """Adds a service: `server.add(add_GreeterServicer_to_server, Greeter())`."""
        register(servicer, _Registry(self._server, self._names))

    async def __aenter__(self) -> Self:
        """Listens. Raises Conflict or Invalid with the socket's path."""
        from grpc_reflection.v1alpha import reflection

        claim_socket(self._path)
        reflection.enable_server_reflection((*self._names, reflection.SERVICE_NAME), self._server)
        # Nobody may connect between bind and chmod who may not do so afterwards.
        umask = os.umask(0o777 & ~SOCKET_MODE)
        try:
            self._server.add_insecure_port(f"unix://{self._path.absolute()}")
        except RuntimeError as error:
            raise Conflict(f"socket {self._path} cannot be bound: {error}") from error
        finally:
            os.umask(umask)
        give_to_group(self._path, self._group)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends streams at once, lets other calls finish within the grace period."""
        self._boundary.end_streams()
        await self._server.stop(self._grace_s)


class _Registry:
    """Stands in for the server while generated code registers a service, to learn its name."""

    def __init__(self, server: grpc.aio.Server, names: list[str]) -> None:
        self._server = server
        self._names = names

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        self._names += [handler.service_name() for handler in handlers]
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, name: str, handlers: dict[str, Any]) -> None:
        self._server.add_registered_method_handlers(name, handlers)


class _Health(health_pb2_grpc.HealthServicer):
    def __init__(self, names: Iterable[str], ready: Callable[[], str]) -> None:
        self._names = names
        self._ready = ready

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.service and request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service}")
        return self._answer(request.service)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
        last = None
        while True:
            answer = self._answer(request.service)
            if answer != last:
                last = answer
                yield answer
            await pulse(_HEALTH_PERIOD_S)

    def _answer(self, name: str) -> Any:
        answer = health_pb2.HealthCheckResponse
        if name and name not in self._names:
            return answer(status=answer.SERVICE_UNKNOWN)
        return answer(status=answer.NOT_SERVING if name and self._ready() else answer.SERVING)


class _Boundary(grpc.aio.ServerInterceptor):
    """The outermost layer of every RPC: errors to codes, one span per call, streams that end."""

    def __init__(self) -> None:
        self._tracer = telemetry.tracer(__name__)
        # Streams that wait for their handler. One that is sending must not be cancelled: gRPC
        # would then send no status, and wait for the caller until the grace period is over.
        self._waiting: set[asyncio.Task[Any]] = set()
        self._is_ending = False

    def end_streams(self) -> None:
        """Ends all server streams with UNAVAILABLE: they would use up the grace period."""
        self._is_ending = True
        for task in self._waiting:
            task.cancel()

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.request_streaming:
            return handler
        if handler.response_streaming:
            return handler._replace(unary_stream=self._streaming(handler, details.method))
        parent = telemetry.parent_in(details.invocation_metadata)
        return handler._replace(unary_unary=self._unary(handler, details.method, parent))

    def _unary(self, handler: Any, method: str, parent: str) -> Any:
        async def call(request: Any, context: Any) -> Any:
            try:
                with self._tracer.span(method, parent=parent):
                    return await handler.unary_unary(request, context)
            except Exception as error:  # noqa: BLE001 - the RPC boundary
                await self._abort(context, method, error)

        return call

    def _streaming(self, handler: Any, method: str) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            task = asyncio.current_task()
            assert task
            self._waiting.add(task)
            try:
                async with aclosing(handler.unary_stream(request, context)) as responses:
                    async for response in responses:
                        self._waiting.discard(task)
                        yield response
                        if self._is_ending:
                            raise NotReady(_STOPPING)
                        self._waiting.add(task)
            except asyncio.CancelledError:
                if self._is_ending and not context.cancelled():
                    await context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)
                raise
            except Exception as error:  # noqa: BLE001 - the RPC boundary
                await self._abort(context, method, error)
            finally:
                self._waiting.discard(task)

        return call

    async def _abort(self, context: Any, method: str, error: Exception) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        status = status_of(error)
        if status is None:
            log.error("call failed unexpectedly", extra={"method": method}, exc_info=error)
            status = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        await context.abort(*status)
