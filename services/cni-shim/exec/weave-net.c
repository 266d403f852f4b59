/* The CNI executable on the host: carries one request to the daemon and its answer back.
 * Frame and behaviour without a daemon: docs/adr/0003-two-phase-attach.md. Static, no allocation beyond two
 * buffers, no JSON but the top-level "cniVersion". */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_PATH "/run/weave/cni/exec.sock"
#define SPOOL_DIR "/var/lib/weave/cni/spool"
#define SUPPORTED "[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]"
#define NEWEST "1.1.0"
#define ENV_LIMIT (64u << 10)
#define STDIN_LIMIT (1u << 20)
#define ANSWER_LIMIT (1u << 20)
/* The daemon gives up on an ADD after 60 s and still has to undo it; a kubelet waits for STATUS. */
#define ANSWER_TIMEOUT_S 90
#define STATUS_TIMEOUT_S 5

enum { ERR_ENV = 4, ERR_IO = 5, ERR_TRY_AGAIN = 11, ERR_NOT_AVAILABLE = 50 };
enum { HEADER = 16 };

extern char **environ;

static uint8_t frame[HEADER + ENV_LIMIT + STDIN_LIMIT + 1];
static char version[32] = NEWEST;

static void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int fail(int code, const char *message, const char *detail) {
    printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n", version, code, message, detail);
    fflush(stdout);
    return 1;
}

/* Copies the value of the top-level key "cniVersion" if it looks like a version. */
static void find_version(const char *json) {
    int depth = 0;
    for (const char *p = json; *p; p++) {
        if (*p == '{' || *p == '[') depth++;
        if (*p == '}' || *p == ']') depth--;
        if (*p != '"') continue;
        const char *start = ++p;
        while (*p && *p != '"') p += (*p == '\\' && p[1]) ? 2 : 1;
        if (!*p) return;
        if (depth != 1 || p - start != 10 || strncmp(start, "cniVersion", 10)) continue;
        const char *value = p + 1 + strspn(p + 1, " \t\r\n");
        if (*value != ':') continue;
        value += 1 + strspn(value + 1, " \t\r\n");
        if (*value != '"') continue;
        size_t length = strspn(++value, "0123456789.");
        if (length && length < sizeof version && value[length] == '"') {
            memcpy(version, value, length);
            version[length] = 0;
        }
    }
}

static int is_sent(const char *variable) {
    return !strncmp(variable, "CNI_", 4) || !strncmp(variable, "TRACEPARENT=", 12) ||
           !strncmp(variable, "TRACESTATE=", 11) || !strncmp(variable, "BAGGAGE=", 8);
}

static int append(size_t *used, const char *text) {
    size_t length = strlen(text) + 1;
    if (*used + length > ENV_LIMIT) return -1;
    memcpy(frame + HEADER + *used, text, length);
    *used += length;
    return 0;
}

static ssize_t write_all(int fd, const uint8_t *data, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t n = write(fd, data + done, length - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        done += (size_t)n;
    }
    return 0;
}

/* Reads up to `limit` bytes; returns how many came before the end, or -1. */
static ssize_t read_all(int fd, uint8_t *data, size_t limit) {
    size_t done = 0;
    while (done < limit) {
        ssize_t n = read(fd, data + done, limit - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* Returns the exit code of the answer, or -1 when no whole answer came. */
static int ask_daemon(size_t length, int timeout_s) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_PATH};
    struct timeval patience = {.tv_sec = timeout_s};
    uint8_t head[HEADER];
    static uint8_t answer[ANSWER_LIMIT];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return -1;
    /* A daemon that refuses the frame answers before it has read all of it. */
    if (write_all(fd, frame, length) && errno != EPIPE && errno != ECONNRESET) return -1;
    if (read_all(fd, head, HEADER) != HEADER || memcmp(head, "WVCN\0\1", 6)) return -1;
    uint32_t out = get32(head + 8), err = get32(head + 12);
    if (out > ANSWER_LIMIT || err > ANSWER_LIMIT - out) return -1;
    if (read_all(fd, answer, out + err) != (ssize_t)(out + err)) return -1;
    write_all(STDERR_FILENO, answer + out, err);
    if (write_all(STDOUT_FILENO, answer, out) || head[6]) return 1;
    return head[7];
}

/* Keeps a DEL for the daemon: written beside, made durable, then renamed into view. */
static int spool(size_t length) {
    char temporary[160], final[128];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(final, sizeof final, SPOOL_DIR "/%lld.%09ld.%d.del", (long long)now.tv_sec, now.tv_nsec, (int)getpid());
    snprintf(temporary, sizeof temporary, "%.127s.tmp", final);
    mkdir("/var/lib/weave", 0755);
    mkdir("/var/lib/weave/cni", 0700);
    mkdir(SPOOL_DIR, 0700);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    if (write_all(fd, frame, length) || fsync(fd) || close(fd) || rename(temporary, final)) {
        unlink(temporary);
        return -1;
    }
    int folder = open(SPOOL_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return folder < 0 ? 0 : fsync(folder);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a daemon that dies under us is an answer like any other */
    const char *command = getenv("CNI_COMMAND");
    const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;
    name = name ? name + 1 : argc > 0 ? argv[0] : "weave-net";
    if (!command || !*command) {
        fprintf(stderr, "weave-net CNI plugin\nCNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n");
        return 0;
    }
    size_t env = 0;
    for (char **variable = environ; *variable; variable++)
        if (is_sent(*variable) && append(&env, *variable)) return fail(ERR_ENV, "environment too large", "over 64 KiB");
    if (!strcmp(name, "weave-ipam") && append(&env, "WEAVE_ARGV0=weave-ipam"))
        return fail(ERR_ENV, "environment too large", "over 64 KiB");

    ssize_t input = read_all(STDIN_FILENO, frame + HEADER + env, STDIN_LIMIT + 1);
    if (input < 0) return fail(ERR_IO, "cannot read the network configuration from stdin", strerror(errno));
    if (input > (ssize_t)STDIN_LIMIT) return fail(ERR_IO, "network configuration too large", "over 1 MiB");
    frame[HEADER + env + (size_t)input] = 0;
    find_version((const char *)frame + HEADER + env);
    if (!strcmp(command, "VERSION")) {
        printf("{\"cniVersion\":\"%s\",\"supportedVersions\":" SUPPORTED "}\n", version);
        return 0;
    }

    memcpy(frame, "WVCN\0\1\0\0", 8); /* magic, version 1, no flags */
    put32(frame + 8, (uint32_t)env);
    put32(frame + 12, (uint32_t)input);
    size_t length = HEADER + env + (size_t)input;
    int is_status = !strcmp(command, "STATUS");
    int code = ask_daemon(length, is_status ? STATUS_TIMEOUT_S : ANSWER_TIMEOUT_S);
    if (code >= 0) return code;
    if (!strcmp(command, "DEL"))
        return spool(length) ? fail(ERR_TRY_AGAIN, "weave-net does not answer and the DEL cannot be kept", strerror(errno)) : 0;
    if (is_status) return fail(ERR_NOT_AVAILABLE, "weave-net does not answer", SOCKET_PATH);
    if (strcmp(command, "ADD") && strcmp(command, "CHECK") && strcmp(command, "GC"))
        return fail(ERR_ENV, "unknown CNI_COMMAND", "one of ADD, DEL, CHECK, GC, STATUS, VERSION is expected");
    return fail(ERR_TRY_AGAIN, "weave-net does not answer; try again later", SOCKET_PATH);
}
