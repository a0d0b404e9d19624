"""Server and client over real sockets: every request one answer, the right one; nonsense costs its own connection."""

import socket
import ssl
import threading
import time

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_examples import PAIR, client_of, collect, release, served, serving

from engines.serving.connection import ConnectionLimits
from engines.serving.queue import Limits
from engines.serving.release import Release
from jetson.client.stream_client import Address, connect
from jetson.errors import CoopexportError, DeviceError, UnsupportedError
from jetson.stream import frames, refusals
from jetson.stream.frames import PREFACE, write_frame
from jetson.stream.hello import Hello, Pair, hello_bytes

# A release that no UTF-8 can write.
HOSTILE_HELLO = b'{"release":"\\ud800","device":"\\ud800","pairs":[]}'


def await_connections(server, count):
    """Wait until the server has noticed who came and went."""
    end_s = time.monotonic() + 10
    while len(server.connections()) != count and time.monotonic() < end_s:
        time.sleep(0.01)
    assert len(server.connections()) == count


def test_every_request_has_one_answer_and_its_own():
    with serving() as (_, address), client_of(address) as client:
        sent = {client.send(0, [bytes([number % 250 + 1]) * (number + 1)]): number for number in range(40)}
        for sequence, answer in collect(client, 40).items():
            number = sent[sequence]
            assert answer.outputs[0].tolist() == [[number + 1, number % 250 + 1]]
            assert answer.sent_bytes == frames.frame_bytes(number + 1, True)
            assert answer.received_bytes == frames.frame_bytes(8, True)
        assert client.under_way == 0


def test_large_payloads_and_probes_go_beside_each_other():
    with serving() as (_, address), client_of(address) as client:
        large = client.send(0, [b"ab" * 300_000, b"c" * 1_000_000])
        probe = client.probe(8192)
        found = collect(client, 2)
        assert found[large].outputs[0].tolist() == [[1_600_000, ord("a")]]
        assert found[probe].outputs is None
        assert found[probe].reason == 0


