#include "ending.h"

#include <stdio.h>
#include <stdlib.h>

static void end(int status, const char *what, const char *text) __attribute__((noreturn));

static void end(int status, const char *what, const char *text)
{
    printf("{\"event\": \"failed\", \"text\": \"%s: ", what);
    for (; *text; text++)
        putchar(*text < ' ' || *text == '"' || *text == '\\' ? '?' : *text);
    printf("\"}\n");
    fflush(stdout);
    exit(status);
}

void fail(const char *what, const char *text)
{
    end(1, what, text);
}

void refuse(const char *what, const char *text)
{
    end(2, what, text);
}
