"""The workers of a thread pool: who is hired, who waits for work, who was given up.

Theory of operation. A job's permit stands for a place in the pool, running or queued, until the job has ended, so
that refusing is a `pop` from a list that fails. A job in the queue belongs to whoever removes it from there, and
removing is atomic. Workers with nothing to do lie on a stack, the last one on top, so that the others grow old and
leave. No wake-up is lost: a submitter queues first and looks for the idle after, a worker lies down first and looks
at the queue after.

A thread cannot be stopped. One whose caller has gone keeps its permit until it ends by itself, and is counted as
abandoned (BH-4).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from backstay.clock import Clock
from backstay.errors import BulkheadFull, Misuse

from ...timeout.errors import CallTimedOut, DeadlineExceeded
from ..permits import Permits
from ..telemetry import Waits
from .job import Job
from .settings import ThreadPoolSettings

__all__ = ["Crew"]


class Crew:
    """The workers of one process; a forked child gets another crew.

    Attributes:
        abandoned: jobs that run on although their callers have gone.
        queue: jobs that wait for a worker.
    """

    def __init__(self, name: str, settings: ThreadPoolSettings, waits: Waits, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self.permits = Permits(settings.max + settings.queue)
        self.queue: deque[Job] = deque()
        self.abandoned: set[Job] = set()
        self._waits = waits
        self._clock = clock
        self._idle: list[threading.Lock] = []
        self._threads: set[threading.Thread] = set()
        self._workers = 0
        self._hired = 0
        self._hiring = threading.Lock()
        self._closed = False

    @property
    def running(self) -> int:
        """Workers that run a job whose caller waits for it."""
        return max(0, self.permits.in_use - len(self.queue) - len(self.abandoned))

    def reconfigure(self, settings: ThreadPoolSettings) -> None:
        """Apply other numbers to what comes from now on."""
        self.settings = settings
        self.permits.resize(settings.max + settings.queue)
        self._hire()
        self._wake_all()  # idle ones may be too many now

    def submit(self, job: Job) -> None:
        """Queue the job and see that somebody takes it.

        Raises:
            BulkheadFull: the queue is full, or no worker is left that could take it.
        """
        abandoned, permits = self.abandoned, self.permits
        if self._closed:
            raise Misuse(f"thread pool {self.name!r} is closed")
        if abandoned and len(abandoned) >= self.settings.max:
            raise self._refusal(f"all {self.settings.max} workers are abandoned calls that have not ended")
        if not permits.try_take() if permits.line else not self._take():
            raise self._refusal(f"all workers are busy and {self.settings.queue} calls wait")
        self.queue.append(job)
        try:
            self._idle.pop().release()
        except IndexError:
            self._hire(job)
        if self._has_closed() and self.withdraw(job):  # since we looked: the workers may have gone
            raise Misuse(f"thread pool {self.name!r} is closed")

    def withdraw(self, job: Job) -> bool:
        """Take the job out of the queue again; False if a worker has it."""
        try:
            self.queue.remove(job)
        except ValueError:
            return False
        self.permits.give_back()
        return True

    def job(self, function: Callable[[], Any], finish: Callable[[], Any], owner: object, timeout: float | None) -> Job:
        """Return a job that was submitted now, and has so many seconds."""
        now = self._clock()
        return Job(function, finish, owner, now, None if timeout is None else now + timeout)

    def until(self, due: float) -> float:
        """Return the seconds until then."""
        left = due - self._clock()
        return left if left > 0 else 0.0

    def give_up(self, job: Job) -> None:
        """Leave a job whose time is up, unless it has ended in this moment.

        Raises:
            DeadlineExceeded: it was not begun, and will not be.
            CallTimedOut: it runs on.
        """
        waited = self._clock() - job.queued_at
        if self.withdraw(job):
            self._waits.timed_out.record(waited)
            raise DeadlineExceeded(
                f"thread pool {self.name!r}: no worker was free for {waited:.3g} s; the function was not called"
            )
        if self._abandon(job):
            raise CallTimedOut(
                f"thread pool {self.name!r}: the call did not end within {waited:.3g} s and runs on, abandoned; "
                "it may take effect"
            )

    def leave(self, job: Job) -> None:
        """Leave a job because its caller was cancelled or interrupted."""
        if self.withdraw(job):
            waited = self._clock() - job.queued_at
            self._waits.canceled.record(waited)
        else:
            self._abandon(job)

    def _abandon(self, job: Job) -> bool:
        """Give a job up that a worker runs; False if it has ended meanwhile."""
        job.left = True
        self.abandoned.add(job)
        if job.ended:  # whichever of us sees the other takes it off
            self.abandoned.discard(job)
            return False
        self._hire()
        if len(self.abandoned) >= self.settings.max:
            self._refuse_the_patient()
        return True

    def close(self, timeout: float) -> bool:
        """Take no more work, and wait so many seconds for the workers; True if all have ended."""
        self._closed = True
        deadline = self._clock() + timeout
        self._wake_all()
        for thread in tuple(self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for thread in tuple(self._threads))

    def _has_closed(self) -> bool:
        return self._closed

    def _wake_all(self) -> None:
        while self._idle:
            try:
                self._idle.pop().release()
            except IndexError:  # another thread was faster
                return

    def _take(self) -> bool:
        try:
            self.permits.take()
        except IndexError:
            return False
        return True

    def _refusal(self, why: str) -> BulkheadFull:
        self._waits.rejected.record(0.0)
        return BulkheadFull(f"thread pool {self.name!r}: {why}; the function was not called")

    def _refuse_the_patient(self) -> None:
        """No worker is left: refuse queued jobs that would wait for ever, instead of letting them hang."""
        for job in tuple(self.queue):
            if job.not_after is None and self.withdraw(job):
                job.error = self._refusal("all workers were abandoned while it waited")
                job.ended = True
                job.finish()

    def _hire(self, job: Job | None = None) -> None:
        """Start a worker if there are fewer than there should be."""
        while True:
            if self._workers >= self.settings.workers(self.permits.in_use, len(self.abandoned)):
                return
            with self._hiring:
                if self._workers >= self.settings.workers(self.permits.in_use, len(self.abandoned)):
                    return
                self._workers += 1
                self._hired += 1
                number = self._hired
            worker = threading.Thread(target=self._work, name=f"backstay-{self.name}-{number}", daemon=True)
            self._threads.add(worker)
            try:
                worker.start()
            except RuntimeError as error:  # the system has no more threads: those that there are will do
                self._threads.discard(worker)
                with self._hiring:
                    self._workers -= 1
                    alone = self._workers == 0
                if job is not None and alone and self.withdraw(job):
                    raise self._refusal("no thread could be started") from error
                return

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        try:
            while not (self._closed and not self.queue):
                if not self.queue:
                    if not self._lie_down(bell):
                        return
                    continue
                try:
                    job = self.queue.popleft()
                except IndexError:  # another worker was faster
                    continue
                self._run(job)
                del job  # an idle worker keeps nothing alive
        finally:
            self._threads.discard(threading.current_thread())

    def _lie_down(self, bell: threading.Lock) -> bool:
        """Wait for the bell; False if this worker has grown old and is not needed any more."""
        self._idle.append(bell)
        if not (self.queue or self._closed):
            if self._workers <= self.settings.core:
                bell.acquire()
                return True
            if bell.acquire(timeout=self.settings.keep_alive):
                return True
        try:
            self._idle.remove(bell)
        except ValueError:  # it is being rung
            bell.acquire()
            return True
        if self.queue or self._closed:
            return True
        with self._hiring:
            if self._workers <= self.settings.core:
                return True
            self._workers -= 1
            if self.queue:  # somebody counted on this worker before it was counted off
                self._workers += 1
                return True
        return False

    def _run(self, job: Job) -> None:
        now, permits = self._clock(), self.permits
        waited = now - job.queued_at
        if job.not_after is not None and now >= job.not_after:
            self._waits.timed_out.record(waited)
            job.error = DeadlineExceeded(
                f"thread pool {self.name!r}: the time was up after {waited:.3g} s in the queue; "
                "the function was not called"
            )
        else:
            self._waits.accepted.record(waited)
            job.run()
        job.ended = True
        if job.left:
            self.abandoned.discard(job)
        permits.put(None)
        if permits.line:
            permits.hand_on()
        job.finish()
