"""The queue: bounded, with deadlines, in batches of one pair, and never idle while something waits."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from engines.serving.queue import Limits, Queue, Refusal, Request, Result
from engines.serving.served_pair import ServedPair, one_at_a_time
from jetson.errors import DamagedFileError
from jetson.stream import refusals
from jetson.stream.hello import Output, Pair

FOREVER = float("inf")


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def refuse_strangely(payload):
    raise ValueError("whatever a decoder raises")


def served(run=None, most_batch=4, name="pool1"):
    def decode(payload):
        if payload == b"bad":
            raise DamagedFileError("the checksum is another")
        return [np.array([[float(len(payload))]], np.float32)]

    return ServedPair(
        Pair("v", name, "fp32", "feature", "x"), (Output("y", "float32", (1, 1)),), most_batch, decode,
        run or (lambda arrays: [2 * arrays[0]]),
    )  # fmt: skip


def asked(queue, pair, payload, answers, deadline_s=FOREVER):
    return queue.put(Request(pair, payload, deadline_s, answers.append))


def bring_at_once(queue, pair, answers, threads, times, payload=b"x"):
    """Let so many threads bring requests and work, until all are answered."""

    def bring():
        for _ in range(times):
            assert asked(queue, pair, payload, answers) is None
            queue.work()

    running = [threading.Thread(target=bring) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert queue.drain(1.0)
    assert len(answers) == threads * times


def numbers(answers):
    return [float(np.frombuffer(answer.outputs[0], "<f4")[0]) for answer in answers]


def test_requests_of_one_pair_are_computed_together_and_answered_each_with_its_own():
    batches, answers, queue = [], [], Queue(Limits())

    def run(arrays):
        batches.append(len(arrays[0]))
        return [2 * arrays[0]]

    pair = served(run)
    for length in (1, 2, 3, 4, 5, 6):
        assert asked(queue, pair, b"x" * length, answers) is None
    queue.work()
    assert batches == [4, 2]
    assert numbers(answers) == [2, 4, 6, 8, 10, 12]
    assert [answer.batch for answer in answers] == [4, 4, 4, 4, 2, 2]


def test_another_pair_in_between_is_neither_mixed_in_nor_forgotten():
    answers, queue = [], Queue(Limits())
    one, other = served(), served(lambda arrays: [-arrays[0]], name="other")
    for pair, length in ((one, 1), (other, 2), (one, 3)):
        asked(queue, pair, b"x" * length, answers)
    queue.work()
    assert sorted(numbers(answers)) == [-2, 2, 6]


def test_a_damaged_payload_costs_its_own_request_only():
    answers, queue, pair = [], Queue(Limits()), served()
    for payload in (b"x", b"bad", b"xxx"):
        asked(queue, pair, payload, answers)
    queue.work()
    assert [type(answer) for answer in answers] == [Refusal, Result, Result]
    assert answers[0].reason == refusals.DAMAGED
    assert numbers(answers[1:]) == [2, 6]


def test_a_decoder_that_fails_in_any_way_costs_its_own_request_only():
    answers, queue = [], Queue(Limits())
    strange = replace(served(), decode=refuse_strangely)
    asked(queue, strange, b"x", answers)
    asked(queue, served(), b"x", answers)
    queue.work()
    assert answers[0].reason == refusals.DAMAGED
    assert numbers(answers[1:]) == [2]


@pytest.mark.parametrize(
    "run",
    [
        lambda arrays: 1 / 0,
        lambda arrays: [],
        lambda arrays: [arrays[0].astype(np.float64)],
        lambda arrays: [arrays[0][:, :0]],
    ],
)
def test_a_tail_that_fails_or_gives_something_else_is_a_refusal_and_the_queue_goes_on(run):
    answers, queue = [], Queue(Limits())
    asked(queue, served(run), b"x", answers)
    queue.work()
    assert answers[0].reason == refusals.FAILED
    asked(queue, served(), b"x", answers)
    queue.work()
    assert numbers(answers[1:]) == [2]


def test_more_than_may_wait_is_refused_at_once():
    answers, pair = [], served()
    queue = Queue(Limits(most_waiting=2))
    assert [asked(queue, pair, b"x", answers) for _ in range(2)] == [None, None]
    assert asked(queue, pair, b"x", answers).reason == refusals.BUSY
    queue = Queue(Limits(most_waiting_bytes=10))
    assert asked(queue, pair, b"x" * 20, answers) is None  # alone it may be longer
    assert asked(queue, pair, b"x", answers).reason == refusals.BUSY
    assert not answers


def test_what_cannot_be_in_time_is_refused_at_once_and_what_became_late_without_being_computed():
    clock, answers, ran = Clock(), [], []

    def run(arrays):
        ran.append(1)
        clock.now_s += 0.1
        return [2 * arrays[0]]

    queue, pair = Queue(Limits(), clock), served(run, most_batch=1)
    asked(queue, pair, b"x", answers)
    queue.work()  # from now on a batch is known to take 100 ms
    assert asked(queue, pair, b"x", answers, clock.now_s + 0.15) is None
    assert asked(queue, pair, b"x", answers, clock.now_s + 0.15).reason == refusals.LATE  # behind the other one
    clock.now_s += 0.2
    queue.work()
    assert answers[-1].reason == refusals.LATE
    assert len(ran) == 1


def test_a_tail_that_was_slow_once_is_tried_again():
    clock, answers = Clock(), []
    took_s = [2.0]

    def run(arrays):
        clock.now_s += took_s[0]
        return [2 * arrays[0]]

    queue, pair = Queue(Limits(), clock), served(run)
    asked(queue, pair, b"x", answers)
    queue.work()
    took_s[0] = 0.01
    for _ in range(3):
        assert asked(queue, pair, b"x", answers, clock.now_s + 0.25) is None
        queue.work()
    assert numbers(answers) == [2, 2, 2, 2]


def test_who_cannot_take_an_answer_costs_neither_the_others_nor_the_thread():
    def refuse(found):
        raise OSError("gone")

    answers, queue, pair = [], Queue(Limits()), served()
    queue.put(Request(pair, b"x", FOREVER, refuse))
    asked(queue, pair, b"xx", answers)
    queue.work()
    assert numbers(answers) == [4]
    assert queue.drain(0.0)


def test_an_engine_runs_in_one_thread_at_a_time():
    inside, lock = [0], threading.Lock()

    def run(arrays):
        with lock:
            inside[0] += 1
            assert inside[0] == 1
        threading.Event().wait(0.002)
        with lock:
            inside[0] -= 1
        return [2 * arrays[0]]

    answers = []
    bring_at_once(Queue(Limits(slots=3)), served(one_at_a_time(run), most_batch=1), answers, threads=4, times=10)
    assert numbers(answers) == [2.0] * 40


def test_threads_that_bring_requests_never_leave_one_waiting():
    answers = []
    bring_at_once(Queue(Limits(slots=2)), served(most_batch=3), answers, threads=4, times=200, payload=b"xx")
    assert numbers(answers) == [4.0] * 800


def test_at_most_so_many_threads_compute_as_there_are_slots():
    now, most, lock = [0], [0], threading.Lock()

    def run(arrays):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.002)
        with lock:
            now[0] -= 1
        return [arrays[0]]

    bring_at_once(Queue(Limits(slots=2)), served(run, most_batch=1), [], threads=5, times=10)
    assert most[0] == 2
