/* A wall clock that a test moves: stands before the C library of one process and adds what a file holds.
 *
 * Covers: clock_gettime(CLOCK_REALTIME), which is what Python reads. Does not cover: the kernel's own times
 * (files, timers), the steady clocks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t which, struct timespec *told) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(which, told);
    const char *path = getenv("FAULTS_CLOCK");
    if (answer == 0 && which == CLOCK_REALTIME && path) {
        char text[32] = {0};
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) told->tv_sec += atoll(text);
            close(file);
        }
    }
    return answer;
}
