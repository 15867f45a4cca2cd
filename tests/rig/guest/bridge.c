/* `bridge PORT SOCKET`: every TCP connection to PORT becomes a connection to the Unix socket SOCKET, so that the
 * host can talk to an agent inside the guest. One process for each connection; ends when either side does. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static void pump(int tcp, int local) {
    struct pollfd ends[2] = {{.fd = tcp, .events = POLLIN}, {.fd = local, .events = POLLIN}};
    char octets[65536];
    for (;;) {
        if (poll(ends, 2, -1) < 0) return;
        for (int from = 0; from < 2; from++) {
            if (!ends[from].revents) continue;
            ssize_t left = read(ends[from].fd, octets, sizeof octets);
            if (left <= 0) return;
            for (char *next = octets; left > 0;) {
                ssize_t written = write(ends[!from].fd, next, left);
                if (written <= 0) return;
                next += written;
                left -= written;
            }
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    strncpy(there.sun_path, argv[2], sizeof there.sun_path - 1);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8)) return 1;
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int tcp = accept(listener, 0, 0);
        if (tcp < 0) return 1;
        if (fork() == 0) {
            int local = socket(AF_UNIX, SOCK_STREAM, 0);
            setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            close(listener);
            if (!connect(local, (struct sockaddr *)&there, sizeof there)) pump(tcp, local);
            _exit(0);
        }
        close(tcp);
    }
}
