/* The floor: the least that a program can do which takes RTP from a UDP port and stores it, or sends it on.
 *
 *   floor each  PORT OUT        one recv() a packet
 *   floor batch PORT OUT        recvmmsg(), woken by the first packet
 *   floor drain PORT OUT MS     sleeps MS milliseconds, then takes all that came; -sync: fdatasync() each time
 *
 * OUT is a file that gets the payloads, or udp:PORT, a local port that gets the packets. No order, no gaps, no
 * checks: a recorder does more. What it costs is what /proc says of it. SIGTERM ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, ROOM = 2048, HEADER = 12, BUFFER = 64 * 1024 };

static volatile sig_atomic_t ended;
static void end(int signal) { (void)signal; ended = 1; }

static char packets[BATCH][ROOM], buffer[BUFFER];
static struct iovec parts[BATCH];
static struct mmsghdr in[BATCH], on[BATCH];
static struct sockaddr_in target;
static int in_fd, file = -1, filled;

static void write_out(void)
{
    for (int done = 0; done < filled;) {
        ssize_t count = write(file, buffer + done, filled - done);
        if (count <= 0) { perror("floor: write"); exit(1); }
        done += count;
    }
    filled = 0;
}

static void take(int count)
{
    if (file < 0) {
        for (int i = 0; i < count; i++) parts[i].iov_len = in[i].msg_len;
        for (int sent = 0; sent < count;) {
            int some = sendmmsg(in_fd, on + sent, count - sent, 0);
            sent += some > 0 ? some : 1;
        }
        for (int i = 0; i < count; i++) parts[i].iov_len = ROOM;
        return;
    }
    for (int i = 0; i < count; i++) {
        int octets = (int)in[i].msg_len - HEADER;
        if (octets <= 0) continue;
        if (filled + octets > BUFFER) write_out();
        memcpy(buffer + filled, packets[i] + HEADER, octets);
        filled += octets;
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) { fprintf(stderr, "usage: floor each|batch|drain PORT OUT [MS [-sync]]\n"); return 2; }
    char mode = argv[1][0];
    long wait_ms = argc > 4 ? atol(argv[4]) : 100;
    int sync = argc > 5, octets = 4 << 20;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in_fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (mode != 'e' && setsockopt(in_fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets))
        setsockopt(in_fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
    if (bind(in_fd, (void *)&here, sizeof here)) { perror("floor: bind"); return 1; }
    if (!strncmp(argv[3], "udp:", 4)) {
        target = here;
        target.sin_port = htons(atoi(argv[3] + 4));
    } else if ((file = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0644)) < 0) {
        perror("floor: open");
        return 1;
    }
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){packets[i], ROOM};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        on[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1,
                                        .msg_name = &target, .msg_namelen = sizeof target};
    }
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int idle = 1;
    while (!ended) {
        int count, total = 0;
        if (mode == 'e') {
            count = recv(in_fd, packets[0], ROOM, 0);
            in[0].msg_len = count;
            if (count > 0) take(1);
            continue;
        }
        if (mode == 'd' && !idle) {
            struct timespec time = {wait_ms / 1000, wait_ms % 1000 * 1000000};
            nanosleep(&time, NULL);
        }
        do {
            count = recvmmsg(in_fd, in, BATCH, mode == 'd' && !idle ? MSG_DONTWAIT : MSG_WAITFORONE, NULL);
            if (count > 0) take(count), total += count;
        } while (mode == 'd' && count == BATCH && !ended);
        if (sync && total && file >= 0) {
            write_out();
            if (fdatasync(file)) { perror("floor: fdatasync"); return 1; }
        }
        idle = total == 0;
    }
    if (file >= 0) write_out();
    return 0;
}
