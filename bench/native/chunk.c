#include "chunk.h"

#include "alloc.h"

#include <stdlib.h>
#include <string.h>

static const unsigned MESSAGE_HEADER_BYTES[] = { 11, 7, 3, 0 };
static const uint32_t EXTENDED = 0xffffff;

static uint32_t get24(const uint8_t *at)
{
    return (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
}

uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | get24(at + 1);
}

uint64_t get64(const uint8_t *at)
{
    return (uint64_t)get32(at) << 32 | get32(at + 4);
}

static void put24(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 16);
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)value;
}

void put32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    put24(at + 1, value);
}

/* Reading */

void chunk_reader_init(ChunkReader *reader)
{
    memset(reader, 0, sizeof *reader);
    reader->chunk_bytes = DEFAULT_CHUNK_BYTES;
}

void chunk_reader_free(ChunkReader *reader)
{
    for (unsigned number = 0; number < CHANNELS && reader->channels[number]; number++) {
        free(reader->channels[number]->body);
        free(reader->channels[number]);
    }
}

/* NULL when there are too many. */
static Channel *channel_of(ChunkReader *reader, uint32_t csid)
{
    for (unsigned number = 0; number < CHANNELS; number++) {
        Channel *channel = reader->channels[number];
        if (channel && channel->csid == csid)
            return channel;
        if (!channel) {
            channel = reader->channels[number] = xzeroed(1, sizeof *channel);
            channel->csid = csid;
            return channel;
        }
    }
    return NULL;
}

static unsigned basic_header_bytes(uint8_t first)
{
    return (first & 63) == 0 ? 2 : (first & 63) == 1 ? 3 : 1;
}

static uint32_t csid_of(const uint8_t *header)
{
    uint32_t low = header[0] & 63;
    return low == 0 ? 64u + header[1] : low == 1 ? 64u + header[1] + 256u * header[2] : low;
}

/* Bytes of the chunk header that begins so, as far as `have` bytes of it tell. */
static unsigned header_bytes(ChunkReader *reader, unsigned have)
{
    const uint8_t *header = reader->header;
    unsigned kind = header[0] >> 6, basic = basic_header_bytes(header[0]), whole = basic + MESSAGE_HEADER_BYTES[kind];
    if (have < whole)
        return whole;
    if (kind < 3)
        return whole + (get24(header + basic) == EXTENDED ? 4 : 0);
    Channel *channel = channel_of(reader, csid_of(header));
    return whole + (channel && channel->extended ? 4 : 0);
}

static const char *begin_chunk(ChunkReader *reader)
{
    const uint8_t *header = reader->header;
    unsigned kind = header[0] >> 6, basic = basic_header_bytes(header[0]);
    const uint8_t *at = header + basic;
    Channel *channel = channel_of(reader, csid_of(header));
    if (!channel)
        return "more chunk streams than a server has use for";
    if (kind < 3 && channel->received)
        return "a message begins within another of its chunk stream";
    if (kind && !channel->type)
        return "a chunk stream begins without a whole header";
    if (kind < 3) {
        uint32_t time = get24(at);
        channel->extended = time == EXTENDED;
        if (channel->extended)
            time = get32(at + MESSAGE_HEADER_BYTES[kind]);
        channel->delta = time; /* Of a whole header's time too, where a type 3 follows it (5.3.1.2.4). */
        channel->timestamp = kind ? channel->timestamp + time : time;
    } else if (!channel->received) {
        channel->timestamp += channel->delta;
    }
    if (kind < 2) {
        channel->length = get24(at + 3);
        channel->type = at[6];
    }
    if (kind == 0)
        channel->stream_id = at[7] | (uint32_t)at[8] << 8 | (uint32_t)at[9] << 16 | (uint32_t)at[10] << 24;
    if (!channel->received)
        channel->kept = 0;
    uint32_t rest = channel->length - channel->received;
    reader->left = rest < reader->chunk_bytes ? rest : reader->chunk_bytes;
    reader->open = channel;
    return NULL;
}

static uint32_t most_kept(const Channel *channel)
{
    uint32_t most = channel->type == AUDIO || channel->type == VIDEO ? KEPT_MEDIA_BYTES : KEPT_BYTES;
    return channel->type == SHARED_OBJECT_AMF0 || channel->length < most ? channel->length : most;
}

static void keep(Channel *channel, const uint8_t *data, uint32_t size)
{
    uint32_t most = most_kept(channel);
    if (channel->kept < most) {
        if (channel->room < most) {
            channel->room = most;
            channel->body = xalloc(channel->body, most, 1);
        }
        uint32_t more = most - channel->kept < size ? most - channel->kept : size;
        memcpy(channel->body + channel->kept, data, more);
        channel->kept += more;
    }
    channel->received += size;
}

