#!/usr/bin/env python3
"""A phone that follows the source document to the letter, for tests of the server.

Connects, starts a recording, sends the payload file as RTP, stops. Prints JSON lines. Exit status:
0 recorded and stopped (or ended as told by --end), 1 refused, broken or no answer, 2 usage.
"""

import argparse
import random
import select
import socket
import sys
import time

from docproto import PAYLOAD_TYPES, Connection, fail, message, new_rng, report, rtp_packet

TERMINATORS = {"none": b"", "lf": b"\n", "crlf": b"\r\n", "cr": b"\r", "nul": b"\0"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, metavar="ADDR:PORT")
    parser.add_argument("--payload", metavar="FILE", help="audio as it goes into packets; default: --seconds of a ramp")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--codec", default="PCMA")
    parser.add_argument("--size", type=int, default=160, help="octets of audio in a packet")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time; 0: as fast as it goes")
    parser.add_argument("--id")
    parser.add_argument("--device", default="0c:11:05:0a:0b:0c")
    parser.add_argument("--remote-number", default="+4930123456")
    parser.add_argument("--remote-name", default="Anna")
    parser.add_argument("--local-number", default="201")
    parser.add_argument("--local-name", default="Desk")
    parser.add_argument("--dir", choices=["in", "out"], default="out")
    parser.add_argument("--reason", default="hangup")
    parser.add_argument("--terminator", choices=TERMINATORS, default="none")
    parser.add_argument("--pieces", type=int, default=4)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--loss", type=float, default=0.0, help="part of the packets not sent, 0 to 1")
    parser.add_argument("--swap", type=float, default=0.0, help="part of the packets sent after the next one")
    parser.add_argument("--twice", type=float, default=0.0, help="part of the packets sent twice")
    parser.add_argument("--first-seq", type=int, default=65500, help="the default wraps early")
    parser.add_argument("--first-timestamp", type=int, default=0xFFFFF000)
    parser.add_argument("--end", choices=["stop", "close", "reset", "server"], default="stop",
                        help="close, reset: no stop request; server: wait for the server's")
    parser.add_argument("--timeout", type=float, default=5.0, help="for each answer of the server")
    return parser.parse_args()


class ServerStopped(Exception):
    pass


class Phone:
    def __init__(self, options, rng, recording):
        self.options, self.rng, self.recording = options, rng, recording
        host, _, port = options.server.rpartition(":")
        sock = socket.create_connection((host.strip("[]"), int(port)), options.timeout)
        sock.settimeout(options.timeout)
        # Cuts and losses are drawn apart, so that one does not change the other.
        pieces_rng = random.Random(rng.randrange(1 << 32))
        self.control = Connection(sock, pieces_rng, options.pieces, TERMINATORS[options.terminator])
        self.media = None

    def parties(self):
        options = self.options
        return {"remote_number": options.remote_number, "remote_name": options.remote_name,
                "local_number": options.local_number, "local_name": options.local_name}

    def await_answer(self, cmd, timeout_s):
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            values = self.control.read(left)
            if values is None:
                break
            if values.get("cmd") == "RecordStopRequest":
                self.confirm_stop(values)
            if values.get("cmd") == cmd:
                if values.get("id") != self.recording:
                    raise ConnectionError(f"an answer to {values.get('id')}")
                return values
        raise ConnectionError(f"no {cmd} in time")

    def confirm_stop(self, values):
        self.control.send(message("RecordStopResponse", id=values["id"], result="success"))
        report("stopped_by_server", reason=values.get("reason"))
        raise ServerStopped

    def start(self):
        self.control.send(message("RecordStartRequest", id=self.recording, device=self.options.device,
                                  dir=self.options.dir, codec=self.options.codec, **self.parties()))
        answer = self.await_answer("RecordStartResponse", self.options.timeout)
        if answer["result"] != "success":
            report("refused", reason=answer.get("reason"))
            return False
        peer = self.control.sock.getpeername()[0]
        target = (answer.get("server") or peer, int(answer["port"]))
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.media = socket.socket(family, socket.SOCK_DGRAM)
        self.media.connect(target)
        report("started", server=target[0], port=target[1])
        return True

    def packets(self):
        """(time in media seconds, datagram) in sending order."""
        options, rng = self.options, self.rng
        if options.payload:
            with open(options.payload, "rb") as file:
                audio = file.read()
        else:
            audio = bytes(index * 7 % 251 for index in range(int(options.seconds * 8000)))
        kind = PAYLOAD_TYPES.get(options.codec.upper(), 96)
        ssrc = rng.randrange(1 << 32)
        held = None
        for number, start in enumerate(range(0, len(audio), options.size)):
            payload = audio[start:start + options.size]
            datagram = rtp_packet(kind, options.first_seq + number, options.first_timestamp + start, ssrc, payload)
            lost, swapped, twice = (rng.random() < part for part in (options.loss, options.swap, options.twice))
            if lost:
                continue
            due = start / 8000
            if swapped and held is None:
                held = datagram
                continue
            yield due, datagram
            if twice:
                yield due, datagram
            if held is not None:
                yield due, held
                held = None
        if held is not None:
            yield len(audio) / 8000, held

    def stream(self):
        sent = octets = refused = 0
        begin = time.monotonic()
        for due, datagram in self.packets():
            wait = begin + due / self.options.speed - time.monotonic() if self.options.speed else 0
            readable, _, _ = select.select([self.control.sock], [], [], max(0.0, wait))
            if readable and (values := self.control.read(0.5)) and values.get("cmd") == "RecordStopRequest":
                self.confirm_stop(values)
            while (wait := begin + due / self.options.speed - time.monotonic() if self.options.speed else 0) > 0:
                time.sleep(wait)
            try:
                self.media.send(datagram)
            except ConnectionRefusedError:
                refused += 1
            sent += 1
            octets += len(datagram) - 12
            if not self.options.speed and sent % 32 == 0:
                # As fast as it goes, but not faster than a socket buffer is emptied.
                time.sleep(0.001)
        report("streamed", packets=sent, bytes=octets, refused=refused,
               seconds=round(time.monotonic() - begin, 3))

    def finish(self):
        end = self.options.end
        if end == "server":
            values = self.control.read(3600)
            if values and values.get("cmd") == "RecordStopRequest":
                self.confirm_stop(values)
            raise ConnectionError("the server said something else")
        if end == "stop":
            self.control.send(message("RecordStopRequest", id=self.recording, reason=self.options.reason,
                                      **self.parties()))
            answer = self.await_answer("RecordStopResponse", self.options.timeout)
            report("stopped", result=answer.get("result"))
        if end == "reset":
            self.control.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.control.sock.close()


def main():
    options = arguments()
    if not options.server.rpartition(":")[2].isdigit():
        fail("--server wants ADDR:PORT")
    seed, rng = new_rng(options.seed)
    recording = options.id or f"{rng.getrandbits(128):032x}"
    report("begin", seed=seed, id=recording)
    try:
        phone = Phone(options, rng, recording)
        if not phone.start():
            return 1
        phone.stream()
        phone.finish()
    except ServerStopped:
        return 0
    except OSError as error:
        report("broken", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