def test_many_devices_at_once():
    failures = []

    def device(address, number):
        try:
            with client_of(address) as client:
                for count in range(50):
                    client.send(0, [bytes([number]) * (count + 1)])
                    (answer,) = collect(client, 1).values()
                    assert answer.outputs[0].tolist() == [[count + 1, number]]
        except BaseException as error:
            failures.append(error)

    with serving(queue_limits=Limits(slots=2)) as (_, address):
        threads = [threading.Thread(target=device, args=(address, number)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_pair_that_is_not_served_is_refused_by_name_and_the_others_go_on():
    other = Pair("pruned", "conv4_1", "fp32", "feature", "other hashes")
    with serving() as (_, address), client_of(address, pairs=(other, PAIR)) as client:
        assert "conv4_1" in client.welcome.routes[0].refusal
        unknown, known = client.send(0, [b"x"]), client.send(1, [b"x"])
        found = collect(client, 2)
        assert found[unknown].reason == refusals.UNKNOWN_ROUTE
        assert found[known].outputs is not None


def test_another_release_is_refused_with_both_names():
    with serving() as (_, address), pytest.raises(UnsupportedError, match="release r1, and the device r0"):
        connect(address, Hello("r0", "test", (PAIR,)), 5.0)


def test_a_damaged_payload_is_refused_and_the_connection_stays():
    with serving() as (_, address), client_of(address) as client:
        bad, good = client.send(0, [b""]), client.send(0, [b"x"])
        found = collect(client, 2)
        assert found[bad].reason == refusals.DAMAGED
        assert "an empty message" in found[bad].words
        assert found[good].outputs is not None


def test_a_deadline_that_cannot_be_kept_is_refused():
    def slow(arrays):
        time.sleep(0.05)
        return [arrays[0]]

    with serving(release(run=slow)) as (_, address), client_of(address) as client:
        client.send(0, [b"x"])
        collect(client, 1)
        late = [client.send(0, [b"x"], deadline_ms=5.0) for _ in range(9)]
        found = collect(client, 9)
        assert refusals.LATE in {found[sequence].reason for sequence in late}
        assert found[late[-1]].reason == refusals.LATE


def test_a_device_that_asks_for_too_much_at_once_is_told_so():
    hold = threading.Event()

    def waiting(arrays):
        hold.wait(5)
        return [arrays[0]]

    few = ConnectionLimits(most_in_flight=2)
    with serving(release(run=waiting), few) as (_, address), client_of(address) as client:
        assert client.can_send
        sent = [client.send(0, [b"x"]) for _ in range(3)]
        assert not client.can_send
        found = collect(client, 1)
        hold.set()
        found.update(collect(client, 2))
    assert [found[sequence].reason for sequence in sent] == [0, 0, refusals.BUSY]


def test_a_swap_under_traffic_loses_nothing_and_moves_everybody():
    with serving() as (server, address), client_of(address) as client:
        answered = 0
        for number in range(60):
            client.send(0, [b"x"])
            if number == 20:
                server.swap(release("r2"))
            answered += len(collect(client, 1))
        assert answered == 60
        assert client.is_closing
        with client_of(address, "r2") as newer:
            newer.send(0, [b"x"])
            collect(newer, 1)


def test_a_server_that_stops_answers_what_is_under_way():
    def slow(arrays):
        time.sleep(0.02)
        return [arrays[0]]

    with serving(release(run=slow)) as (server, address):
        client = connect(address, Hello("r1", "test", (PAIR,)), 5.0)
        for _ in range(10):
            client.send(0, [b"x"])
        time.sleep(0.05)
        assert server.stop(5.0)
        found = []
        with pytest.raises(DeviceError, match="lost"):
            while True:
                found += client.collect(1.0)
        assert len(found) == 10
        client.close()
        with pytest.raises(DeviceError, match="cannot be reached"):
            connect(address, Hello("r1", "test", (PAIR,)), 1.0)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE + b"".join(write_frame(frames.HELLO, 0, 0, 0, [HOSTILE_HELLO], True)),
        PREFACE + 2 * b"".join(write_frame(frames.HELLO, 0, 0, 0, [hello_bytes(Hello("r1", "d", ()))], True)),
        b"\x16\x03\x01" + bytes(100),
        PREFACE + bytes(200),
        PREFACE + b"".join(write_frame(frames.REQUEST, 1, 0, 0, [b"x"], True)),
        PREFACE + b"".join(write_frame(frames.HELLO, 0, 0, 0, [b"[]"], True)),
        PREFACE + b"".join(write_frame(frames.HELLO, 0, 0, 0, [hello_bytes(Hello("r1", "d", ()))], False)) + bytes(4),
        PREFACE + b"\x01\xff\xff\xff" + bytes(6),
    ],
)
def test_nonsense_closes_its_own_connection_only(data):
    with serving() as (server, address), client_of(address) as client:
        with socket.create_connection(address[:2]) as sock:
            sock.sendall(data)
            sock.settimeout(5)
            while sock.recv(4096):
                pass
        client.send(0, [b"x"])
        collect(client, 1)
        await_connections(server, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=4), st.booleans())
def test_fuzzed_frames_after_a_good_hello_leave_the_server_standing(fuzz_server, pieces, framed):
    address = fuzz_server
    hello = write_frame(frames.HELLO, 0, 0, 0, [hello_bytes(Hello("r1", "d", (PAIR,)))], True)
    with socket.create_connection(address[:2]) as sock:
        sock.sendall(PREFACE + b"".join(hello))
        for piece in pieces:
            data = b"".join(write_frame(frames.REQUEST, 1, piece[0], 0, [piece], True)) if framed else piece
            try:
                sock.sendall(data)
            except OSError:
                break
    with client_of(address) as client:
        client.send(0, [b"x"])
        collect(client, 1)


@pytest.fixture(scope="module")
def fuzz_server():
    with serving() as (_, address):
        yield address


