#!/usr/bin/env python3
"""A recording server that follows the source document to the letter, for tests of the agent.

It sends no terminators and cuts its messages at random points (the seed is printed). Prints JSON lines;
the first one, `listening`, has the port. With --dump DIR the RTP payload of each recording goes to
DIR/ID.payload in order of arrival. Ends with SIGTERM, or after --connections N connections.
"""

import argparse
import os
import random
import re
import signal
import socket
import threading
import time

from docproto import Connection, fail, message, new_rng, report, rtp_parts

MODES = ["ok", "failed", "late", "wrong-id", "never", "drop", "stop", "close", "refuse-udp"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDR:PORT")
    parser.add_argument("--mode", choices=MODES, default="ok",
                        help="late: answer after --after; drop: reset the connection --after the start; "
                             "stop: send a stop request --after the start; close: close instead of "
                             "answering; refuse-udp: close the RTP port --after the start")
    parser.add_argument("--after", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--packets", type=int, default=0, metavar="COUNT",
                        help="drop, stop, refuse-udp: not before so many packets have come")
    parser.add_argument("--reason", default="disk full", help="of a failed start or a stop by the server")
    parser.add_argument("--server", default=None, help="value of `server`; default: the address listened on")
    parser.add_argument("--dump", metavar="DIR")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--pieces", type=int, default=4, help="at most so many pieces to a message")
    parser.add_argument("--connections", type=int, default=0, help="end after so many; 0: never")
    return parser.parse_args()


# ip(7); the socket module lacks it.
IP_RECVTOS = 13


class Media(threading.Thread):
    """Receives the RTP of one recording until it is closed."""

    def __init__(self, addr, path):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if self.sock.family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        self.sock.bind((addr, 0))
        self.sock.settimeout(0.1)
        self.port = self.sock.getsockname()[1]
        self.file = open(path, "wb") if path else None
        self.packets = self.octets = self.not_rtp = self.out_of_order = 0
        self.last_seq, self.sources, self.ssrcs = None, set(), set()
        self.closing = threading.Event()
        self.tos = 0

    def run(self):
        while not self.closing.is_set():
            try:
                self.receive()
            except TimeoutError:
                continue
        self.sock.setblocking(False)
        try:
            while True:
                self.receive()
        except BlockingIOError:
            pass
        self.sock.close()
        if self.file:
            self.file.close()

    def receive(self):
        datagram, control, _, source = self.sock.recvmsg(4096, 64)
        for level, kind, data in control:
            if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS):
                self.tos = data[0]
        self.take(datagram, source)

    def take(self, datagram, source):
        parts = rtp_parts(datagram)
        if parts is None:
            self.not_rtp += 1
            return
        kind, seq, timestamp, ssrc, payload = parts
        if self.packets == 0:
            report("rtp", port=self.port, payload_type=kind, seq=seq, timestamp=timestamp, ssrc=ssrc, dscp=self.tos >> 2)
        elif seq != (self.last_seq + 1) & 0xFFFF:
            self.out_of_order += 1
        self.last_seq = seq
        self.packets += 1
        self.octets += len(payload)
        self.sources.add(source[1])
        self.ssrcs.add(ssrc)
        if self.file:
            self.file.write(payload)

    def close(self):
        self.closing.set()
        self.join(5)
        return {"packets": self.packets, "bytes": self.octets, "not_rtp": self.not_rtp,
                "out_of_order": self.out_of_order, "ports": len(self.sources), "ssrcs": len(self.ssrcs)}


def begin(options, connection, request, addr):
    """Answers a start request; the Media of the recording, if there is one."""
    answer = {"id": request["id"], "result": "success"}
    if options.mode == "failed":
        answer.update(result="failed", reason=options.reason)
        connection.send(message("RecordStartResponse", **answer))
        return None
    if options.mode == "late":
        time.sleep(options.after)
    if options.mode == "wrong-id":
        answer["id"] = "not-" + request["id"]
    name = re.sub(r"[^\w-]", "_", request["id"])[:64]
    media = Media(addr, os.path.join(options.dump, name + ".payload") if options.dump else None)
    media.start()
    answer.update(server=addr if options.server is None else options.server, port=media.port)
    connection.send(message("RecordStartResponse", **answer))
    return media


def end_by_us(options, connection, recording, media):
    if options.mode == "drop":
        # SO_LINGER 0: a reset rather than an orderly end.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raise ConnectionError("dropped by this server")
    if options.mode == "stop":
        values = {key: recording.get(key, "") for key in
                  ["id", "remote_number", "remote_name", "local_number", "local_name"]}
        connection.send(message("RecordStopRequest", reason=options.reason, **values))
    if options.mode == "refuse-udp":
        report("rtp_port_closed", **media.close())


def converse(options, connection, addr):
    recording, media, deadline = None, None, None
    try:
        while True:
            wait = 0.2 if deadline is None else max(0.01, min(0.2, deadline - time.monotonic()))
            values = connection.read(wait)
            if media and deadline is not None and time.monotonic() >= deadline and media.packets >= options.packets:
                deadline = None
                end_by_us(options, connection, recording, media)
            if values is None:
                continue
            cmd = values.get("cmd")
            if cmd == "RecordStartRequest" and options.mode == "close":
                raise ConnectionError("closed by this server")
            if cmd == "RecordStartRequest" and options.mode != "never":
                recording, media = values, begin(options, connection, values, addr)
                if options.mode in ("drop", "stop", "refuse-udp"):
                    deadline = time.monotonic() + options.after
            elif cmd == "RecordStopRequest":
                # What was sent before it may still be in the socket: it is taken, then it is over.
                facts = media.close() if media else {}
                media = None
                report("stopped", id=values.get("id"), reason=values.get("reason"), **facts)
                connection.send(message("RecordStopResponse", id=values["id"], result="success"))
            elif cmd == "RecordStopResponse":
                facts = media.close() if media else {}
                media = None
                report("stop_confirmed", id=values.get("id"), **facts)
                return
    except OSError as error:
        report("connection_ended", error=str(error), id=(recording or {}).get("id"))
    finally:
        if media:
            report("lost", id=recording["id"], **media.close())
        connection.sock.close()


def main():
    options = arguments()
    host, _, port = options.listen.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit():
        fail("--listen wants ADDR:PORT")
    if options.dump:
        os.makedirs(options.dump, exist_ok=True)
    seed, rng = new_rng(options.seed)
    listener = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    report("listening", addr=host, port=listener.getsockname()[1], seed=seed, mode=options.mode)
    threads = []
    while options.connections == 0 or len(threads) < options.connections:
        sock, peer = listener.accept()
        report("connected", peer=peer[0])
        # Each connection cuts by a seed of its own, so that threads do not disturb each other.
        connection = Connection(sock, random.Random(rng.randrange(1 << 32)), options.pieces)
        addr = sock.getsockname()[0]
        threads.append(threading.Thread(target=converse, args=(options, connection, addr), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
