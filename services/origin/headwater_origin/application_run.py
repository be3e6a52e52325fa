"""The application object of a group: what it runs beside clients' messages, its stop, and its exchange for another object, of the
same class or of a newer one."""

from functools import partial
from typing import TYPE_CHECKING

from headwater_origin import hooks
from headwater_origin.application import Application
from headwater_origin.timers import Tasks

if TYPE_CHECKING:
    from headwater_origin.group import Group


class ApplicationRun:
    """See the module."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.tasks = Tasks(group)
        """Timers and greenlets of the application."""
        self._stopped = False

    def end_tasks(self) -> None:
        """End what the application runs beside clients' messages."""
        self.tasks.end()
        self._group.durable.jobs.end()

    def stop(self) -> None:
        """`on_stop`, once, and the end of what the application runs by itself."""
        self.end_tasks()
        if self._group.waits("on_stop") and not self._stopped:
            self._stopped = True
            hooks.tell(self._group, "on_stop")

    def start_again(self) -> None:
        """Go on behind `stop` with a new object of the application, which is told of every member. Raises what `__init__` or
        `on_start` raise."""
        group = self._group
        if group.application is None:
            return
        self.tasks = Tasks(group)
        application, self._stopped = group.policy(group), False
        group.host_application(application)
        group.objects.forget_application()
        group.durable.jobs.begin()
        hooks.run(group, application.on_start, ())
        self._tell_resumed()

    def _tell_resumed(self) -> None:
        group = self._group
        if group.waits("on_resume"):
            for session in group.attached:
                session.post(partial(hooks.tell, group, "on_resume", session.client), waits=True)

    def replace(self, policy: type[Application]) -> None:
        """Go on with another class of the application: the old object stops, the new one starts and is told of every member.
        Clients, objects, state and jobs stay, timers and greenlets end. Raises what the new one raises in `__init__` or
        `on_start`; then the old one starts again."""
        group = self._group
        group.started.wait()
        if group.stopped or group.failure is not None:
            return  # Who comes next finds the new class.
        former = group.application
        application = policy(group)
        if group.waits("on_stop"):
            hooks.tell(group, "on_stop")
            if group.stopped:
                return
        self._exchange(application)
        try:
            hooks.run(group, application.on_start, ())
        except BaseException:
            self._exchange(former)
            hooks.tell(group, "on_start")
            raise
        self._tell_resumed()

    def _exchange(self, application: Application | None) -> None:
        self.tasks.end()
        self.tasks = Tasks(self._group)
        self._group.host_application(application)
        self._group.objects.forget_application()
