/* One client of the load: its socket, how it opens, what it hears. */
#ifndef CLIENT_H
#define CLIENT_H

#include "amf.h"
#include "histogram.h"

#include <netinet/in.h>

enum { PING_REQUEST = 6, PING_RESPONSE = 7 }; /* Of user control messages. */
enum { PUBLISHED_CHUNK_BYTES = 4096 }; /* What OBS and most hardware encoders send with. */

/* What a published message has behind its FLV header: these bytes, its number (4), when it was sent in ns (8). */
#define STAMP_MAGIC "\xa5HWB"
enum { AUDIO_STAMP_AT = 2, VIDEO_STAMP_AT = 10, STAMP_BYTES = 16 };

typedef enum { HOLD, PLAY, PUBLISH, ROLES } Role;

/* `count` clients of one kind, so many of them opening at a time. Streams are called <stream>-<number>: publishers count from
   `first`, player n plays (first + n * stride) % streams. */
typedef struct Client Client;
typedef struct {
    Role role;
    /* Commands, SharedObject messages and answers to pings to a client that is open; NULL where nobody cares. Returns what is
       wrong with it. */
    const char *(*hear)(Client *client, const Channel *message, uint64_t now);
    struct sockaddr_in address;
    char app[64], stream[64], tc_url[160];
    unsigned count, under_way, streams, stride, first;
    unsigned made, opened;
    uint64_t begun_ns;
} Order;

/* A time, and the CPU seconds that this process had used by then, user and system. */
typedef struct {
    uint64_t at_ns;
    double cpu_s;
} Moment;

/* What is counted between "begin" and "end". `gap`: between video messages of a player; `lag`: from when a publisher's message
   was due to when it was sent; `backlog_bytes`: the most that a publisher's socket would not take. */
typedef struct {
    Histogram latency, gap, lag;
    Moment begun;
    uint64_t messages, missing, disordered, closed, sent, backlog_bytes;
} Window;

extern Window window;

typedef enum { CONNECTING, HANDSHAKING, OPENING, OPEN, CLOSED } State;

struct Client {
    int fd;
    State state;
    Order *order;
    unsigned number; /* Within its order. */
    ChunkReader reader;
    uint8_t *handshake; /* S0, S1 and S2 as they come; NULL afterwards. */
    unsigned handshaken;
    uint32_t stream_id, ack_bytes;
    uint64_t received, acknowledged, begun_received;
    Buffer out; /* What the socket would not take. */
    bool wants_write;
    bool misled; /* What the server sent was no RTMP. */
    /* A player's */
    bool started; /* From the first keyframe on: until then a server may leave out what nobody can decode. */
    uint32_t last_number;
    uint64_t last_video_ns;
    uint32_t last_video_ms; /* By its timestamp. */
    /* A publisher's */
    Writing audio_writing, video_writing;
    uint64_t start_ns, audio, video; /* When it began, and how many of each it has sent. */
};

uint64_t now_ns(void);

/* All of these return NULL, or what went wrong: the client is of no use then. */
const char *client_connect(Client *client, int epoll_fd);
const char *client_ready(Client *client, int epoll_fd, uint32_t events); /* Its socket has something. */
const char *client_send(Client *client, int epoll_fd, const Buffer *data); /* Or keep it until the socket takes it. */
void client_close(Client *client);

#endif
