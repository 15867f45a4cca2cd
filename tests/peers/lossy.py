#!/usr/bin/env python3
"""A bad network between phones and a recording server, for tests: loses and reorders RTP, and nothing else.

--server: passes control connections on and puts itself into the server's answer as the target of RTP.
--between: is the cable between two network interfaces; what the first one gets is the phone's (needs root).
Prints JSON lines; SIGTERM ends it, and it tells what it did.
"""

import argparse
import re
import select
import signal
import socket
import sys
import threading

from docproto import new_rng, report

COUNTS = {"passed": 0, "lost": 0, "swapped": 0}
LOST_SEQS = []

# A packet that the next one is to overtake waits so long for it.
HOLD_S = 0.1

# packet(7), if_packet.h and socket(7); the socket module lacks them.
SOL_PACKET, PACKET_VNET_HDR, SO_RCVBUFFORCE = 263, 15, 33
ETH_P_ALL = 3

# What stands before RTP: virtio_net_hdr, Ethernet, IPv4 without options, UDP.
VNET, ETHERNET, IP, UDP = 10, 14, 20, 8
BEFORE_RTP = VNET + ETHERNET + IP + UDP


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDR:PORT", help="with --server")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--server", metavar="ADDR:PORT")
    way.add_argument("--between", nargs=2, metavar="INTERFACE")
    parser.add_argument("--loss", type=float, default=0.02, help="part of the packets that is lost, 0 to 1")
    parser.add_argument("--swap", type=float, default=0.05, help="part of the packets that the next one overtakes")
    parser.add_argument("--seed", type=int)
    return parser.parse_args()


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


class BadLine:
    """The way of one stream of RTP."""

    def __init__(self, options, rng):
        self.options, self.rng, self.held = options, rng, None

    def through(self, packet, seq):
        """What comes out when this packet goes in."""
        if self.rng.random() < self.options.loss:
            COUNTS["lost"] += 1
            LOST_SEQS.append(seq)
            return []
        if self.held is None and self.rng.random() < self.options.swap:
            COUNTS["swapped"] += 1
            self.held = packet
            return []
        COUNTS["passed"] += 1
        return [packet] + self.quiet()

    def quiet(self):
        """What comes out when nothing goes in for a while."""
        held, self.held = self.held, None
        COUNTS["passed"] += held is not None
        return [] if held is None else [held]


def seq_of(rtp):
    return int.from_bytes(rtp[2:4], "big")


def relay_media(line, inward, server):
    # From the address of our control connection: the server takes RTP from there only.
    onward = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    onward.bind((inward.getsockname()[0], 0))
    onward.connect(server)
    inward.settimeout(HOLD_S)
    while True:
        try:
            datagram = inward.recv(4096)
            out = line.through(datagram, seq_of(datagram))
        except TimeoutError:
            out = line.quiet()
        for datagram in out:
            try:
                onward.send(datagram)
            except ConnectionRefusedError:
                pass


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
        line = BadLine(options, rng)
        threading.Thread(target=relay_media, args=(line, inward, target), daemon=True).start()
        ours = f"server={host}&port={inward.getsockname()[1]}".encode()
        return octets[:match.start()] + ours + octets[match.end():]

    threading.Thread(target=pump, args=(phone, onward), daemon=True).start()
    threading.Thread(target=pump, args=(onward, phone, put_us_in), daemon=True).start()


def relay(options, rng):
    listener = socket.create_server(address(options.listen))
    host, port = listener.getsockname()
    report("listening", addr=host, port=port)
    while True:
        phone, _ = listener.accept()
        relay_control(options, rng, phone, host, address(options.server))


def plug(interface):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # Between virtual interfaces checksums are left open: the header in front carries that on.
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    end.bind((interface, 0))
    return end


def carries_rtp(frame):
    ethernet, ip = VNET, VNET + ETHERNET
    is_udp = frame[ethernet + 12:ip + 1] == b"\x08\x00\x45" and frame[ip + 9] == socket.IPPROTO_UDP
    return is_udp and len(frame) >= BEFORE_RTP + 12 and frame[BEFORE_RTP] >> 6 == 2


def be_cable(options, rng):
    phone, server = (plug(interface) for interface in options.between)
    line = BadLine(options, rng)
    report("plugged", interfaces=options.between)
    while True:
        readable, _, _ = select.select([phone, server], [], [], HOLD_S)
        if not readable:
            for frame in line.quiet():
                server.send(frame)
        for end in readable:
            frame, origin = end.recvfrom(1 << 17)
            if origin[2] == socket.PACKET_OUTGOING:
                continue
            if end is server:
                phone.send(frame)
                continue
            bad = carries_rtp(frame)
            for out in line.through(frame, seq_of(frame[BEFORE_RTP:])) if bad else [frame]:
                server.send(out)


def main():
    options = arguments()
    _, rng = new_rng(options.seed)

    def told(*_):
        report("relayed", **COUNTS, lost_seqs=LOST_SEQS)
        sys.exit(0)

    signal.signal(signal.SIGTERM, told)
    if options.between:
        be_cable(options, rng)
    else:
        relay(options, rng)


if __name__ == "__main__":
    main()
