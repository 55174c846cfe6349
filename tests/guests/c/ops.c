// One thing per invocation, chosen by the first word of the input; the rest,
// split at spaces, are its arguments. Deployed under the name "nostdin" it
// never reads its input.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IMPORT(module, field) __attribute__((import_module(module), import_name(field)))
#define TABLE(m)                                                                       \
    IMPORT(#m, "get_caller_wallet") uint64_t m##_wallet(void);                         \
    IMPORT(#m, "get_caller_jwt_subject") uint64_t m##_subject(void);                   \
    IMPORT(#m, "get_caller_claim") uint64_t m##_claim(const char *at, uint32_t len);   \
    IMPORT(#m, "get_request_id") uint64_t m##_request_id(void);                        \
    IMPORT(#m, "get_env") uint64_t m##_env(const char *at, uint32_t len);              \
    IMPORT(#m, "get_secret") uint64_t m##_secret(const char *at, uint32_t len);        \
    IMPORT(#m, "log_info") void m##_info(const char *at, uint32_t len);                \
    IMPORT(#m, "log_error") void m##_error(const char *at, uint32_t len);

TABLE(env)
TABLE(host)
TABLE(orama)

static char *input;
static size_t input_len;

static void read_input(void) {
    size_t room = 4096;
    input = malloc(room + 1);
    for (;;) {
        if (input_len == room) {
            room *= 2;
            input = realloc(input, room + 1);
        }
        ssize_t n = read(0, input + input_len, room - input_len);
        if (n < 0) {
            fprintf(stderr, "read: %s\n", strerror(errno));
            exit(1);
        }
        if (n == 0) break;
        input_len += (size_t)n;
    }
    input[input_len] = 0;
}

static void write_all(const char *at, size_t len) {
    while (len > 0) {
        ssize_t n = write(1, at, len);
        if (n <= 0) {
            fprintf(stderr, "write: %s\n", strerror(errno));
            exit(1);
        }
        at += n;
        len -= (size_t)n;
    }
}

static char *taken(uint64_t packed) {
    uint32_t len = (uint32_t)packed;
    char *at = (char *)(uintptr_t)(packed >> 32);
    char *text = malloc(len + 1);
    memcpy(text, at, len);
    text[len] = 0;
    if (packed) free(at);
    return text;
}

static void nap(long ms) {
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&t, 0);
}

// hostcalls MODULE CLAIM ENV SECRET MARKER SLEEP_MS
static void hostcalls(char **arg) {
    const char *m = arg[0];
    char *wallet, *subject, *request_id, *claim, *env, *secret;
#define CALLS(m)                                              \
    {                                                         \
        m##_info(arg[4], (uint32_t)strlen(arg[4]));           \
        wallet = taken(m##_wallet());                         \
        nap(atol(arg[5]));                                    \
        subject = taken(m##_subject());                       \
        request_id = taken(m##_request_id());                 \
        claim = taken(m##_claim(arg[1], strlen(arg[1])));     \
        env = taken(m##_env(arg[2], strlen(arg[2])));         \
        secret = taken(m##_secret(arg[3], strlen(arg[3])));   \
        m##_error(arg[4], (uint32_t)strlen(arg[4]));          \
    }
    if (!strcmp(m, "env")) CALLS(env)
    else if (!strcmp(m, "host")) CALLS(host)
    else CALLS(orama)
    printf("{\"wallet\":\"%s\",\"subject\":\"%s\",\"request_id\":\"%s\",\"claim\":\"%s\","
           "\"env\":\"%s\",\"secret\":\"%s\",\"marker\":\"%s\"}",
           wallet, subject, request_id, claim, env, secret, arg[4]);
}

static volatile int depth;

__attribute__((noinline)) static int recurse(int n) {
    volatile char frame[256];
    frame[n & 255] = (char)n;
    depth = n;
    return recurse(n + 1) + frame[(n * 7) & 255];
}

int main(int argc, char **argv) {
    if (argc > 0 && !strcmp(argv[0], "nostdin")) {
        printf("{\"argc\":%d}", argc);
        return 0;
    }
    read_input();
    if (argc > 0 && !strcmp(argv[0], "echo")) {
        write_all(input, input_len);
        return 0;
    }
    char *arg[8] = {"", "", "", "", "", "", "", ""};
    char *op = strtok(input, " ");
    for (int i = 0; op && i < 8; i++) {
        char *next = strtok(0, " ");
        if (!next) break;
        arg[i] = next;
    }
    if (!op) op = "";

    if (!strcmp(op, "hostcalls")) {
        hostcalls(arg);
    } else if (!strcmp(op, "binary")) {
        char all[256];
        for (int i = 0; i < 256; i++) all[i] = (char)i;
        write_all(all, sizeof all);
    } else if (!strcmp(op, "empty")) {
    } else if (!strcmp(op, "abort")) {
        fputs("about to abort\n", stderr);
        abort();
    } else if (!strcmp(op, "recurse")) {
        printf("%d\n", recurse(1));
    } else if (!strcmp(op, "alloc")) {
        // Answers how many MiB it got before the first refusal.
        long mib = 0, want = atol(arg[0]);
        while (mib < want) {
            // volatile: the compiler may not conclude that the block is never needed.
            char *volatile kept = malloc(1 << 20);
            char *block = kept;
            if (!block) break;
            for (int i = 0; i < (1 << 20); i += 4096) block[i] = 1;
            mib++;
        }
        printf("{\"mib\":%ld}", mib);
    } else if (!strcmp(op, "alloc_or_abort")) {
        size_t size = (size_t)atol(arg[0]) << 20;
        char *volatile kept = malloc(size);
        char *block = kept;
        if (!block) {
            fputs("no memory\n", stderr);
            abort();
        }
        memset(block, 1, size);
        printf("{\"byte\":%d}", block[size - 1]);
    } else if (!strcmp(op, "sleep")) {
        nap(atol(arg[0]));
        printf("{\"slept\":%s}", arg[0]);
    } else if (!strcmp(op, "clock")) {
        struct timespec wall, start, now;
        clock_gettime(CLOCK_REALTIME, &wall);
        clock_gettime(CLOCK_MONOTONIC, &start);
        long long elapsed = 0;
        while (elapsed < 20000000) {
            clock_gettime(CLOCK_MONOTONIC, &now);
            elapsed = (now.tv_sec - start.tv_sec) * 1000000000LL + (now.tv_nsec - start.tv_nsec);
        }
        unsigned char raw[16];
        if (getentropy(raw, sizeof raw)) return 1;
        printf("{\"unix_ms\":%lld,\"elapsed_ns\":%lld,\"crypto\":\"", wall.tv_sec * 1000LL + wall.tv_nsec / 1000000, elapsed);
        for (int i = 0; i < 16; i++) printf("%02x", raw[i]);
        printf("\"}");
    } else if (!strcmp(op, "stderr")) {
        fputs("first line on stderr\n", stderr);
        fprintf(stderr, "second: %s\n", arg[0]);
        fputs("\"done\"", stdout);
    } else if (!strcmp(op, "exit")) {
        fputs("words on stdout", stdout);
        fflush(stdout);
        fputs("words on stderr\n", stderr);
        exit(atoi(arg[0]));
    } else if (!strcmp(op, "output")) {
        size_t n = (size_t)atol(arg[0]);
        char *block = malloc(n);
        memset(block, 'x', n);
        block[0] = block[n - 1] = '"';
        write_all(block, n);
    } else if (!strcmp(op, "loop")) {
        for (volatile unsigned i = 0;; i++) {}
    } else if (!strcmp(op, "log")) {
        // log COUNT LENGTH: lines through log_info.
        long count = atol(arg[0]), length = atol(arg[1]);
        char *line = malloc(length + 1);
        memset(line, 'l', length);
        for (long i = 0; i < count; i++) orama_info(line, (uint32_t)length);
        printf("{\"logged\":%ld}", count);
    } else if (!strcmp(op, "out_of_bounds")) {
        // Host calls with pointers outside memory answer 0 and harm nothing.
        uint64_t a = env_secret((char *)0xfffffff0u, 64), b = env_env((char *)0x7fffffffu, 0xffffffffu);
        env_info((char *)0xfffffff0u, 64);
        printf("{\"secret\":%llu,\"env\":%llu}", (unsigned long long)a, (unsigned long long)b);
    } else if (!strcmp(op, "file")) {
        FILE *f = fopen(arg[0], "r");
        printf("{\"opened\":%s,\"environ\":%s}", f ? "true" : "false", getenv("PATH") ? "true" : "false");
    } else {
        fprintf(stderr, "unknown op %s\n", op);
        return 1;
    }
    return 0;
}
