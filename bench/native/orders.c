#define _GNU_SOURCE
#include "orders.h"

#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 64 * 1024, WORDS = 4096, IDLE_NS = 200000000 };

void fail(const char *what, const char *text)
{
    printf("{\"event\": \"failed\", \"text\": \"%s: ", what);
    for (; *text; text++)
        putchar(*text < ' ' || *text == '"' || *text == '\\' ? '?' : *text);
    printf("\"}\n");
    fflush(stdout);
    exit(1);
}

double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
        + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

unsigned number_of(const char *word)
{
    char *end;
    unsigned long value = strtoul(word, &end, 10);
    if (*end || !*word || value > UINT32_MAX)
        fail("not a number", word);
    return (unsigned)value;
}

int orders_begin(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_DFL);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        fail("standard input is not a pipe", strerror(errno));
    return epoll_fd;
}

void orders_read(void (*obey)(char **words, unsigned count))
{
    static char text[LINE_BYTES];
    static char *words[WORDS];
    static size_t have;
    ssize_t size = read(STDIN_FILENO, text + have, sizeof text - have);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0)
        exit(0); /* Whoever gave the orders is gone; or a line was too long to be one. */
    have += (size_t)size;
    char *line = text, *end;
    while ((end = memchr(line, '\n', have - (size_t)(line - text)))) {
        unsigned count = 0;
        *end = 0;
        for (char *word = strtok(line, " "); word && count < WORDS; word = strtok(NULL, " "))
            words[count++] = word;
        if (count)
            obey(words, count);
        line = end + 1;
    }
    have -= (size_t)(line - text);
    memmove(text, line, have);
}

int wait_until(int epoll_fd, struct epoll_event *events, int most, uint64_t due_ns)
{
    uint64_t now = now_ns(), wait = due_ns <= now ? 0 : due_ns - now < IDLE_NS ? due_ns - now : IDLE_NS;
    struct timespec left = { .tv_sec = 0, .tv_nsec = (long)wait };
    return epoll_pwait2(epoll_fd, events, most, &left, NULL);
}
