/* RTMP chunks (Adobe RTMP 1.0, 5.3). No sockets here. */
#ifndef CHUNK_H
#define CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KEPT_BYTES = 1024, /* Of a command; what a load does with it is at its beginning. SharedObject messages are kept whole. */
    KEPT_MEDIA_BYTES = 32, /* Of audio and video: FLV header and stamp. */
    HEADER_BYTES = 3 + 11 + 4,
    CHANNELS = 16,
    DEFAULT_CHUNK_BYTES = 128,
};

enum {
    SET_CHUNK_SIZE = 1,
    ABORT = 2,
    ACKNOWLEDGEMENT = 3,
    USER_CONTROL = 4,
    WINDOW_ACKNOWLEDGEMENT_SIZE = 5,
    AUDIO = 8,
    VIDEO = 9,
    COMMAND_AMF3 = 17,
    DATA_AMF0 = 18,
    SHARED_OBJECT_AMF0 = 19,
    COMMAND_AMF0 = 20,
};

/* One chunk stream, and the message on it. `body` has the first `kept` of its `length` bytes. */
typedef struct {
    uint32_t csid, timestamp, delta, length, received, kept, room, stream_id;
    uint8_t type;
    bool extended;
    uint8_t *body;
} Channel;

typedef struct {
    Channel *channels[CHANNELS];
    Channel *open; /* In the middle of its chunk's payload, or NULL. */
    uint32_t chunk_bytes, left; /* `left`: of the open chunk. */
    uint8_t header[HEADER_BYTES];
    unsigned headed; /* How much of `header` has come. */
} ChunkReader;

void chunk_reader_init(ChunkReader *reader);
void chunk_reader_free(ChunkReader *reader);

/* Take bytes up to the end of the next message; `*message` is it, or NULL when all was taken before. Returns how many were
   taken, or -1 with `*fault` a sentence. Chunk sizes and aborts are obeyed here. */
ptrdiff_t chunk_reader_feed(
    ChunkReader *reader, const uint8_t *data, size_t size, const Channel **message, const char **fault);

/* Bytes that grow. */
typedef struct {
    uint8_t *bytes;
    size_t size, room;
} Buffer;

void buffer_add(Buffer *buffer, const void *bytes, size_t size);
void buffer_drop(Buffer *buffer, size_t size); /* From the front. */
void buffer_free(Buffer *buffer);

/* What a chunk stream was last written with; begins as zeroes. */
typedef struct {
    uint32_t timestamp;
    bool begun;
} Writing;

/* A message in chunks: the first of a `writing` with a whole header, later ones with one that says what differs. The payload
   is `head`, then `tail`. */
void write_message(Buffer *out, Writing *writing, uint8_t csid, uint8_t type, uint32_t timestamp, uint32_t stream_id,
    uint32_t chunk_bytes, const void *head, size_t head_bytes, const void *tail, size_t tail_bytes);
/* One of the protocol's own or a command: whole header, chunks of the default size. */
void write_control(Buffer *out, uint8_t csid, uint8_t type, uint32_t stream_id, const void *body, size_t size);

void put32(uint8_t *at, uint32_t value);
uint32_t get32(const uint8_t *at);
uint64_t get64(const uint8_t *at);

#endif
