/* A client of the object load. It asks, or only listens: members use SharedObjects, and some of them change one; callers call a
   method; pingers ask the server they are connected to, and nobody behind it. Whoever asks numbers its messages from 1; each has
   a stamp in it, by which whoever gets it knows the number and the time of its sending. */
#ifndef OBJECT_SESSION_H
#define OBJECT_SESSION_H

#include "client.h"

enum {
    STAMP_DIGITS = 24, /* Hexadecimal: 8 of the number, 16 of the time in ns. */
    STAMP_VALUE_BYTES = 3 + STAMP_DIGITS, /* An AMF0 string. */
    MOST_OBJECTS = 10000,
    MOST_REQUESTERS = 100, /* Of one object. */
    MOST_SLOTS = 100, /* Of one requester, which changes all of them in one message: two digits of a key say which. */
    SENT_CHUNK_BYTES = 4096,
};

/* What all clients have seen, ever. `messages` of SharedObjects, `deliveries` events in them, or results of calls; `answered`:
   messages of those that ask. `missing`: events that somebody did not get, `disordered`: those behind a later one or doubled,
   `strange`: anything that should not have come. */
typedef struct {
    uint64_t sent, answered, messages, deliveries, missing, disordered, strange, closed;
} Tally;

typedef struct Session Session;

/* How a member knows an object. */
typedef struct {
    unsigned object;
    bool joined;
    uint32_t version;
    uint64_t *next; /* By requester: which of its changes comes next, all slots of all its messages counted from 0. */
} Place;

struct Session {
    Client client; /* First: an event of the epoll points to it. */
    void (*prepare)(Session *session); /* When all are made; may be NULL. */
    const char *(*open)(Session *session, int epoll_fd); /* It is connected; `ready` may come later. */
    void (*ask)(Session *session, Buffer *out, uint64_t now); /* Write message number `sent`; NULL: it listens. */
    uint64_t (*lacks)(const Session *session); /* How many last values it does not have. */
    bool ready;
    uint64_t sent, answered;
    Place *places;
    unsigned place_count, looked_at, joined, requester;
    Buffer request; /* What a member asks, but for the stamps. */
    char method[64];
    uint64_t *asked_ns; /* A pinger's last, by number. */
};

/* Of every member: changes in a message; whether objects are persistent. */
extern unsigned batch;
extern bool persistent;
extern Tally tally;
extern Histogram latency;

/* Words: requester or "-", then objects by number. Refuses what is none. */
void member_make(Session *session, char **words, unsigned count);
void caller_make(Session *session, const char *method);
void pinger_make(Session *session);

void stamp_write(uint8_t *at, uint64_t number, uint64_t now); /* STAMP_VALUE_BYTES. */
bool stamp_read(const uint8_t *at, uint64_t *number, uint64_t *sent_ns); /* False where there is none. */

#endif
