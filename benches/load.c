/* Test load: sends RTP of PCMU calls, finds its packets again in any file, measures the delay of a relay.
 *
 *   load send PORT COUNT SPEED STREAMS   COUNT packets of 20 ms to each of PORT, PORT+2, … on 127.0.0.1, SPEED
 *                                        times faster than a call; SIGTERM ends it early
 *   load check COUNT FILE...             how many of the first COUNT packets of a stream the files hold
 *   load sink PORT                       receives until SIGTERM, measures the time since each packet was sent
 *
 * Every payload names stream and number, has the time when it was sent, and octets that follow from stream and
 * number, so it is found wherever a file keeps it in one piece, and damage shows. Each prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD = 160, HEADER = 12, BATCH = 64, MARK = 4, FIXED = MARK + 4 + 4 + 8, TICK_NS = 1000000 };
static const char mark[MARK] = {'L', 'o', 'a', 'D'};

static volatile sig_atomic_t ended;
static void end(int signal) { (void)signal; ended = 1; }

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* A payload; its time is left out. */
static void make(uint8_t *to, uint32_t stream, uint32_t number)
{
    memcpy(to, mark, MARK);
    memcpy(to + MARK, &stream, 4);
    memcpy(to + MARK + 4, &number, 4);
    uint64_t state = ((uint64_t)stream << 32 | number) * 0x9E3779B97F4A7C15ull + 1;
    for (int at = FIXED; at < PAYLOAD; at++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        to[at] = (state >> 32) | 0x80;           /* never a mark inside */
    }
}

static struct sockaddr_in local(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int send_load(int port, uint64_t count, double speed, uint32_t streams)
{
    static uint8_t packets[BATCH][HEADER + PAYLOAD];
    static struct sockaddr_in to[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr messages[BATCH];
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){packets[i], sizeof packets[i]};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1, .msg_name = &to[i], .msg_namelen = sizeof to[i]};
    }
    double gap = 20e6 / speed / streams;
    uint64_t total = count * streams, next = 0, start = now_ns(), latest = 0;
    while (next < total && !ended) {
        uint64_t now = now_ns(), due = next * gap;
        if (now - start < due) {
            /* packets of one tick go out together, as no timer is finer */
            uint64_t wake = start + due > now + TICK_NS ? start + due : now + TICK_NS;
            struct timespec time = {wake / 1000000000, wake % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
            now = now_ns();
            if (now > wake && now - wake > latest) latest = now - wake;
        }
        while (next < total && next * gap <= now - start) {
            int some = 0;
            for (; some < BATCH && next < total && next * gap <= now - start; some++, next++) {
                uint32_t stream = next % streams, number = next / streams, ssrc = htonl(stream + 1), stamp = htonl(number * 160);
                uint16_t seq = htons(number);
                uint8_t *packet = packets[some];
                packet[0] = 0x80, packet[1] = number ? 0 : 0x80;
                memcpy(packet + 2, &seq, 2), memcpy(packet + 4, &stamp, 4), memcpy(packet + 8, &ssrc, 4);
                make(packet + HEADER, stream, number);
                uint64_t sent = now_ns();
                memcpy(packet + HEADER + FIXED - 8, &sent, 8);
                to[some] = local(port + 2 * stream);
            }
            for (int done = 0; done < some;) {
                int sent = sendmmsg(fd, messages + done, some - done, 0);
                done += sent > 0 ? sent : 1;
            }
        }
    }
    double seconds = (now_ns() - start) / 1e9;
    printf("{\"sent\":%llu,\"seconds\":%.3f,\"pps\":%.0f,\"late_ms\":%.2f}\n", (unsigned long long)next, seconds, next / seconds, latest / 1e6);
    return 0;
}

static int check(uint64_t count, char **files)
{
    uint64_t unique = 0, again = 0, damaged = 0, holes = 0, octets = 0;
    int64_t last_of_all = -1;
    /* every stream of a run has a file of its own, and a file one stream */
    for (; *files; files++) {
        int fd = open(*files, O_RDONLY);
        struct stat stat;
        if (fd < 0 || fstat(fd, &stat)) { perror(*files); return 1; }
        octets += stat.st_size;
        uint8_t *data = stat.st_size ? mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
        uint8_t *at = data, *last = data + stat.st_size, want[PAYLOAD];
        uint8_t *seen = calloc(count ? count : 1, 1);
        int64_t newest = -1;
        while (data && (at = memmem(at, last - at, mark, MARK))) {
            uint32_t stream, number;
            if (last - at < PAYLOAD) { damaged++; break; }
            memcpy(&stream, at + MARK, 4), memcpy(&number, at + MARK + 4, 4);
            make(want, stream, number);
            if (memcmp(at + FIXED, want + FIXED, PAYLOAD - FIXED)) { damaged++, at += MARK; continue; }
            at += PAYLOAD;
            if (number >= count) continue;
            if (seen[number]) again++;
            else unique++;
            seen[number] = 1;
            if (number > newest) newest = number;
        }
        for (int64_t i = 1; i <= newest; i++) holes += !seen[i] && seen[i - 1];
        if (newest > last_of_all) last_of_all = newest;
        if (data) munmap(data, stat.st_size);
        free(seen);
        close(fd);
    }
    printf("{\"unique\":%llu,\"again\":%llu,\"damaged\":%llu,\"holes\":%llu,\"last\":%lld,\"octets\":%llu}\n", (unsigned long long)unique,
           (unsigned long long)again, (unsigned long long)damaged, (unsigned long long)holes, (long long)last_of_all, (unsigned long long)octets);
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int sink(int port)
{
    enum { MOST = 4000000 };
    static uint64_t delays[MOST];
    uint8_t packet[2048];
    struct sockaddr_in here = local(port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), octets = 4 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
    if (bind(fd, (void *)&here, sizeof here)) { perror("load: bind"); return 1; }
    size_t count = 0;
    while (!ended && count < MOST) {
        ssize_t got = recv(fd, packet, sizeof packet, 0);
        uint64_t sent, now = now_ns();
        if (got != HEADER + PAYLOAD || memcmp(packet + HEADER, mark, MARK)) continue;
        memcpy(&sent, packet + HEADER + FIXED - 8, 8);
        delays[count++] = now - sent;
    }
    qsort(delays, count, sizeof *delays, by_value);
    double p50 = count ? delays[count / 2] / 1e6 : 0, p99 = count ? delays[count * 99 / 100] / 1e6 : 0;
    printf("{\"unique\":%zu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n", count, p50, p99, count ? delays[count - 1] / 1e6 : 0);
    return 0;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if (argc == 6 && !strcmp(argv[1], "send"))
        return send_load(atoi(argv[2]), atoll(argv[3]), atof(argv[4]), atoi(argv[5]));
    if (argc > 3 && !strcmp(argv[1], "check"))
        return check(atoll(argv[2]), argv + 3);
    if (argc == 3 && !strcmp(argv[1], "sink"))
        return sink(atoi(argv[2]));
    fprintf(stderr, "usage: load send PORT COUNT SPEED STREAMS | load check COUNT FILE... | load sink PORT\n");
    return 2;
}
