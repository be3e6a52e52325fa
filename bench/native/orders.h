/* What every program of the load does: it obeys lines on standard input, the words of each apart by spaces, and answers with
   JSON objects on standard output. */
#ifndef ORDERS_H
#define ORDERS_H

#include <stdint.h>
#include <sys/epoll.h>

/* As many files as may be, no Ctrl-C (that is for whoever gives the orders), and an epoll that waits for orders: their event's
   pointer is NULL. */
int orders_begin(void);
/* Call it for that event: `obey` gets each line that is there, and must not keep the words. */
void orders_read(void (*obey)(char **words, unsigned count));

/* Wait until something is ready, until `due_ns` or for a while; returns how many `events` there are. */
int wait_until(int epoll_fd, struct epoll_event *events, int most, uint64_t due_ns);

void fail(const char *what, const char *text) __attribute__((noreturn)); /* Say so, and end. */
unsigned number_of(const char *word); /* Or fail. */
double cpu_s(void); /* Of this process, user and system. */

#endif
