"""The four messages exactly as the source document prints them: no terminator, no escaping.

Shared by docserver.py and docphone.py. A second reading of the document, on purpose without
anything from the Rust code: values are shown as they are on the wire.
"""

import json
import random
import select
import socket
import struct
import sys
import threading
import time

KEYS = {
    "RecordStartRequest": ["id", "device", "remote_number", "remote_name", "local_number", "local_name",
                           "dir", "codec"],
    "RecordStartResponse": ["id", "result", "reason", "server", "port"],
    "RecordStopRequest": ["id", "remote_number", "remote_name", "local_number", "local_name", "reason"],
    "RecordStopResponse": ["id", "result"],
}
PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8, "G722": 9}
QUIET_S = 0.05
MAX_MESSAGE = 8192

_print_lock = threading.Lock()


def report(event, **facts):
    """One JSON line on stdout."""
    with _print_lock:
        print(json.dumps({"event": event, "at": round(time.monotonic(), 4), **facts}), flush=True)


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(2)


def message(cmd, **values):
    """The document's text of a message; keys that are not given are empty."""
    unknown = set(values) - set(KEYS[cmd])
    assert not unknown, unknown
    return "&".join([f"cmd={cmd}"] + [f"{key}={values.get(key, '')}" for key in KEYS[cmd]])


def parse(text):
    """The pairs of a message as a dict, `cmd` among them."""
    return dict(pair.split("=", 1) for pair in text.split("&") if "=" in pair)


def is_complete(text):
    values = parse(text)
    return all(key in values for key in KEYS.get(values.get("cmd"), ["cmd"]))


class Connection:
    """Sends messages in random pieces; reads one when its keys are there and the wire is quiet."""

    def __init__(self, sock, rng, max_pieces=4, terminator=b""):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.rng, self.max_pieces, self.terminator = sock, rng, max_pieces, terminator
        self.held = b""
        self.write_lock = threading.Lock()

    def send(self, text):
        octets = text.encode() + self.terminator
        with self.write_lock:
            pieces = self.rng.randint(1, self.max_pieces)
            cuts = sorted(self.rng.randrange(1, len(octets)) for _ in range(pieces - 1))
            for start, end in zip([0] + cuts, cuts + [len(octets)]):
                if start < end:
                    self.sock.sendall(octets[start:end])
                    # Without a terminator, a pause within the last value says that the message ends there.
                    if self.terminator or not is_complete(octets[:end].decode(errors="replace")):
                        time.sleep(self.rng.uniform(0, 0.008))
        report("sent", text=text, cuts=cuts)

    def read(self, timeout_s):
        """One message as a dict; None if none came in time; raises ConnectionError at the end."""
        deadline = time.monotonic() + timeout_s
        while True:
            for end in (b"\r", b"\n", b"\0"):
                line, found, rest = self.held.partition(end)
                if found:
                    self.held = rest
                    if line:
                        return self._message(line)
                    break
            else:
                quiet = is_complete(self.held.decode(errors="replace"))
                wait = QUIET_S if quiet else max(0.0, deadline - time.monotonic())
                if not select.select([self.sock], [], [], wait)[0]:
                    if quiet:
                        octets, self.held = self.held, b""
                        return self._message(octets)
                    return None
                octets = self.sock.recv(4096)
                if not octets:
                    if self.held and is_complete(self.held.decode(errors="replace")):
                        rest, self.held = self.held, b""
                        return self._message(rest)
                    raise ConnectionError("closed by the peer")
                self.held += octets
                if len(self.held) > MAX_MESSAGE:
                    raise ConnectionError("message too long")

    @staticmethod
    def _message(octets):
        text = octets.decode(errors="replace")
        report("received", text=text)
        return parse(text)


def new_rng(seed):
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    return seed, random.Random(seed)


def rtp_packet(payload_type, seq, timestamp, ssrc, payload):
    return struct.pack("!BBHII", 0x80, payload_type, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def rtp_parts(datagram):
    """(payload type, sequence, timestamp, SSRC, payload), or None if it is no RTP."""
    if len(datagram) < 12 or datagram[0] >> 6 != 2:
        return None
    _, kind, seq, timestamp, ssrc = struct.unpack("!BBHII", datagram[:12])
    payload = datagram[12 + 4 * (datagram[0] & 15):]
    if datagram[0] & 0x10:
        words = struct.unpack("!H", payload[2:4])[0]
        payload = payload[4 + 4 * words:]
    if datagram[0] & 0x20 and payload:
        payload = payload[:-payload[-1]]
    return kind & 0x7F, seq, timestamp, ssrc, payload
