#define _GNU_SOURCE
#include "client.h"

#include "alloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 * 1024,
    DIGEST_BYTES = 1536, /* C1, S1, C2 and S2. */
    UNTOLD_ACK_BYTES = 2500000,
    CLIENTS_OF_AN_ADDRESS = 10000, /* Far below the number of ephemeral ports. */
    PLAY_BUFFER_MS = 1000,
    SET_BUFFER_LENGTH = 3,
};
enum { CONNECT = 1, CREATE_STREAM = 2, STREAM = 3 }; /* Transaction ids. */

Window window;

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Sending */

static const char *watch(Client *client, int epoll_fd, bool write)
{
    struct epoll_event event = { .events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = client };
    client->wants_write = write;
    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event) ? strerror(errno) : NULL;
}

const char *client_send(Client *client, int epoll_fd, const Buffer *data)
{
    ssize_t sent = 0;
    if (!client->out.size) {
        sent = send(client->fd, data->bytes, data->size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return strerror(errno);
        sent = sent < 0 ? 0 : sent;
    }
    if ((size_t)sent == data->size)
        return NULL;
    buffer_add(&client->out, data->bytes + sent, data->size - (size_t)sent);
    return client->wants_write ? NULL : watch(client, epoll_fd, true);
}

static const char *send_rest(Client *client, int epoll_fd)
{
    ssize_t sent = client->out.size ? send(client->fd, client->out.bytes, client->out.size, MSG_NOSIGNAL) : 0;
    if (sent < 0)
        return errno == EAGAIN ? NULL : strerror(errno);
    buffer_drop(&client->out, (size_t)sent);
    if (client->out.size)
        return NULL;
    buffer_free(&client->out);
    return watch(client, epoll_fd, false);
}

static const char *send_and_free(Client *client, int epoll_fd, Buffer *data)
{
    const char *fault = client_send(client, epoll_fd, data);
    buffer_free(data);
    return fault;
}

static const char *send_command(Client *client, int epoll_fd, Buffer *body, uint32_t stream_id)
{
    Buffer out = { 0 };
    write_control(&out, 3, COMMAND_AMF0, stream_id, body->bytes, body->size);
    buffer_free(body);
    return send_and_free(client, epoll_fd, &out);
}

/* Opening */

const char *client_connect(Client *client, int epoll_fd)
{
    const Order *order = client->order;
    chunk_reader_init(&client->reader);
    client->ack_bytes = UNTOLD_ACK_BYTES;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return strerror(errno);
    int yes = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    /* Close with a reset: tens of thousands of ports in TIME_WAIT would leave the next server none. */
    struct linger reset = { .l_onoff = 1 };
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    uint32_t host = ntohl(order->address.sin_addr.s_addr);
    if (host >> 24 == 127) {
        struct sockaddr_in source = { .sin_family = AF_INET };
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + client->number / CLIENTS_OF_AN_ADDRESS);
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(client->fd, (struct sockaddr *)&source, sizeof source))
            return strerror(errno);
    }
    if (connect(client->fd, (const struct sockaddr *)&order->address, sizeof order->address) && errno != EINPROGRESS)
        return strerror(errno);
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT, .data.ptr = client };
    client->wants_write = true;
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event) ? strerror(errno) : NULL;
}

static const char *begin_handshake(Client *client, int epoll_fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        return strerror(error);
    uint8_t first[1 + DIGEST_BYTES] = { 3 }; /* Time and version 0; a server need not like the rest. */
    for (size_t at = 9; at < sizeof first; at++)
        first[at] = (uint8_t)(at * 167 + client->number);
    Buffer out = { .bytes = first, .size = sizeof first };
    client->state = HANDSHAKING;
    client->handshake = xalloc(NULL, 1 + 2 * DIGEST_BYTES, 1);
    const char *fault = watch(client, epoll_fd, false);
    return fault ? fault : client_send(client, epoll_fd, &out);
}

