/*
 * A client of recordd in C: records a call for some seconds and prints what the agent says.
 *
 *     cc -Wall -o client client.c
 *     ./client /run/recordd.sock 10
 *
 * Send the call's RTP (PCMA, 20 ms) to the port that it prints. A real client should read JSON with a
 * library, such as cJSON; here two members are cut out of the text, so that the example needs none.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Answers may be longer than requests: an agent.info with many recordings, a recordings.list. */
#define LINE_MAX_OCTETS (1024 * 1024)

static char buffer[LINE_MAX_OCTETS];
static size_t filled;

static int connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Sends one request: a line. MSG_NOSIGNAL: an agent that is gone is an error, not a signal. */
static int send_line(int fd, const char *line)
{
    size_t length = strlen(line), sent = 0;

    printf("> %s", line);
    while (sent < length) {
        ssize_t count = send(fd, line + sent, length - sent, MSG_NOSIGNAL);
        if (count < 0 && errno != EINTR)
            return -1;
        if (count > 0)
            sent += (size_t)count;
    }
    return 0;
}

static long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/*
 * The next line from the agent, without its end, copied to `line`.
 * 1: there is one. 0: none has come by `deadline`. -1: the connection is over.
 */
static int next_line(int fd, char *line, long deadline)
{
    for (;;) {
        char *end = memchr(buffer, '\n', filled);
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        long wait = deadline - now_ms();
        ssize_t count;

        if (end) {
            size_t length = (size_t)(end - buffer);
            memcpy(line, buffer, length);
            line[length] = '\0';
            filled -= length + 1;
            memmove(buffer, end + 1, filled);
            printf("< %s\n", line);
            return 1;
        }
        if (wait <= 0)
            return 0;
        if (filled == sizeof buffer)
            return -1;
        if (poll(&poll_fd, 1, (int)wait) <= 0)
            continue;
        count = read(fd, buffer + filled, sizeof buffer - filled);
        if (count == 0 || (count < 0 && errno != EINTR))
            return -1;
        if (count > 0)
            filled += (size_t)count;
    }
}

/* Answers carry the request's id, events have none: so events may come before the answer. */
static int answer_to(int fd, const char *id, char *line)
{
    char wanted[32];
    long deadline = now_ms() + 15000;
    int found;

    snprintf(wanted, sizeof wanted, "{\"jsonrpc\":\"2.0\",\"id\":%s,", id);
    do
        found = next_line(fd, line, deadline);
    while (found == 1 && strncmp(line, wanted, strlen(wanted)) != 0);
    return found == 1 && strstr(line, "\"result\":") ? 0 : -1;
}

int main(int argc, char **argv)
{
    static char line[LINE_MAX_OCTETS + 1];
    const char *path = argc > 1 ? argv[1] : "/run/recordd.sock";
    long seconds = argc > 2 ? atol(argv[2]) : 10;
    char id[64] = "", request[256];
    const char *at;
    long end;
    int port = 0, found;
    int fd = connect_to(path);

    if (fd < 0) {
        fprintf(stderr, "client: cannot connect to %s: %s\n", path, strerror(errno));
        return 1;
    }
    if (send_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events.subscribe\","
                      "\"params\":{\"types\":[\"recording.\"]}}\n") != 0 ||
        answer_to(fd, "1", line) != 0)
        return 1;
    if (send_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"record.start\",\"params\":"
                      "{\"mode\":\"local\",\"codec\":\"PCMA\",\"ptime_ms\":20,\"call\":"
                      "{\"id\":\"call-1\",\"direction\":\"in\",\"remote_number\":\"+493023125001\"}}}\n") != 0 ||
        answer_to(fd, "2", line) != 0)
        return 1;
    at = strstr(line, "\"recording\":\"");
    if (!at || sscanf(at, "\"recording\":\"%63[^\"]", id) != 1)
        return 1;
    at = strstr(line, "\"port\":");
    if (!at || sscanf(at, "\"port\":%d", &port) != 1)
        return 1;
    printf("recording %s: send the RTP to 127.0.0.1 port %d\n", id, port);
    fflush(stdout);

    end = now_ms() + seconds * 1000;
    while ((found = next_line(fd, line, end)) == 1)
        ;
    if (found < 0)
        return 1;

    /* The answer says `stopping`; the file is closed and synced when recording.ended comes. */
    snprintf(request, sizeof request,
             "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"record.stop\",\"params\":{\"recording\":\"%s\"}}\n", id);
    if (send_line(fd, request) != 0)
        return 1;
    end = now_ms() + 30000;
    while (next_line(fd, line, end) == 1) {
        if (strstr(line, "\"method\":\"recording.ended\"")) {
            close(fd);
            return 0;
        }
        if (strstr(line, "\"method\":\"recording.failed\""))
            break;
    }
    return 1;
}
