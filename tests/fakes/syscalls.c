/* Stands between a process and the C library: fails the N-th call of a kind below one folder, or writes
 * down every call that changes something there. Loaded with LD_PRELOAD; tests/fakes/syscalls.py drives it.
 *
 * Covers: the calls by which CPython reaches files, whatever thread makes them.
 * Does not cover: writing through a mapping, io_uring, calls that do not go through the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <dirent.h>
#include <unistd.h>

/* In the order of syscalls.py: KINDS. */
enum kind {
    OPEN, MAKE, READ, WRITE, ALLOCATE, CUT, FLUSH, CLOSE, RENAME, LINK, UNLINK, MKDIR, RMDIR, MODE, LOCK,
    FLAGS, LEASE, ROOM, LOOK, LIST,
};

static char root[PATH_MAX];
static size_t root_length;
static uint64_t armed;      /* Kinds to count and fail. */
static long fail_at, calls; /* Which of them, from 0. */
static int failure, for_ever;
static int log_to = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *real_of(void **slot, const char *name)
{
    if (!*slot)
        *slot = dlsym(RTLD_NEXT, name);
    return *slot;
}

#define REAL(name) ({ static void *slot_; (__typeof__(&name))real_of(&slot_, #name); })

void faults_arm(const char *folder, uint64_t kinds, long at, int code, int always)
{
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    calls = 0, fail_at = at, failure = code, for_ever = always;
    armed = kinds;
}

long faults_disarm(void)
{
    armed = 0;
    return calls;
}

void faults_log(const char *folder, int descriptor)
{
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    log_to = descriptor;
}

static int below(const char *path)
{
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int here(int at, const char *path)
{
    char whole[2 * PATH_MAX], link[64];
    ssize_t length;

    if (!armed && log_to < 0)
        return 0;
    if (path[0] == '/')
        return below(path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    length = at == AT_FDCWD ? -1 : readlink(link, whole, PATH_MAX);
    if (length < 0)
        return 0;
    snprintf(whole + length, PATH_MAX, "/%s", path);
    return below(whole);
}

static int here_fd(int descriptor)
{
    char whole[PATH_MAX + 1], link[64];
    ssize_t length;

    if (!armed && log_to < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, whole, PATH_MAX);
    if (length < 0)
        return 0;
    whole[length] = 0;
    return below(whole);
}

/* What this call is to fail with, 0 for nothing. */
static int due(enum kind kind, int is_here)
{
    long at;

    if (!is_here || !(armed >> kind & 1))
        return 0;
    at = __atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);
    return at == fail_at || (for_ever && at > fail_at) ? failure : 0;
}

#define FAIL(kind, is_here) \
    do { \
        int code_ = due(kind, is_here); \
        if (code_ > 0) { \
            errno = code_; \
            return -1; \
        } \
    } while (0)

/* --- the log: one line a call, "KIND INO INO2 A B NAME NAME2 LENGTH\n", then LENGTH bytes --- */

static unsigned long ino_of(int at, const char *path, int flags)
{
    struct stat found;
    return REAL(fstatat)(at, path, &found, flags) ? 0 : found.st_ino;
}

static unsigned long ino_of_fd(int descriptor)
{
    struct stat found;
    return REAL(fstat)(descriptor, &found) ? 0 : found.st_ino;
}

static unsigned long parent_of(int at, const char *path)
{
    char parent[PATH_MAX];
    char *slash;

    snprintf(parent, sizeof parent, "%s", path);
    slash = strrchr(parent, '/');
    if (!slash)
        return at == AT_FDCWD ? ino_of(at, ".", 0) : ino_of_fd(at);
    *slash = 0;
    return ino_of(at, parent, 0);
}

static const char *last(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

struct record {
    const char *kind;
    unsigned long ino, ino2;
    long a, b;
    const char *name, *name2;
    const void *data;
    size_t length;
};

static void put(const void *data, size_t length)
{
    const char *at = data;
    while (length) {
        ssize_t done = REAL(write)(log_to, at, length);
        if (done <= 0)
            abort();
        at += done, length -= done;
    }
}

static void note(struct record it)
{
    char line[1024];
    int length = snprintf(line, sizeof line, "%s %lu %lu %ld %ld %s %s %zu\n", it.kind, it.ino, it.ino2, it.a, it.b,
                          it.name ? it.name : "-", it.name2 ? it.name2 : "-", it.length);
    int kept = errno;

    put(line, length);
    put(it.data, it.length);
    errno = kept;
}

void faults_mark(const char *text)
{
    pthread_mutex_lock(&mutex);
    note((struct record){"mark", .name = text});
    pthread_mutex_unlock(&mutex);
}

/* Runs `call`, and notes the record where it succeeded. The record's own look-ups come first. */
#define LOGGED(type, is_here, call, ...) \
    do { \
        type result_; \
        if (log_to < 0 || !(is_here)) \
            return call; \
        pthread_mutex_lock(&mutex); \
        struct record record_ = {__VA_ARGS__}; \
        result_ = call; \
        if (result_ != (type)-1) \
            note(record_); \
        pthread_mutex_unlock(&mutex); \
        return result_; \
    } while (0)

/* --- opening and closing --- */

static int opened(int at, const char *path, int flags, int (*call)(int, const char *, int, mode_t), mode_t mode)
{
    int is_here = here(at, path), descriptor, is_new;

    FAIL(flags & O_CREAT ? MAKE : OPEN, is_here);
    if (log_to < 0 || !is_here || !(flags & (O_CREAT | O_TRUNC)))
        return call(at, path, flags, mode);
    pthread_mutex_lock(&mutex);
    is_new = !ino_of(at, path, AT_SYMLINK_NOFOLLOW);
    descriptor = call(at, path, flags, mode);
    if (descriptor >= 0 && is_new)
        note((struct record){"create", parent_of(at, path), ino_of_fd(descriptor), .name = last(path)});
    else if (descriptor >= 0 && flags & O_TRUNC)
        note((struct record){"cut", ino_of_fd(descriptor)});
    pthread_mutex_unlock(&mutex);
    return descriptor;
}

static int really_open(int at, const char *path, int flags, mode_t mode)
{
    return REAL(openat64)(at, path, flags, mode);
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, int); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, really_open, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, really_open, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags) return opened(at, path, flags, really_open, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags) return opened(at, path, flags, really_open, mode); }