static const char *begin_session(Client *client, int epoll_fd)
{
    const Order *order = client->order;
    Buffer out = { 0 }, body = { 0 };
    buffer_add(&out, client->handshake + 1, DIGEST_BYTES); /* C2 is S1. */
    free(client->handshake);
    client->handshake = NULL;
    client->state = OPENING;
    if (order->role == PUBLISH) {
        uint8_t size[4];
        put32(size, PUBLISHED_CHUNK_BYTES);
        write_control(&out, 2, SET_CHUNK_SIZE, 0, size, sizeof size);
    }
    amf_string(&body, "connect");
    amf_number(&body, CONNECT);
    buffer_add(&body, "\x03", 1); /* An object. */
    amf_key(&body, "app");
    amf_string(&body, order->app);
    amf_key(&body, "flashVer");
    amf_string(&body, "FMLE/3.0 (compatible; bench)");
    amf_key(&body, "tcUrl");
    amf_string(&body, order->tc_url);
    amf_key(&body, "objectEncoding");
    amf_number(&body, 0);
    buffer_add(&body, "\0\0\x09", 3); /* Its end. */
    if (order->role == PUBLISH) {
        /* From here on in larger chunks. */
        Writing whole = { 0 };
        write_message(&out, &whole, 3, COMMAND_AMF0, 0, 0, PUBLISHED_CHUNK_BYTES, body.bytes, body.size, NULL, 0);
    } else {
        write_control(&out, 3, COMMAND_AMF0, 0, body.bytes, body.size);
    }
    buffer_free(&body);
    return send_and_free(client, epoll_fd, &out);
}

static const char *create_stream(Client *client, int epoll_fd)
{
    Buffer body = { 0 };
    amf_string(&body, "createStream");
    amf_number(&body, CREATE_STREAM);
    amf_null(&body);
    return send_command(client, epoll_fd, &body, 0);
}

static const char *open_stream(Client *client, int epoll_fd)
{
    const Order *order = client->order;
    unsigned number = order->role == PLAY ? (order->first + client->number * order->stride) % order->streams
                                          : order->first + client->number;
    char name[96];
    snprintf(name, sizeof name, "%s-%u", order->stream, number);
    Buffer body = { 0 };
    amf_string(&body, order->role == PLAY ? "play" : "publish");
    amf_number(&body, STREAM);
    amf_null(&body);
    amf_string(&body, name);
    if (order->role == PUBLISH) {
        amf_string(&body, "live");
        return send_command(client, epoll_fd, &body, client->stream_id);
    }
    amf_number(&body, -2000);
    const char *fault = send_command(client, epoll_fd, &body, client->stream_id);
    uint8_t length[10] = { 0, SET_BUFFER_LENGTH };
    put32(length + 2, client->stream_id);
    put32(length + 6, PLAY_BUFFER_MS);
    Buffer out = { 0 };
    write_control(&out, 2, USER_CONTROL, 0, length, sizeof length);
    return fault ? (buffer_free(&out), fault) : send_and_free(client, epoll_fd, &out);
}

/* Hearing */

static const char *hear_command(Client *client, int epoll_fd, const uint8_t *body, size_t length)
{
    static char refusal[160];
    char code[96], level[16];
    amf_find_text(body, length, "code", code, sizeof code);
    amf_find_text(body, length, "level", level, sizeof level);
    if (amf_is_named(body, length, "_error") || !strcmp(level, "error")) {
        snprintf(refusal, sizeof refusal, "%s", code[0] ? code : "refused without a code");
        return refusal;
    }
    if (client->state == OPEN)
        return NULL;
    Role role = client->order->role;
    if (amf_is_named(body, length, "_result")) {
        const uint8_t *after = body + 3 + strlen("_result");
        double transaction = amf_get_number(after + 1);
        if (transaction == CONNECT) {
            if (role != HOLD)
                return create_stream(client, epoll_fd);
            client->state = OPEN;
        } else if (transaction == CREATE_STREAM) {
            size_t left = length - (size_t)(after - body);
            if (left < 9 + 1 + 9 || after[9] != 5 || after[10] != 0)
                return "createStream was not answered with a number";
            client->stream_id = (uint32_t)amf_get_number(after + 11);
            return open_stream(client, epoll_fd);
        }
    } else if (!strcmp(code, role == PLAY ? "NetStream.Play.Start" : "NetStream.Publish.Start")) {
        client->state = OPEN;
    }
    return NULL;
}

static void hear_media(Client *client, const Channel *message, uint64_t now)
{
    const uint8_t *body = message->body;
    bool video = message->type == VIDEO;
    unsigned at = video ? VIDEO_STAMP_AT : AUDIO_STAMP_AT;
    if (message->kept < at + STAMP_BYTES || memcmp(body + at, STAMP_MAGIC, 4))
        return;
    uint32_t number = get32(body + at + 4);
    window.messages++;
    histogram_add(&window.latency, (int64_t)(now - get64(body + at + 8)));
    if (video) {
        if (client->started && (int32_t)(message->timestamp - client->last_video_ms) < 0)
            window.disordered++; /* Numbers may be right and RTMP's times wrong. */
        client->last_video_ms = message->timestamp;
        if (client->last_video_ns)
            histogram_add(&window.gap, (int64_t)(now - client->last_video_ns));
        client->last_video_ns = now;
    }
    if (!client->started) {
        client->started = video && body[0] == 0x17;
    } else if (number <= client->last_number) {
        window.disordered++;
        return;
    } else {
        window.missing += number - client->last_number - 1;
    }
    client->last_number = number;
}