def test_a_device_that_reads_no_answers_is_closed_before_they_fill_the_memory():
    import numpy as np

    from engines.serving.release import Release
    from engines.serving.served_pair import ServedPair
    from jetson.stream.hello import Output

    big = ServedPair(
        PAIR, (Output("y", "float32", (1, 1 << 18)),), 1, lambda payload: [np.zeros((1, 1 << 18), np.float32)],
        lambda arrays: [arrays[0]],
    )  # fmt: skip
    limits = ConnectionLimits(most_unsent_bytes=2 << 20)
    with serving(Release("r1", {PAIR: big}, {}), limits) as (server, address):
        hello = write_frame(frames.HELLO, 0, 0, 0, [hello_bytes(Hello("r1", "d", (PAIR,)))], True)
        with socket.create_connection(address[:2]) as sock:
            sock.sendall(PREFACE + b"".join(hello))
            for number in range(1, 40):
                try:
                    sock.sendall(b"".join(write_frame(frames.REQUEST, number, 0, 0, [b"x"], True)))
                except OSError:
                    break
            await_connections(server, 0)


def test_a_device_that_stops_within_a_frame_is_closed():
    limits = ConnectionLimits(most_silent_s=0.3)
    with serving(limits=limits) as (server, address):
        hello = write_frame(frames.HELLO, 0, 0, 0, [hello_bytes(Hello("r1", "d", (PAIR,)))], True)
        with socket.create_connection(address[:2]) as sock:
            sock.sendall(PREFACE + b"".join(hello))
            sock.sendall(b"".join(write_frame(frames.REQUEST, 1, 0, 0, [bytes(1000)], True))[:500])
            await_connections(server, 1)
            await_connections(server, 0)


def test_a_reason_of_any_length_lets_the_other_pairs_in():
    other = Pair("pruned", "conv4_1", "fp32", "feature", "other hashes")
    refusing = Release("r1", {PAIR: served()}, {other: "the engine is missing: " + 100 * "a/long/path/"})
    with serving(refusing) as (_, address), client_of(address, pairs=(other, PAIR)) as client:
        assert client.welcome.routes[0].refusal.startswith("the engine is missing")
        client.send(1, [b"x"])
        collect(client, 1)


def test_two_tails_compute_at_once_where_there_are_two_slots():
    together = threading.Barrier(2, timeout=10)

    def meet(arrays):
        together.wait()
        return [arrays[0]]

    other = PAIR._replace(layer="other")
    both = Release("r1", {PAIR: served(meet), other: served(meet, other)}, {})
    with serving(both, queue_limits=Limits(slots=2)) as (_, address), client_of(address, pairs=(PAIR, other)) as client:
        for route in (0, 1):
            client.send(route, [b"x"])
        assert all(answer.outputs is not None for answer in collect(client, 2).values())


def test_idle_connections_cost_the_others_nothing():
    with serving() as (server, address):
        idle = [socket.create_connection(address[:2]) for _ in range(200)]
        with client_of(address) as client:
            client.send(0, [b"x"])
            collect(client, 1)
            await_connections(server, 201)
        for sock in idle:
            sock.close()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def contexts(authority, with_certificate):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context()
    authority.configure_trust(client)
    if with_certificate:
        authority.issue_cert("device-7").configure_cert(client)
    return server, client


def test_over_tls_a_device_with_a_certificate_is_answered(authority):
    server_tls, client_tls = contexts(authority, True)
    with serving(tls=server_tls) as (_, address), client_of(address._replace(tls=client_tls)) as client:
        sent = {client.send(0, [b"x" * size]): size for size in (1, 1000, 400_000)}
        for sequence, answer in collect(client, 3).items():
            assert answer.outputs[0][0, 0] == sent[sequence]
        assert answer.received_bytes == frames.frame_bytes(8, False)


def test_over_tls_nobody_without_a_certificate_gets_an_answer(authority):
    server_tls, client_tls = contexts(authority, False)
    with serving(tls=server_tls) as (_, address):
        with pytest.raises(CoopexportError):
            connect(address._replace(tls=client_tls), Hello("r1", "test", (PAIR,)), 5.0)
        with pytest.raises(CoopexportError):
            connect(Address(address.host, address.port), Hello("r1", "test", (PAIR,)), 5.0)
        with pytest.raises(CoopexportError):  # whose server is not signed by one that the device trusts
            connect(address._replace(tls=ssl.create_default_context()), Hello("r1", "test", (PAIR,)), 5.0)