static const char *obey(ChunkReader *reader, const Channel *message)
{
    if (message->type == SET_CHUNK_SIZE && message->kept >= 4) {
        reader->chunk_bytes = get32(message->body);
        if (reader->chunk_bytes == 0 || reader->chunk_bytes > INT32_MAX)
            return "a chunk size that is none";
    } else if (message->type == ABORT && message->kept >= 4) {
        Channel *channel = channel_of(reader, get32(message->body));
        if (channel)
            channel->received = 0;
    }
    return NULL;
}

ptrdiff_t chunk_reader_feed(
    ChunkReader *reader, const uint8_t *data, size_t size, const Channel **message, const char **fault)
{
    size_t at = 0;
    *message = NULL;
    *fault = NULL;
    while (at < size || (reader->open && !reader->left)) {
        if (!reader->open) {
            reader->header[reader->headed++] = data[at++];
            if (reader->headed < header_bytes(reader, reader->headed))
                continue;
            reader->headed = 0;
            if ((*fault = begin_chunk(reader)))
                return -1;
            continue;
        }
        Channel *channel = reader->open;
        uint32_t more = size - at < reader->left ? (uint32_t)(size - at) : reader->left;
        keep(channel, data + at, more);
        at += more;
        reader->left -= more;
        if (reader->left)
            continue;
        reader->open = NULL;
        if (channel->received == channel->length) {
            channel->received = 0;
            if ((*fault = obey(reader, channel)))
                return -1;
            *message = channel;
            break;
        }
    }
    return (ptrdiff_t)at;
}

/* Writing */

void buffer_add(Buffer *buffer, const void *bytes, size_t size)
{
    if (buffer->size + size > buffer->room) {
        buffer->room = (buffer->size + size) * 2;
        buffer->bytes = xalloc(buffer->bytes, buffer->room, 1);
    }
    if (size)
        memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
}

void buffer_drop(Buffer *buffer, size_t size)
{
    buffer->size -= size;
    if (buffer->size)
        memmove(buffer->bytes, buffer->bytes + size, buffer->size);
}

void buffer_free(Buffer *buffer)
{
    free(buffer->bytes);
    memset(buffer, 0, sizeof *buffer);
}

/* A payload of two parts, piece by piece. */
static void add_piece(Buffer *out, size_t at, size_t size, const uint8_t *head, size_t head_bytes, const uint8_t *tail)
{
    if (at < head_bytes) {
        size_t of_head = head_bytes - at < size ? head_bytes - at : size;
        buffer_add(out, head + at, of_head);
        at += of_head;
        size -= of_head;
    }
    if (size)
        buffer_add(out, tail + (at - head_bytes), size);
}

void write_message(Buffer *out, Writing *writing, uint8_t csid, uint8_t type, uint32_t timestamp, uint32_t stream_id,
    uint32_t chunk_bytes, const void *head, size_t head_bytes, const void *tail, size_t tail_bytes)
{
    size_t size = head_bytes + tail_bytes;
    uint32_t time = writing->begun ? timestamp - writing->timestamp : timestamp;
    uint8_t header[12 + 4], again[1 + 4];
    unsigned header_bytes = writing->begun ? 8 : 12, again_bytes = 1;
    header[0] = (uint8_t)(writing->begun << 6 | csid);
    put24(header + 1, time < EXTENDED ? time : EXTENDED);
    put24(header + 4, (uint32_t)size);
    header[7] = type;
    for (unsigned number = 0; number < 4; number++)
        header[8 + number] = (uint8_t)(stream_id >> 8 * number);
    again[0] = (uint8_t)(3 << 6 | csid);
    if (time >= EXTENDED) {
        put32(header + header_bytes, time);
        put32(again + 1, time);
        header_bytes += 4;
        again_bytes += 4;
    }
    writing->begun = true;
    writing->timestamp = timestamp;
    buffer_add(out, header, header_bytes);
    size_t at = 0;
    do {
        size_t piece = size - at < chunk_bytes ? size - at : chunk_bytes;
        if (at)
            buffer_add(out, again, again_bytes);
        add_piece(out, at, piece, head, head_bytes, tail);
        at += piece;
    } while (at < size);
}

void write_control(Buffer *out, uint8_t csid, uint8_t type, uint32_t stream_id, const void *body, size_t size)
{
    Writing whole = { 0 };
    write_message(out, &whole, csid, type, 0, stream_id, DEFAULT_CHUNK_BYTES, body, size, NULL, 0);
}