int close(int descriptor)
{
    int code = armed >> CLOSE & 1 ? due(CLOSE, here_fd(descriptor)) : 0;
    int result = REAL(close)(descriptor);
    if (code > 0) { /* As on a network: the descriptor is gone all the same. */
        errno = code;
        return -1;
    }
    return result;
}

/* --- bytes --- */

/* A negative failure is a short transfer. */
#define SHORTENED(kind, is_here, length) \
    do { \
        int code_ = due(kind, is_here); \
        if (code_ > 0) { \
            errno = code_; \
            return -1; \
        } \
        if (code_ < 0 && length > 1) \
            length /= 2; \
    } while (0)

ssize_t read(int descriptor, void *to, size_t length)
{
    SHORTENED(READ, here_fd(descriptor), length);
    return REAL(read)(descriptor, to, length);
}

ssize_t preadv64v2(int descriptor, const struct iovec *to, int count, off64_t at, int flags)
{
    FAIL(READ, here_fd(descriptor));
    return REAL(preadv64v2)(descriptor, to, count, at, flags);
}

static ssize_t wrote(int descriptor, const void *of, size_t length, off64_t at, int is_at)
{
    int is_here = here_fd(descriptor);
    ssize_t done;

    SHORTENED(WRITE, is_here, length);
    if (log_to < 0 || !is_here)
        return is_at ? REAL(pwrite64)(descriptor, of, length, at) : REAL(write)(descriptor, of, length);
    pthread_mutex_lock(&mutex);
    if (!is_at)
        at = lseek64(descriptor, 0, SEEK_CUR);
    done = is_at ? REAL(pwrite64)(descriptor, of, length, at) : REAL(write)(descriptor, of, length);
    if (done > 0)
        note((struct record){"write", ino_of_fd(descriptor), .a = at, .data = of, .length = done});
    pthread_mutex_unlock(&mutex);
    return done;
}

ssize_t write(int descriptor, const void *of, size_t length) { return wrote(descriptor, of, length, 0, 0); }
ssize_t pwrite(int descriptor, const void *of, size_t length, off_t at) { return wrote(descriptor, of, length, at, 1); }
ssize_t pwrite64(int descriptor, const void *of, size_t length, off64_t at) { return wrote(descriptor, of, length, at, 1); }

static int allocated(int descriptor, int mode, off64_t at, off64_t length)
{
    int is_here = here_fd(descriptor);
    FAIL(ALLOCATE, is_here);
    LOGGED(int, is_here, REAL(fallocate64)(descriptor, mode, at, length), "allocate", ino_of_fd(descriptor), .a = at + length);
}

int fallocate(int descriptor, int mode, off_t at, off_t length) { return allocated(descriptor, mode, at, length); }
int fallocate64(int descriptor, int mode, off64_t at, off64_t length) { return allocated(descriptor, mode, at, length); }

static int was_cut(int descriptor, off64_t length)
{
    int is_here = here_fd(descriptor);
    FAIL(CUT, is_here);
    LOGGED(int, is_here, REAL(ftruncate64)(descriptor, length), "cut", ino_of_fd(descriptor), .a = length);
}

int ftruncate(int descriptor, off_t length) { return was_cut(descriptor, length); }
int ftruncate64(int descriptor, off64_t length) { return was_cut(descriptor, length); }

