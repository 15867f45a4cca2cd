/* Put before recordd, or before the emulator that runs it, by LD_PRELOAD: its calendar clock is CLOCK_SHIFT seconds ahead.
   The kernel's stamps of arrival, which would not be, are refused. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *shift = getenv("CLOCK_SHIFT");
    if (!result && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += atoll(shift);
    return result;
}

int setsockopt(int socket, int level, int name, const void *value, socklen_t octets) {
    static int (*real)(int, int, int, const void *, socklen_t);
    if (!real) real = dlsym(RTLD_NEXT, "setsockopt");
    if (level == SOL_SOCKET && (name == SO_TIMESTAMPNS || name == 64)) {
        errno = ENOPROTOOPT;
        return -1;
    }
    return real(socket, level, name, value, octets);
}
