#include "publish.h"

#include "alloc.h"
#include "orders.h"

#include <stdlib.h>
#include <string.h>

enum { AUDIO_CSID = 4, VIDEO_CSID = 6, DATA_CSID = 5, MOST_UNSENT_BYTES = 64 << 20 };

Shape shape;

/* Publishers in a heap: the one whose message is due first at the front. */
static Client **heap;
static unsigned publishers, heap_room;

void shape_set(unsigned frames_s, unsigned audio_samples, unsigned audio_rate, unsigned audio_bytes, const uint32_t *video_bytes,
    unsigned gop_frames)
{
    uint32_t most = audio_bytes, noise = 2463534242u;
    if (!frames_s || !audio_samples || !audio_rate)
        refuse("shape", "frames, samples and their rate cannot be 0");
    if (audio_bytes < AUDIO_STAMP_AT + STAMP_BYTES)
        refuse("shape", "audio messages have no room for a stamp");
    for (unsigned frame = 0; frame < gop_frames; frame++) {
        if (video_bytes[frame] < VIDEO_STAMP_AT + STAMP_BYTES)
            refuse("shape", "a video message has no room for a stamp");
        most = video_bytes[frame] > most ? video_bytes[frame] : most;
    }
    shape.frames_s = frames_s;
    shape.audio_samples = audio_samples;
    shape.audio_rate = audio_rate;
    shape.audio_bytes = audio_bytes;
    shape.gop_frames = gop_frames;
    free(shape.video_bytes);
    shape.video_bytes = xalloc(NULL, gop_frames, sizeof *video_bytes);
    memcpy(shape.video_bytes, video_bytes, gop_frames * sizeof *video_bytes);
    free(shape.filler);
    shape.filler = xalloc(NULL, most, 1);
    for (uint32_t at = 0; at < most; at++) { /* xorshift: what no compression would shrink. */
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        shape.filler[at] = (uint8_t)noise;
    }
}

static uint64_t video_due_ns(const Client *client)
{
    return client->video * 1000000000u / shape.frames_s;
}

static uint64_t audio_due_ns(const Client *client)
{
    return client->audio * shape.audio_samples * 1000000000u / shape.audio_rate;
}

static bool video_is_next(const Client *client)
{
    return video_due_ns(client) <= audio_due_ns(client);
}

static uint64_t due_ns(const Client *client)
{
    return client->start_ns + (video_is_next(client) ? video_due_ns(client) : audio_due_ns(client));
}

/* Put a publisher where it belongs, from `at` downwards. */
static void sift_down(unsigned at)
{
    Client *moved = heap[at];
    uint64_t due = due_ns(moved);
    for (unsigned child; (child = 2 * at + 1) < publishers; at = child) {
        if (child + 1 < publishers && due_ns(heap[child + 1]) < due_ns(heap[child]))
            child++;
        if (due <= due_ns(heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

const char *publish_begin(Client *client, int epoll_fd)
{
    static const uint8_t types[] = { DATA_AMF0, VIDEO, AUDIO }, csids[] = { DATA_CSID, VIDEO_CSID, AUDIO_CSID };
    Buffer out = { 0 };
    for (unsigned number = 0; number < 3; number++) {
        Writing whole = { 0 };
        write_message(&out, &whole, csids[number], types[number], 0, client->stream_id, PUBLISHED_CHUNK_BYTES,
            shape.headers[number].bytes, shape.headers[number].size, NULL, 0);
    }
    const char *fault = client_send(client, epoll_fd, &out);
    buffer_free(&out);
    uint64_t gop_ns = (uint64_t)shape.gop_frames * 1000000000u / shape.frames_s;
    uint64_t since = now_ns() - client->order->begun_ns, turn = gop_ns * client->number / client->order->count;
    client->start_ns = client->order->begun_ns + since - since % gop_ns + turn + (since % gop_ns > turn ? gop_ns : 0);
    if (publishers == heap_room) {
        heap_room = heap_room ? heap_room * 2 : 16;
        heap = xalloc(heap, heap_room, sizeof *heap);
    }
    heap[publishers++] = client;
    for (unsigned at = publishers; at-- > 0;)
        sift_down(at); /* All anew: it happens once for each. */
    return fault;
}

static unsigned video_head(uint8_t *head, bool keyframe, uint32_t size)
{
    static const uint8_t key[] = { 0x17, 1, 0, 0, 0 }, other[] = { 0x27, 1, 0, 0, 0 };
    memcpy(head, keyframe ? key : other, sizeof key);
    put32(head + 5, size - 9); /* Of the NAL unit. */
    head[9] = keyframe ? 0x65 : 0x41;
    return VIDEO_STAMP_AT;
}

static const char *send_next(Client *client, int epoll_fd, uint64_t now)
{
    static Buffer out;
    bool video = video_is_next(client);
    uint64_t due = due_ns(client);
    uint8_t head[VIDEO_STAMP_AT + STAMP_BYTES] = { 0xaf, 1 };
    unsigned head_bytes = AUDIO_STAMP_AT, frame = (unsigned)(client->video % shape.gop_frames);
    uint32_t size = video ? shape.video_bytes[frame] : shape.audio_bytes;
    if (video)
        head_bytes = video_head(head, frame == 0, size);
    memcpy(head + head_bytes, STAMP_MAGIC, 4);
    put32(head + head_bytes + 4, (uint32_t)(client->audio + client->video + 1));
    put32(head + head_bytes + 8, (uint32_t)(now >> 32));
    put32(head + head_bytes + 12, (uint32_t)now);
    head_bytes += STAMP_BYTES;
    out.size = 0;
    write_message(&out, video ? &client->video_writing : &client->audio_writing, video ? VIDEO_CSID : AUDIO_CSID,
        video ? VIDEO : AUDIO, (uint32_t)((due - client->start_ns + 500000) / 1000000), client->stream_id,
        PUBLISHED_CHUNK_BYTES, head, head_bytes, shape.filler, size - head_bytes);
    if (video)
        client->video++;
    else
        client->audio++;
    window.sent++;
    histogram_add(&window.lag, (int64_t)(now - due));
    const char *fault = client_send(client, epoll_fd, &out);
    if (client->out.size > window.backlog_bytes)
        window.backlog_bytes = client->out.size;
    return client->out.size > MOST_UNSENT_BYTES ? "the server does not read what is published" : fault;
}

const char *publish_due(int epoll_fd, uint64_t *next_ns, Client **broken)
{
    *next_ns = UINT64_MAX;
    while (publishers) {
        Client *first = heap[0];
        uint64_t due = due_ns(first), now = now_ns();
        *next_ns = due;
        if (due > now)
            break;
        *broken = first;
        const char *fault = send_next(first, epoll_fd, now);
        if (fault)
            return fault;
        sift_down(0);
    }
    return NULL;
}