int fsync(int descriptor)
{
    int is_here = here_fd(descriptor);
    FAIL(FLUSH, is_here);
    LOGGED(int, is_here, REAL(fsync)(descriptor), "flush", ino_of_fd(descriptor));
}

int fdatasync(int descriptor)
{
    int is_here = here_fd(descriptor);
    FAIL(FLUSH, is_here);
    LOGGED(int, is_here, REAL(fdatasync)(descriptor), "flush", ino_of_fd(descriptor));
}

/* --- names --- */

int renameat(int of, const char *from, int in, const char *to)
{
    int is_here = here(of, from) || here(in, to);
    FAIL(RENAME, is_here);
    LOGGED(int, is_here, REAL(renameat)(of, from, in, to), "rename", parent_of(of, from), parent_of(in, to),
           .name = last(from), .name2 = last(to));
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int linkat(int of, const char *from, int in, const char *to, int flags)
{
    int is_here = here(of, from) || here(in, to);
    FAIL(LINK, is_here);
    LOGGED(int, is_here, REAL(linkat)(of, from, in, to, flags), "link", ino_of(of, from, AT_SYMLINK_NOFOLLOW),
           parent_of(in, to), .name = last(to));
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *path, int flags)
{
    int is_here = here(at, path);
    FAIL(flags & AT_REMOVEDIR ? RMDIR : UNLINK, is_here);
    LOGGED(int, is_here, REAL(unlinkat)(at, path, flags), "unlink", parent_of(at, path), .name = last(path));
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode)
{
    int is_here = here(at, path), result;

    FAIL(MKDIR, is_here);
    if (log_to < 0 || !is_here)
        return REAL(mkdirat)(at, path, mode);
    pthread_mutex_lock(&mutex);
    result = REAL(mkdirat)(at, path, mode);
    if (!result)
        note((struct record){"mkdir", parent_of(at, path), ino_of(at, path, AT_SYMLINK_NOFOLLOW), .name = last(path)});
    pthread_mutex_unlock(&mutex);
    return result;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* --- what is only failed --- */

#define PLAIN(name, kind, is_here, declared, given) \
    int name declared \
    { \
        FAIL(kind, is_here); \
        return REAL(name) given; \
    }

PLAIN(chmod, MODE, here(AT_FDCWD, path), (const char *path, mode_t mode), (path, mode))
PLAIN(fchmod, MODE, here_fd(descriptor), (int descriptor, mode_t mode), (descriptor, mode))
PLAIN(fchmodat, MODE, here(at, path), (int at, const char *path, mode_t mode, int flags), (at, path, mode, flags))
PLAIN(flock, LOCK, here_fd(descriptor), (int descriptor, int how), (descriptor, how))
PLAIN(statvfs, ROOM, here(AT_FDCWD, path), (const char *path, struct statvfs *to), (path, to))
PLAIN(statvfs64, ROOM, here(AT_FDCWD, path), (const char *path, struct statvfs64 *to), (path, to))
PLAIN(stat, LOOK, here(AT_FDCWD, path), (const char *path, struct stat *to), (path, to))
PLAIN(stat64, LOOK, here(AT_FDCWD, path), (const char *path, struct stat64 *to), (path, to))
PLAIN(lstat, LOOK, here(AT_FDCWD, path), (const char *path, struct stat *to), (path, to))
PLAIN(lstat64, LOOK, here(AT_FDCWD, path), (const char *path, struct stat64 *to), (path, to))
PLAIN(fstat, LOOK, here_fd(descriptor), (int descriptor, struct stat *to), (descriptor, to))
PLAIN(fstat64, LOOK, here_fd(descriptor), (int descriptor, struct stat64 *to), (descriptor, to))
PLAIN(fstatat, LOOK, here(at, path), (int at, const char *path, struct stat *to, int flags), (at, path, to, flags))
PLAIN(fstatat64, LOOK, here(at, path), (int at, const char *path, struct stat64 *to, int flags), (at, path, to, flags))

#define CONTROL(name) \
    int name(int descriptor, int command, ...) \
    { \
        va_list rest; \
        va_start(rest, command); \
        void *value = va_arg(rest, void *); \
        va_end(rest); \
        if (command == F_SETFL) \
            FAIL(FLAGS, here_fd(descriptor)); \
        if (command == F_SETLEASE) \
            FAIL(LEASE, here_fd(descriptor)); \
        return REAL(fcntl64)(descriptor, command, value); \
    }

CONTROL(fcntl)
CONTROL(fcntl64)

DIR *opendir(const char *path)
{
    int code = due(LIST, here(AT_FDCWD, path));
    if (code > 0) {
        errno = code;
        return NULL;
    }
    return REAL(opendir)(path);
}

DIR *fdopendir(int descriptor)
{
    int code = due(LIST, here_fd(descriptor));
    if (code > 0) {
        errno = code;
        return NULL;
    }
    return REAL(fdopendir)(descriptor);
}
