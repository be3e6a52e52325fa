/* What every program of the load does: it obeys lines on standard input, the words of each apart by spaces, and answers with
   JSON objects on standard output. */
#ifndef ORDERS_H
#define ORDERS_H

#include "client.h"
#include "ending.h"

#include <stdint.h>
#include <sys/epoll.h>

/* As many files as may be, no Ctrl-C (that is for whoever gives the orders), and an epoll that waits for orders: their event's
   pointer is NULL. */
int orders_begin(void);
/* Call it for that event: `obey` gets each line that is there, and must not keep the words. */
void orders_read(void (*obey)(char **words, unsigned count));

/* Wait until something is ready, until `due_ns` or for a while; returns how many `events` there are. */
int wait_until(int epoll_fd, struct epoll_event *events, int most, uint64_t due_ns);

/* All of these take a word as what it should be, or refuse the order. */
unsigned number_of(const char *word);
void text_of(const char *word, char *text, size_t size);
Order order_to(Role role, char **words); /* Clients of HOST PORT APP, that know no more yet. */

/* {"event": "ready"} when all are open, {"event": "opened"} now and then before. */
void say_opened(const char *role, unsigned opened, unsigned count, uint64_t begun_ns);

Moment moment_now(void);
void say_window(const Moment *begun, const Moment *ended); /* The beginning of {"event": "window", ...}. */

#endif
