"""One process at a store of engines, for tests with several; in the Python of the device, without packages.

    python store_process.py ROLE ROOT LIMIT_BYTES ARGUMENT

Roles: `obtain LOG` builds one engine and notes that it did, which takes until it gets a line or the end of its input;
`churn SEED` adds, finds and evicts at random until it is killed or has done 100 rounds, whose numbers it prints;
`fill COUNT` adds engines until the disk is full; `verify` reads everything; `admit FOLDER` writes an engine there,
admits it, refuses it with a byte flipped, and prints its identity's SHA-256.
"""

import hashlib
import random
import sys
from pathlib import Path

from jetson.engines.build_settings import BuildSettings
from jetson.engines.identity import EngineIdentity, encode_identity, identity_path
from jetson.engines.machine import Machine
from jetson.engines.verification import Expected, verify_engine
from jetson.errors import CoopexportError
from jetson.store.entries import stored_bytes
from jetson.store.key import key_of
from jetson.store.store import EngineStore, Hit, add, entries, evict, find, obtain

NUMBERS = range(12)


def engine_of(number, size_bytes=20000):
    """Return (identity, bytes) of one of many engines; a hit that is not equal to it is wrong."""
    header = b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(36)
    data = header + hashlib.sha256(str(number).encode("ascii")).digest() * (size_bytes // 32)
    identity = EngineIdentity(
        engine_sha256=hashlib.sha256(data).hexdigest(),
        engine_bytes=len(data),
        source_sha256="1" * 64,
        target_file_sha256=f"{number:064x}",
        golden_sha256="3" * 64,
        variant="pruned",
        layer="conv4_1",
        role="head",
        target="orin-nano",
        backend="tensorrt",
        backend_version="10.3.0.30",
        compute_capabilities=("8.7",),
        settings=BuildSettings("fp16"),
        flags={},
        builder="trtexec",
        coopexport_version="0.1.0",
        machine=Machine("Linux", "aarch64", l4t="36.4.3", compute_capability="8.7"),
        inputs=[{"name": "images"}],
        outputs=[{"name": "symbols_0"}],
        built_at="2026-08-01T10:00:00+00:00",
        build_seconds=0.25,
        parity_reason="not run",
    )
    return identity, data


def main(role, root, limit_bytes, argument):
    """Play one role; ends with an AssertionError when the store gives out something wrong."""
    store = EngineStore(root, int(limit_bytes))
    if role == "obtain":

        def build():
            with Path(argument).open("a") as log:
                log.write("built\n")
            print("building", flush=True)
            sys.stdin.readline()
            return engine_of(0)

        found = obtain(store, key_of(engine_of(0)[0]), build, lambda: print("waiting", flush=True))
        assert (found.identity, found.data) == engine_of(0)
        print("reused" if found.reused else "built", flush=True)
    elif role == "churn":
        draw = random.Random(int(argument))
        for number in range(100):
            print(number, flush=True)
            identity, data = engine_of(draw.choice(NUMBERS))
            what = draw.random()
            if what < 0.5:
                add(store, key_of(identity), identity, data)
            elif what < 0.9:
                found = find(store, key_of(identity))
                assert not isinstance(found, Hit) or found == Hit(identity, data)
                assert isinstance(found, Hit) or not found.damaged or "is gone" in found.reason, found
            else:
                evict(store, draw.randrange(store.limit_bytes))
        print("done", flush=True)
    elif role == "fill":
        kept = 0
        for number in range(int(argument)):
            identity, data = engine_of(number)
            found = obtain(store, key_of(identity), lambda number=number: engine_of(number))
            assert (found.identity, found.data) == (identity, data)
            if found.not_stored is None:
                assert kept == number, "once it is full it stays full"
                kept += 1
            else:
                assert "No space left" in found.not_stored, found.not_stored
        verify(store)
        print(kept, flush=True)
    elif role == "admit":
        print(admitted(Path(argument)), flush=True)
    else:
        verify(store)


def admitted(folder):
    """Return the SHA-256 of the identity file of an engine that is admitted as it is, and not with any byte flipped."""
    identity, data = engine_of(0)
    path = folder / "conv4_1.head.engine"
    path.write_bytes(data)
    written = encode_identity(identity)
    Path(identity_path(str(path))).write_bytes(written)
    here = identity.machine._replace(backends={"tensorrt": "10.3.0.30"})
    assert verify_engine(str(path), here, Expected(role="head", batch=1)) == (identity, data)
    refused = [(here._replace(backends={"tensorrt": "10.13.3.9"}), data), (here, data[:-1] + b"?"), (here, data[:-1])]
    for machine, content in refused:
        path.write_bytes(content)
        try:
            verify_engine(str(path), machine, Expected())
        except CoopexportError as error:
            assert "build it again" in str(error), error
        else:
            raise AssertionError("a wrong engine was admitted")
    return hashlib.sha256(written).hexdigest()


def verify(store):
    """Read every entry: each is found, as it was added."""
    listed = entries(store)
    for entry in listed:
        number = int(entry.key.target_file_sha256, 16)
        assert find(store, entry.key) == Hit(*engine_of(number)), number
    assert stored_bytes(store) <= store.limit_bytes


if __name__ == "__main__":
    main(*sys.argv[1:])
