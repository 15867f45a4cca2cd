"""The agent inside the guest, and what a phone does with it: requests, events, a call's RTP.

Owns: building and starting recordd, its socket, the numbered audio of a call. Every payload of a call carries its
number, so what a file holds can be compared with what was sent."""
import glob
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import time

from machine import ROOT

RPC_PORT, RTP_PORT = 7000, 5004     # in the guest
TARGET = "armv7-unknown-linux-gnueabihf"
FRAME_OCTETS, FRAME_MS = 160, 20    # G.711, 20 ms
HEADER_OCTETS = 76
SILENCE = b"\xd5" * FRAME_OCTETS    # A-law
CONFIG = f"""
[control]
socket = "/run/recordd.sock"
[rtp]
bind = "0.0.0.0"
allow_remote = true
port = {RTP_PORT}
[storage]
path = "auto"
require_usb = true
"""


class Refused(Exception):
    """The agent answered a request with an error."""

    def __init__(self, error):
        super().__init__(error.get("message"), error.get("data"))
        self.reason = (error.get("data") or {}).get("reason")


programs = f"{os.environ.get('CARGO_TARGET_DIR', f'{ROOT}/target')}/{TARGET}/release"


def program(name):
    return f"{programs}/{name}"


def build():
    """The phone's own programs: static, released, ARM."""
    subprocess.run([f"{ROOT}/cross/build", "--release", "-p", "recordd", "-p", "recordctl"], check=True,
                   env={**os.environ, "CROSS_TOOLCHAIN": os.environ.get("CROSS_TOOLCHAIN", "debian")})


def verify(folder):
    """What `recordctl verify` says of each file: {name: (status, faults)}."""
    command = ["qemu-arm", program("recordctl"), "verify", "--json", folder]
    if not glob.glob(f"{folder}/*.wav"):
        return {}
    said = subprocess.run(command, capture_output=True, text=True)
    return {os.path.basename(entry["file"]): (entry["status"], entry["faults"])
            for entry in json.loads(said.stdout)}


# ------------------------------------------------------------------------------------------------ call

class Call:
    """A recorded call: the RTP that is sent, and the book of what was sent."""

    def __init__(self, machine):
        self.address = ("127.0.0.1", machine.host_port["udp", RTP_PORT])
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.recording = self.file = None
        self.state = "starting"     # recording, stopping, ended, failed
        self.sent = 0
        self.ssrc, self.sequence, self.timestamp = (random.getrandbits(bits) for bits in (32, 16, 32))
        self._lock, self._quiet = threading.Lock(), threading.Event()

    def talk(self):
        self.began = time.monotonic()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self):
        next_at = time.monotonic()
        while not self._quiet.wait(max(0, next_at - time.monotonic())):
            with self._lock:        # held by whoever stops the time
                if time.monotonic() - next_at > 0.1:
                    next_at = time.monotonic()
                number = self.sent
                header = struct.pack(">BBHII", 0x80, 8, (self.sequence + number) & 0xFFFF,
                                     (self.timestamp + number * FRAME_OCTETS) & 0xFFFFFFFF, self.ssrc)
                self.socket.sendto(header + frame(number), self.address)
                self.sent += 1
                next_at += FRAME_MS / 1000

    def hold(self):
        """Nothing is sent until `go_on`; `sent` is exact meanwhile."""
        self._lock.acquire()

    def go_on(self):
        self._lock.release()

    def hang_up(self):
        self._quiet.set()
        self._thread.join()

    def book(self):
        """What is known of the call at this moment: (file, state, packets sent)."""
        return self.file, self.state, self.sent


