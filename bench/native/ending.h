/* The end of a program of the load, as whoever gives it orders hears of it. */
#ifndef ENDING_H
#define ENDING_H

/* Say so, and end: with status 1 for what went wrong, with 2 for an order that cannot be obeyed. */
void fail(const char *what, const char *text) __attribute__((noreturn));
void refuse(const char *what, const char *text) __attribute__((noreturn));

#endif
