/* Publishers: the messages of a stream's shape, each sent when it is due. */
#ifndef PUBLISH_H
#define PUBLISH_H

#include "client.h"

/* The shape of every stream, as bench/stream.py makes it: video sizes of a GOP, keyframe first, in bytes of payload. `headers`:
   payloads of metadata and both sequence headers. */
typedef struct {
    unsigned frames_s, audio_samples, audio_rate, audio_bytes, gop_frames;
    uint32_t *video_bytes;
    uint8_t *filler;
    Buffer headers[3];
} Shape;

extern Shape shape;

void shape_set(unsigned frames_s, unsigned audio_samples, unsigned audio_rate, unsigned audio_bytes, const uint32_t *video_bytes,
    unsigned gop_frames);

/* The server lets it publish: send the headers, begin when it is its turn. GOPs of an order's publishers are spread evenly. */
const char *publish_begin(Client *client, int epoll_fd);

/* Send what is due of every publisher; `*next_ns` becomes when the next message is. On a fault `*broken` is whose. */
const char *publish_due(int epoll_fd, uint64_t *next_ns, Client **broken);

#endif
