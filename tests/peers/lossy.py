#!/usr/bin/env python3
"""A bad network between phones and a recording server, for tests: passes control connections on, puts itself
into the server's answer as the target of RTP, and loses and reorders that. Prints JSON lines; SIGTERM ends it."""

import argparse
import re
import signal
import socket
import sys
import threading

from docproto import new_rng, report

COUNTS = {"passed": 0, "lost": 0, "swapped": 0}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDR:PORT")
    parser.add_argument("--server", required=True, metavar="ADDR:PORT")
    parser.add_argument("--loss", type=float, default=0.02, help="part of the packets that is lost, 0 to 1")
    parser.add_argument("--swap", type=float, default=0.05, help="part of the packets that the next one overtakes")
    parser.add_argument("--seed", type=int)
    return parser.parse_args()


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def relay_media(options, rng, inward, server):
    # From the address of our control connection: the server takes RTP from there only.
    onward = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    onward.bind((inward.getsockname()[0], 0))
    onward.connect(server)
    held = None
    while True:
        datagram = inward.recv(4096)
        if rng.random() < options.loss:
            COUNTS["lost"] += 1
            continue
        if held is None and rng.random() < options.swap:
            COUNTS["swapped"] += 1
            held = datagram
            continue
        for out in (datagram, held):
            if out is not None:
                COUNTS["passed"] += 1
                try:
                    onward.send(out)
                except ConnectionRefusedError:
                    pass
        held = None


def pump(source, target, change=lambda octets: octets):
    try:
        while octets := source.recv(4096):
            target.sendall(change(octets))
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def relay_control(options, rng, phone, host, server):
    onward = socket.create_connection(server, 5, (host, 0))
    onward.settimeout(None)

    def put_us_in(octets):
        # Our own server answers in one piece.
        match = re.search(rb"server=([^&]*)&port=(\d+)", octets)
        if not match:
            return octets
        inward = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        inward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        inward.bind((host, 0))
        target = (match[1].decode() or server[0], int(match[2]))
        threading.Thread(target=relay_media, args=(options, rng, inward, target), daemon=True).start()
        ours = f"server={host}&port={inward.getsockname()[1]}".encode()
        return octets[:match.start()] + ours + octets[match.end():]

    threading.Thread(target=pump, args=(phone, onward), daemon=True).start()
    threading.Thread(target=pump, args=(onward, phone, put_us_in), daemon=True).start()


def main():
    options = arguments()
    _, rng = new_rng(options.seed)

    def told(*_):
        report("relayed", **COUNTS)
        sys.exit(0)

    signal.signal(signal.SIGTERM, told)
    listener = socket.create_server(address(options.listen))
    host, port = listener.getsockname()
    report("listening", addr=host, port=port)
    while True:
        phone, _ = listener.accept()
        relay_control(options, rng, phone, host, address(options.server))


if __name__ == "__main__":
    main()