static const char *answer_ping(Client *client, int epoll_fd, const Channel *message)
{
    if (message->kept < 6 || message->body[1] != PING_REQUEST)
        return NULL;
    uint8_t body[6] = { 0, PING_RESPONSE };
    memcpy(body + 2, message->body + 2, 4);
    Buffer out = { 0 };
    write_control(&out, 2, USER_CONTROL, 0, body, sizeof body);
    return send_and_free(client, epoll_fd, &out);
}

static const char *hear(Client *client, int epoll_fd, const Channel *message, uint64_t now)
{
    if (client->state == OPEN && client->order->hear && message->type >= COMMAND_AMF3)
        return client->order->hear(client, message, now);
    switch (message->type) {
    case AUDIO:
    case VIDEO:
        hear_media(client, message, now);
        return NULL;
    case COMMAND_AMF0:
        return hear_command(client, epoll_fd, message->body, message->kept);
    case COMMAND_AMF3: /* The same after a byte. */
        return message->kept ? hear_command(client, epoll_fd, message->body + 1, message->kept - 1) : NULL;
    case USER_CONTROL:
        if (client->state == OPEN && client->order->hear && message->kept >= 6 && message->body[1] == PING_RESPONSE)
            return client->order->hear(client, message, now);
        return answer_ping(client, epoll_fd, message);
    case WINDOW_ACKNOWLEDGEMENT_SIZE:
        if (message->kept >= 4 && get32(message->body) > 1)
            client->ack_bytes = get32(message->body) / 2; /* Well before the server waits. */
        return NULL;
    default:
        return NULL;
    }
}

static const char *acknowledge(Client *client, int epoll_fd)
{
    uint8_t body[4];
    put32(body, (uint32_t)client->received);
    client->acknowledged = client->received;
    Buffer out = { 0 };
    write_control(&out, 2, ACKNOWLEDGEMENT, 0, body, sizeof body);
    return send_and_free(client, epoll_fd, &out);
}

static size_t take_handshake(Client *client, const uint8_t *data, size_t size)
{
    size_t missing = 1 + 2 * DIGEST_BYTES - client->handshaken;
    size_t more = size < missing ? size : missing;
    memcpy(client->handshake + client->handshaken, data, more);
    client->handshaken += (unsigned)more;
    return more;
}

static const char *take(Client *client, int epoll_fd, const uint8_t *data, size_t size, uint64_t now)
{
    const char *fault = NULL;
    size_t at = 0;
    if (client->state == HANDSHAKING) {
        at = take_handshake(client, data, size);
        if (client->handshaken < 1 + 2 * DIGEST_BYTES)
            return NULL;
        if ((fault = begin_session(client, epoll_fd)))
            return fault;
    }
    while (at < size) {
        const Channel *message;
        ptrdiff_t taken = chunk_reader_feed(&client->reader, data + at, size - at, &message, &fault);
        if (taken < 0) {
            client->misled = true;
            return fault;
        }
        at += (size_t)taken;
        if (message && (fault = hear(client, epoll_fd, message, now)))
            return fault;
    }
    return NULL;
}

const char *client_ready(Client *client, int epoll_fd, uint32_t events)
{
    static uint8_t data[READ_BYTES];
    const char *fault = NULL;
    if (client->state == CONNECTING)
        return events & (EPOLLOUT | EPOLLERR | EPOLLHUP) ? begin_handshake(client, epoll_fd) : NULL;
    if (events & EPOLLOUT && (fault = send_rest(client, epoll_fd)))
        return fault;
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        return NULL;
    ssize_t size = recv(client->fd, data, sizeof data, 0);
    if (size < 0)
        return errno == EAGAIN ? NULL : strerror(errno);
    if (size == 0)
        return "closed by the server";
    client->received += (uint64_t)size;
    if ((fault = take(client, epoll_fd, data, (size_t)size, now_ns())))
        return fault;
    return client->received - client->acknowledged >= client->ack_bytes ? acknowledge(client, epoll_fd) : NULL;
}

void client_close(Client *client)
{
    close(client->fd);
    client->state = CLOSED;
    chunk_reader_free(&client->reader);
    memset(&client->reader, 0, sizeof client->reader);
    free(client->handshake);
    client->handshake = NULL;
    buffer_free(&client->out);
}
