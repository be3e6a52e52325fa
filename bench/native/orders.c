#define _GNU_SOURCE
#include "orders.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 64 * 1024, WORDS = 4096, IDLE_NS = 200000000, SAY_NS = 50000000 };

/* Words */

unsigned number_of(const char *word)
{
    char *end;
    unsigned long value = strtoul(word, &end, 10);
    if (*end || !*word || value > UINT32_MAX)
        refuse("not a number", word);
    return (unsigned)value;
}

void text_of(const char *word, char *text, size_t size)
{
    if (strlen(word) >= size)
        refuse("too long", word);
    strcpy(text, word);
}

Order order_to(Role role, char **words)
{
    Order order = { .role = role, .streams = 1, .begun_ns = now_ns(), .address.sin_family = AF_INET };
    unsigned port = number_of(words[1]);
    if (!inet_aton(words[0], &order.address.sin_addr))
        refuse("not an IPv4 address", words[0]);
    if (!port || port > UINT16_MAX)
        refuse("not a port", words[1]);
    order.address.sin_port = htons((uint16_t)port);
    text_of(words[2], order.app, sizeof order.app);
    snprintf(order.tc_url, sizeof order.tc_url, "rtmp://%s:%u/%s", inet_ntoa(order.address.sin_addr), port, order.app);
    return order;
}

/* Answers */

void say_opened(const char *role, unsigned opened, unsigned count, uint64_t begun_ns)
{
    static uint64_t said_ns;
    uint64_t now = now_ns();
    if (opened == count) {
        printf("{\"event\": \"ready\", \"role\": \"%s\", \"count\": %u, \"wall_s\": %.6f}\n", role, count,
            (double)(now - begun_ns) / 1e9);
    } else if (now - said_ns > SAY_NS) {
        said_ns = now;
        printf("{\"event\": \"opened\", \"role\": \"%s\", \"count\": %u}\n", role, opened);
    }
    fflush(stdout);
}

Moment moment_now(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec);
    return (Moment) { now_ns(), seconds + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6 };
}

void say_window(const Moment *begun, const Moment *ended)
{
    printf("{\"event\": \"window\", \"wall_s\": %.6f, \"cpu_s\": %.6f", (double)(ended->at_ns - begun->at_ns) / 1e9,
        ended->cpu_s - begun->cpu_s);
}

/* Reading and waiting */

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
    if (have == sizeof text)
        refuse("not an order", "the line is too long");
    ssize_t size = read(STDIN_FILENO, text + have, sizeof text - have);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0)
        exit(0); /* Whoever gave the orders is gone. */
    have += (size_t)size;
    char *line = text, *end;
    while ((end = memchr(line, '\n', have - (size_t)(line - text)))) {
        unsigned count = 0;
        *end = 0;
        for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) {
            if (count == WORDS)
                refuse("too many words in an order", words[0]);
            words[count++] = word;
        }
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
    int count = epoll_pwait2(epoll_fd, events, most, &left, NULL);
    if (count < 0 && errno != EINTR)
        fail("waiting", strerror(errno));
    return count < 0 ? 0 : count;
}
