"""How a racer answers: for every line that it reads, one round of its work, timed, as a line of JSON.

Standard library only: it is imported in environments that have nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

ANSWERS, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed is for people


def serve(work: Callable[[], int], **about: object) -> None:
    """Race: work() does a round and tells how many items that were. about: what is said of the racer at the start."""
    ANSWERS.write(json.dumps({**about, "pid": os.getpid()}) + "\n")
    ANSWERS.flush()
    for _ in sys.stdin:
        began, spent = time.perf_counter(), time.process_time()
        items = work()
        taken = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - spent}
        ANSWERS.write(json.dumps({"items": items, **taken}) + "\n")
        ANSWERS.flush()


def in_rounds(run: Callable[[Callable[[], None]], None], items: int, warm_up: int, **about: object) -> None:
    """Race with something that goes on by itself: run(each) calls each() after every item.

    A round is `items` of them; the first `warm_up` are before all rounds.
    """
    import queue
    import threading

    asked: queue.Queue[bool] = queue.Queue()
    done: queue.Queue[bool] = queue.Queue()
    left = [warm_up]

    def each() -> None:
        left[0] -= 1
        if left[0] == 0:
            done.put(True)
            asked.get()
            left[0] = items

    threading.Thread(target=run, args=(each,), daemon=True).start()
    done.get()

    def work() -> int:
        asked.put(True)
        done.get()
        return items

    serve(work, **about)
    os._exit(0)
