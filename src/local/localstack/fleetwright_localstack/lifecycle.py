"""Lifecycle hooks: an instance waits until told to go on or its time is up.

moto stores hooks but never waits for them. An instance that enters a
transition with hooks gets one pending action per hook and stays in
``Pending:Wait`` or ``Terminating:Wait`` until all of them are complete.
"""

import logging
import threading
import time
import uuid
from dataclasses import dataclass, field

from fleetwright_localstack.state import CHANGED, LOCK, changed

LOG = logging.getLogger(__name__)

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"

# AWS keeps an instance waiting for 48 hours or 100 heartbeats, whichever is less.
LONGEST_WAIT = 48 * 3600


@dataclass
class Action:
    """One hook that one instance waits for."""

    group: object
    state: object
    hook_name: str
    transition: str
    heartbeat_timeout: int
    default_result: str
    token: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = field(default_factory=time.monotonic)
    deadline: float = 0.0

    def __post_init__(self) -> None:
        self.beat()

    def beat(self) -> None:
        """Gives the instance another heartbeat timeout, within the longest wait."""
        longest = min(LONGEST_WAIT, 100 * self.heartbeat_timeout)
        self.deadline = min(time.monotonic() + self.heartbeat_timeout, self.started + longest)


# Every action that anyone waits for, by token.
_pending: dict[str, Action] = {}


def hooks_of(group, transition: str) -> list:
    hooks = group.autoscaling_backend.lifecycle_hooks.values()
    return [
        hook for hook in hooks if hook.auto_scaling_group_name == group.name and hook.lifecycle_transition == transition
    ]


def begin(group, state, transition: str) -> bool:
    """Starts the transition's hooks; False says that there are none to wait for."""
    with LOCK:
        hooks = hooks_of(group, transition)
        for hook in hooks:
            action = Action(
                group=group,
                state=state,
                hook_name=hook.name,
                transition=transition,
                heartbeat_timeout=int(hook.heartbeat_timeout),
                default_result=hook.default_result,
            )
            _pending[action.token] = action
        if hooks:
            changed()
        return bool(hooks)


def forget(state) -> None:
    """Drops what the instance still waits for, because it is gone or moves on."""
    with LOCK:
        for token in [t for t, action in _pending.items() if action.state is state]:
            del _pending[token]


def find(group_name: str, hook_name: str, token: str | None, instance_id: str | None) -> Action | None:
    """The pending action that a caller means by its token or its instance."""
    with LOCK:
        for action in _pending.values():
            if action.group.name != group_name or action.hook_name != hook_name:
                continue
            if token is not None and action.token != token:
                continue
            if instance_id is not None and action.state.instance_id != instance_id:
                continue
            if token is None and instance_id is None:
                continue
            return action
        return None


def complete(action: Action, result: str) -> None:
    """Ends one action; the last one, or an ABANDON, lets the instance move on."""
    from fleetwright_localstack import groups

    with LOCK:
        if _pending.pop(action.token, None) is None:
            return
        state = action.state
        if result == "CONTINUE" and any(a.state is state for a in _pending.values()):
            return
        forget(state)
        if action.transition == TERMINATING:
            groups.finish_termination(action.group, state)
        elif result == "CONTINUE":
            state.lifecycle_state = "InService"
            changed()
        else:
            groups.finish_termination(action.group, state)
            groups.reconcile(action.group)


def start_clock() -> None:
    """Starts the thread that ends actions whose heartbeat timeout is over."""
    threading.Thread(target=_run_clock, name="fleetwright-lifecycle", daemon=True).start()


def _run_clock() -> None:
    while True:
        with CHANGED:
            now = time.monotonic()
            due = [action for action in _pending.values() if action.deadline <= now]
            for action in due:
                try:
                    complete(action, action.default_result)
                except Exception:
                    # The clock must outlive one group's trouble, or all others wait for ever.
                    LOG.exception("ending lifecycle action %s failed", action.hook_name)
            if not due:
                nearest = min((a.deadline for a in _pending.values()), default=now + 60)
                CHANGED.wait(max(0.01, nearest - now))
