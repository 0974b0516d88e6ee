"""The calls to systemd's manager: start a transient service and say which process it is; freeze and thaw it.

Covers: D-Bus, with a limit to every wait. Does not cover: what is started (transient.py).

All of this blocks, so it belongs into a thread of its own. A bus that hangs or is gone is
`BusError` after some seconds, and the next call begins with a new connection.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from jeepney import (
    DBus,
    DBusAddress,
    DBusErrorResponse,
    HeaderFields,
    MatchRule,
    Message,
    MessageType,
    Properties,
    new_method_call,
)
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, Proxy, prep_socket
from jeepney.wrappers import unwrap_msg

__all__ = ["Bus", "BusError", "Setting"]

T = TypeVar("T")

#: Name, D-Bus type and value of a property of a unit.
Setting = tuple[str, tuple[str, Any]]

#: A call is answered at once; to start a service, systemd may have others to do first.
_ANSWER_S: Final = 10.0
_START_S: Final = 30.0

_MANAGER: Final = DBusAddress(
    "/org/freedesktop/systemd1",
    bus_name="org.freedesktop.systemd1",
    interface="org.freedesktop.systemd1.Manager",
)
_SERVICE: Final = "org.freedesktop.systemd1.Service"
_REMOVED: Final = MatchRule(
    type="signal", interface=_MANAGER.interface, member="JobRemoved", path=_MANAGER.object_path
)
_BUS: Final = DBus()
_START: Final = "ssa(sv)a(sa(sv))"
_EXISTS: Final = "org.freedesktop.systemd1.UnitExists"
_UNKNOWN: Final = "org.freedesktop.systemd1.NoSuchUnit"


class BusError(Exception):  # A state of the bus, which the launcher tells as that of a job.
    """Systemd cannot be asked, or says no; in its words."""

    def __init__(self, why: str, *, name: str = "") -> None:
        super().__init__(why)
        #: D-Bus' name of the error; "": there was no answer.
        self.name = name


class _Connection(DBusConnection):  # type: ignore[misc]  # the library has no types
    """One that waits for no answer longer than it may."""

    def receive(self, *, timeout: float | None = None) -> Message:
        return super().receive(timeout=_ANSWER_S if timeout is None else timeout)


class Bus:
    """One connection to the system's bus or that of the user, made when it is needed. Used by one thread."""

    def __init__(self, *, is_system: bool) -> None:
        """Take note of which bus is meant; raises nothing."""
        self._is_system = is_system
        self._connection: DBusConnection | None = None

    def start(self, unit: str, settings: list[Setting]) -> int | None:
        """Start a service once; returns its main process, None when it is over already; raises BusError."""
        return self._persistent(lambda: self._start(unit, settings))

    def set_frozen(self, unit: str, *, is_frozen: bool) -> None:
        """Have all processes of a unit stand still, or go on; raises BusError.

        To be let go is nothing for one that is gone.
        """
        method = "FreezeUnit" if is_frozen else "ThawUnit"
        try:
            self._persistent(lambda: self._call(_MANAGER, method, "s", unit))
        except BusError as error:
            if is_frozen or error.name != _UNKNOWN:
                raise

    def _persistent(self, call: Callable[[], T]) -> T:
        was_connected = self._connection is not None
        try:
            return call()
        except BusError as error:
            # The bus was perhaps restarted since the last call. Whoever asks twice is told so by systemd.
            if error.name or not was_connected or self._connection is not None:
                raise
        return call()

    def _start(self, unit: str, settings: list[Setting]) -> int | None:
        removed: deque[Message] = deque()
        with self._connected().filter(_REMOVED, queue=removed):
            try:
                (job,) = self._call(_MANAGER, "StartTransientUnit", _START, unit, "fail", settings, [])
            except BusError as error:
                # An earlier daemon has asked for it, and did not live to hear the answer.
                if error.name != _EXISTS:
                    raise
            else:
                result = self._result(job, removed)
                if result != "done":
                    hint = f"`journalctl -u '{unit}'` says why"
                    raise BusError(f"systemd could not start it ({result}); {hint}", name=result)
        return self._main_process(unit)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _result(self, job: str, removed: deque[Message]) -> str:
        while True:
            try:
                message = self._connected().recv_until_filtered(removed, timeout=_START_S)
            except OSError as error:
                self.close()
                raise BusError(f"systemd does not say whether it has started: {_why(error)}") from error
            _, path, _, result = message.body
            if path == job:
                return str(result)

    def _main_process(self, unit: str) -> int | None:
        try:
            (path,) = self._call(_MANAGER, "GetUnit", "s", unit)
            service = DBusAddress(path, bus_name=_MANAGER.bus_name, interface=_SERVICE)
            ((_, pid),) = self._reply(Properties(service).get("MainPID"))
        except BusError as error:
            if error.name != _UNKNOWN:
                raise
            return None
        return int(pid) or None

    def _call(self, address: DBusAddress, method: str, signature: str, *body: Any) -> tuple[Any, ...]:
        return self._reply(new_method_call(address, method, signature, body))

    def _reply(self, message: Message) -> tuple[Any, ...]:
        try:
            reply = self._connected().send_and_get_reply(message)
        except OSError as error:
            self.close()
            raise BusError(f"systemd does not answer: {_why(error)}") from error
        if reply.header.message_type is MessageType.error:
            name = str(reply.header.fields.get(HeaderFields.error_name, ""))
            raise BusError(f"systemd says: {reply.body[0] if reply.body else name}", name=name)
        return tuple(reply.body)

    def _connected(self) -> DBusConnection:
        if self._connection is None:
            try:
                self._connection = self._connect()
            except (OSError, RuntimeError, ValueError, DBusErrorResponse) as error:
                raise BusError(f"systemd cannot be asked: {_why(error)}") from error
        return self._connection

    def _address(self) -> str:
        if self._is_system:
            return "SYSTEM"
        runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
        return os.environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime}/bus"

    def _connect(self) -> DBusConnection:
        socket = prep_socket(get_bus(self._address()), enable_fds=True)
        socket.settimeout(_ANSWER_S)
        connection = _Connection(socket, enable_fds=True)
        Proxy(_BUS, connection).AddMatch(_REMOVED)
        unwrap_msg(connection.send_and_get_reply(new_method_call(_MANAGER, "Subscribe")))
        return connection


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