def frame(number):
    return struct.pack(">I", number) * (FRAME_OCTETS // 4)


def read_recording(content, first=0):
    """How a file's audio compares with what was sent from packet `first` on, in packets; None if its header does
    not open.

    `kept`: the leading packets in their places; `filled`: how many of these places hold silence instead;
    `exact`: dataSize is what the file holds; `ahead`: octets that dataSize promises beyond the file's end."""
    if len(content) < HEADER_OCTETS or content[:5] != b"PCMA\0":
        return None
    length, increment, data_size = struct.unpack_from("<iiI", content, 64)
    if (length, increment) != (FRAME_OCTETS, FRAME_OCTETS):
        return None
    audio = content[HEADER_OCTETS:]
    kept = filled = 0
    for number in range(len(audio) // FRAME_OCTETS):
        octets = audio[number * FRAME_OCTETS:(number + 1) * FRAME_OCTETS]
        if octets == SILENCE:
            filled += 1
        elif octets != frame(first + number):
            break
        kept += 1
    return {"kept": kept, "filled": filled, "exact": data_size == len(audio),
            "ahead": max(0, data_size - len(audio))}


# ----------------------------------------------------------------------------------------------- agent

class Agent:
    """A running recordd."""

    def __init__(self, machine, storage=""):
        self.machine = machine
        shutil.copy(program("recordd"), f"{machine.share}/recordd")
        with open(f"{machine.share}/recordd.toml", "w") as file:
            file.write(CONFIG + storage)
        machine.run("cp /host/recordd /tmp/recordd")
        machine.run("pidof bridge || (bridge %d /run/recordd.sock >/dev/null 2>&1 &)" % RPC_PORT)
        self.pid = int(machine.run("/tmp/recordd --config /host/recordd.toml >/dev/port-log 2>&1 & echo $!"))
        machine.wait_until("test -S /run/recordd.sock")
        self.events, self._news = [], threading.Condition()
        self._replies, self._ids = {}, 0
        self.socket = socket.create_connection(("127.0.0.1", machine.host_port["tcp", RPC_PORT]), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(None)
        threading.Thread(target=self._read, daemon=True).start()
        self.ask("events.subscribe")

    def _read(self):
        try:
            for line in self.socket.makefile("rb"):
                now, message = time.monotonic(), json.loads(line)
                with self._news:
                    if "method" in message:
                        self.events.append((now, message["method"], message["params"]))
                    else:
                        self._replies[message["id"]] = (now, message)
                    self._news.notify_all()
        except (OSError, ValueError):
            pass                    # power cut, perhaps in the midst of a line

    def send(self, method, **params):
        """Sends a request; returns its id for `reply`."""
        self._ids += 1
        request = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return self._ids

    def reply(self, number, limit_s=20):
        """Waits for the result of a request: (time, result)."""
        with self._news:
            if not self._news.wait_for(lambda: number in self._replies, limit_s):
                raise TimeoutError(f"no answer within {limit_s} s")
            when, message = self._replies.pop(number)
        if "error" in message:
            raise Refused(message["error"])
        return when, message["result"]

    def ask(self, method, limit_s=20, **params):
        return self.reply(self.send(method, **params), limit_s)[1]

    def answered_within(self, method="record.status", **params):
        """Seconds that an answer takes, the emulator's network included."""
        started = time.monotonic()
        return self.reply(self.send(method, **params))[0] - started

    def mark(self):
        """A place in the stream of events, for `wait`."""
        return len(self.events)

    def wait(self, names, since, limit_s=20, recording=None):
        """The first event of one of `names` after a mark: (time, name, params); None if there is none in time."""
        names = {names} if isinstance(names, str) else set(names)

        def found():
            for event in self.events[since:]:
                if event[1] in names and recording in (None, event[2].get("recording")):
                    return event
        with self._news:
            self._news.wait_for(found, limit_s)
            return found()

    def start_call(self, talk=True):
        """A call that is recorded from its first packet on."""
        call = Call(self.machine)
        self.adopt(call, self.ask("record.start", mode="local", codec="PCMA", call={"id": "rig"}))
        if talk:
            call.talk()
        return call

    @staticmethod
    def adopt(call, result):
        call.recording, call.file, call.state = result["recording"], result["file"].rsplit("/", 1)[-1], "recording"

    def end_call(self, call):
        """Hangs up and waits until the file is closed: the event's params."""
        call.hang_up()
        time.sleep(0.1)             # what is still in the emulator's network
        since = self.mark()
        self.ask("record.stop", recording=call.recording)
        event = self.wait(["recording.ended", "recording.failed"], since, 30, call.recording)
        assert event, "neither recording.ended nor recording.failed"
        call.state = event[1].rsplit(".", 1)[1]
        return event[2]

    def quit(self):
        """SIGTERM; returns the exit status that the guest's shell saw, or None after `limit_s`."""
        self.machine.run(f"kill {self.pid}")
        self.machine.wait_until(f"! kill -0 {self.pid}")
        self.socket.close()
